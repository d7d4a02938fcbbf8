use std::borrow::Cow;

use crate::RawJson;

/// A value of a document that was walked: its text, read on demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    text: &'a str,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl<'a> Value<'a> {
    pub(super) fn trusted(text: &'a str) -> Self {
        Self { text }
    }

    /// The exact text.
    pub fn text(self) -> &'a str {
        self.text
    }

    /// A copy of the exact text, to keep.
    pub fn to_raw(self) -> RawJson {
        RawJson::from_trusted(bytes::Bytes::copy_from_slice(self.text.as_bytes()))
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        match self.text.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// The string, if it is one. Lone surrogates (which the walk has reported) become U+FFFD.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        (self.kind() == Kind::String).then(|| decode(self.text))
    }

    /// The boolean, if it is one.
    pub fn as_bool(self) -> Option<bool> {
        (self.kind() == Kind::Bool).then(|| self.text == "true")
    }

    /// The number, if it is a whole one of 64 bits. `5.0` and `5e0` are whole.
    pub fn as_u64(self) -> Option<u64> {
        if let Ok(whole) = self.text.parse() {
            // `parse` takes a plus sign, which JSON does not; the walk has refused it.
            return Some(whole);
        }
        let number = self.as_f64()?;
        // Up to 2^53 every double that is whole is the number that was meant.
        (number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number)).then_some(number as u64)
    }

    /// The number, if it is one.
    pub fn as_f64(self) -> Option<f64> {
        if self.kind() == Kind::Number { self.text.parse().ok() } else { None }
    }

    /// The members, if it is an object; of duplicates (which the walk has reported) all.
    pub fn members(self) -> Option<Members<'a>> {
        (self.kind() == Kind::Object).then(|| Members { cursor: Cursor::inside(self.text) })
    }

    /// The elements, if it is an array.
    pub fn elements(self) -> Option<Elements<'a>> {
        (self.kind() == Kind::Array).then(|| Elements { cursor: Cursor::inside(self.text) })
    }

    /// The first member with this name, if it is an object that has one.
    pub fn get(self, name: &str) -> Option<Self> {
        self.members()?.find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// The members of an object, in order.
#[derive(Debug, Clone)]
pub struct Members<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.cursor.next_value(b'}')?;
        let value = self.cursor.next_value(b'}')?;
        Some((decode(key), Value { text: value }))
    }
}

/// The elements of an array, in order.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.next_value(b']').map(|text| Value { text })
    }
}

/// Steps over the values inside a container whose syntax is known to be right.
#[derive(Debug, Clone)]
struct Cursor<'a> {
    text: &'a str,
    pos: usize,
}

impl<'a> Cursor<'a> {
    fn inside(text: &'a str) -> Self {
        Self { text, pos: 1 }
    }

    fn next_value(&mut self, close: u8) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.pos), Some(b' ' | b'\n' | b'\r' | b'\t' | b',' | b':')) {
            self.pos += 1;
        }
        if *bytes.get(self.pos)? == close {
            return None;
        }
        let start = self.pos;
        self.pos = end_of_value(bytes, start);
        self.text.get(start..self.pos)
    }
}

fn end_of_value(bytes: &[u8], start: usize) -> usize {
    let mut pos = start;
    let mut open = 0_usize;
    while let Some(byte) = bytes.get(pos) {
        match byte {
            b'"' => pos = end_of_string(bytes, pos),
            b'{' | b'[' => {
                open += 1;
                pos += 1;
                continue;
            }
            b'}' | b']' => {
                open = open.saturating_sub(1);
                pos += 1;
            }
            b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => {
                pos += 1;
                continue;
            }
            _ => {
                while !matches!(
                    bytes.get(pos),
                    None | Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t')
                ) {
                    pos += 1;
                }
            }
        }
        if open == 0 {
            break;
        }
    }
    pos
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut pos = start + 1;
    while let Some(byte) = bytes.get(pos) {
        match byte {
            b'"' => return pos + 1,
            b'\\' => pos += 2,
            _ => pos += 1,
        }
    }
    pos
}

fn decode(quoted: &str) -> Cow<'_, str> {
    let text = quoted.get(1..quoted.len() - 1).unwrap_or_default();
    if text.contains('\\') { Cow::Owned(unescape(text)) } else { Cow::Borrowed(text) }
}

/// Resolves the escapes of a string whose syntax is known to be right.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (char, taken) = match rest.as_bytes().first() {
            Some(b'u') => unicode(rest),
            Some(b'b') => ('\u{8}', 1),
            Some(b'f') => ('\u{c}', 1),
            Some(b'n') => ('\n', 1),
            Some(b'r') => ('\r', 1),
            Some(b't') => ('\t', 1),
            Some(other) => (char::from(*other), 1),
            None => break,
        };
        out.push(char);
        rest = &rest[taken..];
    }
    out.push_str(rest);
    out
}

/// The character of `uXXXX` or `uXXXX\uXXXX`, and how many bytes it took.
fn unicode(rest: &str) -> (char, usize) {
    let unit = |from: usize| rest.get(from..from + 4).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let first = unit(1).unwrap_or(0xfffd);
    if let (0xd800..=0xdbff, Some("\\u"), Some(second @ 0xdc00..=0xdfff)) = (first, rest.get(5..7), unit(7)) {
        let pair = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (char::from_u32(pair).unwrap_or(char::REPLACEMENT_CHARACTER), 11);
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 5)
}
