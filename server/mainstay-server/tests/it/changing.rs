//! A store that is exchanged for a new one under a server that goes on: the cases of a suite each want a store of their
//! own, and a server takes longer to start than most of them.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use mainstay::core::event::{LogBudget, LogSlice, Position};
use mainstay::core::op::{Committed, Failure, Op};
use mainstay::core::store::{
    Batch, Budget, Capabilities, Interest, Key, Maintained, Page, Query, Record, Slice, Store, Wake,
};
use mainstay::core::time::Now;
use mainstay::core::topic::TopicFilter;
use mainstay::core::{Error, ErrorKind, MemoryStore};
use mainstay_testkit::async_trait;
use mainstay_testkit::clock::ManualClock;
use tokio::sync::watch;

/// A store in memory, until the next.
pub struct Changing {
    clock: Arc<ManualClock>,
    capabilities: Capabilities,
    store: RwLock<Arc<MemoryStore>>,
    changes: watch::Sender<u64>,
    hands_out: AtomicBool,
}

impl Changing {
    pub fn new(clock: Arc<ManualClock>) -> Changing {
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let capabilities = store.capabilities().clone();
        Changing {
            clock,
            capabilities,
            store: RwLock::new(store),
            changes: watch::Sender::new(0),
            hands_out: AtomicBool::new(true),
        }
    }

    /// Begins with an empty one. Whoever waits in the old one looks again.
    pub fn renew(&self) {
        let new = Arc::new(MemoryStore::new(self.clock.clone()));
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = new;
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// From now on claims fail, as when a store of several processes changes its leader.
    pub fn hand_out_nothing(&self) {
        self.hands_out.store(false, SeqCst);
    }

    fn store(&self) -> Arc<MemoryStore> {
        self.store.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Store for Changing {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn submit(&self, mut batch: Batch) -> Result<Vec<Result<Committed, Failure>>, Error> {
        let asked = batch.commits.len();
        if !self.hands_out.load(SeqCst) {
            // A claim is the last of its batch.
            batch.commits.retain(|commit| !matches!(commit.ops[..], [Op::Claim(_)]));
        }
        let refused = || Failure::Failed(Error::new(ErrorKind::Unavailable, "nobody leads: try again"));
        let mut answers = self.store().submit(batch).await?;
        answers.resize_with(asked, || Err(refused()));
        Ok(answers)
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        self.store().get(key).await
    }

    async fn list(&self, query: &Query, page: &Page) -> Result<Slice, Error> {
        self.store().list(query, page).await
    }

    async fn read_log(
        &self,
        filters: &[TopicFilter],
        from: Position,
        budget: LogBudget,
    ) -> Result<LogSlice, Error> {
        self.store().read_log(filters, from, budget).await
    }

    async fn wait(&self, on: &[Interest], at_most: Duration) -> Result<Wake, Error> {
        // In this order: a store that is renewed in between is left at once.
        let mut changes = self.changes.subscribe();
        let store = self.store();
        tokio::select! {
            wake = store.wait(on, at_most) => wake,
            _ = changes.changed() => Ok(Wake::woken(None)),
        }
    }

    async fn maintain(&self, budget: Budget) -> Result<Maintained, Error> {
        self.store().maintain(budget).await
    }

    async fn now(&self) -> Result<Now, Error> {
        self.store().now().await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.store().ping().await
    }

    async fn close(&self, at_most: Duration) -> Result<(), Error> {
        self.store().close(at_most).await
    }
}
