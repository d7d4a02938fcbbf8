//! Records of the `log` facade become `tracing` events, and so lines with a context.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tracing::level_filters::LevelFilter;

use super::LogLevel;

static INSTALLED: AtomicBool = AtomicBool::new(false);

/// A process that has a logger already keeps it.
pub(super) fn install(level: &LogLevel) {
    if tracing_log::LogTracer::init().is_ok() {
        INSTALLED.store(true, Relaxed);
        sync(level.now().highest());
    }
}

/// What nobody wants is not even made into a record.
pub(super) fn sync(highest: LevelFilter) {
    if !INSTALLED.load(Relaxed) {
        return;
    }
    log::set_max_level(match highest {
        LevelFilter::OFF => log::LevelFilter::Off,
        LevelFilter::ERROR => log::LevelFilter::Error,
        LevelFilter::WARN => log::LevelFilter::Warn,
        LevelFilter::INFO => log::LevelFilter::Info,
        LevelFilter::DEBUG => log::LevelFilter::Debug,
        LevelFilter::TRACE => log::LevelFilter::Trace,
    });
}
