//! Logs: `tracing` in, flat lines out, on a thread of their own.
//!
//! The fields of all enclosing spans stand flat beside an event's own (the innermost wins), so one line is enough
//! to search by. Lines go to a bounded queue and never make the caller wait: what does not fit is dropped, counted
//! (`mainstay.log.dropped`) and confessed in the log itself.

mod format;
mod layer;
mod levels;
mod span;
mod writer;

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use format::Format;
#[cfg(feature = "testing")]
pub(crate) use format::{Record, push};
#[cfg(feature = "testing")]
pub(crate) use layer::Lines;
pub(crate) use levels::Levels;
pub use levels::LogLevel;
pub(crate) use span::describe;

/// The process's log: set up once, shared by every app in it.
#[derive(Clone)]
pub(crate) struct Log {
    pub level: LogLevel,
    writer: writer::Writer,
}

/// Sets the log up. A process that has a `tracing` subscriber already keeps it; the first app in a process decides.
pub(crate) fn install(format: Format, levels: Levels) -> Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    let log = LOG.get_or_init(|| {
        let terminal = std::io::stderr().is_terminal();
        let format = format.resolve(terminal);
        let writer = writer::Writer::start(format, std::io::stderr());
        let level = LogLevel::new(levels);
        let to = writer.clone();
        let layer = layer::Lines::new(level.clone(), move |record| to.write(format.line(record, terminal)));
        let _ = tracing_subscriber::registry().with(layer).try_init();
        Log { level, writer }
    });
    log.clone()
}

impl Log {
    /// Writes out what is queued, `limit` at most.
    pub fn flush(&self, limit: Duration) -> bool {
        self.writer.flush(limit)
    }
}
