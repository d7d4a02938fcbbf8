//! Free-form JSON that is carried, not understood.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::value::RawValue;

/// The exact text of one JSON value: what came in is what goes out, to the byte.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RawJson(Bytes);

impl RawJson {
    /// `null`.
    pub const NULL: Self = Self(Bytes::from_static(b"null"));
    /// `{}`.
    pub const EMPTY_OBJECT: Self = Self(Bytes::from_static(b"{}"));

    /// Takes text that is known to be one JSON value, such as one that was checked when it was stored.
    ///
    /// What is not JSON after all is noticed, as an error, when it is serialised.
    pub fn from_trusted(text: Bytes) -> Self {
        Self(text)
    }

    /// Checks that this is the text of one JSON value.
    ///
    /// # Errors
    /// When it is not.
    pub fn parse(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text.into()).map(Self::from)
    }

    /// The JSON text of a value.
    ///
    /// # Errors
    /// When the value cannot be JSON: a map with keys that are no strings, or a failing `Serialize`.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(value).map(|text| Self(text.into()))
    }

    /// Reads the value.
    ///
    /// # Errors
    /// When the text does not fit the type.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Whether the value is `null`.
    pub fn is_null(&self) -> bool {
        self.0.trim_ascii() == b"null"
    }
}

impl Default for RawJson {
    fn default() -> Self {
        Self::NULL
    }
}

impl From<Box<RawValue>> for RawJson {
    fn from(value: Box<RawValue>) -> Self {
        Self(String::from(Box::<str>::from(value)).into())
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Display for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_slice::<&RawValue>(&self.0).map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::from).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_comes_back_to_the_byte() {
        let text = r#"{"b" : 18446744073709551615, "a":[1.10, "\u00e9"] , "b2":-0}"#;
        let list: Vec<RawJson> = serde_json::from_str(&format!("[ {text} ]")).unwrap();
        assert_eq!(list[0].as_bytes(), text.as_bytes());
        assert_eq!(serde_json::to_string(&list).unwrap(), format!("[{text}]"));
    }

    #[test]
    fn trusted_text_that_is_not_json_is_an_error_not_an_answer() {
        assert!(serde_json::to_string(&RawJson::from_trusted(Bytes::from_static(b"{]"))).is_err());
    }
}
