//! When a checkpoint is due, and what the tables' thread hears of it.

use std::{sync::PoisonError, time::Duration};

use super::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

/// How often the background moves pages while there are commits.
const EVERY: Duration = Duration::from_secs(1);
/// So many bytes handed over since the last checkpoint do not wait for the next tick.
const URGENT_BYTES: usize = 24 << 20;

/// The conversation between the tables' thread and the checkpointing thread.
pub(crate) struct Checkpoints {
    state: Mutex<State>,
    wake: Condvar,
    /// A background checkpoint has finished; the tables' thread has not followed yet.
    finished: AtomicBool,
    /// A reader holds on to an older state, so that no checkpoint says how far the tables are durable.
    held_up: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Bytes committed since the last checkpoint began, roughly; `None`: nothing.
    bytes: Option<usize>,
    stop: bool,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Checkpoints {
            state: Mutex::default(),
            wake: Condvar::new(),
            finished: AtomicBool::new(false),
            held_up: AtomicBool::new(false),
        }
    }
}

impl Checkpoints {
    /// About this much was committed.
    pub(crate) fn committed(&self, bytes: usize) {
        let mut state = self.lock();
        let before = state.bytes;
        let sum = before.unwrap_or(0) + bytes;
        state.bytes = Some(sum);
        drop(state);
        // Waking costs a system call: once when there is something at all, once when it has become urgent.
        if before.is_none() || (before.unwrap_or(0) < URGENT_BYTES && sum >= URGENT_BYTES) {
            self.wake.notify_one();
        }
    }

    /// Whether the tables' thread should finish what the background has done.
    pub(crate) fn take_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed) && self.finished.swap(false, Ordering::AcqRel)
    }

    /// Whether the next batch is to be synced by itself, since checkpoints do not do it: else the journal would grow
    /// as long as somebody reads.
    pub(crate) fn is_held_up(&self) -> bool {
        self.held_up.load(Ordering::Relaxed)
    }

    /// The background has moved something: everything, or what a reader lets it.
    pub(super) fn has_finished(&self, all: bool) {
        if !all {
            self.again();
        }
        self.held_up.store(!all, Ordering::Relaxed);
        self.finished.store(true, Ordering::Release);
    }

    /// There is something left to do, also if nobody commits.
    pub(super) fn again(&self) {
        let mut state = self.lock();
        state.bytes = Some(state.bytes.unwrap_or(0));
    }

    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for commits, then a tick; `false`: stop.
    pub(super) fn next(&self) -> bool {
        let idle = |s: &mut State| s.bytes.is_none() && !s.stop;
        let state = self.wake.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let calm = |s: &mut State| s.bytes.is_some_and(|bytes| bytes < URGENT_BYTES) && !s.stop;
        let waited = self.wake.wait_timeout_while(state, EVERY, calm);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.bytes = None;
        !state.stop
    }
}
