//! What a configuration came to, and where each value comes from.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};

use super::Prints;
use super::secret::mask_url;
use super::tree::{self, Setting};
use super::{Settings, Source};
use crate::app::Budget;

/// A configuration that was read and found to be right.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded<C> {
    /// The service's own.
    pub config: C,
    /// The chassis'.
    pub settings: Settings,
    /// Every value with its source, secrets redacted.
    pub values: Vec<Effective>,
    /// What is worth saying but no reason to refuse, such as an unknown variable.
    pub warnings: Vec<String>,
    /// To tell what has changed when it is read again.
    pub(crate) prints: Prints,
}

/// One value of the effective configuration.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Effective {
    /// The key, dotted.
    pub key: String,
    /// The value, redacted if secret; null if unset.
    pub value: Value,
    /// Where it comes from.
    pub source: Source,
}

impl<C> Loaded<C> {
    /// The effective configuration as TOML; each value's source is its comment.
    pub fn to_toml(&self) -> String {
        to_toml(&self.values)
    }
}

pub(super) fn effective<C: Serialize>(config: &C, settings: &Settings, given: &[Setting]) -> Vec<Effective> {
    let mut all = object(serde_json::to_value(settings));
    // What follows from the grace, where nobody said otherwise.
    for (key, time) in Budget::plan(settings).iter().flat_map(Budget::phases) {
        if let Some(unset) = all.get_mut(key).filter(|value| value.is_null()) {
            *unset = Value::from(time.as_millis() as u64);
        }
    }
    all.extend(object(serde_json::to_value(config)));
    let mut out = Vec::new();
    for (path, value) in tree::leaves(&all) {
        // The innermost setting that is the value, holds it, or (for an empty table) lies in it.
        let from = given
            .iter()
            .filter(|setting| path.starts_with(&setting.path))
            .max_by_key(|setting| setting.path.len());
        out.push(Effective {
            key: path.join("."),
            value: masked(value),
            source: from.map_or(Source::Default, |setting| setting.source.clone()),
        });
    }
    out
}

pub(super) fn object(value: Result<Value, serde_json::Error>) -> Map<String, Value> {
    match value {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn masked(value: &Value) -> Value {
    match value {
        Value::String(text) => mask_url(text).map_or_else(|| value.clone(), Value::String),
        Value::Array(items) => items.iter().map(masked).collect(),
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), masked(v))).collect()),
        other => other.clone(),
    }
}

#[cfg(feature = "http")]
pub(crate) fn to_json(values: &[Effective]) -> Value {
    let entry = |v: &Effective| {
        (v.key.clone(), serde_json::json!({ "value": v.value, "source": v.source.to_string() }))
    };
    Value::Object(values.iter().map(entry).collect())
}

fn to_toml(values: &[Effective]) -> String {
    let mut out = String::new();
    // Keys outside of tables have to come first.
    let mut sorted: Vec<&Effective> = values.iter().collect();
    sorted.sort_by_key(|value| value.key.rsplit_once('.').map_or("", |(table, _)| table));
    let mut current = "";
    for value in sorted {
        let (table, name) = value.key.rsplit_once('.').unwrap_or(("", &value.key));
        if table != current {
            let _ = write!(out, "\n[{table}]\n");
            current = table;
        }
        let line = match toml_value(&value.value) {
            Some(text) => format!("{name} = {text}"),
            None => format!("# {name} is not set"),
        };
        let _ = writeln!(out, "{line:<40} # {}", value.source);
    }
    out
}

fn toml_value(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        // A JSON string is a TOML basic string: the same escapes, and DEL is the one exception.
        Value::String(_) => value.to_string().replace('\u{7f}', "\\u007f"),
        Value::Array(items) => {
            format!("[{}]", items.iter().filter_map(toml_value).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let pair =
                |(k, v): (&String, &Value)| Some(format!("{} = {}", Value::from(k.as_str()), toml_value(v)?));
            format!("{{ {} }}", map.iter().filter_map(pair).collect::<Vec<_>>().join(", "))
        }
    })
}
