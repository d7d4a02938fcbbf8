//! The thread that writes lines.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tracing::Level;

use super::fields::Fields;
use super::format::{Format, Record};
use super::layer;
use super::limit::Limiter;
use super::output::Sink;
use super::pending::{Pending, Taken};
use super::redact::Redact;
use crate::context::ValueRef;
use crate::time::wall;

/// Takes lines without waiting. Cheap to clone.
#[derive(Clone)]
pub(super) struct Writer(Arc<Pending>);

impl Writer {
    pub fn start(format: Format, out: Sink, limiter: Arc<Limiter>) -> Self {
        let writer = Self(Arc::default());
        let pending = writer.0.clone();
        let thread = std::thread::Builder::new().name("mainstay-log".to_owned());
        // Without the thread every line counts as dropped: the service goes on.
        if thread.spawn(move || Thread { format, out, limiter, pending }.run()).is_err() {
            writer.0.has_no_thread();
        }
        writer
    }

    /// Queues a line, or drops and counts it.
    pub fn write(&self, line: &[u8], urgent: bool) {
        self.0.put(line, urgent);
    }

    /// Takes records, and writes them like this.
    pub fn lines(self, format: Format, colours: bool) -> Formatted {
        Formatted { format, colours, to: self }
    }

    /// Whether everything queued before has been written, waiting for it `limit` at most.
    pub fn flush(&self, limit: Duration) -> bool {
        self.0.flush(limit)
    }

    /// Opens the output's file anew, after what is queued.
    pub fn reopen(&self, limit: Duration) -> io::Result<()> {
        self.0.reopen(limit)
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
        self.to.0.wake();
    }
}

struct Thread {
    format: Format,
    out: Sink,
    limiter: Arc<Limiter>,
    pending: Arc<Pending>,
}

impl Thread {
    fn run(mut self) {
        let mut spare = Vec::new();
        // Lines that are lost and counted, but not confessed: the output fails.
        let mut carried = 0;
        loop {
            let limiter = &self.limiter;
            let Taken { mut lines, dropped, reopen } =
                self.pending.take(std::mem::take(&mut spare), || limiter.is_owing());
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
            self.pending.written(lost > 0, reopened);
            lines.clear();
            // One burst must not hold its memory for ever.
            spare = if lines.capacity() <= 1 << 20 { lines } else { Vec::new() };
        }
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
        f.debug_struct("Writer").field("waiting", &self.0.bytes()).finish()
    }
}

#[cfg(test)]
pub(super) use tests::Captured;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use super::super::pending::MAX_BYTES;
    use super::*;
    use crate::{millis, secs};

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
