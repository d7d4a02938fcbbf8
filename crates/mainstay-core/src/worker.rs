//! Workers, as a store sees them: by what they claim.

use serde::{Deserialize, Serialize};

use crate::{
    name::{QueueName, WorkerName},
    time::Timestamp,
};

/// A worker that has called lately, or has jobs.
///
/// Nothing of it is stored: after a restart, the workers that had jobs are known by those, the others from their next
/// claim on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// What it calls itself. Workers of one name are one.
    pub name: WorkerName,
    /// The queues it last claimed from, in its order.
    pub queues: Vec<QueueName>,
    /// How many jobs it has now.
    pub running: u64,
    /// When it last claimed, extended or settled.
    pub last_seen: Timestamp,
}

/// A worker without jobs is forgotten when it has not called for this long, in milliseconds.
pub const WORKER_KEPT_MS: u64 = 300_000;
/// So many workers are known at once; those that come beyond are not listed.
pub const WORKERS_KEPT: usize = 10_000;
