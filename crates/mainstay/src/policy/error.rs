//! Why a call under a policy gave no value.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::{Classified, Verdict};
use crate::time::human;

/// Why a call gave no value. `Display` says what the policy did; the operation's own error is the source.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError<E> {
    /// The operation failed.
    #[non_exhaustive]
    Failed {
        /// Its last error.
        error: E,
        /// How many attempts were made.
        attempts: u32,
        /// Why there were no more.
        why: GaveUp,
        /// When to come back, if somebody can wait that long.
        later: Option<Later>,
    },
    /// The time was over before there was an outcome. The operation may have had an effect.
    #[non_exhaustive]
    TimedOut {
        /// Which limit it was.
        limit: Limit,
        /// How many attempts were made.
        attempts: u32,
        /// Why there were no more.
        why: GaveUp,
        /// When to come back, if somebody can wait that long.
        later: Option<Later>,
    },
    /// The policy let no attempt begin: the operation has had no effect.
    #[non_exhaustive]
    Refused {
        /// What refused it.
        by: Refusal,
        /// When to come back, if that is known.
        later: Option<Later>,
    },
}

/// What refuses a call before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The deadline has passed.
    Deadline,
    /// The rate limit.
    Rate,
    /// The breaker is open.
    Breaker,
    /// The bulkhead is full.
    Bulkhead,
}

/// Why no further attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GaveUp {
    /// The error stays, whoever asks.
    Permanent,
    /// The target has too much to do, or has tried itself.
    Overloaded,
    /// All attempts were made.
    Attempts,
    /// The budget for extra attempts is used up.
    Budget,
    /// The next attempt would have come after the total time limit or the deadline.
    Time,
    /// The target wants to be left alone for longer than a retry waits.
    TooLong,
    /// The call must not be made twice.
    NotIdempotent,
    /// Whoever called us is on a retry already: a retry of a retry would multiply.
    RetryOfRetry,
    /// The next attempt was refused.
    Refused(Refusal),
}

/// Which time limit was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// That of one attempt.
    Attempt,
    /// That of the call with all its attempts, or the deadline.
    Total,
}

/// Come back later. In the chain of causes of a [`PolicyError`]; a job that fails with it is put off for that time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Later {
    /// How long to wait.
    pub after: Duration,
    /// Whether an attempt was made. A job that was only refused has not used up one of its own.
    pub attempted: bool,
}

impl Refusal {
    /// What refused it, as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Rate => "rate",
            Self::Breaker => "breaker",
            Self::Bulkhead => "bulkhead",
        }
    }
}

impl GaveUp {
    /// The reason as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Overloaded => "overloaded",
            Self::Attempts => "attempts",
            Self::Budget => "budget",
            Self::Time => "time",
            Self::TooLong => "too_long",
            Self::NotIdempotent => "not_idempotent",
            Self::RetryOfRetry => "retry_of_retry",
            Self::Refused(refusal) => refusal.as_str(),
        }
    }
}

impl<E> PolicyError<E> {
    /// The operation's own error, if it had one.
    pub fn into_inner(self) -> Option<E> {
        match self {
            Self::Failed { error, .. } => Some(error),
            Self::TimedOut { .. } | Self::Refused { .. } => None,
        }
    }

    /// How many attempts were made.
    pub fn attempts(&self) -> u32 {
        match self {
            Self::Failed { attempts, .. } | Self::TimedOut { attempts, .. } => *attempts,
            Self::Refused { .. } => 0,
        }
    }

    /// What the policy did, without the operation's error.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::TimedOut { why, .. } => format!("no answer in time: {why}"),
            Self::Failed { why, .. } => why.to_string(),
            Self::Refused { by, .. } => by.to_string(),
        }
    }

    /// When to come back, if that is known.
    pub fn later(&self) -> Option<&Later> {
        match self {
            Self::Failed { later, .. } | Self::TimedOut { later, .. } | Self::Refused { later, .. } => {
                later.as_ref()
            }
        }
    }
}

/// So that one policy inside another does not multiply attempts: what has been tried is not tried again.
impl<E> Classified for PolicyError<E> {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Failed { why: GaveUp::Permanent, .. } => Verdict::Permanent,
            Self::Refused { by: Refusal::Deadline, .. } => Verdict::Ignored,
            _ => Verdict::Overloaded,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deadline => "the deadline has passed",
            Self::Rate => "too many calls a second",
            Self::Breaker => "the target has been failing",
            Self::Bulkhead => "too many calls at once",
        })
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permanent => f.write_str("trying again is useless"),
            Self::Overloaded => f.write_str("trying again would make it worse"),
            Self::Attempts => f.write_str("no attempts left"),
            Self::Budget => f.write_str("no budget for retries left"),
            Self::Time => f.write_str("no time left"),
            Self::TooLong => f.write_str("it is to be left alone for longer than a retry waits"),
            Self::NotIdempotent => f.write_str("it must not be done twice"),
            Self::RetryOfRetry => f.write_str("the caller is retrying already"),
            Self::Refused(refusal) => fmt::Display::fmt(refusal, f),
        }
    }
}

impl<E: fmt::Display> fmt::Display for PolicyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = |n: u32| if n == 1 { "" } else { "s" };
        match self {
            // The place of the cause is taken, so it is told here.
            Self::Failed { attempts: n, why, error, later: Some(_) } => {
                write!(f, "failed after {n} attempt{}: {why}: {error}", s(*n))
            }
            Self::Failed { attempts: n, why, .. } => write!(f, "failed after {n} attempt{}: {why}", s(*n)),
            Self::TimedOut { limit: Limit::Attempt, attempts: n, why, .. } => {
                write!(f, "no answer in time after {n} attempt{}: {why}", s(*n))
            }
            Self::TimedOut { limit: Limit::Total, attempts: n, .. } => {
                write!(f, "the time for the call was over after {n} attempt{}", s(*n))
            }
            Self::Refused { by, .. } => write!(f, "not tried: {by}"),
        }
    }
}

impl<E: StdError + 'static> StdError for PolicyError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        if let Some(later) = self.later() {
            return Some(later);
        }
        match self {
            Self::Failed { error, .. } => Some(error),
            Self::Refused { by: Refusal::Deadline, .. } => Some(&Expired),
            Self::TimedOut { .. } => Some(&Unanswered),
            Self::Refused { .. } => None,
        }
    }
}

/// In the chain of causes of a refusal for its deadline, so that it can be told from others whatever the error's type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expired;

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody waits for it any more")
    }
}

impl StdError for Expired {}

/// In the chain of causes of a call that ran out of time, for the same reason.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unanswered;

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it may have had an effect")
    }
}

impl StdError for Unanswered {}

impl fmt::Display for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "try again in {}", human(self.after))
    }
}

impl StdError for Later {}
