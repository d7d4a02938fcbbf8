//! Lines between those who log and the thread that writes.

use std::io;
use std::sync::PoisonError;
use std::time::Duration;

use super::sync::{Condvar, Mutex, MutexGuard};
use crate::{millis, secs};

/// Bytes that may wait.
pub(super) const MAX_BYTES: usize = 8 << 20;
/// The writer lets lines gather for this long, so that a busy service does not wake it for each of them. Errors do not
/// wait.
const LINGER: Duration = millis(2);
/// Or until this much has gathered.
const ENOUGH: usize = 256 << 10;
/// How often what was suppressed is confessed, and an output that failed is tried again.
const CONFESS_EVERY: Duration = secs(1);

pub(super) struct Pending {
    state: Mutex<State>,
    /// To the thread: there is something to do.
    wake: Condvar,
    /// From the thread: something has been done.
    done: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    phase: Phase,
    /// What waits should not wait longer.
    urgent: bool,
    /// The thread has been woken, but has not got round to looking: waking it again for each line until it does would
    /// cost more than the lines, on a machine whose cores are all busy.
    woken: bool,
    dropped: u64,
    reopen: bool,
    /// Why the output could not be opened anew the last time.
    stuck: Option<(io::ErrorKind, String)>,
    /// The last write did not succeed.
    failing: bool,
    /// How often what there was to do was taken over, and how often that was done.
    taken: u64,
    written: u64,
}

#[derive(Default, PartialEq)]
enum Phase {
    /// Nothing is there to be done.
    #[default]
    Parked,
    /// Lines gather.
    Lingering,
    Writing,
    /// There is no thread.
    Gone,
}

/// What the thread is to do.
pub(super) struct Taken {
    pub lines: Vec<u8>,
    /// Lines for which there was no room.
    pub dropped: u64,
    /// The output is to be opened anew after them.
    pub reopen: bool,
}

impl Default for Pending {
    fn default() -> Self {
        Self { state: Mutex::default(), wake: Condvar::new(), done: Condvar::new() }
    }
}

impl Pending {
    pub fn has_no_thread(&self) {
        self.lock().phase = Phase::Gone;
    }

    /// Queues a line, or drops and counts it.
    pub fn put(&self, line: &[u8], urgent: bool) {
        let mut state = self.lock();
        if state.phase == Phase::Gone || state.lines.len() + line.len() > MAX_BYTES {
            state.dropped += 1;
            return;
        }
        state.lines.extend_from_slice(line);
        state.urgent |= urgent;
        let wanted = match state.phase {
            Phase::Parked => true,
            Phase::Lingering => urgent || state.lines.len() >= ENOUGH,
            Phase::Writing | Phase::Gone => false,
        };
        let wake = wanted && !std::mem::replace(&mut state.woken, true);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// There is something to confess by and by.
    pub fn wake(&self) {
        // Not between the thread's look and its wait.
        drop(self.lock());
        self.wake.notify_one();
    }

    /// Whether everything queued before has been written, waiting for it `limit` at most.
    pub fn flush(&self, limit: Duration) -> bool {
        let mut state = self.lock();
        state.urgent = true;
        // What is being written now, and what waits.
        let goal = state.taken + u64::from(!state.lines.is_empty() || state.dropped > 0);
        self.wake.notify_one();
        self.until(state, limit, goal).is_some_and(|state| !state.failing)
    }

    /// Opens the output's file anew, after what is queued.
    pub fn reopen(&self, limit: Duration) -> io::Result<()> {
        let mut state = self.lock();
        (state.reopen, state.urgent) = (true, true);
        // The next one does it, also for others who ask.
        let goal = state.taken + 1;
        self.wake.notify_one();
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the log's output is stuck");
        let state = self.until(state, limit, goal).ok_or_else(late)?;
        match &state.stuck {
            Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
            None => Ok(()),
        }
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.lock().lines.len()
    }

    /// For the thread: waits until there is something to do, and a moment longer for more of it. `spare` is memory for
    /// the lines that come meanwhile.
    pub fn take(&self, spare: Vec<u8>, is_owing: impl Fn() -> bool) -> Taken {
        let mut state = self.gather(is_owing);
        state.phase = Phase::Writing;
        (state.urgent, state.woken) = (false, false);
        state.taken += 1;
        Taken {
            lines: std::mem::replace(&mut state.lines, spare),
            dropped: std::mem::take(&mut state.dropped),
            reopen: std::mem::take(&mut state.reopen),
        }
    }

    /// For the thread: what it took is done.
    pub fn written(&self, failing: bool, reopened: Option<io::Result<()>>) {
        let mut state = self.lock();
        state.failing = failing;
        state.written += 1;
        if let Some(reopened) = reopened {
            state.stuck = reopened.err().map(|error| (error.kind(), error.to_string()));
        }
        drop(state);
        self.done.notify_all();
    }

    fn gather(&self, is_owing: impl Fn() -> bool) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let idle =
            |state: &State| state.lines.is_empty() && !state.reopen && !state.urgent && state.dropped == 0;
        let mut waited = false;
        while idle(&state) && !waited {
            state.phase = Phase::Parked;
            if state.failing || is_owing() {
                let (back, timeout) =
                    self.wake.wait_timeout(state, CONFESS_EVERY).unwrap_or_else(PoisonError::into_inner);
                state = back;
                waited = timeout.timed_out();
            } else {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        (state.phase, state.woken) = (Phase::Lingering, false);
        let more = |state: &mut State| !state.urgent && state.lines.len() < ENOUGH;
        let (state, _) =
            self.wake.wait_timeout_while(state, LINGER, more).unwrap_or_else(PoisonError::into_inner);
        state
    }

    /// Waits for the thread; `None` if it did not come so far in time.
    fn until<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        limit: Duration,
        goal: u64,
    ) -> Option<MutexGuard<'a, State>> {
        let waited = self.done.wait_timeout_while(state, limit, |state| state.written < goal);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        (!timeout.timed_out()).then_some(state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
