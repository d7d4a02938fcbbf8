//! The one error of a store: what kind, and whether the commit may have happened all the same.

use std::{error::Error as StdError, fmt, sync::Arc};

/// A store could not do what it was asked.
///
/// Not to be confused with a [`crate::op::Rejection`], which is an answer.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    applied: Applied,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store refused or timed out; try again later.
    Unavailable,
    /// The store's own queue is full; try again later, with less.
    Overloaded,
    /// The caller's time was over before the work began.
    DeadlineExceeded,
    /// The store is closed or closing.
    Closed,
    /// The store's data cannot be trusted any more (a failed sync, a damaged file).
    Untrusted,
    /// This store cannot do that; the message says which can.
    NotSupported,
    /// The call makes no sense (a cursor of another query, …).
    Invalid,
}

/// Whether the commit happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Definitely not.
    No,
    /// Nobody can say.
    Unknown,
}

impl Error {
    /// An error after which nothing has changed.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, applied: Applied::No, message: message.into(), source: None }
    }

    /// The same, but the commit may have happened.
    pub fn unknown(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { applied: Applied::Unknown, ..Error::new(kind, message) }
    }

    /// With what caused it.
    pub fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Error {
        self.source = Some(Arc::new(source));
        self
    }

    /// What kind of trouble.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the commit happened.
    pub fn applied(&self) -> Applied {
        self.applied
    }

    /// Whether the same call may succeed later. Pair it with an idempotency key if [`Error::applied`] is unknown.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Overloaded | ErrorKind::DeadlineExceeded)
    }
}

impl PartialEq for Error {
    /// The same trouble in the same words; causes are not compared.
    fn eq(&self, other: &Error) -> bool {
        (self.kind, self.applied, &self.message) == (other.kind, other.applied, &other.message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}
