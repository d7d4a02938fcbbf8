//! W3C Baggage.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

/// Members that are kept at most, and bytes as a header: what the standard asks for at least.
const MEMBERS: usize = 64;
const BYTES: usize = 8192;

/// Names and values that applications along the way leave for each other, as the W3C's `baggage` header carries them.
///
/// Callers outside may have written it: it is a hint, never a proof. It goes to every service that is called, so it
/// must hold no secrets. At most 64 members and 8,192 bytes; a received list that is longer is kept up to there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baggage(Option<Arc<[Member]>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    key: Box<str>,
    /// Decoded.
    value: Box<str>,
    /// As they came, with their first `;`.
    properties: Box<str>,
}

/// Why a member could not be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BaggageError {
    /// The name is not a token as HTTP knows it (letters, digits and ``!#$%&'*+-.^_`|~``).
    Name,
    /// There are 64 members, or it would be longer than 8,192 bytes.
    Full,
}

impl Baggage {
    pub(super) const NONE: Self = Self(None);

    /// Reads a list; several headers of one request are joined with commas first. `None` if any of it is not valid:
    /// half of it may mean something else than all of it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut members: Vec<Member> = Vec::new();
        let mut bytes = 0;
        let mut full = false;
        for text in text.split(',').map(trim).filter(|text| !text.is_empty()) {
            let member = Member::parse(text)?;
            full |= members.len() == MEMBERS || bytes + text.len() + 1 > BYTES;
            if !full {
                bytes += text.len() + 1;
                // The later one counts, in the place of the first.
                match members.iter_mut().find(|known| known.key == member.key) {
                    Some(known) => *known = member,
                    None => members.push(member),
                }
            }
        }
        Some(Self::of(members))
    }

    /// A member's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// All names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.members().iter().map(|member| (&*member.key, &*member.value))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same with a member added or replaced.
    ///
    /// # Errors
    /// The name is not a token, or there is no room.
    pub fn with(&self, name: &str, value: &str) -> Result<Self, BaggageError> {
        if !is_token(name) {
            return Err(BaggageError::Name);
        }
        let mut members = self.members().to_vec();
        let member = Member { key: name.into(), value: value.into(), properties: "".into() };
        match members.iter_mut().find(|known| *known.key == *name) {
            Some(known) => *known = member,
            None => members.push(member),
        }
        let made = Self::of(members);
        let fits = made.len() <= MEMBERS && made.to_string().len() <= BYTES;
        if fits { Ok(made) } else { Err(BaggageError::Full) }
    }

    /// The same without a member.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        Self::of(self.members().iter().filter(|member| *member.key != *name).cloned().collect())
    }

    fn of(members: Vec<Member>) -> Self {
        Self((!members.is_empty()).then(|| members.into()))
    }

    fn members(&self) -> &[Member] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// As a header's value.
impl std::fmt::Display for Baggage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, member) in self.members().iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{}=", member.key)?;
            for byte in member.value.bytes() {
                if is_octet(byte) && byte != b'%' {
                    f.write_char(byte.into())?
                } else {
                    write!(f, "%{byte:02X}")?
                }
            }
            f.write_str(&member.properties)?;
        }
        Ok(())
    }
}

impl Member {
    /// `key = value ; property ; property = value`, with optional white space around each sign.
    fn parse(text: &str) -> Option<Self> {
        let (pair, properties) = match text.find(';') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let (key, value) = pair.split_once('=')?;
        let (key, value) = (trim(key), trim(value));
        let valid = |property: &str| match property.split_once('=') {
            Some((key, value)) => is_token(trim(key)) && trim(value).bytes().all(is_octet),
            None => is_token(trim(property)),
        };
        if !is_token(key) || !value.bytes().all(is_octet) || !properties.split(';').skip(1).all(valid) {
            return None;
        }
        Some(Self { key: key.into(), value: decode(value).into(), properties: properties.into() })
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// RFC 9110's token.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// What may stand in a value: printable ASCII without space, `"`, `,`, `;` and `\`.
fn is_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

/// Percent-decoding; what is not UTF-8 then becomes U+FFFD, as the standard says.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let hex = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, tail @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                bytes.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = tail;
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

impl std::fmt::Display for BaggageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BaggageError::Name => "a name in baggage has letters, digits and !#$%&'*+-.^_`|~ only",
            BaggageError::Full => "baggage has at most 64 members and 8192 bytes: remove one first",
        })
    }
}

impl std::error::Error for BaggageError {}
