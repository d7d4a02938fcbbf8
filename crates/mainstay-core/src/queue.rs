//! Queues: their configuration and what can be seen of them.

use std::{collections::BTreeMap, sync::Arc};

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

/// How many jobs a queue hands out in a span of time: in any span of `per_ms` at most `count`, wherever it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// The span, in milliseconds of the store's clock, at least 1.
    pub per_ms: u64,
    /// Hand-outs in it, at least 1.
    pub count: u64,
}

/// Keys take turns: jobs are handed out key by key, and by priority, `run_at` and id only within one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fairness {
    /// Shares that are not 1, in thousandths, by `fairness_key`. A key with 3,000 gets three hand-outs for each of a
    /// key with 1,000, while both have jobs.
    pub weights: Arc<BTreeMap<Arc<str>, u32>>,
}

/// The share of a fairness key that the weights do not name, in thousandths.
pub const USUAL_WEIGHT: u32 = 1_000;
/// The largest share, in thousandths.
pub const MAX_WEIGHT: u32 = 1_000_000;
/// A queue names the weights of at most this many keys.
pub const MAX_WEIGHTS: usize = 1_000;
/// The longest `ageing_ms`: a hundred years.
pub const MAX_AGEING_MS: u64 = 100 * 366 * 86_400_000;

/// The configuration of a queue. `PUT` replaces the whole of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// At most this many jobs run at once. `None`: no bound.
    pub concurrency: Option<u32>,
    /// At most this many jobs with one `concurrency_key` run at once. `None`: 1.
    pub key_concurrency: Option<u32>,
    /// How fast jobs are handed out. `None`: as fast as they are asked for.
    pub rate: Option<Rate>,
    /// Fairness keys take turns. `None`: the queue has one order, and the keys mean nothing.
    pub fairness: Option<Fairness>,
    /// A job gains one step of priority for every so many milliseconds that it has been due: one of priority `p` stands
    /// where one of priority 0 would that became due `p × ageing_ms` later. `None`: priorities are absolute.
    pub ageing_ms: Option<u64>,
}

impl QueueConfig {
    /// The first limit that is out of its bounds: the field, as the end of a JSON pointer, and what it must be.
    pub fn wrong(&self) -> Option<(&'static str, String)> {
        let rate = self.rate.unwrap_or(Rate { per_ms: 1, count: 1 });
        let weights = self.fairness.iter().flat_map(|fairness| &*fairness.weights);
        let least = "is at least 1".to_owned();
        let key = format!("names keys of 1 to {} bytes", crate::job::MAX_KEY_BYTES);
        let rows = [
            (self.concurrency == Some(0), "concurrency", least.clone()),
            (self.key_concurrency == Some(0), "key_concurrency", least.clone()),
            (rate.per_ms == 0, "rate/per_ms", least.clone()),
            (rate.count == 0, "rate/count", least),
            (
                self.ageing_ms.is_some_and(|ms| !(1..=MAX_AGEING_MS).contains(&ms)),
                "ageing_ms",
                format!("is 1 to {MAX_AGEING_MS}"),
            ),
            (
                weights.clone().count() > MAX_WEIGHTS,
                "fairness/weights",
                format!("has at most {MAX_WEIGHTS} members"),
            ),
            (
                weights.clone().any(|(_, weight)| !(1..=MAX_WEIGHT).contains(weight)),
                "fairness/weights",
                format!("are 1 to {MAX_WEIGHT} thousandths"),
            ),
            (weights.clone().any(|(key, _)| !crate::job::is_key(key)), "fairness/weights", key),
        ];
        rows.into_iter().find(|(wrong, ..)| *wrong).map(|(_, field, detail)| (field, detail))
    }
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

/// What has come into a queue and left it since its store was opened. For rates: the differences of two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Jobs that were added.
    pub enqueued: u64,
    /// Jobs that ended well.
    pub completed: u64,
    /// Jobs that ended on request.
    pub cancelled: u64,
    /// Jobs that became dead letters.
    pub dead: u64,
}

impl Totals {
    /// Jobs that have finished, however.
    pub fn finished(&self) -> u64 {
        self.completed + self.cancelled + self.dead
    }
}

/// A queue as it is seen from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What has come and gone. `None`: the store does not count.
    pub totals: Option<Totals>,
}
