//! Jobs that wait for other jobs.
//!
//! A job names what it waits for when it is enqueued, and only what exists by then: so a cycle cannot be made. It is
//! [`crate::job::JobState::Blocked`] until all of that has completed. What has ended otherwise is judged by what
//! ended: one that was cancelled, deleted or forgotten cancels the job that waits for it; one that is dead is the
//! business of [`AfterFailure`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::JobId;

/// The most jobs that one job can wait for: as many as a commit can enqueue.
pub const MAX_AFTER: usize = 10_000;

/// The most that the jobs of one commit can wait for, all together: it bounds what the commit has to look up.
pub const MAX_AFTER_OF_COMMIT: usize = 100_000;

/// A job to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum After {
    /// One that exists.
    Job(JobId),
    /// The one that this op of the same commit enqueues, counted from 0. It stands before the op that names it. If it
    /// is a duplicate, the first job is meant.
    Op(u32),
}

impl From<JobId> for After {
    fn from(id: JobId) -> Self {
        After::Job(id)
    }
}

/// What it means for a waiting job that one it waits for is dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum AfterFailure {
    /// It goes on waiting: the dead one may be requeued. The default: nothing is lost in silence.
    #[default]
    Wait = 0,
    /// It is cancelled.
    Cancel = 1,
    /// It counts as if it had completed.
    Run = 2,
}

impl AfterFailure {
    /// All of them, by their stored number.
    pub const ALL: [AfterFailure; 3] = [AfterFailure::Wait, AfterFailure::Cancel, AfterFailure::Run];

    /// From the stored number.
    pub fn from_u8(number: u8) -> Option<AfterFailure> {
        AfterFailure::ALL.into_iter().find(|word| *word as u8 == number)
    }
}

/// What a job was enqueued to wait for. It is part of what never changes of it: what is left of it to wait for is the
/// store's to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitsFor {
    /// These, as they were named; at least one.
    pub jobs: Arc<[JobId]>,
    /// What a dead one among them means.
    pub failure: AfterFailure,
}
