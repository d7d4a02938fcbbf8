//! Makes the next segment while the present one fills, so that the writer does not wait for a disk full of zeros.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::{
    files::Files,
    segment::{self, Segment},
    sync::{Condvar, Mutex, MutexGuard, Stopwatch},
};

/// The writer waits for a segment no longer than this.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure, none is made in advance for so long: each attempt would write zeros until the disk is full.
const REST: Duration = Duration::from_secs(1);

pub(crate) struct Spare {
    files: Arc<dyn Files>,
    store: PathBuf,
    state: Mutex<State>,
    pub(super) changed: Condvar,
}

pub(super) struct State {
    /// The number of the next segment that is made.
    number: u32,
    pub(super) wanted: Option<u64>,
    pub(super) making: bool,
    ready: Option<Segment>,
    failed: Option<std::io::Error>,
    /// Since the last failure, if nothing has succeeded since.
    pub(super) resting: Option<Stopwatch>,
    stop: bool,
}

impl Spare {
    pub(crate) fn new(files: Arc<dyn Files>, store: PathBuf, number: u32) -> Spare {
        let state = State {
            number,
            wanted: None,
            making: false,
            ready: None,
            failed: None,
            resting: None,
            stop: false,
        };
        Spare { files, store, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// One will be needed.
    pub(crate) fn ask(&self, bytes: u64) {
        let state = self.lock();
        if state.resting.is_none_or(|since| since.elapsed() >= REST) {
            self.want(state, bytes);
        }
    }

    fn want(&self, mut state: MutexGuard<'_, State>, bytes: u64) {
        if state.ready.is_none() && !state.making && state.wanted.is_none() {
            state.wanted = Some(bytes);
            state.failed = None;
            self.changed.notify_all();
        }
    }

    /// One is needed now. An error: there is no room, or the disk is too slow.
    pub(crate) fn take(&self, bytes: u64) -> std::io::Result<Segment> {
        self.want(self.lock(), bytes);
        let pending = |state: &mut State| state.ready.is_none() && (state.making || state.wanted.is_some());
        let waited = self.changed.wait_timeout_while(self.lock(), PATIENCE, pending);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if let Some(segment) = state.ready.take() {
            return Ok(segment);
        }
        Err(state.failed.take().unwrap_or_else(|| std::io::ErrorKind::TimedOut.into()))
    }

    /// The life of the thread.
    pub(crate) fn run(&self) {
        loop {
            let idle = |state: &mut State| state.wanted.is_none() && !state.stop;
            let mut state =
                self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            let Some(bytes) = state.wanted.take().filter(|_| !state.stop) else { return };
            state.making = true;
            let path = segment::path(&self.store, state.number);
            drop(state);
            let made = Segment::make(&*self.files, &path, bytes);
            let mut state = self.lock();
            state.making = false;
            match made {
                Ok(segment) => {
                    state.number += 1;
                    state.resting = None;
                    state.ready = Some(segment);
                }
                Err(e) => {
                    state.failed = Some(e);
                    state.resting = Some(Stopwatch::start());
                }
            }
            self.changed.notify_all();
        }
    }

    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }

    /// How many segments there are.
    pub(crate) fn made(&self) -> u32 {
        self.lock().number - 1
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
