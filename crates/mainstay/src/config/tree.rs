//! Trees of values and the paths through them.

use serde_json::{Map, Value};

/// The names that lead to a value.
pub(super) type Path = Vec<String>;

/// A value that somebody set.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub path: Path,
    pub given: Given,
    pub source: super::Source,
}

/// How it was given.
#[derive(Debug, Clone)]
pub(super) enum Given {
    /// With a type, as in a file.
    Value(Value),
    /// As text, as in a variable or a flag: what it means depends on who reads it.
    Text(String),
}

impl Setting {
    pub fn key(&self) -> String {
        self.path.join(".")
    }
}

/// Whether a value is a table whose keys are all known. An absent one and an empty one are open: what may stand
/// in them only the type knows.
pub(super) fn closed(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object().filter(|map| !map.is_empty())
}

/// Every leaf: what is not a closed table.
pub(super) fn leaves(tree: &Map<String, Value>) -> Vec<(Path, &Value)> {
    fn walk<'a>(prefix: &Path, map: &'a Map<String, Value>, out: &mut Vec<(Path, &'a Value)>) {
        for (name, value) in map {
            let mut path = prefix.clone();
            path.push(name.clone());
            match closed(value) {
                Some(inner) => walk(&path, inner, out),
                None => out.push((path, value)),
            }
        }
    }
    let mut out = Vec::new();
    walk(&Path::new(), tree, &mut out);
    out
}

/// The leaf of `tree` that `path` is, or lies in.
pub(super) fn leaf_above(tree: &Map<String, Value>, path: &[String]) -> Option<usize> {
    let mut map = tree;
    for (depth, name) in path.iter().enumerate() {
        let value = map.get(name)?;
        match closed(value) {
            Some(inner) => map = inner,
            None => return Some(depth + 1),
        }
    }
    None
}

/// Sets a value, making the tables that lead to it.
pub(super) fn set(tree: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((last, tables)) = path.split_last() else { return };
    let mut map = tree;
    for name in tables {
        let slot = map.entry(name.clone()).or_insert(Value::Null);
        if !slot.is_object() {
            *slot = Value::Object(Map::new());
        }
        let Value::Object(inner) = slot else { return };
        map = inner;
    }
    map.insert(last.clone(), value);
}
