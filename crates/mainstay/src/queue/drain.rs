//! The orderly end of a queue.

use std::fmt;

use tokio::time::{Instant, timeout_at};

use super::Sender;

/// How a queue ended, counted from the moment it was told to.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained<T> {
    /// Items that receivers got and were done with.
    pub done: u64,
    /// Items that expired inside.
    pub expired: u64,
    /// Items that receivers still had in hand at the deadline.
    pub unfinished: usize,
    /// What nobody took, in the order it would have been received. Nothing of it is lost: it is the caller's.
    pub left: Vec<T>,
}

impl<T> Drained<T> {
    /// Whether everything was done.
    pub fn is_complete(&self) -> bool {
        self.left.is_empty() && self.unfinished == 0
    }
}

impl<T> fmt::Display for Drained<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, expired, unfinished, left } = self;
        write!(f, "{done} done, {} left, {expired} expired, {unfinished} unfinished", left.len())
    }
}

pub(super) async fn drain<T>(queue: &Sender<T>, deadline: Instant) -> Drained<T> {
    let core = &queue.0.core;
    let before = core.view();
    core.close();
    // Late or not, what is left is what the caller gets.
    let _ = timeout_at(deadline, queue.idle()).await;
    let left = core.sweep();
    let after = core.view();
    Drained {
        done: (after.taken + before.busy as u64) - (before.taken + after.busy as u64),
        expired: after.expired - before.expired,
        unfinished: after.busy,
        left,
    }
}
