//! What an outcome means for the policy.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::time::Duration;

use crate::client::StoreError;
use crate::job::{Ending, JobError};

/// What an attempt's outcome means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It worked.
    Ok,
    /// It failed, and may work the next time.
    Retry,
    /// The same, and the target said when to come back.
    RetryAfter(Duration),
    /// It was refused for a reason that stays: the target works, and asking again is useless.
    Permanent,
    /// The target has too much to do, or has tried itself: asking again makes it worse. Not retried here, and a
    /// failure to the breaker.
    Overloaded,
    /// It says nothing about the target, as when the caller went away.
    Ignored,
}

impl Verdict {
    /// The verdict as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Retry => "retry",
            Self::RetryAfter(_) => "retry_after",
            Self::Permanent => "permanent",
            Self::Overloaded => "overloaded",
            Self::Ignored => "ignored",
        }
    }
}

/// Judges outcomes: a function or closure from the outcome to its [`Verdict`].
pub trait Classify<T, E> {
    /// The verdict on this outcome. A value can be a failure too: a response with status 503.
    fn classify(&self, outcome: Result<&T, &E>) -> Verdict;
}

impl<T, E, F: Fn(Result<&T, &E>) -> Verdict> Classify<T, E> for F {
    fn classify(&self, outcome: Result<&T, &E>) -> Verdict {
        self(outcome)
    }
}

/// Errors that know what they mean. Implement it for your own; for those of others, give the call a [`Classify`].
pub trait Classified {
    /// What this error means for who wants to try again.
    fn verdict(&self) -> Verdict;
}

/// The default judge: values are fine, errors are what they say of themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByError;

impl<T, E: Classified> Classify<T, E> for ByError {
    fn classify(&self, outcome: Result<&T, &E>) -> Verdict {
        outcome.map_or_else(Classified::verdict, |_| Verdict::Ok)
    }
}

/// The verdict on an error of any type, by the first in its chain of causes that is known here: [`std::io::Error`],
/// this library's errors, tokio's `Elapsed`. [`Verdict::Permanent`] if none is: only what is known to be worth it
/// is tried again.
pub fn verdict_of(error: &(dyn StdError + 'static)) -> Verdict {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.verdict();
        } else if let Some(error) = error.downcast_ref::<crate::Error>() {
            return error.verdict();
        } else if let Some(error) = error.downcast_ref::<StoreError>() {
            return error.verdict();
        } else if let Some(error) = error.downcast_ref::<mainstay_core::Error>() {
            return error.verdict();
        } else if error.is::<tokio::time::error::Elapsed>() {
            return Verdict::Retry;
        } else if error.is::<super::Later>() || error.is::<super::error::Unanswered>() {
            return Verdict::Overloaded;
        } else if error.is::<super::error::Expired>() {
            return Verdict::Ignored;
        }
        cause = error.source();
    }
    Verdict::Permanent
}

impl Classified for std::io::Error {
    fn verdict(&self) -> Verdict {
        use std::io::ErrorKind as Io;
        match self.kind() {
            Io::ConnectionRefused
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::NotConnected
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::NetworkDown
            | Io::BrokenPipe
            | Io::UnexpectedEof
            | Io::TimedOut
            | Io::WouldBlock
            | Io::Interrupted
            | Io::ResourceBusy => Verdict::Retry,
            _ => Verdict::Permanent,
        }
    }
}

impl Classified for crate::Error {
    fn verdict(&self) -> Verdict {
        if self.is_retryable() { Verdict::Retry } else { Verdict::Permanent }
    }
}

impl Classified for StoreError {
    fn verdict(&self) -> Verdict {
        match self.failure() {
            Some(error) => error.verdict(),
            None if self.is_retryable() => Verdict::Overloaded,
            None => Verdict::Permanent,
        }
    }
}

impl Classified for mainstay_core::Error {
    fn verdict(&self) -> Verdict {
        match self.kind() {
            mainstay_core::ErrorKind::Overloaded => Verdict::Overloaded,
            _ if self.is_retryable() => Verdict::Retry,
            _ => Verdict::Permanent,
        }
    }
}

impl Classified for JobError {
    fn verdict(&self) -> Verdict {
        match self.0 {
            Ending::Retry { after: Some(after), .. } => Verdict::RetryAfter(after),
            Ending::Retry { .. } => Verdict::Retry,
            Ending::Permanent { .. } => Verdict::Permanent,
            Ending::Snooze(_) | Ending::Cancel => Verdict::Ignored,
        }
    }
}

impl Classified for tokio::time::error::Elapsed {
    fn verdict(&self) -> Verdict {
        Verdict::Retry
    }
}

impl Classified for Infallible {
    fn verdict(&self) -> Verdict {
        match *self {}
    }
}

impl Classified for Box<dyn StdError + Send + Sync> {
    fn verdict(&self) -> Verdict {
        verdict_of(&**self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, ErrorKind};

    #[test]
    fn errors_are_known_behind_their_wrappers() {
        #[derive(Debug, thiserror::Error)]
        #[error("sending failed")]
        struct Wrapped(#[source] std::io::Error);
        let wrapped = |kind| Box::new(Wrapped(std::io::Error::from(kind))) as Box<dyn StdError + Send + Sync>;
        assert_eq!(wrapped(std::io::ErrorKind::ConnectionReset).verdict(), Verdict::Retry);
        assert_eq!(wrapped(std::io::ErrorKind::PermissionDenied).verdict(), Verdict::Permanent);
        let unknown = Box::<dyn StdError + Send + Sync>::from("whatever");
        assert_eq!(unknown.verdict(), Verdict::Permanent, "only what is known is tried again");
    }

    #[test]
    fn own_errors_know_whether_trying_again_may_help() {
        assert_eq!(Error::unavailable("x").verdict(), Verdict::Retry);
        assert_eq!(Error::new(ErrorKind::TimedOut, "x").verdict(), Verdict::Retry);
        assert_eq!(Error::config("x").verdict(), Verdict::Permanent);
    }
}
