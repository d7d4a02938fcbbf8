//! Locks in process, on virtual time.

mod election;
mod fenced;
mod guards;
mod page;
#[cfg(feature = "sqlite")]
mod restored;
#[cfg(feature = "sqlite")]
mod stopping;
mod trouble;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use mainstay::{
    Client,
    core::{
        Error, MemoryStore,
        clock::Clock,
        lock::LockOp,
        op::{Committed, Failure, Op},
        store::{Batch, Over, Store},
    },
    testing::Runtime,
};
use tokio::time::sleep;

/// A store in RAM behind a wire that can be slow, silent or broken.
pub struct Wire {
    store: MemoryStore,
    /// How long an answer takes, in milliseconds.
    pub delay_ms: AtomicU64,
    /// So many of the next batches with a renewal are lost before they reach the store.
    pub drops: AtomicU64,
    /// Batches with a renewal that came through.
    pub renewals: AtomicU64,
}

impl Wire {
    pub fn client(runtime: &Runtime) -> (Client, Arc<Wire>) {
        let clock: Arc<dyn Clock> = runtime.clock();
        let wire = Arc::new(Wire {
            store: MemoryStore::new(clock.clone()),
            delay_ms: AtomicU64::new(0),
            drops: AtomicU64::new(0),
            renewals: AtomicU64::new(0),
        });
        (Client::on(wire.clone(), clock), wire)
    }

    /// Answers nothing any more.
    pub fn cut(&self) {
        self.delay_ms.store(u64::MAX / 2_000_000, Ordering::SeqCst);
    }

    async fn answer(&self) {
        match self.delay_ms.load(Ordering::SeqCst) {
            0 => {}
            ms => sleep(Duration::from_millis(ms)).await,
        }
    }
}

#[async_trait]
impl Over for Wire {
    fn below(&self) -> &dyn Store {
        &self.store
    }

    async fn submit(&self, batch: Batch) -> Result<Vec<Result<Committed, Failure>>, Error> {
        let renews = |op: &Op| matches!(op, Op::Lock(LockOp::Renew { .. }));
        if batch.commits.iter().flat_map(|commit| &commit.ops).any(renews) {
            if self.drops.load(Ordering::SeqCst) > 0 {
                self.drops.fetch_sub(1, Ordering::SeqCst);
                return std::future::pending().await;
            }
            self.renewals.fetch_add(1, Ordering::SeqCst);
        }
        let answer = self.store.submit(batch).await;
        self.answer().await;
        answer
    }
}

/// Runs a test with a client whose wire it can disturb.
pub fn with_wire<F: Future<Output = ()>>(test: impl FnOnce(Client, Arc<Wire>) -> F) {
    let runtime = Runtime::paused();
    let (client, wire) = Wire::client(&runtime);
    runtime.block_on(test(client, wire));
    runtime.end();
}
