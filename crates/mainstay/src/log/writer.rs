//! The thread that writes lines.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::Level;

use super::fields::Fields;
use super::format::{Format, Record};
use super::layer;
use super::limit::Limiter;
use super::output::Sink;
use super::redact::Redact;
use crate::context::ValueRef;
use crate::time::wall;
use crate::{millis, secs};

/// Bytes that may wait.
const MAX_BYTES: usize = 8 << 20;
/// The writer lets lines gather for this long, so that a busy service does not wake it for each of them. Errors do not
/// wait.
const LINGER: Duration = millis(2);
/// Or until this much has gathered.
const ENOUGH: usize = 256 << 10;
/// How often what was suppressed is confessed, and an output that failed is tried again.
const CONFESS_EVERY: Duration = secs(1);

/// Takes lines without waiting. Cheap to clone.
#[derive(Clone)]
pub(super) struct Writer(Arc<Shared>);

struct Shared {
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
    reopened: Option<io::Result<()>>,
    /// The last write did not succeed.
    failing: bool,
    /// How often lines were taken over to be written, and how often that was done.
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

impl Writer {
    pub fn start(format: Format, out: Sink, limiter: Arc<Limiter>) -> Self {
        let writer =
            Self(Arc::new(Shared { state: Mutex::default(), wake: Condvar::new(), done: Condvar::new() }));
        let shared = writer.0.clone();
        let thread = std::thread::Builder::new().name("mainstay-log".to_owned());
        // Without the thread every line counts as dropped: the service goes on.
        if thread.spawn(move || Thread { format, out, limiter, shared }.run()).is_err() {
            writer.0.lock().phase = Phase::Gone;
        }
        writer
    }

    /// Queues a line, or drops and counts it.
    pub fn write(&self, line: &[u8], urgent: bool) {
        let mut state = self.0.lock();
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
            self.0.wake.notify_one();
        }
    }

    /// Takes records, and writes them like this.
    pub fn lines(self, format: Format, colours: bool) -> Formatted {
        Formatted { format, colours, to: self }
    }

    /// There is something to confess by and by.
    fn wake(&self) {
        // Not between the thread's look and its wait.
        drop(self.0.lock());
        self.0.wake.notify_one();
    }

    /// Whether everything queued before has been written, waiting for it `limit` at most.
    pub fn flush(&self, limit: Duration) -> bool {
        let mut state = self.0.lock();
        state.urgent = true;
        // What is being written now, and what waits.
        let goal = state.taken + u64::from(!state.lines.is_empty() || state.dropped > 0);
        self.0.wake.notify_one();
        self.0.until(state, limit, |state| state.written >= goal).is_some_and(|state| !state.failing)
    }

    /// Opens the output's file anew, after what is queued.
    pub fn reopen(&self, limit: Duration) -> io::Result<()> {
        let mut state = self.0.lock();
        (state.reopen, state.reopened, state.urgent) = (true, None, true);
        self.0.wake.notify_one();
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the log's output is stuck");
        let mut state = self.0.until(state, limit, |state| state.reopened.is_some()).ok_or_else(late)?;
        state.reopened.take().unwrap_or(Ok(()))
    }
}

/// Records as lines.
pub(super) struct Formatted {
    format: Format,
    colours: bool,
    to: Writer,
}

thread_local! {
    /// Used again for every line of a thread.
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

impl layer::Sink for Formatted {
    fn take(&self, record: &Record<'_>) {
        let write = |line: &mut String| {
            line.clear();
            self.format.line(line, record, self.colours);
            self.to.write(line.as_bytes(), record.level == Level::ERROR);
        };
        // Nothing in here logs; only a thread on its way out has no line left.
        if LINE.try_with(|line| write(&mut line.borrow_mut())).is_err() {
            write(&mut String::new());
        }
    }

    fn owing(&self) {
        self.to.wake();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the thread; `None` if it did not come so far in time.
    fn until<'a>(
        &self,
        state: MutexGuard<'a, State>,
        limit: Duration,
        mut reached: impl FnMut(&State) -> bool,
    ) -> Option<MutexGuard<'a, State>> {
        let waited = self.done.wait_timeout_while(state, limit, |state| !reached(state));
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        (!timeout.timed_out()).then_some(state)
    }
}

struct Thread {
    format: Format,
    out: Sink,
    limiter: Arc<Limiter>,
    shared: Arc<Shared>,
}

