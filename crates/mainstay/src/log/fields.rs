//! Names and values of a line, gathered in one buffer that is used again and again.

use std::fmt::{self, Write as _};
use std::ops::Range;

use tracing::field::{Field, Visit};

use super::redact::Redact;
use crate::config::REDACTED;
use crate::context::ValueRef;

/// What is known so far. A name that comes again replaces the value and keeps its place.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    text: String,
    slots: Vec<Slot>,
    message: Range<usize>,
}

#[derive(Debug, Clone)]
struct Slot {
    name: Range<usize>,
    value: Range<usize>,
    kind: Kind,
}

/// What a value is: all but text need no quotes in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Signed,
    Unsigned,
    Float,
    Bool,
}

impl Fields {
    pub fn clear(&mut self) {
        self.text.clear();
        self.slots.clear();
        self.message = 0..0;
    }

    pub fn set_message(&mut self, message: &str) {
        let from = self.text.len();
        self.text.push_str(message);
        self.message = from..self.text.len();
    }

    pub fn message(&self) -> &str {
        &self.text[self.message.clone()]
    }

    /// All names and values that there are, or were before others took their place, and the message.
    pub fn text(&self) -> &[u8] {
        self.text.as_bytes()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, Kind)> {
        self.slots
            .iter()
            .map(|slot| (&self.text[slot.name.clone()], &self.text[slot.value.clone()], slot.kind))
    }

    pub fn put(&mut self, redact: &Redact, name: &str, value: ValueRef<'_>) {
        match value {
            ValueRef::Text(text) => self.add(redact, name, Kind::Text, |out| out.push_str(text)),
            ValueRef::Signed(number) => self.display(redact, name, Kind::Signed, format_args!("{number}")),
            ValueRef::Unsigned(number) => {
                self.add(redact, name, Kind::Unsigned, |out| digits(out, number, 1));
            }
            ValueRef::Bool(flag) => self.display(redact, name, Kind::Bool, format_args!("{flag}")),
            // With its point, so that a reader sees that it is one: `10.0`.
            ValueRef::Float(number) if number.is_finite() => {
                self.add(redact, name, Kind::Float, |out| float(out, number));
            }
            // JSON has no such numbers.
            ValueRef::Float(number) => self.display(redact, name, Kind::Text, format_args!("{number}")),
        }
    }

    fn display(&mut self, redact: &Redact, name: &str, kind: Kind, value: fmt::Arguments<'_>) {
        self.add(redact, name, kind, |out| _ = out.write_fmt(value));
    }

    /// Takes over what `others` has.
    pub fn put_all(&mut self, redact: &Redact, others: &Fields) {
        for (name, value, kind) in others.iter() {
            self.add(redact, name, kind, |out| out.push_str(value));
        }
    }

    fn add(&mut self, redact: &Redact, name: &str, kind: Kind, write: impl FnOnce(&mut String)) {
        let hidden = redact.hides(name);
        // As bytes: a text would be asked each time whether it is cut in the middle of a character.
        let text = self.text.as_bytes();
        let known = self.slots.iter().position(|slot| text[slot.name.clone()] == *name.as_bytes());
        let name = known.map_or_else(
            || {
                let from = self.text.len();
                self.text.push_str(name);
                from..self.text.len()
            },
            |n| self.slots[n].name.clone(),
        );
        let from = self.text.len();
        if hidden {
            self.text.push_str(REDACTED)
        } else {
            write(&mut self.text)
        }
        let slot = Slot { name, value: from..self.text.len(), kind: if hidden { Kind::Text } else { kind } };
        match known {
            Some(n) => self.slots[n] = slot,
            None => self.slots.push(slot),
        }
    }
}

