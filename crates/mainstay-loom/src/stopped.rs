//! A watch that shows what a model has set: its threads run on the thread that set it.

use std::{cell::Cell, time::Duration};

thread_local! {
    static SHOWS: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// From now on, so much has passed since whatever was watched.
pub fn stands_at(elapsed: Duration) {
    SHOWS.set(elapsed);
}

#[derive(Clone, Copy, Debug)]
pub struct Stopwatch;

impl Stopwatch {
    pub fn start() -> Self {
        Self
    }

    pub fn elapsed(self) -> Duration {
        SHOWS.get()
    }
}
