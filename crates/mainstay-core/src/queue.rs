//! Queues: their configuration and what can be seen of them.

use serde::{Deserialize, Serialize};

use crate::name::QueueName;

/// What happens to a job that comes to a full queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// It is refused (`queue-full`). The default: nothing is lost in silence.
    #[default]
    Reject,
    /// The oldest waiting job is cancelled to make room.
    DropOldest,
}

/// How long finished jobs stay readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Completed and cancelled jobs, in milliseconds. Defaults to 24 h.
    pub completed_ms: u64,
    /// And at most the newest this many of the queue. Defaults to 1,000,000.
    pub completed_count: u64,
    /// Dead letters, in milliseconds. Defaults to 30 days.
    pub dead_ms: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { completed_ms: 86_400_000, completed_count: 1_000_000, dead_ms: 30 * 86_400_000 }
    }
}

/// The configuration of a queue. `PUT` replaces the whole of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueConfig {
    /// At most this many jobs that are neither running nor finished. `None`: unbounded but for the disk.
    pub max_depth: Option<u64>,
    /// What a full queue does.
    pub overflow: Overflow,
    /// Refuse jobs while the oldest available one has been available for longer, in milliseconds. `None`: never.
    /// [`Overflow`] is about the depth alone.
    #[serde(default)]
    pub max_age_ms: Option<u64>,
    /// Crashes before a job is dead, unless the job says otherwise. `None`: 3.
    pub max_crashes: Option<u32>,
    /// How long finished jobs stay.
    pub retention: Retention,
}

/// How many jobs of a queue are in each state that lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Depth {
    /// `run_at` in the future.
    pub scheduled: u64,
    /// Waiting for other jobs.
    pub blocked: u64,
    /// Could be claimed now.
    pub available: u64,
    /// Claimed.
    pub running: u64,
    /// Waiting for their back-off.
    pub retryable: u64,
    /// Dead letters.
    pub dead: u64,
}

impl Depth {
    /// What `max_depth` counts: all that is neither running nor finished.
    pub fn waiting(&self) -> u64 {
        self.scheduled + self.blocked + self.available + self.retryable
    }
}

/// A queue as it is seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRecord {
    /// Its name.
    pub name: QueueName,
    /// It hands out nothing.
    pub paused: bool,
    /// Its jobs by state.
    pub depth: Depth,
    /// How long its oldest available job has been available, in milliseconds.
    pub oldest_available_age_ms: Option<u64>,
    /// Its configuration.
    pub config: QueueConfig,
}