impl Thread {
    fn run(mut self) {
        let shared = self.shared.clone();
        let mut spare = Vec::new();
        // Lines that are lost and counted, but not confessed: the output fails.
        let mut carried = 0;
        loop {
            let mut state = self.gather(&shared);
            let mut lines = std::mem::replace(&mut state.lines, std::mem::take(&mut spare));
            let (dropped, reopen) = (std::mem::take(&mut state.dropped), std::mem::take(&mut state.reopen));
            state.phase = Phase::Writing;
            (state.urgent, state.woken) = (false, false);
            state.taken += 1;
            drop(state);

            // What was lost was lost after what is queued.
            count(dropped);
            let owed = carried + dropped;
            self.confess(&mut lines, owed);
            let lost = self.out.write(&lines);
            // The confession is the last line, and none that anybody has logged.
            let fresh = lost.saturating_sub(u64::from(owed > 0));
            count(fresh);
            carried = if lost > 0 { owed + fresh } else { 0 };
            let reopened = reopen.then(|| self.out.reopen());

            let mut state = shared.lock();
            state.failing = lost > 0;
            state.written += 1;
            if reopened.is_some() {
                state.reopened = reopened;
            }
            drop(state);
            shared.done.notify_all();
            lines.clear();
            // One burst must not hold its memory for ever.
            spare = if lines.capacity() <= 1 << 20 { lines } else { Vec::new() };
        }
    }

    /// Waits until there is something to write, and a moment longer for more of it.
    fn gather<'a>(&self, shared: &'a Shared) -> MutexGuard<'a, State> {
        let mut state = shared.lock();
        let idle =
            |state: &State| state.lines.is_empty() && !state.reopen && !state.urgent && state.dropped == 0;
        let mut waited = false;
        while idle(&state) && !waited {
            state.phase = Phase::Parked;
            if state.failing || self.limiter.is_owing() {
                let (back, timeout) =
                    shared.wake.wait_timeout(state, CONFESS_EVERY).unwrap_or_else(PoisonError::into_inner);
                state = back;
                waited = timeout.timed_out();
            } else {
                state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        (state.phase, state.woken) = (Phase::Lingering, false);
        let more = |state: &mut State| !state.urgent && state.lines.len() < ENOUGH;
        let (state, _) =
            shared.wake.wait_timeout_while(state, LINGER, more).unwrap_or_else(PoisonError::into_inner);
        state
    }

    fn confess(&self, lines: &mut Vec<u8>, dropped: u64) {
        for owed in self.limiter.confess() {
            metrics::counter!("mainstay.log.suppressed").increment(owed.lines);
            let (message, place) =
                (format!("{} similar lines suppressed", owed.lines), ValueRef::Text(&owed.place));
            let fields = [("suppressed", ValueRef::Unsigned(owed.lines)), ("place", place)];
            lines.extend(own_line(self.format, owed.level, &owed.target, &message, &fields));
        }
        if dropped > 0 {
            let message = "log lines were dropped because the output was full or too slow";
            let fields = [("dropped", ValueRef::Unsigned(dropped))];
            lines.extend(own_line(self.format, Level::WARN, "mainstay::log", message, &fields));
        }
    }
}

fn count(dropped: u64) {
    if dropped > 0 {
        metrics::counter!("mainstay.log.dropped").increment(dropped);
    }
}

fn own_line(
    format: Format,
    level: Level,
    target: &str,
    message: &str,
    all: &[(&str, ValueRef<'_>)],
) -> Vec<u8> {
    let (redact, mut fields, mut line) = (Redact::new(&[]), Fields::default(), String::new());
    fields.set_message(message);
    all.iter().for_each(|(name, value)| fields.put(&redact, name, *value));
    format.line(&mut line, &Record { at: wall(), level, target, fields: &fields }, false);
    line.into_bytes()
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("waiting", &self.0.lock().lines.len()).finish()
    }
}

#[cfg(test)]
pub(super) use tests::Captured;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// An output that blocks while its gate is held.
    #[derive(Clone, Default)]
    struct Gated {
        gate: Arc<Mutex<()>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _gate = self.gate.lock();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a writer has written.
    pub struct Captured(Writer, Gated);

    impl Captured {
        pub fn text(&self) -> String {
            assert!(self.0.flush(secs(20)));
            String::from_utf8(self.1.written.lock().unwrap().clone()).unwrap()
        }
    }

    impl Writer {
        pub fn captured(format: Format, limiter: Arc<Limiter>) -> (Self, Captured) {
            let gated = Gated::default();
            let writer = Self::start(format, Sink::new(Box::new(gated.clone()), None), limiter);
            (writer.clone(), Captured(writer, gated))
        }
    }

    #[test]
    fn a_stuck_output_never_blocks_and_the_loss_is_confessed() {
        let (writer, captured) = Writer::captured(Format::Plain, Arc::new(Limiter::new(0)));
        let gate = captured.1.gate.clone();
        let closed = gate.lock().unwrap();
        let line = [b"line ".as_slice(), &[b'x'; 1000], b"\n"].concat();
        let all = 3 * MAX_BYTES / line.len();
        for _ in 0..all {
            writer.write(&line, false);
        }
        assert!(!writer.flush(millis(20)), "a flush must not wait for a stuck output");
        assert!(writer.reopen(millis(20)).is_err(), "nor does a reopen");
        drop(closed);
        let text = captured.text();
        let lines = text.matches("line x").count();
        let told = text.lines().filter_map(|line| line.split_once("dropped="));
        let confessed: usize = told.map(|(_, count)| count.parse::<usize>().unwrap()).sum();
        assert_eq!(lines + confessed, all);
        assert!(confessed > 0 && lines >= MAX_BYTES / line.len());
    }
}
