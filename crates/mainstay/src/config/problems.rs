//! Everything that is wrong with a configuration, at once.

use std::fmt;

use super::Source;
use crate::Error;

/// Collects what is wrong; empty means nothing is.
#[derive(Debug, Default)]
pub struct Problems {
    all: Vec<Problem>,
    /// Beside them: what is odd, but no reason to refuse.
    warnings: Vec<String>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The key, dotted; empty when it is about the file as a whole.
    pub key: String,
    /// Where the value comes from.
    pub source: Option<Source>,
    /// What is wrong with it.
    pub detail: String,
}

impl Problems {
    /// Reports a key. Where its value comes from is added by the loader.
    pub fn add(&mut self, key: impl Into<String>, detail: impl Into<String>) {
        self.all.push(Problem { key: key.into(), source: None, detail: detail.into() });
    }

    pub(super) fn add_at(&mut self, key: impl Into<String>, source: Source, detail: impl Into<String>) {
        self.all.push(Problem { key: key.into(), source: Some(source), detail: detail.into() });
    }

    /// Whether nothing was reported.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What was reported.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.all.iter()
    }

    /// What is odd beside it is told in the same breath: nothing else will come to say it.
    pub(super) fn warned(mut self, warnings: Vec<String>) -> Problems {
        self.warnings = warnings;
        self
    }

    pub(super) fn locate(&mut self, source_of: impl Fn(&str) -> Source) {
        for problem in self.all.iter_mut().filter(|p| p.source.is_none() && !p.key.is_empty()) {
            problem.source = Some(source_of(&problem.key));
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.detail)?;
        match &self.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.all.len();
        write!(f, "configuration has {count} problem{}", if count == 1 { "" } else { "s" })?;
        self.all.iter().try_for_each(|problem| write!(f, "\n  {problem}"))?;
        self.warnings.iter().try_for_each(|warning| write!(f, "\n  warning: {warning}"))
    }
}

impl std::error::Error for Problems {}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Error::config(problems.to_string())
    }
}
