//! Which events are wanted, changeable at run time.

use std::sync::{Arc, PoisonError, RwLock};

use tracing::Metadata;
use tracing::level_filters::LevelFilter;

/// A level for everything, and levels for targets: `info,hyper=warn,shop::mail=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Levels {
    general: LevelFilter,
    /// The longest target first, so that the first match is the nearest.
    targets: Vec<(String, LevelFilter)>,
}

/// The log level of the running process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogLevel(Arc<RwLock<Arc<Levels>>>);

impl LogLevel {
    pub(crate) fn new(levels: Levels) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(levels))))
    }

    /// Whether [`set`](Self::set) would take it, without setting anything.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn check(text: &str) -> Result<(), String> {
        Levels::parse(text).map(drop)
    }

    /// What is set, as [`set`](Self::set) takes it.
    pub fn get(&self) -> String {
        self.now().to_string()
    }

    /// Changes the level: `debug`, or `info,target=debug`.
    ///
    /// # Errors
    /// What is wrong with the text; nothing has changed then.
    pub fn set(&self, text: &str) -> Result<(), String> {
        self.set_levels(Levels::parse(text)?);
        Ok(())
    }

    pub(crate) fn set_levels(&self, levels: Levels) {
        super::bridge::sync(levels.highest());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(levels);
        // Callsites remember whether anybody wants them.
        tracing::callsite::rebuild_interest_cache();
    }

    pub(super) fn now(&self) -> Arc<Levels> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Levels {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut levels = Levels { general: LevelFilter::INFO, targets: Vec::new() };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                None => levels.general = level(part)?,
                Some((target, named)) => {
                    levels.targets.push((target.trim().to_owned(), level(named.trim())?))
                }
            }
        }
        if text.trim().is_empty() {
            return Err("is empty".to_owned());
        }
        levels.targets.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        Ok(levels)
    }

    pub(super) fn wants(&self, meta: &Metadata<'_>) -> bool {
        let inside = |target: &str| {
            meta.target().strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let level =
            self.targets.iter().find(|(target, _)| inside(target)).map_or(self.general, |(_, level)| *level);
        *meta.level() <= level
    }

    pub(super) fn highest(&self) -> LevelFilter {
        self.targets.iter().map(|(_, level)| *level).fold(self.general, Ord::max)
    }
}

fn level(name: &str) -> Result<LevelFilter, String> {
    match name.to_ascii_lowercase().as_str() {
        "off" => Ok(LevelFilter::OFF),
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        other => Err(format!("`{other}` is not a level: off, error, warn, info, debug or trace")),
    }
}

impl std::fmt::Display for Levels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.general)?;
        self.targets.iter().try_for_each(|(target, level)| write!(f, ",{target}={level}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_read_back_as_written_and_wrong_ones_are_named() {
        assert_eq!(Levels::parse("info").unwrap().to_string(), "info");
        assert_eq!(Levels::parse("warn, a=debug ,a::b=off").unwrap().to_string(), "warn,a::b=off,a=debug");
        assert!(Levels::parse("loud").unwrap_err().contains("`loud`"));
        assert!(Levels::parse("info,x=loud").is_err());
        assert!(Levels::parse(" ").is_err());
        assert_eq!(Levels::parse("warn,a=debug").unwrap().highest(), LevelFilter::DEBUG);
    }
}
