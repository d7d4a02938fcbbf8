//! The handle through which everything that lives learns that it is to stop.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;

use crate::Error;

/// Tells how far the process has come on its way out, and starts that way.
///
/// Cheap to clone. Every request carries one in its extensions (and it is an axum extractor), every owned loop
/// is given one, and [`Boot::shutdown`](crate::Boot::shutdown) hands it out. All its waits are cancel safe.
#[derive(Clone)]
pub struct Shutdown(Arc<Inner>);

struct Inner {
    phase: watch::Sender<Phase>,
    /// The phase is the lame duck or later: asked for every answer, and the watch has a lock. Set under that lock.
    draining: AtomicBool,
    demand: watch::Sender<Demand>,
    failure: Mutex<Option<Error>>,
    on_begin: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Where a process is in its life. Phases only go forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// `boot` runs, or what it registered is being started.
    Starting,
    /// Everything is up.
    Running,
    /// Told to stop: still accepting, but no new work of our own is begun and clients are asked to go elsewhere.
    LameDuck,
    /// Listeners are closed; what is in flight finishes.
    Draining,
    /// Time is up: what is still in flight is cancelled.
    Cancelling,
    /// Owned loops and components are stopped, in reverse order of their start.
    Stopping,
    /// Metrics, spans and logs are written out.
    Flushing,
    /// Nothing is left to wait for.
    Ended,
}

/// Who asked for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// A signal, by its number.
    Signal(i32),
    /// The program, or `POST /admin/drain`.
    Request,
    /// A component that cannot go on.
    Failure,
}

/// What has been asked for so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Demand {
    /// 0: nothing, 1: drain, 2: cancel, 3: exit at once.
    pub level: u8,
    /// False when the first demand was Ctrl-C: a person waits, no balancer does.
    pub lame_duck: bool,
    pub cause: Option<Cause>,
}

impl Shutdown {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            phase: watch::Sender::new(Phase::Starting),
            draining: AtomicBool::new(false),
            demand: watch::Sender::new(Demand::default()),
            failure: Mutex::new(None),
            on_begin: OnceLock::new(),
        }))
    }

    /// Where the process is.
    pub fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// Whether no new work should be begun.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// Whether work in flight should give up.
    pub fn is_cancelled(&self) -> bool {
        self.phase() >= Phase::Cancelling
    }

    /// Resolves when no new work should be begun: at the first signal. Fetchers stop fetching, streams end.
    pub async fn draining(&self) {
        self.reached(Phase::LameDuck).await;
    }

    /// Resolves when work in flight should give up, and when owned loops should end.
    pub async fn cancelled(&self) {
        self.reached(Phase::Cancelling).await;
    }

    /// Resolves once the process has come to `phase` or further.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives in `self`: waiting cannot fail.
        let _ = self.0.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Runs `work` until it ends or no new work should be begun, whichever comes first: `None` then.
    pub async fn unless_draining<F: Future>(&self, work: F) -> Option<F::Output> {
        tokio::select! { biased; () = self.draining() => None, out = work => Some(out) }
    }

    /// Runs `work` until it ends or owned loops should end, whichever comes first: `None` then.
    pub async fn unless_cancelled<F: Future>(&self, work: F) -> Option<F::Output> {
        tokio::select! { biased; () = self.cancelled() => None, out = work => Some(out) }
    }

    /// Begins the shutdown as SIGTERM would. After it, the first signal counts as the second. Idempotent.
    pub fn begin(&self) {
        self.demand(Cause::Request, |level| level.max(1), true);
    }

    /// Begins the shutdown because something cannot go on; `error` decides the exit code. The first failure counts.
    pub fn fail(&self, error: Error) {
        {
            let mut failure = self.0.failure.lock().unwrap_or_else(PoisonError::into_inner);
            if failure.is_none() {
                tracing::error!(error = %error.chain(), "cannot go on");
                *failure = Some(error);
            }
        }
        self.demand(Cause::Failure, |level| level.max(1), true);
    }

    /// Skips to cancelling, as a second signal would.
    pub fn hurry(&self) {
        self.demand(Cause::Request, |level| level.max(2), true);
    }

    /// One more signal; answers how many demands there are now.
    pub(crate) fn signal(&self, number: i32, lame_duck: bool) -> u8 {
        self.demand(Cause::Signal(number), |level| level.saturating_add(1), lame_duck)
    }

    fn demand(&self, cause: Cause, raise: impl Fn(u8) -> u8, lame_duck: bool) -> u8 {
        let (mut first, mut level) = (false, 0);
        self.0.demand.send_if_modified(|demand| {
            level = raise(demand.level);
            first = demand.level == 0;
            let changed = level != demand.level;
            if first {
                (demand.lame_duck, demand.cause) = (lame_duck, Some(cause));
            }
            demand.level = level;
            changed
        });
        if first {
            // At once and on this thread: readiness must flip even when the main runtime is blocked.
            self.advance(Phase::LameDuck);
            if let Some(hook) = self.0.on_begin.get() {
                hook();
            }
        }
        level
    }

    pub(crate) fn advance(&self, to: Phase) {
        self.0.phase.send_if_modified(|now| {
            let forward = to > *now;
            if forward {
                *now = to;
                self.0.draining.store(to >= Phase::LameDuck, Ordering::Release);
            }
            forward
        });
    }

    /// Resolves when at least `level` has been demanded.
    pub(crate) async fn demanded(&self, level: u8) -> Demand {
        match self.0.demand.subscribe().wait_for(|d| d.level >= level).await {
            Ok(demand) => *demand,
            Err(_) => Demand::default(),
        }
    }

    pub(crate) fn demand_now(&self) -> Demand {
        *self.0.demand.borrow()
    }

    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Runs `hook` on the thread that makes the first demand; at once if that has happened.
    pub(crate) fn on_begin(&self, hook: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.on_begin.set(Box::new(hook));
        if self.demand_now().level > 0
            && let Some(hook) = self.0.on_begin.get()
        {
            hook();
        }
    }
}

impl std::fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shutdown").field(&self.phase()).finish()
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Signal(2) => f.write_str("SIGINT"),
            Cause::Signal(15) => f.write_str("SIGTERM"),
            Cause::Signal(number) => write!(f, "signal {number}"),
            Cause::Request => f.write_str("request"),
            Cause::Failure => f.write_str("failure"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_count_up_and_requests_do_not() {
        let shutdown = Shutdown::new();
        shutdown.begin();
        shutdown.begin();
        assert_eq!(shutdown.demand_now().level, 1);
        assert_eq!(
            shutdown.signal(15, true),
            2,
            "after a requested drain the first signal counts as the second"
        );
        assert_eq!(shutdown.signal(15, true), 3);
        assert_eq!(shutdown.demand_now().cause, Some(Cause::Request));
    }

    #[test]
    fn ctrl_c_after_sigterm_does_not_take_the_lame_duck_away() {
        let shutdown = Shutdown::new();
        shutdown.signal(15, true);
        shutdown.signal(2, false);
        assert!(shutdown.demand_now().lame_duck);
    }

    #[test]
    fn phases_only_go_forward() {
        let shutdown = Shutdown::new();
        shutdown.begin();
        shutdown.advance(Phase::Running);
        assert_eq!(shutdown.phase(), Phase::LameDuck);
    }

    #[tokio::test]
    async fn the_first_failure_is_kept() {
        let shutdown = Shutdown::new();
        shutdown.fail(Error::untrusted("sync failed"));
        shutdown.fail(Error::from("later"));
        shutdown.draining().await;
        assert_eq!(shutdown.take_failure().map(|e| e.exit_code()), Some(74));
    }
}
