//! Job ids.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The id of a job: a UUID, written in lower case with hyphens.
///
/// Any UUID can be asked for; a new job must have one of version 7 ([`JobId::is_v7`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId([u8; 16]);

impl JobId {
    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id's bytes, big end first.
    pub const fn into_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Whether this is a UUID of version 7 and of the RFC 9562 variant.
    pub const fn is_v7(self) -> bool {
        self.0[6] >> 4 == 7 && self.0[8] >> 6 == 0b10
    }
}

/// The text is not a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobIdError;

impl fmt::Display for JobIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be a UUID such as 019a0000-0000-7000-8000-000000000000")
    }
}

impl std::error::Error for JobIdError {}

impl FromStr for JobId {
    type Err = JobIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text: &[u8; 36] = text.as_bytes().try_into().map_err(|_| JobIdError)?;
        let mut bytes = [0; 16];
        let mut at = 0;
        for (index, byte) in bytes.iter_mut().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                if text[at] != b'-' {
                    return Err(JobIdError);
                }
                at += 1;
            }
            *byte = hex(text[at])? << 4 | hex(text[at + 1])?;
            at += 2;
        }
        Ok(Self(bytes))
    }
}

fn hex(digit: u8) -> Result<u8, JobIdError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(JobIdError),
    }
}

impl JobId {
    fn text(self, buffer: &mut [u8; 36]) -> &str {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut at = 0;
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                buffer[at] = b'-';
                at += 1;
            }
            buffer[at] = HEX[usize::from(byte >> 4)];
            buffer[at + 1] = HEX[usize::from(byte & 15)];
            at += 2;
        }
        std::str::from_utf8(buffer).unwrap_or_default()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text(&mut [0; 36]))
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text(&mut [0; 36]))
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn upper_case_is_read_and_lower_case_written() {
        let id: JobId = "019AAE51-4F2B-7C3D-8E4F-0123456789AB".parse().unwrap();
        assert_eq!(id.to_string(), "019aae51-4f2b-7c3d-8e4f-0123456789ab");
        assert!(id.is_v7());
    }

    #[test]
    fn other_shapes_are_refused() {
        for text in [
            "",
            "1",
            "019aae514f2b7c3d8e4f0123456789ab",
            "{019aae51-4f2b-7c3d-8e4f-0123456789ab}",
            "019aae51-4f2b-7c3d-8e4f-0123456789ag",
            "019aae514-f2b-7c3d-8e4f-0123456789ab",
            "019aae51-4f2b-7c3d-8e4f-0123456789a",
            "+19aae51-4f2b-7c3d-8e4f-0123456789ab",
        ] {
            assert!(text.parse::<JobId>().is_err(), "{text:?} was read");
        }
    }

    #[test]
    fn only_version_7_counts_as_such() {
        for (text, v7) in [
            ("00000000-0000-0000-0000-000000000000", false),
            ("019aae51-4f2b-4c3d-8e4f-0123456789ab", false),
            ("019aae51-4f2b-7c3d-ce4f-0123456789ab", false),
            ("019aae51-4f2b-7c3d-be4f-0123456789ab", true),
        ] {
            assert_eq!(text.parse::<JobId>().unwrap().is_v7(), v7, "{text}");
        }
    }

    proptest! {
        #[test]
        fn ids_come_back(bytes: [u8; 16]) {
            let id = JobId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse::<JobId>(), Ok(id));
        }
    }
}
