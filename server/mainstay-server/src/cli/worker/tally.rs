//! What a worker has done.

use std::fmt;

use serde::Serialize;

/// Counts of claims by their end.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    /// Completed.
    pub done: u64,
    /// Failed attempts.
    pub failed: u64,
    /// Leases that were gone before the server knew of the end.
    pub lost: u64,
    /// Given back without spending an attempt.
    pub released: u64,
    /// Called off while they ran.
    pub cancelled: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, failed, lost, released, cancelled } = self;
        write!(f, "{done} done, {failed} failed, {lost} lost, {released} released, {cancelled} cancelled")
    }
}
