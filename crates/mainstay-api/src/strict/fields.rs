//! Picking the fields of an object, and readers for one field.

use std::ops::RangeInclusive;

use super::{Cx, Kind, Path, Value};
use crate::{RawJson, Timestamp};

/// The fields of an object that has these and no others.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a, const N: usize> {
    names: &'static [&'static str; N],
    slots: [Option<Value<'a>>; N],
}

impl<'a, const N: usize> Fields<'a, N> {
    /// Sorts the members of the object at `at`; reports those that are not in `names`.
    pub fn open(
        cx: &mut Cx<'_>,
        at: &Path<'_>,
        value: Value<'a>,
        names: &'static [&'static str; N],
    ) -> Option<Self> {
        let Some(members) = value.members() else {
            cx.error(at, wrong_kind("an object", value));
            return None;
        };
        let mut slots = [None; N];
        for (key, value) in members {
            match names.iter().position(|name| *name == key) {
                // Of duplicates the first counts; the walk has reported the others.
                Some(place) => slots[place] = slots[place].or(Some(value)),
                // The suggestion costs something; what is only counted needs none.
                None if cx.is_full() => cx.error(&at.key(&key), String::new()),
                None => cx.error(&at.key(&key), unknown("field", &key, names)),
            }
        }
        Some(Self { names, slots })
    }

    /// The field as it stands; `None` when it is absent.
    ///
    /// # Panics
    /// In debug builds, when `name` is not among the names of `open`.
    pub fn value(&self, name: &'static str) -> Option<Value<'a>> {
        let place = self.names.iter().position(|known| *known == name);
        debug_assert!(place.is_some(), "{name} is not declared");
        self.slots[place?]
    }

    /// Reads a field that may be absent or `null`.
    pub fn optional<T>(
        &self,
        cx: &mut Cx<'_>,
        at: &Path<'_>,
        name: &'static str,
        read: impl FnOnce(&mut Cx<'_>, &Path<'_>, Value<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.value(name) {
            Some(value) if !value.is_null() => read(cx, &at.key(name), value),
            _ => None,
        }
    }

    /// Reads a field that must be there; absence is reported.
    pub fn required<T>(
        &self,
        cx: &mut Cx<'_>,
        at: &Path<'_>,
        name: &'static str,
        read: impl FnOnce(&mut Cx<'_>, &Path<'_>, Value<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.value(name) {
            Some(value) => read(cx, &at.key(name), value),
            None => {
                cx.error(&at.key(name), "is missing");
                None
            }
        }
    }

    /// A free-form field, `null` included, of at most `max` bytes of text.
    pub fn raw(&self, cx: &mut Cx<'_>, at: &Path<'_>, name: &'static str, max: usize) -> Option<RawJson> {
        self.value(name).and_then(|value| raw(max)(cx, &at.key(name), value))
    }

    /// Reads an array whose absence is an empty one.
    pub fn list<T>(
        &self,
        cx: &mut Cx<'_>,
        at: &Path<'_>,
        name: &'static str,
        count: RangeInclusive<usize>,
        read: impl FnMut(&mut Cx<'_>, &Path<'_>, Value<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        match self.value(name) {
            Some(value) if !value.is_null() => list(cx, &at.key(name), value, count, read),
            _ => {
                if *count.start() > 0 {
                    cx.error(&at.key(name), "is missing");
                }
                None
            }
        }
    }
}

/// Reads every element, and reports every one that is wrong.
fn list<'a, T>(
    cx: &mut Cx<'_>,
    at: &Path<'_>,
    value: Value<'a>,
    count: RangeInclusive<usize>,
    mut read: impl FnMut(&mut Cx<'_>, &Path<'_>, Value<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(elements) = value.elements() else {
        cx.error(at, wrong_kind("an array", value));
        return None;
    };
    // Counted first: an array that is too long is refused before anything is kept of it.
    let length = elements.clone().take(count.end() + 1).count();
    if !count.contains(&length) {
        cx.error(at, count_rule(*count.start(), *count.end()));
        return None;
    }
    let mut all = Vec::with_capacity(length);
    for (index, element) in elements.enumerate() {
        all.extend(read(cx, &at.index(index), element));
    }
    // One that was wrong has been reported.
    (all.len() == length).then_some(all)
}

/// A whole number in the range.
pub fn int<T>(range: RangeInclusive<u64>) -> impl Fn(&mut Cx<'_>, &Path<'_>, Value<'_>) -> Option<T>
where
    T: TryFrom<u64>,
{
    move |cx, at, value| {
        let number = value
            .as_u64()
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            let (low, high) = (range.start(), range.end());
            cx.error(at, format!("must be a whole number from {low} to {high}"));
        }
        number
    }
}

/// A number in the range.
pub fn decimal(range: RangeInclusive<f64>) -> impl Fn(&mut Cx<'_>, &Path<'_>, Value<'_>) -> Option<f64> {
    move |cx, at, value| {
        let number = value.as_f64().filter(|number| range.contains(number));
        if number.is_none() {
            cx.error(at, format!("must be a number from {} to {}", range.start(), range.end()));
        }
        number
    }
}

/// `true` or `false`.
pub fn boolean(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<bool> {
    let bool = value.as_bool();
    if bool.is_none() {
        cx.error(at, wrong_kind("true or false", value));
    }
    bool
}

/// A string of so many bytes.
pub fn text(bytes: RangeInclusive<usize>) -> impl Fn(&mut Cx<'_>, &Path<'_>, Value<'_>) -> Option<String> {
    move |cx, at, value| {
        let Some(text) = value.as_str() else {
            cx.error(at, wrong_kind("a string", value));
            return None;
        };
        if !bytes.contains(&text.len()) {
            cx.error(at, format!("must have {} to {} bytes, has {}", bytes.start(), bytes.end(), text.len()));
            return None;
        }
        Some(text.into_owned())
    }
}

/// A string that follows a rule; `rule` says it in words that follow a field's name.
pub fn matching(
    follows: impl Fn(&str) -> bool,
    rule: &'static str,
) -> impl Fn(&mut Cx<'_>, &Path<'_>, Value<'_>) -> Option<String> {
    move |cx, at, value| {
        let text = value.as_str().filter(|text| follows(text));
        if text.is_none() {
            cx.error(at, rule);
        }
        text.map(std::borrow::Cow::into_owned)
    }
}

/// One of these words.
pub fn one_of<T: Copy>(
    words: &[(&'static str, T)],
) -> impl Fn(&mut Cx<'_>, &Path<'_>, Value<'_>) -> Option<T> {
    move |cx, at, value| {
        let word = value.as_str().unwrap_or_default();
        let known = words.iter().find(|(name, _)| *name == word).map(|(_, meaning)| *meaning);
        if known.is_none() {
            let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
            cx.error(at, format!("must be {}", alternatives(&names)));
        }
        known
    }
}

/// An RFC 3339 instant.
pub fn timestamp(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Timestamp> {
    match value.as_str().unwrap_or_default().parse() {
        Ok(moment) => Some(moment),
        Err(error) => {
            cx.error(at, error.to_string());
            None
        }
    }
}

/// Any value of at most `max` bytes of text.
pub fn raw(max: usize) -> impl Fn(&mut Cx<'_>, &Path<'_>, Value<'_>) -> Option<RawJson> {
    move |cx, at, value| {
        if value.text().len() > max {
            cx.too_large(at, max);
            return None;
        }
        Some(value.to_raw())
    }
}

pub(super) fn count_rule(min: usize, max: usize) -> String {
    format!("must have {min} to {max} elements")
}

/// The sentence for something that has no such name, with the nearest one that exists.
pub(crate) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .filter(|_| name.len() <= 64)
        .map(|known| (distance(name, known), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .min();
    match near {
        Some((_, near)) => format!("unknown {what}: did you mean {near}?"),
        None if known.is_empty() => format!("unknown {what}: there is none here"),
        None => format!("unknown {what}: known are {}", known.join(", ")),
    }
}

pub(crate) fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}

fn wrong_kind(wanted: &str, value: Value<'_>) -> String {
    let is = match value.kind() {
        Kind::Null => "null",
        Kind::Bool => "a boolean",
        Kind::Number => "a number",
        Kind::String => "a string",
        Kind::Array => "an array",
        Kind::Object => "an object",
    };
    format!("must be {wanted}, is {is}")
}

/// The edit distance, a row at a time.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, byte) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(byte != other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
