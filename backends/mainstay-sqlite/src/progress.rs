//! What is said while opening a store takes long, and that it goes on.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mainstay_core::Error;
use rusqlite::Connection;

use crate::{fault::read_error, options::ProgressHook, stopwatch::Stopwatch};

/// Between two lines in the log.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// Steps of SQLite (of its machine, or pages that a check looks at) from one sign of life to the next: some ten
/// milliseconds' at most.
const STEPS: i32 = 10_000;

/// Follows the opening of one store. Clones follow the same.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Opening>);

struct Opening {
    path: PathBuf,
    hook: Option<ProgressHook>,
    began: Stopwatch,
    /// What is done now, and when something was said last.
    now: Mutex<(&'static str, Stopwatch)>,
}

impl Progress {
    pub(crate) fn new(path: PathBuf, hook: Option<ProgressHook>) -> Progress {
        let began = Stopwatch::start();
        Progress(Arc::new(Opening { path, hook, began, now: Mutex::new(("opening the file", began)) }))
    }

    /// Another part of it begins.
    pub(crate) fn begin(&self, step: &'static str) {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner).0 = step;
        self.goes_on();
    }

    /// Something has been done.
    pub(crate) fn goes_on(&self) {
        let Opening { path, hook, began, now } = &*self.0;
        if let Some(hook) = hook {
            hook();
        }
        let mut now = now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.1.elapsed() >= SAY_AGAIN {
            now.1 = Stopwatch::start();
            let (step, path, seconds) = (now.0, path.display(), began.elapsed().as_secs());
            tracing::info!(%path, step, seconds, "the store is still being opened");
        }
    }

    /// Whatever this connection does is something, until [`Progress::let_go`].
    pub(crate) fn follow(&self, conn: &mut Connection) -> Result<(), Error> {
        let progress = self.clone();
        let goes_on = move || {
            progress.goes_on();
            false
        };
        conn.progress_handler(STEPS, Some(goes_on)).map_err(|e| read_error(&self.0.path, e))
    }

    pub(crate) fn let_go(&self, conn: &mut Connection) -> Result<(), Error> {
        conn.progress_handler(0, None::<fn() -> bool>).map_err(|e| read_error(&self.0.path, e))
    }
}
