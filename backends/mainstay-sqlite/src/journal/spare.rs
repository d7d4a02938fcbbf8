//! Makes the next segment while the present one fills, so that the writer does not wait for a disk full of zeros.

use std::{
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    files::Files,
    segment::{self, Segment},
};

/// The writer waits for a segment no longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Spare {
    files: Arc<dyn Files>,
    store: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The number of the next segment that is made.
    number: u32,
    wanted: Option<u64>,
    making: bool,
    ready: Option<Segment>,
    failed: Option<std::io::Error>,
    stop: bool,
}

impl Spare {
    pub(crate) fn new(files: Arc<dyn Files>, store: PathBuf, number: u32) -> Spare {
        let state = State { number, wanted: None, making: false, ready: None, failed: None, stop: false };
        Spare { files, store, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// One will be needed.
    pub(crate) fn ask(&self, bytes: u64) {
        let mut state = self.lock();
        if state.ready.is_none() && !state.making && state.wanted.is_none() {
            state.wanted = Some(bytes);
            state.failed = None;
            self.changed.notify_all();
        }
    }

    /// One is needed now. An error: there is no room, or the disk is too slow.
    pub(crate) fn take(&self, bytes: u64) -> std::io::Result<Segment> {
        self.ask(bytes);
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
                    state.ready = Some(segment);
                }
                Err(e) => state.failed = Some(e),
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

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
