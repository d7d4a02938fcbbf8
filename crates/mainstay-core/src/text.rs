//! Short texts that every event has: copied with it, not shared.
//!
//! A text that many events have in common would have one count of its users, and all threads that make, keep and drop
//! events would wait for each other at it; one that each has for itself would cost an allocation that another thread
//! frees.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Texts of up to so many bytes lie where they are used: a UUID does, and most names of topics.
const SHORT: usize = 38;

/// A text that is cheap to clone, and cheapest if it is short.
#[derive(Clone)]
pub struct Text(Form);

#[derive(Clone)]
enum Form {
    /// So many bytes of this are the text.
    Short(u8, [u8; SHORT]),
    Long(Arc<str>),
}

impl Text {
    fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Short(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Form::Long(text) => text.as_bytes(),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // Never in vain: it was made of a text.
            Form::Short(..) => std::str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Form::Long(text) => text,
        }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(here), Ok(length)) => {
                here.copy_from_slice(text.as_bytes());
                Text(Form::Short(length, bytes))
            }
            _ => Text(Form::Long(text.into())),
        }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text::from(&*text)
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Text {
        if text.len() > SHORT { Text(Form::Long(text)) } else { Text::from(&*text) }
    }
}

impl From<&Text> for Arc<str> {
    fn from(text: &Text) -> Arc<str> {
        match &text.0 {
            Form::Short(..) => text.as_str().into(),
            Form::Long(text) => text.clone(),
        }
    }
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}
impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Text) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Text {
    fn cmp(&self, other: &Text) -> Ordering {
        // The order of UTF-8 is that of what it says.
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As a `str`: it is looked up as one.
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        String::deserialize(deserializer).map(Text::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_text_however_long() {
        for length in [0, 1, SHORT - 1, SHORT, SHORT + 1, 255, 256, 1_000] {
            for letter in ["a", "ü", "€"] {
                let whole: String = letter.repeat(length);
                let text = Text::from(&*whole);
                assert_eq!(
                    (text.as_str(), text.len(), text.is_empty()),
                    (&*whole, whole.len(), whole.is_empty())
                );
                assert_eq!(text, Text::from(Arc::<str>::from(&*whole)));
                assert_eq!(*Arc::<str>::from(&text), *whole);
                assert_eq!(format!("{text:?} {text}"), format!("{whole:?} {whole}"));
                let json = serde_json::to_string(&text).unwrap();
                assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), text);
            }
        }
    }

    #[test]
    fn texts_are_in_order_and_found_as_what_they_say() {
        let mut texts: Vec<Text> = ["b", "", "ab", &"a".repeat(50), "ä", "a"].map(Text::from).into();
        texts.sort();
        let mut plain: Vec<String> = texts.iter().map(Text::to_string).collect();
        assert!(plain.is_sorted());
        plain.push("no".into());
        let set: std::collections::HashSet<Text> = texts.into_iter().collect();
        let found = plain.iter().filter(|text| set.contains(text.as_str())).count();
        assert_eq!(found, 6);
    }
}
