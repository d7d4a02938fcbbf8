//! Why an event cannot be read.

use std::{error::Error, fmt};

/// Data that is not what was asked for. It never will be: in a handler, `?` on it makes the delivery a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    what: String,
    why: Hopeless,
}

/// The cause of an error that no other attempt will mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hopeless(String);

impl Unreadable {
    pub(super) fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: Hopeless(why.into()) }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl fmt::Display for Hopeless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Unreadable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.why)
    }
}

impl Error for Hopeless {}
