//! Names that are valid once they exist.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The name of a queue.
pub type QueueName = Name;
/// The name a worker gives itself.
pub type WorkerName = Name;
/// The name of a consumer group.
pub type GroupName = Name;

/// A name of a queue, lock, group, schedule or worker: `[A-Za-z0-9][A-Za-z0-9._:-]{0,127}`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// What is wrong with a name, in words for its author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(String);

impl InvalidName {
    pub(crate) fn of(why: String) -> InvalidName {
        InvalidName(why)
    }
}

impl Name {
    /// Checks `text` and makes it a name.
    pub fn new(text: &str) -> Result<Name, InvalidName> {
        let bytes = text.as_bytes();
        let bad = |why: &str| Err(InvalidName(format!("a name {why}")));
        match bytes {
            [] => return bad("has at least one character"),
            [first, ..] if !first.is_ascii_alphanumeric() => {
                return bad("starts with a letter or a digit (A-Z, a-z, 0-9)");
            }
            _ if bytes.len() > 128 => return bad("has at most 128 characters"),
            _ => {}
        }
        if !bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(b)) {
            return bad("consists of A-Z, a-z, 0-9 and . _ : -");
        }
        Ok(Name(Arc::from(text)))
    }

    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first `:`; names that share it share a partition on stores that have partitions.
    pub fn partition(&self) -> &str {
        self.0.split(':').next().unwrap_or(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Name, InvalidName> {
        Name::new(&text)
    }
}
impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0.as_ref().to_owned()
    }
}
impl std::str::FromStr for Name {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Name, InvalidName> {
        Name::new(text)
    }
}
impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}
impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_contract() {
        for good in ["a", "Z9", "mail", "tenant:mail-1.x_y", &"a".repeat(128)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", ":a", "a b", "a/b", "é", &"a".repeat(129)] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_partition_is_what_stands_before_the_first_colon() {
        assert_eq!(Name::new("acme:mail:1").unwrap().partition(), "acme");
        assert_eq!(Name::new("mail").unwrap().partition(), "mail");
    }
}
