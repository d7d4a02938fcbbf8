//! The one reading of the process's own clock: for figures and for how often to sync, never for what a job sees.

use std::time::{Duration, Instant};

/// Measures time that passes in this process.
#[derive(Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "durations of this process alone; jobs live by the Clock")]
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
