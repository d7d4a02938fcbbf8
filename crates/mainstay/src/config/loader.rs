//! Collecting the layers.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::apply::{Base, apply};
use super::effective::{Loaded, effective};
use super::nearest::nearest;
use super::prints::prints;
use super::secret::{REDACTED, revealing};
use super::tree::{self, Given, Path, Setting};
use super::{Problems, Settings, Source, file};

type Rule<C> = Box<dyn Fn(&C, &Settings, &mut Problems) + Send + Sync>;

/// Reads a service's configuration of type `C` from all its layers.
pub struct Loader<C> {
    prefix: String,
    file: Option<PathBuf>,
    variables: Option<Vec<(String, String)>>,
    flags: Vec<(String, String, String)>,
    defaults: Vec<(String, Value)>,
    foreign: Vec<String>,
    rules: Vec<Rule<C>>,
}

impl<C: Serialize + DeserializeOwned + Default> Loader<C> {
    /// A loader for the service of this name, which in capitals is the prefix of its variables.
    pub fn new(app: &str) -> Self {
        Self {
            prefix: format!("{}_", app.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_")),
            file: None,
            variables: None,
            flags: Vec::new(),
            defaults: Vec::new(),
            foreign: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// Reads this TOML file. Without it, the variable `PREFIX_CONFIG` may name one; without that, none is read.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Reads these variables instead of the process's.
    #[must_use]
    pub fn variables<K: Into<String>, V: Into<String>>(
        mut self,
        all: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.variables = Some(all.into_iter().map(|(k, v)| (k.into(), v.into())).collect());
        self
    }

    /// Sets a key (dotted, if in a table) from a command line flag, whose name is what a problem is reported under.
    #[must_use]
    pub fn flag(mut self, key: impl Into<String>, value: impl ToString, name: impl Into<String>) -> Self {
        self.flags.push((key.into(), value.to_string(), name.into()));
        self
    }

    /// Changes the default of one of the chassis' keys for this service.
    #[must_use]
    pub fn default_value(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.defaults.push((key.into(), value.into()));
        self
    }

    /// A variable with our prefix that is read elsewhere: no warning about it.
    #[must_use]
    pub fn foreign_variable(mut self, name: impl Into<String>) -> Self {
        self.foreign.push(name.into());
        self
    }

    /// A rule that values have to obey, alone or together. It may report several problems.
    #[must_use]
    pub fn rule(mut self, rule: impl Fn(&C, &Settings, &mut Problems) + Send + Sync + 'static) -> Self {
        self.rules.push(Box::new(rule));
        self
    }

    /// Reads all layers.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(&self) -> Result<Loaded<C>, Problems> {
        let mut problems = Problems::default();
        let base = self.base(&mut problems);
        let variables = self.variables.clone().unwrap_or_else(process_variables);
        let mut warnings = Vec::new();
        let mut given = self.in_file(&variables, &base.tree, &mut problems);
        given.extend(self.in_variables(&variables, &base.tree, &mut warnings));
        given.extend(self.flags.iter().map(|(key, value, name)| Setting {
            path: key.split('.').map(str::to_owned).collect(),
            given: Given::Text(value.clone()),
            source: Source::Flag(name.clone()),
        }));
        let winning = winners(given);
        let Some((config, settings)) = apply::<C>(&base, &winning, &mut problems) else {
            return Err(problems.warned(warnings));
        };
        settings.validate(&mut problems);
        self.rules.iter().for_each(|rule| rule(&config, &settings, &mut problems));
        let values = effective(&config, &settings, &winning);
        problems.locate(|key| {
            values.iter().find(|value| value.key == key).map_or(Source::Default, |value| value.source.clone())
        });
        if problems.is_empty() {
            let prints = prints(&config, &settings);
            Ok(Loaded { config, settings, values, warnings, prints })
        } else {
            Err(problems.warned(warnings))
        }
    }

    fn base(&self, problems: &mut Problems) -> Base {
        let defaults = C::default();
        let mut tree =
            table(revealing(|| serde_json::to_value(Settings::default())), problems).unwrap_or_default();
        let own = revealing(|| serde_json::to_value(&defaults));
        let scalar = own.as_ref().ok().filter(|value| !value.is_object()).cloned();
        let own = if scalar.is_some() { Map::new() } else { table(own, problems).unwrap_or_default() };
        let chassis_only = tree.keys().filter(|key| !own.contains_key(*key)).cloned().collect();
        tree.extend(own);
        for (key, value) in &self.defaults {
            tree::set(&mut tree, &key.split('.').map(str::to_owned).collect::<Path>(), value.clone());
        }
        let hidden =
            serde_json::to_value(&defaults).ok().and_then(|v| v.as_object().cloned()).unwrap_or_default();
        let secret = tree::leaves(&hidden).into_iter().filter(|(_, v)| v.as_str() == Some(REDACTED));
        let secret = secret.map(|(path, _)| path.join(".")).collect();
        Base { tree, chassis_only, scalar, secret }
    }

    fn in_file(
        &self,
        variables: &[(String, String)],
        base: &Map<String, Value>,
        problems: &mut Problems,
    ) -> Vec<Setting> {
        let named = format!("{}CONFIG", self.prefix);
        let by_variable =
            || variables.iter().find(|(name, _)| *name == named).map(|(_, value)| PathBuf::from(value));
        let Some(path) = self.file.clone().or_else(by_variable) else { return Vec::new() };
        let name = path.display().to_string();
        match std::fs::read_to_string(&path) {
            Ok(text) => file::read(&name, &text, base, problems),
            Err(error) => {
                problems.add("", format!("cannot read {name}: {error}"));
                Vec::new()
            }
        }
    }

    fn in_variables(
        &self,
        variables: &[(String, String)],
        base: &Map<String, Value>,
        warnings: &mut Vec<String>,
    ) -> Vec<Setting> {
        let known: Vec<(String, Path, bool)> = tree::leaves(base)
            .into_iter()
            .map(|(path, value)| {
                let open = value.is_null() || value.is_object();
                (format!("{}{}", self.prefix, path.join("__").to_uppercase()), path, open)
            })
            .collect();
        let mut out = Vec::new();
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix(&self.prefix) else { continue };
            let setting = |path| Setting {
                path,
                given: Given::Text(value.clone()),
                source: Source::Variable(name.clone()),
            };
            let inside = |stem: &str| name.strip_prefix(stem).and_then(|below| below.strip_prefix("__"));
            if kubernetes(rest, value, known.iter().any(|(known, ..)| known == name)) {
                continue;
            } else if let Some((_, path, _)) = known.iter().find(|(known, ..)| known == name) {
                out.push(setting(path.clone()));
            } else if let Some((stem, path, _)) =
                known.iter().find(|(k, _, open)| *open && inside(k).is_some())
            {
                let below = inside(stem).unwrap_or_default().to_lowercase();
                out.push(setting(path.iter().cloned().chain(below.split("__").map(str::to_owned)).collect()));
            } else if rest != "CONFIG" && !self.foreign.contains(name) {
                warnings.push(match nearest(name, known.iter().map(|(known, ..)| known.as_str())) {
                    Some(meant) => format!("unknown variable {name}, did you mean {meant}"),
                    None => format!("unknown variable {name}"),
                });
            }
        }
        out
    }
}

/// Kubernetes tells every pod about every service in variables: a service with our name looks like ours.
fn kubernetes(rest: &str, value: &str, known: bool) -> bool {
    let named_so = rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_");
    named_so && (!known || value.starts_with("tcp://") || value.starts_with("udp://"))
}

fn process_variables() -> Vec<(String, String)> {
    // A variable that is not UTF-8 cannot be one of ours.
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect()
}

fn table(value: Result<Value, serde_json::Error>, problems: &mut Problems) -> Option<Map<String, Value>> {
    match value {
        Ok(Value::Object(map)) => return Some(map),
        Ok(_) => {}
        Err(error) => problems.add("", format!("the defaults cannot be written down: {error}")),
    }
    None
}

/// The last setting of each path: layers come in rising order.
fn winners(given: Vec<Setting>) -> Vec<Setting> {
    let mut out: Vec<Setting> = Vec::with_capacity(given.len());
    for setting in given {
        out.retain(|earlier| earlier.path != setting.path);
        out.push(setting);
    }
    out
}

impl<C> std::fmt::Debug for Loader<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("prefix", &self.prefix)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
