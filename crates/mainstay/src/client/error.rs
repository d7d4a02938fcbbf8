//! Why a call to a store gave nothing.

use std::fmt;
use std::time::Duration;

use mainstay_core::{
    error::{Applied, ErrorKind as StoreErrorKind},
    op::{Failure, Place, Reason, Rejection},
};

/// Behind a [`StoreError`]: a queue is full, and when to come back. So a [`JobError`](crate::JobError) made of it knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Full(pub Duration);

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "try again in {}", crate::time::human(self.0))
    }
}

impl std::error::Error for Full {}

/// A store's no: either a [`Rejection`] (an answer: definitely nothing changed), or trouble.
#[derive(Clone, Debug)]
pub struct StoreError(Inner);

#[derive(Clone, Debug)]
enum Inner {
    /// With when to come back, if a queue is full.
    Rejected(Rejection, Option<Full>),
    Failed(mainstay_core::Error),
}

impl StoreError {
    /// The answer, if the store could judge the call.
    pub fn rejection(&self) -> Option<&Rejection> {
        match &self.0 {
            Inner::Rejected(rejection, _) => Some(rejection),
            Inner::Failed(_) => None,
        }
    }

    /// Why it was rejected, if it was.
    pub fn reason(&self) -> Option<&Reason> {
        self.rejection().map(|rejection| &rejection.reason)
    }

    /// The trouble, if the store could not judge the call.
    pub fn failure(&self) -> Option<&mainstay_core::Error> {
        match &self.0 {
            Inner::Rejected(..) => None,
            Inner::Failed(error) => Some(error),
        }
    }

    /// Whether the commit may have happened all the same. Repeat it with the same idempotency key to find out.
    pub fn may_have_happened(&self) -> bool {
        self.failure().is_some_and(|error| error.applied() == Applied::Unknown)
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match &self.0 {
            Inner::Rejected(rejection, _) => {
                self.is_full() || matches!(rejection.reason, Reason::LockHeld(_) | Reason::LocksFull { .. })
            }
            Inner::Failed(error) => error.is_retryable(),
        }
    }

    /// Whether a queue takes no more jobs now.
    pub fn is_full(&self) -> bool {
        self.retry_after().is_some()
    }

    /// When to come back to a queue that takes no more jobs now: an estimate by how fast its jobs have ended lately,
    /// from a second to a minute. `None`: that is not why.
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.0 {
            Inner::Rejected(_, Some(Full(after))) => Some(*after),
            _ => None,
        }
    }

    /// A rejection that the client itself finds, before the store is asked.
    pub(crate) fn invalid(field: &'static str, detail: impl Into<String>) -> StoreError {
        let reason = Reason::Invalid { field, detail: detail.into() };
        Rejection { at: Place::Commit, reason }.into()
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected(rejection) => rejection.into(),
            Failure::Failed(error) => error.into(),
        }
    }
}
impl From<Rejection> for StoreError {
    fn from(rejection: Rejection) -> Self {
        let full = match &rejection.reason {
            Reason::QueueFull { retry_ms, .. } | Reason::QueueBehind { retry_ms, .. } => {
                Some(Full(Duration::from_millis(*retry_ms)))
            }
            _ => None,
        };
        StoreError(Inner::Rejected(rejection, full))
    }
}
impl From<mainstay_core::Error> for StoreError {
    fn from(error: mainstay_core::Error) -> Self {
        StoreError(Inner::Failed(error))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Rejected(rejection, _) => fmt::Display::fmt(rejection, f),
            Inner::Failed(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Inner::Rejected(_, full) => full.as_ref().map(|full| full as _),
            Inner::Failed(error) => error.source(),
        }
    }
}

impl From<StoreError> for crate::Error {
    fn from(error: StoreError) -> Self {
        use crate::ErrorKind;
        let kind = match error.failure().map(mainstay_core::Error::kind) {
            Some(StoreErrorKind::Untrusted) => ErrorKind::Untrusted,
            Some(StoreErrorKind::Unavailable | StoreErrorKind::Overloaded | StoreErrorKind::Closed) => {
                ErrorKind::Unavailable
            }
            Some(StoreErrorKind::DeadlineExceeded) => ErrorKind::TimedOut,
            _ => ErrorKind::Other,
        };
        let told = crate::Error::new(kind, error.to_string());
        // It speaks for itself: only what is behind it is a further cause.
        match std::error::Error::source(&error).map(ToString::to_string) {
            Some(cause) => told.with_source(cause),
            None => told,
        }
    }
}
impl From<mainstay_core::Error> for crate::Error {
    fn from(error: mainstay_core::Error) -> Self {
        StoreError::from(error).into()
    }
}