/// A number in at least so many digits: the standard library's formatting costs several times as much.
fn digits(out: &mut String, mut number: u64, at_least: usize) {
    let (mut text, mut from) = ([b'0'; 20], 20);
    while number > 0 {
        from -= 1;
        text[from] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    // Zeros are there already.
    out.push_str(std::str::from_utf8(&text[from.min(20 - at_least)..]).unwrap_or_default());
}

/// As `{:?}` writes it. Milliseconds in thousandths, as most are, are written as the whole numbers that they are: no
/// two decimals of up to 15 digits are the same float, so that these digits are the shortest that mean it.
fn float(out: &mut String, number: f64) {
    let thousandths = (number * 1000.0).round();
    if !(1.0..1e15).contains(&thousandths) || thousandths / 1000.0 != number {
        let _ = write!(out, "{number:?}");
        return;
    }
    let whole = thousandths as u64;
    digits(out, whole / 1000, 1);
    out.push('.');
    match whole % 1000 {
        part if part % 100 == 0 => digits(out, part / 100, 1),
        part if part % 10 == 0 => digits(out, part / 10, 2),
        part => digits(out, part, 3),
    }
}

/// A value as it is written.
#[cfg(feature = "testing")]
pub(crate) fn text_of(value: &crate::context::FieldValue) -> String {
    let mut fields = Fields::default();
    fields.put(&Redact::new(&[]), "value", value.look());
    fields.iter().map(|(_, value, _)| value.to_owned()).collect()
}

/// A value as it was before it was written.
#[cfg(feature = "testing")]
impl Kind {
    pub fn read(self, text: &str) -> crate::context::FieldValue {
        use crate::context::FieldValue::{Bool, Float, Signed, Text, Unsigned};
        let read = match self {
            Kind::Text => None,
            Kind::Signed => text.parse().map(Signed).ok(),
            Kind::Unsigned => text.parse().map(Unsigned).ok(),
            Kind::Float => text.parse().map(Float).ok(),
            Kind::Bool => text.parse().map(Bool).ok(),
        };
        read.unwrap_or_else(|| Text(text.into()))
    }
}

/// Reads an event's or a span's own fields.
pub(super) struct Reader<'a> {
    pub fields: &'a mut Fields,
    pub redact: &'a Redact,
}

impl Reader<'_> {
    fn value(&mut self, field: &Field, value: ValueRef<'_>) {
        match (field.name(), value) {
            ("message", ValueRef::Text(text)) => self.message(format_args!("{text}")),
            // Where a record of the `log` facade came from is on the line already.
            ("log.target" | "log.module_path" | "log.file" | "log.line", _) => {}
            (name, value) => self.fields.put(self.redact, name, value),
        }
    }

    fn message(&mut self, message: fmt::Arguments<'_>) {
        let from = self.fields.text.len();
        let _ = self.fields.text.write_fmt(message);
        self.fields.message = from..self.fields.text.len();
    }
}

impl Visit for Reader<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message(format_args!("{value:?}")),
            "log.target" | "log.module_path" | "log.file" | "log.line" => {}
            name => self.fields.display(self.redact, name, Kind::Text, format_args!("{value:?}")),
        }
    }

    /// With its causes.
    fn record_error(&mut self, field: &Field, error: &(dyn std::error::Error + 'static)) {
        self.fields.add(self.redact, field.name(), Kind::Text, |out| {
            let mut next = Some(error);
            while let Some(error) = next {
                let _ = write!(out, "{error}");
                next = error.source();
                if next.is_some() {
                    out.push_str(": ");
                }
            }
        });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.value(field, ValueRef::Text(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.value(field, ValueRef::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.value(field, ValueRef::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.value(field, ValueRef::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.value(field, ValueRef::Bool(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: ValueRef<'_>) -> String {
        let mut fields = Fields::default();
        fields.put(&Redact::new(&[]), "value", value);
        fields.iter().map(|(_, value, _)| value.to_owned()).collect()
    }

    proptest::proptest! {
        #[test]
        fn numbers_are_written_as_the_standard_library_does(whole: u64, small in 0..20_000u64, float: f64) {
            for whole in [whole, small, 0, u64::MAX] {
                proptest::prop_assert_eq!(written(ValueRef::Unsigned(whole)), whole.to_string());
                let thousandths = [whole as f64 / 1000.0, -(whole as f64) / 1000.0, whole as f64 / 1e6];
                for float in thousandths.into_iter().chain([float]).filter(|float| float.is_finite()) {
                    proptest::prop_assert_eq!(written(ValueRef::Float(float)), format!("{float:?}"));
                }
            }
        }
    }
}
