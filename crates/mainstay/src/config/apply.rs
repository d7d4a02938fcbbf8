//! Laying settings over the defaults, one at a time first, so that each wrong one gets its own message.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::nearest::nearest;
use super::tree::{self, Given, Setting};
use super::{Problems, Settings, file};

/// What the settings are laid over.
pub(super) struct Base {
    /// The defaults of both, secrets in clear.
    pub tree: Map<String, Value>,
    /// Keys that only the chassis knows.
    pub chassis_only: Vec<String>,
    /// What the service's type serialises to, if that is no table (as `()` does).
    pub scalar: Option<Value>,
    /// Keys whose values must not be shown.
    pub secret: Vec<String>,
}

/// Both halves of a configuration, and the keys nobody read.
type Read<C> = (C, Settings, Vec<String>);

/// Applies the winning settings. What is wrong goes to `problems` and keeps its default, so that rules find what else
/// is wrong; `None` if nothing can be read at all.
pub(super) fn apply<C: DeserializeOwned>(
    base: &Base,
    settings: &[Setting],
    problems: &mut Problems,
) -> Option<(C, Settings)> {
    if let Err(detail) = base.read::<C>(&base.tree) {
        problems.add("", format!("the defaults cannot be read back: {detail}"));
        return None;
    }
    let mut all = base.tree.clone();
    for setting in settings {
        match base.settle::<C>(setting, settings) {
            Ok(value) => tree::set(&mut all, &setting.path, value),
            Err(detail) => problems.add_at(setting.key(), setting.source.clone(), detail),
        }
    }
    match base.read::<C>(&all) {
        Ok((config, chassis, _)) => Some((config, chassis)),
        Err(_) if !problems.is_empty() => None,
        Err(detail) => {
            problems.add("", format!("each value is fine alone, together they are not: {detail}"));
            None
        }
    }
}

impl Base {
    /// The value of a setting that its reader accepts, tried with nothing else set but its own table.
    fn settle<C: DeserializeOwned>(&self, setting: &Setting, all: &[Setting]) -> Result<Value, String> {
        // Inside an open table its neighbours may be needed to read it at all; what they mean is guessed.
        let neighbours: Vec<&Setting> = match tree::leaf_above(&self.tree, &setting.path) {
            Some(depth) if depth < setting.path.len() => {
                all.iter().filter(|other| other.path.starts_with(&setting.path[..depth])).collect()
            }
            _ => Vec::new(),
        };
        let guesses: &[fn(&Given) -> Value] =
            if neighbours.is_empty() { &[typed] } else { &[typed, textual] };
        let mut complaint = String::new();
        for guess in guesses {
            let mut alone = self.tree.clone();
            for other in &neighbours {
                tree::set(&mut alone, &other.path, guess(&other.given));
            }
            for candidate in candidates(&setting.given) {
                tree::set(&mut alone, &setting.path, candidate.clone());
                match self.read::<C>(&alone) {
                    Ok((_, _, ignored)) => match ignored.iter().find(|key| touches(key, &setting.key())) {
                        None => return Ok(candidate),
                        Some(unknown) => return Err(self.unknown(unknown)),
                    },
                    Err(detail) if complaint.is_empty() => complaint = detail,
                    Err(_) => {}
                }
            }
        }
        Err(if self.secret.contains(&setting.key()) {
            "has a wrong type (secret)".to_owned()
        } else {
            complaint
        })
    }

    fn unknown(&self, key: &str) -> String {
        let known: Vec<String> =
            tree::leaves(&self.tree).into_iter().map(|(path, _)| path.join(".")).collect();
        match nearest(key, known.iter().map(String::as_str)) {
            Some(meant) => format!("unknown key, did you mean `{meant}`"),
            None => "unknown key".to_owned(),
        }
    }

    fn read<C: DeserializeOwned>(&self, tree: &Map<String, Value>) -> Result<Read<C>, String> {
        let (mut for_app, mut for_chassis) = (Map::new(), Map::new());
        let mut ignored = Vec::new();
        for (key, value) in tree {
            if Settings::knows(key) {
                for_chassis.insert(key.clone(), value.clone());
            }
            if !self.chassis_only.contains(key) {
                for_app.insert(key.clone(), value.clone());
            }
        }
        let chassis = serde_json::from_value(Value::Object(for_chassis)).map_err(|e| e.to_string())?;
        let app = match &self.scalar {
            Some(scalar) => {
                ignored.extend(for_app.keys().cloned());
                serde_json::from_value(scalar.clone())
            }
            None => serde_ignored::deserialize(Value::Object(for_app), |path| {
                ignored.push(path.to_string().replace(".?.", "."))
            }),
        };
        ignored.retain(|key| !Settings::knows(key));
        Ok((app.map_err(|e| e.to_string())?, chassis, ignored))
    }
}

/// What a setting can mean, the plainest first. Text is text if its reader takes text.
fn candidates(given: &Given) -> Vec<Value> {
    match given {
        Given::Value(value) => vec![value.clone()],
        Given::Text(text) => {
            let mut out = vec![Value::from(text.as_str())];
            out.extend(file::value(text));
            out.push(text.split(',').map(|item| Value::from(item.trim())).collect());
            out.extend(file::value(&format!("[{text}]")));
            out
        }
    }
}

/// A guess for a neighbour: what a file would make of it.
fn typed(given: &Given) -> Value {
    match given {
        Given::Value(value) => value.clone(),
        Given::Text(text) => file::value(text).unwrap_or_else(|| textual(given)),
    }
}

/// The other guess: text.
fn textual(given: &Given) -> Value {
    match given {
        Given::Value(value) => value.clone(),
        Given::Text(text) => Value::from(text.as_str()),
    }
}

fn touches(ignored: &str, key: &str) -> bool {
    ignored == key || ignored.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'))
}
