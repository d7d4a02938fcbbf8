//! What a pool says of itself, and of its end.

use std::fmt;

use crate::app::Overstayer;
use crate::scale::Reason;

/// How a pool is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// Workers there are, without those whose slot is lost.
    pub workers: usize,
    /// Those that run a job.
    pub busy: usize,
    /// Jobs in the queue.
    pub waiting: usize,
    /// Jobs that were put off.
    pub put_off: usize,
    /// Dead letters kept.
    pub dead: usize,
    /// Slots lost so far to jobs that hold their thread.
    pub lost: u64,
    /// Why there are as many workers as there are: what the last look said.
    pub reason: Reason,
}

/// How a pool ended, counted from the moment it was told to.
#[derive(Debug)]
#[non_exhaustive]
pub struct PoolReport<J> {
    /// Jobs that gave a value.
    pub done: u64,
    /// Jobs that ended in another way; see the dead letters.
    pub failed: u64,
    /// What was not begun when the time was up, in the order of its turns. Nothing of it is lost: it is the caller's.
    pub left: Vec<J>,
    /// What ran when the time was up, and how old it was. It was told to stop, and cut.
    pub overstayed: Vec<Overstayer>,
    /// What could not be cut, because it holds its thread.
    pub stuck: Vec<Overstayer>,
}

impl<J> PoolReport<J> {
    /// Whether everything that was submitted has ended by itself.
    pub fn is_complete(&self) -> bool {
        self.left.is_empty() && self.overstayed.is_empty() && self.stuck.is_empty()
    }
}

impl<J> fmt::Display for PoolReport<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, failed, left, overstayed, stuck } = self;
        write!(f, "{done} done, {failed} failed, {} left, {} overstayed", left.len(), overstayed.len())?;
        if !stuck.is_empty() {
            write!(f, ", {} stuck", stuck.len())?;
        }
        let mut before = ": ";
        for each in overstayed {
            write!(f, "{before}{each}")?;
            before = ", ";
        }
        Ok(())
    }
}
