//! Loops that must advance: what liveness is made of.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::Health;

/// A loop's sign of life: liveness fails when it has not [beaten](Self::beat) for its limit, so that the platform
/// restarts a process that is up but does nothing. Drop it when the loop ends.
///
/// A loop that ends by a panic counts as stalled from then on.
#[derive(Debug)]
#[must_use = "dropped, it ends the watch"]
pub struct Heartbeat {
    health: Health,
    of: Arc<Watched>,
}

#[derive(Debug)]
struct Watched {
    name: String,
    limit: Duration,
    /// When it last beat; 0 while it rests.
    at_ms: AtomicU64,
    died: AtomicBool,
}

/// How a loop fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LoopReport {
    /// Whether it has not advanced for longer than its limit.
    pub stalled: bool,
    /// Since it last advanced; null while it rests.
    pub age_ms: Option<u64>,
    /// How long it may take.
    pub limit_ms: u64,
}

#[derive(Default)]
pub(super) struct Loops(Mutex<Vec<Arc<Watched>>>);

impl Heartbeat {
    /// The loop advances. Costs a clock read.
    pub fn beat(&self) {
        self.of.at_ms.store(self.health.now().max(1), Relaxed);
    }

    /// The loop waits for something that may take any time (work, a free slot), and is not expected to advance before
    /// its next [`beat`](Self::beat).
    pub fn rest(&self) {
        self.of.at_ms.store(0, Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.of.died.store(true, Relaxed);
        } else {
            self.health.0.loops.all().retain(|other| !Arc::ptr_eq(other, &self.of));
        }
    }
}

impl Health {
    /// Watches a loop, which counts as beating now. A second one of the same name gets a number.
    pub(crate) fn heartbeat(&self, name: impl Into<String>, limit: Duration) -> Heartbeat {
        let wanted = name.into();
        let mut all = self.0.loops.all();
        let taken = |name: &str| all.iter().any(|other| other.name == name);
        let mut name = wanted.clone();
        let mut n = 2;
        while taken(&name) {
            name = format!("{wanted} {n}");
            n += 1;
        }
        let of = Arc::new(Watched {
            name,
            limit,
            at_ms: AtomicU64::new(self.now().max(1)),
            died: AtomicBool::new(false),
        });
        all.push(of.clone());
        drop(all);
        Heartbeat { health: self.clone(), of }
    }
}

impl Loops {
    pub fn stalled(&self, now_ms: u64) -> Vec<String> {
        self.all().iter().filter(|of| of.report(now_ms).stalled).map(|of| of.name.clone()).collect()
    }

    pub fn report(&self, now_ms: u64) -> BTreeMap<String, LoopReport> {
        self.all().iter().map(|of| (of.name.clone(), of.report(now_ms))).collect()
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Watched>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn report(&self, now_ms: u64) -> LoopReport {
        let at = self.at_ms.load(Relaxed);
        let age_ms = (at > 0).then(|| now_ms.saturating_sub(at));
        let limit_ms = self.limit.as_millis() as u64;
        let late = age_ms.is_some_and(|age| age > limit_ms);
        LoopReport { stalled: late || self.died.load(Relaxed), age_ms, limit_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secs;
    use crate::shutdown::{Phase, Shutdown};

    fn stalled(health: &Health, after: Duration) -> Vec<String> {
        health.0.loops.stalled(health.now() + after.as_millis() as u64)
    }

    #[test]
    fn a_loop_that_stops_advancing_is_stalled_unless_it_rests() {
        let health = Health::new(Shutdown::new());
        let heartbeat = health.heartbeat("importer", secs(5));
        assert!(stalled(&health, secs(4)).is_empty());
        assert_eq!(stalled(&health, secs(6)), ["importer"]);
        heartbeat.rest();
        assert!(stalled(&health, secs(600)).is_empty());
        heartbeat.beat();
        assert_eq!(stalled(&health, secs(6)), ["importer"]);
        drop(heartbeat);
        assert!(stalled(&health, secs(600)).is_empty(), "its end is no stall");
    }

    #[test]
    fn a_loop_that_panics_stays_stalled_and_liveness_says_so_until_the_stop() {
        let shutdown = Shutdown::new();
        let health = Health::new(shutdown.clone());
        assert!(health.live());
        let heartbeat = health.heartbeat("importer", secs(5));
        let died = std::thread::spawn(move || {
            heartbeat.rest();
            panic!("no luck");
        });
        assert!(died.join().is_err());
        assert_eq!(health.loops()["importer"], LoopReport { stalled: true, age_ms: None, limit_ms: 5000 });
        for (phase, live) in [(Phase::Running, false), (Phase::Draining, false), (Phase::Stopping, true)] {
            shutdown.advance(phase);
            assert_eq!(health.live(), live, "{phase:?}");
        }
    }

    #[test]
    fn loops_of_one_name_are_told_apart() {
        let health = Health::new(Shutdown::new());
        let _both = (health.heartbeat("fetch", secs(1)), health.heartbeat("fetch", secs(1)));
        assert_eq!(health.loops().into_keys().collect::<Vec<_>>(), ["fetch", "fetch 2"]);
    }
}
