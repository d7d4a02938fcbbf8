//! How a job ends that gives no value.

use std::fmt;
use std::time::Duration;

use crate::time::human;

/// Why a job gave no value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// Its handler said no, in these words.
    Failed(String),
    /// Its handler panicked with this message; the panic has been logged.
    Panicked(String),
    /// It did not end within this time.
    TimedOut(Duration),
    /// It was cancelled, by its handle or by its handler.
    Cancelled,
    /// The deadline of the context it was submitted in had passed when its turn came.
    Expired,
    /// It gave way to another in a full queue.
    Evicted,
    /// The pool stopped before its turn came; the report has it.
    Stopped,
}

impl PoolError {
    /// The reason as a label.
    pub fn as_str(&self) -> &'static str {
        match self {
            PoolError::Failed(_) => "failed",
            PoolError::Panicked(_) => "panicked",
            PoolError::TimedOut(_) => "timed_out",
            PoolError::Cancelled => "cancelled",
            PoolError::Expired => "expired",
            PoolError::Evicted => "evicted",
            PoolError::Stopped => "stopped",
        }
    }

    /// Whether a job that ends so is a dead letter: something went wrong that nobody asked for.
    pub(super) fn is_dead_letter(&self) -> bool {
        match self {
            PoolError::Failed(_) | PoolError::Panicked(_) | PoolError::TimedOut(_) | PoolError::Expired => {
                true
            }
            // Asked for; told to its handle; handed back.
            PoolError::Cancelled | PoolError::Evicted | PoolError::Stopped => false,
        }
    }
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolError::Failed(message) => write!(f, "the job failed: {message}"),
            PoolError::Panicked(message) => write!(f, "the job panicked: {message}"),
            PoolError::TimedOut(limit) => write!(f, "the job did not end within {}", human(*limit)),
            PoolError::Cancelled => f.write_str("the job was cancelled"),
            PoolError::Expired => f.write_str("the job's deadline had passed before its turn came"),
            PoolError::Evicted => {
                f.write_str("the job gave way to another in a full queue; submit it again later")
            }
            PoolError::Stopped => f.write_str("the pool stopped before the job's turn came"),
        }
    }
}

impl std::error::Error for PoolError {}
