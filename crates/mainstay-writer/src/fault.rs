//! How bad an error is for the store.

use mainstay_core::Error;

/// An error with how bad it is.
#[derive(Debug)]
pub struct Fault {
    pub severity: Severity,
    pub error: Error,
}

/// What is still true after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The transaction did not happen; the store is as it was. Trying again may help.
    Clean,
    /// The store cannot be trusted, or nobody knows what is on the disk. Nothing may be acknowledged any more.
    Fatal,
}

pub type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    pub fn clean(error: Error) -> Fault {
        Fault { severity: Severity::Clean, error }
    }

    pub fn fatal(error: Error) -> Fault {
        Fault { severity: Severity::Fatal, error }
    }
}
