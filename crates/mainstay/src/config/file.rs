//! The file: TOML to settings that know their line.

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::tree::{Given, Path, Setting, closed};
use super::{Problems, Source};

/// Reads `text`; whatever is wrong with its syntax goes to `problems`, all of it.
pub(super) fn read(
    name: &str,
    text: &str,
    base: &Map<String, Value>,
    problems: &mut Problems,
) -> Vec<Setting> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        problems.add_at("", Source::File(name.to_owned(), line), error.message());
    }
    if !errors.is_empty() {
        return Vec::new(); // what was recovered would only produce misleading problems
    }
    let mut out = Vec::new();
    let place = |at: usize| Source::File(name.to_owned(), line_of(text, at));
    walk(&Path::new(), table.get_ref(), Some(base), &place, &mut out);
    out
}

/// Goes down as far as the defaults know the tables; what is below that is one value.
fn walk(
    prefix: &Path,
    table: &DeTable<'_>,
    base: Option<&Map<String, Value>>,
    place: &dyn Fn(usize) -> Source,
    out: &mut Vec<Setting>,
) {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let mut path = prefix.clone();
        path.push(key.get_ref().to_string());
        let below = base.and_then(|map| map.get(key.get_ref().as_ref())).and_then(closed);
        match (value.get_ref(), below) {
            (DeValue::Table(inner), Some(_)) => walk(&path, inner, below, place, out),
            (other, _) => {
                let source = place(key.span().start);
                out.push(Setting { path, given: Given::Value(plain(other)), source });
            }
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::from(number),
                // Beyond 64 bits: as text it meets a type error that shows it.
                Err(_) => Value::String(number.as_str().to_owned()),
            }
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(at) => Value::String(at.to_string()),
        DeValue::Array(items) => {
            items.iter().map(|item: &Spanned<DeValue<'_>>| plain(item.get_ref())).collect()
        }
        DeValue::Table(table) => {
            Value::Object(table.iter().map(|(k, v)| (k.get_ref().to_string(), plain(v.get_ref()))).collect())
        }
    }
}

/// Reads one value as TOML would: `5`, `true`, `[1, 2]`, `{ a = 1 }`.
pub(super) fn value(text: &str) -> Option<Value> {
    let document = format!("v = {text}");
    let table = DeTable::parse(&document).ok()?;
    // More than one key means that the text broke out of its line.
    let only = table.get_ref().len() == 1;
    let value = table.get_ref().iter().next().map(|(_, v)| plain(v.get_ref()))?;
    only.then_some(value)
}
