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
use crate::stopwatch::Stopwatch;

/// The writer waits for a segment no longer than this.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure, none is made in advance for so long: each attempt would write zeros until the disk is full.
const REST: Duration = Duration::from_secs(1);

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
    /// Since the last failure, if nothing has succeeded since.
    resting: Option<Stopwatch>,
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

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        path::Path,
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::{super::files::JournalFile, *};

    /// A disk without room, which counts how often that was tried.
    #[derive(Default)]
    struct Full(AtomicUsize);

    impl Files for Full {
        fn open(&self, _: &Path, _: bool) -> io::Result<Arc<dyn JournalFile>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Err(io::ErrorKind::StorageFull.into())
        }

        fn delete(&self, _: &Path) -> io::Result<()> {
            Ok(())
        }

        fn sync_folder(&self, _: &Path) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_not_filled_again_for_a_segment_that_nobody_needs_yet() {
        let disk = Arc::new(Full::default());
        let spare = Arc::new(Spare::new(disk.clone(), "jobs.db".into(), 1));
        let runs = spare.clone();
        // Nobody waits for it but a test that has succeeded.
        let thread = thread::spawn(move || runs.run());
        let refused = |_| spare.take(4_096).err().map(|e| e.kind());
        assert!((0..3).map(refused).all(|kind| kind == Some(io::ErrorKind::StorageFull)));
        assert_eq!(disk.0.load(Ordering::SeqCst), 3, "one that is needed now is tried at once");
        spare.ask(4_096);
        assert_eq!(spare.lock().wanted, None, "in advance it is not");
        // The rest is over.
        spare.lock().resting = None;
        spare.ask(4_096);
        drop(spare.changed.wait_while(spare.lock(), |state| state.wanted.is_some() || state.making));
        assert_eq!(disk.0.load(Ordering::SeqCst), 4);
        spare.stop();
        thread.join().unwrap();
    }
}
