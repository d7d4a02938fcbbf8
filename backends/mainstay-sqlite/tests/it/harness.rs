//! Where the stores of the tests live.

use std::{path::PathBuf, sync::Arc};

use mainstay_core::{Error, Store};
use mainstay_sqlite::{Options, SqliteStore};
use mainstay_testkit::{Harness, ManualClock, async_trait};
use tempfile::TempDir;

/// A folder of its own, gone at the end, and the clock of what is in it.
pub(crate) struct Place {
    folder: TempDir,
    clock: Arc<ManualClock>,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { folder: tempfile::tempdir().expect("a folder for the test"), clock: ManualClock::new() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("jobs.db")
    }

    /// The options of the suites: nothing happens by itself.
    pub(crate) fn options(&self) -> Options {
        Options { housekeeping: false, ..Options::new(self.path(), self.clock.clone()) }
    }

    pub(crate) fn try_open(&self, change: impl FnOnce(&mut Options)) -> Result<SqliteStore, Error> {
        let mut options = self.options();
        change(&mut options);
        SqliteStore::open(options)
    }
}

#[async_trait]
impl Harness for Place {
    fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.try_open(|_| {}).expect("open"))
    }

    fn durable(&self) -> bool {
        true
    }
}
