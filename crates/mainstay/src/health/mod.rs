//! Health: checks that run in the background, and what probes answer from their last results.
//!
//! A probe never runs a check, so it answers at once whatever a dependency does. *Ready* means: started, not
//! draining, and no critical check down. *Live* means progress: the main runtime still runs tasks. It stays so
//! during the drain.

mod check;
#[cfg(feature = "http")]
mod probes;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use self::check::State;
use crate::shutdown::{Phase, Shutdown};
use crate::time::monotonic_ms;
use crate::{millis, secs};

/// How much a check weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weight {
    /// The service cannot do its work without it: readiness fails. For what only this replica depends on.
    Critical,
    /// It is reported, and the service stays ready. For what all replicas share: an outage must not take every one
    /// of them out.
    Degraded,
}

/// The health of an app. Cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    shutdown: Shutdown,
    checks: Mutex<BTreeMap<String, State>>,
    /// When the main runtime last ran our heartbeat, in milliseconds; 0 before the first.
    beat_ms: AtomicU64,
}

/// A runtime that has not run a waiting task for this long makes no progress.
const STALL: Duration = secs(10);
const BEAT: Duration = millis(500);

/// Why a service is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NotReady {
    /// It is still starting.
    Initializing,
    /// It has been told to stop.
    Draining,
    /// A critical check is down.
    Dependency,
}

/// What a probe says of one check.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CheckReport {
    /// `up`, `degraded` (down, but not critical) or `down`.
    pub status: &'static str,
    /// Whether readiness depends on it.
    pub critical: bool,
    /// Since the last result; null before the first.
    pub age_ms: Option<u64>,
    /// How long the last check took.
    pub duration_ms: Option<u64>,
    /// What it said, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Health {
    pub(crate) fn new(shutdown: Shutdown) -> Self {
        Self(Arc::new(Inner { shutdown, checks: Mutex::default(), beat_ms: AtomicU64::new(0) }))
    }

    /// Whether the service should be sent work.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), NotReady> {
        match self.0.shutdown.phase() {
            Phase::Starting => return Err(NotReady::Initializing),
            Phase::Running => {}
            _ => return Err(NotReady::Draining),
        }
        let now = monotonic_ms();
        let down = self.checks().values().any(|state| state.weight == Weight::Critical && !state.is_up(now));
        if down { Err(NotReady::Dependency) } else { Ok(()) }
    }

    /// Whether the start is over.
    pub fn started(&self) -> bool {
        self.0.shutdown.phase() > Phase::Starting
    }

    /// Whether the main runtime makes progress.
    pub fn live(&self) -> bool {
        let beat = self.0.beat_ms.load(Ordering::Relaxed);
        // Nothing beats before the start and after the end.
        let quiet = beat == 0 || self.0.shutdown.phase() >= Phase::Flushing;
        quiet || monotonic_ms().saturating_sub(beat) < STALL.as_millis() as u64
    }

    /// Every check with its last result.
    pub fn report(&self) -> BTreeMap<String, CheckReport> {
        let now = monotonic_ms();
        self.checks().iter().map(|(name, state)| (name.clone(), state.report(now))).collect()
    }

    /// Beats as long as the runtime it runs on makes progress.
    pub(crate) async fn beat(self) {
        loop {
            self.0.beat_ms.store(monotonic_ms(), Ordering::Relaxed);
            tokio::time::sleep(BEAT).await;
        }
    }

    /// See [`beat`](Self::beat).
    pub(crate) fn watch_runtime(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.clone().beat()
    }

    fn checks(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        self.0.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("ready", &self.ready()).field("checks", &self.report()).finish()
    }
}
