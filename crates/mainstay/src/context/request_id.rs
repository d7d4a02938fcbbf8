//! The id of a request.

use crate::clock::quick_random as random;

const LONGEST: usize = 128;

/// The id that follows a request: the caller's if it is sane (1 to 128 of letters, digits and `._:@/+=-`), else 128
/// random bits in hexadecimal.
#[derive(Clone, Copy)]
pub struct RequestId {
    /// In place: an id costs no allocation of its own.
    bytes: [u8; LONGEST],
    len: u8,
}

impl RequestId {
    /// A new id.
    #[allow(clippy::new_without_default, reason = "no two are the same")]
    pub fn new() -> Self {
        let mut id = Self { bytes: [0; LONGEST], len: 32 };
        super::trace::hex(u128::from(random()) << 64 | u128::from(random()), &mut id.bytes[..32]);
        id
    }

    /// Somebody else's id; `None` if it is not sane.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:@/+=-".contains(&byte);
        if !(1..=LONGEST).contains(&text.len()) || !text.bytes().all(allowed) {
            return None;
        }
        let mut id = Self { bytes: [0; LONGEST], len: text.len() as u8 };
        id.bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(id)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // ASCII by construction.
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl PartialEq for RequestId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RequestId {}

impl std::hash::Hash for RequestId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RequestId({self})")
    }
}

impl std::str::FromStr for RequestId {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, crate::Error> {
        Self::parse(text).ok_or_else(|| {
            crate::Error::from("a request id has 1 to 128 characters: letters, digits and `._:@/+=-`")
        })
    }
}
