//! A value that does not show itself.

use std::cell::Cell;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// What a secret is written as, wherever it would be written.
pub(crate) const REDACTED: &str = "[redacted]";

/// A value that is never printed, logged or serialised: all of them show `[redacted]`.
///
/// Reads from configuration like the value itself.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value. Named so that its uses are easy to find.
    pub fn reveal(&self) -> &T {
        &self.0
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

thread_local! {
    static REVEALING: Cell<bool> = const { Cell::new(false) };
}

impl<T: Serialize> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if REVEALING.get() { self.0.serialize(serializer) } else { serializer.serialize_str(REDACTED) }
    }
}

/// Serialises on this thread with secrets in clear. Only the loader does, to lay settings over the defaults.
pub(super) fn revealing<R>(serialise: impl FnOnce() -> R) -> R {
    struct Hide;
    impl Drop for Hide {
        fn drop(&mut self) {
            REVEALING.set(false);
        }
    }
    let _hide = Hide;
    REVEALING.set(true);
    serialise()
}

/// Hides the password of a URL, which is where secrets live that nobody declared as such.
pub(crate) fn mask_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (credentials, _) = authority.rsplit_once('@')?;
    let (user, password) = credentials.split_once(':')?;
    (!password.is_empty()).then(|| format!("{scheme}://{user}:{REDACTED}{}", &rest[credentials.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows_itself() {
        let secret = Secret::new("hunter2".to_owned());
        for text in [format!("{secret}"), format!("{secret:?}"), serde_json::to_string(&secret).unwrap()] {
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert_eq!(secret.reveal(), "hunter2");
    }

    #[test]
    fn passwords_in_urls_are_hidden() {
        assert_eq!(mask_url("postgres://me:pw@db/x?a=b@c").unwrap(), "postgres://me:[redacted]@db/x?a=b@c");
        assert_eq!(mask_url("sqlite:./a.db"), None);
        assert_eq!(mask_url("http://host/path@x:y"), None);
    }
}
