//! What a pool tells about itself.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::PoolError;
use crate::scale::Decision;

/// Every way a job can end without a value, as a label.
const OUTCOMES: [&str; 7] = ["failed", "panicked", "timed_out", "cancelled", "expired", "evicted", "stopped"];

pub(super) struct Meter {
    pool: Arc<str>,
    completed: Counter,
    others: [Counter; OUTCOMES.len()],
    duration: Histogram,
    workers: Gauge,
    busy: Gauge,
    dead: Gauge,
    lost: Counter,
}

impl Meter {
    pub fn new(pool: &Arc<str>) -> Self {
        let name = || pool.to_string();
        let ended = |outcome| counter!("mainstay.pool.jobs", "pool" => name(), "outcome" => outcome);
        Self {
            pool: pool.clone(),
            completed: ended("completed"),
            others: OUTCOMES.map(ended),
            duration: histogram!("mainstay.pool.duration", "pool" => name()),
            workers: gauge!("mainstay.pool.workers", "pool" => name()),
            busy: gauge!("mainstay.pool.busy", "pool" => name()),
            dead: gauge!("mainstay.pool.dead", "pool" => name()),
            lost: counter!("mainstay.pool.slots_lost", "pool" => name()),
        }
    }

    pub fn completed(&self) {
        self.completed.increment(1);
    }

    pub fn ended(&self, error: &PoolError) {
        let outcome = error.as_str();
        if let Some(at) = OUTCOMES.iter().position(|known| *known == outcome) {
            self.others[at].increment(1);
        }
    }

    /// Of every sixteenth job: the recorder costs more than a small job.
    pub fn ran(&self, id: u64, took: impl FnOnce() -> Duration) {
        if id.is_multiple_of(16) {
            self.duration.record(took().as_secs_f64());
        }
    }

    pub fn lost(&self) {
        self.lost.increment(1);
    }

    pub fn dead(&self, kept: usize) {
        self.dead.set(kept as f64);
    }

    pub fn crew(&self, workers: usize, busy: usize) {
        self.workers.set(workers as f64);
        self.busy.set(busy as f64);
    }

    /// Tells of a step, in the log too.
    pub fn scaled(&self, decision: &Decision) {
        let Decision { before, workers, reason } = *decision;
        counter!("mainstay.pool.scaled", "pool" => self.pool.to_string(), "reason" => reason.as_str())
            .increment(1);
        tracing::info!(pool = %self.pool, from = before, to = workers, %reason, "pool scales");
    }
}
