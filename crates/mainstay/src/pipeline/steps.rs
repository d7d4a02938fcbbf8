//! The list that can be read.

use std::borrow::Cow;
use std::fmt;

/// A layer, and why it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// What it is called.
    pub name: Cow<'static, str>,
    /// Why it is there, and why in this place.
    pub reason: Cow<'static, str>,
}

impl Step {
    pub(crate) fn new(name: impl Into<Cow<'static, str>>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), reason: reason.into() }
    }
}

/// Layers from outer to inner. Displayed, each has its line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steps(Vec<Step>);

impl Steps {
    pub(crate) fn push(&mut self, step: Step) {
        self.0.push(step);
    }

    /// From outer to inner.
    pub fn iter(&self) -> impl Iterator<Item = &Step> {
        self.0.iter()
    }

    /// Their names, from outer to inner.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|step| &*step.name)
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Step { name, reason }) in (1..).zip(&self.0) {
            writeln!(f, "{n}. {name}: {reason}")?;
        }
        Ok(())
    }
}
