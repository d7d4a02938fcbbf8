//! The one reading of the process's own clock: for figures and for how often to sync, never for what a job sees.

use std::time::{Duration, Instant};

/// Measures time that passes in this process.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "durations of this process alone; jobs live by the Clock")]
    pub(crate) fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
