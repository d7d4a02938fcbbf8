//! Keeps virtual time from running ahead of sockets.
//!
//! A paused tokio runtime jumps to its next timer whenever its thread goes to sleep, also if bytes are on their way to
//! it, or have come (tokio#4522). Where sockets are in use, a blocking task holds the clock, and lets it go only when
//! the thread has slept for a while without anything having come.
//!
//! That something came is told by what it wakes: the test itself, a task of a `TaskSet`; or by a sleep that was shorter
//! than any timer. (A longer one may have ended by itself: tokio wakes now and then on the way to a timer.)

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::spawn_blocking;

use crate::millis;

/// No timer is nearer than this: a sleep that was shorter was ended by something that came.
const SHORT: Duration = millis(1);
/// On its way to a timer time jumps this often, at most: once for each level of tokio's wheel, and once to find out that
/// the clock has been let go.
const JUMPS: u8 = 12;

/// Shared by the runtime's hooks, its clock and the blocking task.
#[derive(Clone, Debug, Default)]
pub(super) struct Keeper(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    on: AtomicBool,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How long nothing has to have come.
    quiet: Duration,
    /// The clock is held by the blocking task.
    watched: bool,
    /// Raised whenever something comes.
    moves: u64,
    asleep_since: Option<Real>,
    /// Time may jump, until something comes.
    leave: Option<Leave>,
    /// Somebody else holds the clock.
    holds: usize,
    /// The runtime runs.
    running: bool,
}

#[derive(Debug)]
struct Leave {
    moves: u64,
    jumps: u8,
}

impl Keeper {
    /// Sockets are in use: from now on time jumps only after so much quiet.
    pub fn keep(&self, quiet: Duration) {
        self.lock().quiet = quiet;
        self.0.on.store(true, Ordering::Relaxed);
    }

    /// Somebody holds the clock, until the guard is dropped.
    pub fn hold(&self) -> Held {
        self.lock().holds += 1;
        Held(self.clone())
    }

    /// The runtime begins or ends to run: where it ends, the blocking task does.
    pub fn runs(&self, running: bool) {
        let mut state = self.lock();
        (state.running, state.leave) = (running, None);
        self.0.ended.notify_all();
    }

    /// Something that has come is being dealt with.
    pub fn moves(&self) {
        if self.is_on() {
            self.lock().moves += 1;
        }
    }

    /// The thread is about to fall asleep.
    pub fn falls_asleep(&self) {
        if !self.is_on() {
            return;
        }
        let mut state = self.lock();
        if !state.running {
            return;
        }
        state.asleep_since = Some(Real::now());
        let (moves, quiet) = (state.moves, state.quiet);
        if let Some(leave) = state.leave.as_mut().filter(|leave| leave.moves == moves && leave.jumps < JUMPS)
        {
            leave.jumps += 1;
            return;
        }
        state.leave = None;
        if !std::mem::replace(&mut state.watched, true) {
            drop(state);
            let keeper = self.clone();
            // It ends with the quiet, or with the runtime.
            drop(spawn_blocking(move || keeper.watch(quiet)));
        }
    }

    /// The thread is awake.
    pub fn wakes(&self) {
        if self.is_on() {
            let mut state = self.lock();
            let slept = state.asleep_since.take().map(Real::elapsed);
            // With leave, it is time that has jumped.
            if state.leave.is_none() && slept.is_some_and(|slept| slept < SHORT) {
                state.moves += 1;
            }
        }
    }

    /// Holds the clock, which tokio never moves while a blocking task runs, until it has been quiet for so long.
    fn watch(&self, quiet: Duration) {
        let mut state = self.lock();
        let mut seen = state.moves;
        while state.running {
            state = self.0.ended.wait_timeout(state, quiet).unwrap_or_else(PoisonError::into_inner).0;
            let is_quiet = state.asleep_since.is_some() && state.moves == seen && state.holds == 0;
            if state.running && is_quiet {
                state.leave = Some(Leave { moves: seen, jumps: 0 });
                break;
            }
            seen = state.moves;
        }
        state.watched = false;
    }

    fn is_on(&self) -> bool {
        self.0.on.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hold that the keeper knows of.
#[derive(Debug)]
pub(super) struct Held(Keeper);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.lock().holds -= 1;
    }
}

/// Real time, which the network lives in.
#[derive(Clone, Copy, Debug)]
struct Real(std::time::Instant);

impl Real {
    #[expect(clippy::disallowed_methods, reason = "the network knows nothing of virtual time")]
    fn now() -> Self {
        Self(std::time::Instant::now())
    }

    fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::Keeper;
    use crate::{millis, secs};

    #[test]
    fn what_comes_after_the_quiet_has_to_be_followed_by_another() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let keeper = Keeper::default();
        keeper.keep(millis(1));
        keeper.runs(true);
        keeper.falls_asleep();
        let mut state = keeper.lock();
        while state.leave.is_none() {
            drop(state);
            std::thread::yield_now();
            state = keeper.lock();
        }
        drop(state);
        keeper.keep(secs(3_600));
        keeper.falls_asleep();
        assert!(keeper.lock().leave.is_some(), "nothing has come");
        keeper.moves();
        keeper.falls_asleep();
        let state = keeper.lock();
        assert!(state.leave.is_none() && state.watched);
        drop(state);
        keeper.runs(false);
    }
}
