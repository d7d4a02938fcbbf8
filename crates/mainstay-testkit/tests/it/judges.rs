//! The judges are judged: each kind of lie of a store is noticed.

use std::{sync::Arc, time::Duration};

use mainstay_core::{
    Error, Now, Store,
    memory::MemoryStore,
    op::{Committed, Failure, Reply},
    store::{Batch, Budget, Capabilities, Interest, Key, Maintained, Page, Query, Record, Slice, Wake},
};
use mainstay_testkit::{Harness, ManualClock, async_trait, conformance, model};

#[test]
#[should_panic(expected = "the answer to commit 0 differs")]
fn the_model_notices_jobs_that_come_out_of_order() {
    model::run(|| Liar::new(Lie::OutOfOrder));
}

#[test]
#[should_panic(expected = "its jobs say")]
fn the_model_notices_a_depth_that_is_wrong() {
    model::run(|| Liar::new(Lie::Depth));
}

#[test]
#[should_panic(expected = "differs")]
fn the_model_notices_a_refusal_that_was_kept_quiet() {
    model::run(|| Liar::new(Lie::Swallowed));
}

#[test]
#[should_panic(expected = "assertion `left == right` failed")]
fn the_suite_notices_a_token_that_is_not_shown() {
    conformance::run(Liar::new(Lie::NoToken), "the_worker_of_a_running_job_is_known");
}

#[test]
fn the_model_plays_over_restarts() {
    model::run(|| Liar::new(Lie::Undying));
}

/// What a store may get wrong.
#[derive(Clone, Copy, PartialEq)]
enum Lie {
    /// Several jobs of one claim come in the reverse order.
    OutOfOrder,
    /// A queue shows one available job too many.
    Depth,
    /// The second commit of a batch is answered like the first.
    Swallowed,
    /// A running job shows no token.
    NoToken,
    /// None: closing and opening again finds the same store.
    Undying,
}

struct Liar {
    clock: Arc<ManualClock>,
    lie: Lie,
    store: Arc<MemoryStore>,
}

impl Liar {
    fn new(lie: Lie) -> Liar {
        let clock = ManualClock::new();
        let store = Arc::new(MemoryStore::new(clock.clone()));
        Liar { clock, lie, store }
    }
}

#[async_trait]
impl Harness for Liar {
    fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(LyingStore { inner: self.store.clone(), lie: self.lie })
    }
    fn durable(&self) -> bool {
        self.lie == Lie::Undying
    }
}

struct LyingStore {
    inner: Arc<MemoryStore>,
    lie: Lie,
}

impl LyingStore {
    fn told(&self, mut record: Record) -> Record {
        match &mut record {
            Record::Queue(queue) if self.lie == Lie::Depth => queue.depth.available += 1,
            Record::Job(job) if self.lie == Lie::NoToken => job.token = None,
            _ => {}
        }
        record
    }
}

#[async_trait]
impl Store for LyingStore {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
    async fn submit(&self, batch: Batch) -> Result<Vec<Result<Committed, Failure>>, Error> {
        let mut answers = self.inner.submit(batch).await?;
        for reply in answers.iter_mut().flatten().flat_map(|done| &mut done.replies) {
            if let (Lie::OutOfOrder, Reply::Claimed(grants)) = (self.lie, reply) {
                grants.reverse();
            }
        }
        if let (Lie::Swallowed, [first, second, ..]) = (self.lie, &mut answers[..]) {
            second.clone_from(first);
        }
        Ok(answers)
    }
    async fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        Ok(self.inner.get(key).await?.map(|record| self.told(record)))
    }
    async fn list(&self, query: &Query, page: &Page) -> Result<Slice, Error> {
        let Slice { items, next } = self.inner.list(query, page).await?;
        Ok(Slice { items: items.into_iter().map(|record| self.told(record)).collect(), next })
    }
    async fn wait(&self, on: &[Interest], at_most: Duration) -> Result<Wake, Error> {
        self.inner.wait(on, at_most).await
    }
    async fn maintain(&self, budget: Budget) -> Result<Maintained, Error> {
        self.inner.maintain(budget).await
    }
    async fn now(&self) -> Result<Now, Error> {
        self.inner.now().await
    }
    async fn ping(&self) -> Result<(), Error> {
        self.inner.ping().await
    }
    async fn close(&self, at_most: Duration) -> Result<(), Error> {
        if self.lie == Lie::Undying { Ok(()) } else { self.inner.close(at_most).await }
    }
}
