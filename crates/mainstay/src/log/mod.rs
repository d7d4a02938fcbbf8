//! Logs: `tracing` and `log` in, flat lines out, on a thread of their own.
//!
//! A line begins with the [`Context`](crate::Context) it was logged in (request id, trace id, free fields), then come
//! the fields of the enclosing `tracing` spans, then its own; the inner one of two equal names counts. So one line is
//! enough to search by, and `request_id` finds all that happened for a request, whichever library said it.
//!
//! # What the log does not do to the service
//! - It never makes it wait. Lines go to a bounded buffer; what does not fit is dropped, counted
//!   (`mainstay.log.dropped`) and confessed in the log itself.
//! - One line of source cannot flood it: beyond 1,000 lines a second they are suppressed, counted
//!   (`mainstay.log.suppressed`) and confessed: `23 similar lines suppressed`.
//! - It shows no secrets: [`Secret`](crate::Secret) never prints itself, and fields whose name says that they are one
//!   are hidden (see [`Options::redact`]).
//! - A panic is one record, with its place and its context.
//!
//! # Setting it up
//! [`App`](crate::App) does it, by the settings `log_format`, `log_level`, `log_output`, `log_redact`,
//! `log_lines_per_second` and `access_log`. A program without one calls [`init`]:
//!
//! ```
//! use mainstay::log::{self, Format, Output};
//!
//! # fn main() -> mainstay::Result<()> {
//! let _log = log::init(log::Options::new().format(Format::Plain).output(Output::Stdout))?;
//! tracing::info!(user_id = 42, "hello"); // INFO hello user_id=42
//! # Ok(()) }
//! ```

mod access;
mod bridge;
mod fields;
mod format;
mod layer;
mod levels;
mod limit;
mod options;
mod output;
pub(crate) mod panics;
mod pending;
#[cfg(test)]
mod pending_model;
mod redact;
mod span;
mod stamp;
mod writer;

use std::ffi::OsString;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use access::AccessLog;
#[cfg(feature = "testing")]
pub(crate) use fields::text_of;
pub use format::Format;
#[cfg(feature = "testing")]
pub(crate) use format::Record;
#[cfg(feature = "http")]
pub(crate) use layer::ACCESS;
#[cfg(feature = "testing")]
pub(crate) use layer::Lines;
pub(crate) use levels::Levels;
pub use levels::LogLevel;
pub use options::Options;
pub use output::Output;
pub(crate) use span::describe;

use crate::{Error, Result, millis, sync};

/// The process's log: set up once, shared by all that is in it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    level: LogLevel,
    writer: writer::Writer,
}

/// Sets the log up in one call: `tracing`, the `log` facade and panics. For programs without an
/// [`App`](crate::App), which does this itself. The first call in a process decides; a process that has a `tracing`
/// subscriber already keeps it.
///
/// Dropping the answer writes out what is queued, for up to a second: keep it until the end of `main`.
///
/// # Errors
/// The level is none, or the file cannot be opened.
pub fn init(options: Options) -> Result<Guard> {
    let log = install(options)?;
    panics::install();
    Ok(Guard(log))
}

/// Writes out the log when it is dropped.
#[must_use = "dropping it writes out the log: keep it until the end of main"]
#[derive(Debug)]
pub struct Guard(Log);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.flush(crate::secs(1));
    }
}

impl std::ops::Deref for Guard {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.0
    }
}

/// Sets the log up, but for panics.
pub(crate) fn install(options: Options) -> Result<Log> {
    static LOG: OnceLock<Log> = OnceLock::new();
    if let Some(log) = LOG.get() {
        return Ok(log.clone());
    }
    let levels = Levels::parse(&options.level).map_err(|e| Error::config(format!("log level: {e}")))?;
    let out = options.output.open().map_err(Error::config)?;
    Ok(LOG.get_or_init(|| start(&options, levels, out)).clone())
}

fn start(options: &Options, levels: Levels, out: output::Sink) -> Log {
    let terminal = options.output.is_terminal();
    let format = options.format.resolve(terminal);
    let limiter = Arc::new(limit::Limiter::new(options.lines_per_second));
    let writer = writer::Writer::start(format, out, limiter.clone());
    let level = LogLevel::new(levels);
    let redact = redact::Redact::new(&options.redact);
    let colours = terminal && colours_are_wanted(std::env::var_os("NO_COLOR"));
    let sink = writer.clone().lines(format, colours);
    let layer = layer::Lines::new(level.clone(), sink).redact(redact).limit(limiter);
    if tracing_subscriber::registry().with(layer).try_init().is_ok() {
        bridge::install(&level);
    }
    Log { level, writer }
}

/// As <https://no-color.org> has it: any text in the variable is a no.
fn colours_are_wanted(no_color: Option<OsString>) -> bool {
    no_color.is_none_or(|text| text.is_empty())
}

impl Log {
    /// The level, changeable at run time.
    pub fn level(&self) -> LogLevel {
        self.level.clone()
    }

    /// Writes out what is queued, waiting for that `limit` at most. Whether all of it is out.
    pub fn flush(&self, limit: Duration) -> bool {
        self.writer.flush(limit)
    }

    /// Closes the log's file and opens the one that has its name now, after what is queued: for whatever rotates
    /// files. No effect on standard output and standard error. Waits for up to a second.
    ///
    /// # Errors
    /// The file cannot be opened; the old one stays in use then.
    pub fn reopen(&self) -> Result<()> {
        self.writer.reopen(millis(1000)).map_err(Error::from)
    }
}

#[cfg(test)]
mod tests {
    use super::colours_are_wanted;

    #[test]
    fn no_color_is_heeded_unless_it_is_empty() {
        assert!(colours_are_wanted(None) && colours_are_wanted(Some("".into())));
        assert!(!colours_are_wanted(Some("1".into())) && !colours_are_wanted(Some("0".into())));
    }
}
