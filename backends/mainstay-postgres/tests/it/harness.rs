//! Where the stores of the tests live: each in a schema of its own.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use mainstay_core::{Error, Store};
use mainstay_postgres::{Options, PostgresStore};
use mainstay_testkit::{Harness, ManualClock, async_trait, cluster::Cluster};

/// A schema of its own, and the clock of what is in it.
pub(crate) struct Place {
    pub(crate) schema: String,
    pub(crate) clock: Arc<ManualClock>,
}

impl Place {
    pub(crate) fn new() -> Place {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let schema = format!("t{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        Place { schema, clock: ManualClock::new() }
    }

    /// The options of the suites: nothing happens by itself.
    pub(crate) fn options(&self) -> Options {
        self.options_at(&Cluster::url(), "")
    }

    /// Those at another database, with more parameters in the URL (`&name=value`).
    pub(crate) fn options_at(&self, base: &str, more: &str) -> Options {
        let url = format!("{base}?schema={}{more}", self.schema);
        let options = Options::from_url(&url, self.clock.clone()).expect("a URL");
        Options { housekeeping: false, database_time: false, ..options }
    }

    pub(crate) fn try_open(&self, change: impl FnOnce(&mut Options)) -> Result<PostgresStore, Error> {
        let mut options = self.options();
        change(&mut options);
        PostgresStore::open(options)
    }

    pub(crate) fn open_store(&self) -> PostgresStore {
        self.try_open(|_| {}).expect("open")
    }
}

#[async_trait]
impl Harness for Place {
    fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.open_store())
    }

    fn durable(&self) -> bool {
        true
    }
}
