//! Health: checks that run in the background, and what probes answer from their last results.
//!
//! A probe never runs a check, so it answers at once whatever a dependency does. *Ready* means: started, not
//! draining, and no critical check down. *Live* means progress: the main runtime, and every loop with a
//! [`Heartbeat`], still advance. It stays so during the drain.
//!
//! ```no_run
//! # use mainstay::{Boot, Result, Weight, health::{self, CheckOptions}, millis, secs};
//! # async fn ping() -> std::io::Result<()> { Ok(()) }
//! # async fn boot(b: &mut Boot<()>) -> Result<()> {
//! b.check("db", Weight::Degraded, || ping());
//! b.check("cache", CheckOptions::degraded().every(secs(2)).within(millis(200)).failures(5), || ping());
//! b.check("disk", Weight::Critical, health::disk("/var/lib/shop").min_free_bytes(1 << 30).min_free_percent(5.0));
//! b.check("memory", Weight::Degraded, health::memory().max_percent(90.0));
//! let heartbeat = b.heartbeat("importer", secs(60));
//! b.background("importer", |shutdown| async move {
//!     while shutdown.unless_cancelled(ping()).await.is_some() {
//!         heartbeat.beat();
//!     }
//! });
//! # Ok(()) }
//! ```

mod check;
mod disk;
mod lag;
mod loops;
mod memory;
mod monitor;
#[cfg(feature = "http")]
mod probes;
mod run;
mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

pub use self::check::{Check, CheckOptions, Weight};
pub use self::disk::{Disk, disk};
pub use self::lag::RuntimeLag;
pub use self::loops::{Heartbeat, LoopReport};
pub use self::memory::{Memory, memory};

use self::lag::Lag;
use self::loops::Loops;
use self::state::State;
use crate::clock;
use crate::shutdown::{Phase, Shutdown};
use crate::telemetry::{Kind, Registry};

/// The health of an app. Cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    shutdown: Shutdown,
    checks: Mutex<BTreeMap<String, State>>,
    loops: Loops,
    lag: Arc<Lag>,
    /// Milliseconds, the same on every thread; the virtual clock's where the app runs on one.
    clock: Arc<dyn Fn() -> u64 + Send + Sync>,
}

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
        let clock = clock::monotonic();
        Self(Arc::new(Inner {
            shutdown,
            checks: Mutex::default(),
            loops: Loops::default(),
            lag: Arc::default(),
            clock,
        }))
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
        let now = self.now();
        let down = self.checks().values().any(|state| state.is_critical() && !state.is_up(now));
        if down { Err(NotReady::Dependency) } else { Ok(()) }
    }

    /// Whether the start is over.
    pub fn started(&self) -> bool {
        self.0.shutdown.phase() > Phase::Starting
    }

    /// Whether the main runtime and every registered loop make progress.
    pub fn live(&self) -> bool {
        // What is being stopped need not advance; the shutdown has limits of its own.
        self.0.shutdown.phase() >= Phase::Stopping || self.0.loops.stalled(self.now()).is_empty()
    }

    /// Every check with its last result.
    pub fn report(&self) -> BTreeMap<String, CheckReport> {
        let now = self.now();
        self.checks().iter().map(|(name, state)| (name.clone(), state.report(now))).collect()
    }

    /// Every registered loop.
    pub fn loops(&self) -> BTreeMap<String, LoopReport> {
        self.0.loops.report(self.now())
    }

    /// A check of how long the main runtime keeps a task waiting that is ready to run: down when the last one waited
    /// longer than `limit`, also while it still waits. It runs beside the runtime.
    pub fn runtime_lag(&self, limit: std::time::Duration) -> RuntimeLag {
        RuntimeLag::new(self.0.lag.clone(), limit)
    }

    /// The state as metrics, read before an export: also what no check has told, but time has.
    pub(crate) fn observe(&self, registry: &Registry) {
        let now = self.now();
        let gauge = |name: &str, labels: &[(&str, &str)], value: bool| {
            registry.observe(Kind::Gauge, name, labels, f64::from(u8::from(value)));
        };
        gauge("mainstay.health.live", &[], self.live());
        gauge("mainstay.health.ready", &[], self.ready().is_ok());
        for (name, state) in self.checks().iter() {
            gauge("mainstay.health.up", &[("check", name)], state.is_up(now));
        }
        for (name, report) in self.0.loops.report(now) {
            let age = report.age_ms.unwrap_or(0) as f64 / 1000.0;
            registry.observe(Kind::Gauge, "mainstay.health.loop.age", &[("loop", &name)], age);
        }
    }

    fn now(&self) -> u64 {
        (self.0.clock)()
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
