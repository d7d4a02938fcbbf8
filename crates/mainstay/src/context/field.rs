//! Free fields.

use std::borrow::Cow;
use std::sync::Arc;

use crate::config::Secret;

/// A context keeps at most this many fields of its own.
const MOST: usize = 64;
/// Longer text is cut.
const LONGEST: usize = 1024;

/// The value of a field. Made by `into()` from text, numbers and truth values; a [`Secret`] becomes `[redacted]`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FieldValue {
    /// Text.
    Text(Arc<str>),
    /// A number that may be below zero.
    Signed(i64),
    /// A number that is not below zero.
    Unsigned(u64),
    /// A number with a fraction.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

/// A field's value, looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ValueRef<'a> {
    Text(&'a str),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Bool(bool),
}

impl FieldValue {
    pub(crate) fn look(&self) -> ValueRef<'_> {
        match self {
            FieldValue::Text(text) => ValueRef::Text(text),
            FieldValue::Signed(number) => ValueRef::Signed(*number),
            FieldValue::Unsigned(number) => ValueRef::Unsigned(*number),
            FieldValue::Float(number) => ValueRef::Float(*number),
            FieldValue::Bool(flag) => ValueRef::Bool(*flag),
        }
    }
}

#[derive(Default)]
pub(super) struct Fields(Vec<(Cow<'static, str>, FieldValue)>);

impl Fields {
    pub fn put(&mut self, name: Cow<'static, str>, value: FieldValue) {
        let (name, value) = (tame(name), value.cut());
        if let Some((_, old)) = self.0.iter_mut().find(|(known, _)| *known == name) {
            *old = value;
        } else if self.0.len() < MOST {
            self.0.push((name, value));
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &FieldValue)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }
}

/// A name that could forge a line is made harmless.
fn tame(name: Cow<'static, str>) -> Cow<'static, str> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !name.is_empty() && name.len() <= 64 && name.chars().all(fine) {
        return name;
    }
    let tamed: String = name.chars().take(64).map(|c| if fine(c) { c } else { '_' }).collect();
    Cow::Owned(if tamed.is_empty() { "_".to_owned() } else { tamed })
}

impl FieldValue {
    fn cut(self) -> Self {
        match self {
            FieldValue::Text(text) if text.len() > LONGEST => {
                let whole = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                FieldValue::Text(text[..whole].into())
            }
            short => short,
        }
    }
}

macro_rules! from {
    ($($from:ty => $variant:ident as $to:ty),* $(,)?) => {
        $(impl From<$from> for FieldValue {
            fn from(value: $from) -> Self {
                FieldValue::$variant(<$to>::from(value))
            }
        })*
    };
}

from! {
    &str => Text as Arc<str>, String => Text as Arc<str>, Arc<str> => Text as Arc<str>, bool => Bool as bool,
    i8 => Signed as i64, i16 => Signed as i64, i32 => Signed as i64, i64 => Signed as i64,
    u8 => Unsigned as u64, u16 => Unsigned as u64, u32 => Unsigned as u64, u64 => Unsigned as u64,
    f32 => Float as f64, f64 => Float as f64,
}

impl From<usize> for FieldValue {
    fn from(value: usize) -> Self {
        FieldValue::Unsigned(value as u64)
    }
}

impl<T> From<Secret<T>> for FieldValue {
    fn from(_: Secret<T>) -> Self {
        FieldValue::Text(crate::config::REDACTED.into())
    }
}
