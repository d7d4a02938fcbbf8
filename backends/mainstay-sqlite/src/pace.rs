//! How the tables' thread leaves the cores to those who are waited for.
//!
//! It works for tens of milliseconds at a time, and where all cores are busy the system's scheduler lets it: a writer
//! whose sync has ended, or a caller whose answer is there, would stand behind it for a whole slice, some milliseconds.
//! So it lets others go first every few rows, as long as nobody waits for the tables themselves.

use std::{cell::Cell, thread};

use crate::behind::Behind;

/// So many rows take some tens of microseconds.
const ROWS: u32 = 32;

/// Who may be waiting for the tables; nobody: nothing else is to be done first.
#[derive(Default)]
pub(crate) struct Pace<'b> {
    behind: Option<&'b Behind>,
    rows: Cell<u32>,
}

impl<'b> Pace<'b> {
    pub(crate) fn beside(behind: &'b Behind) -> Pace<'b> {
        Pace { behind: Some(behind), rows: Cell::new(0) }
    }

    /// A row was written, or about as much was done.
    pub(crate) fn row(&self) {
        self.rows.set(self.rows.get() + 1);
        if self.rows.get() >= ROWS {
            self.rest();
        }
    }

    /// Much was done.
    pub(crate) fn rest(&self) {
        self.rows.set(0);
        if self.behind.is_some_and(|behind| !behind.is_waited_for()) {
            thread::yield_now();
        }
    }
}
