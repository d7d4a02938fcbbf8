//! The judges are judged: each kind of lie of a store is noticed.

use std::{sync::Arc, time::Duration};

use mainstay_core::{
    Error, LeaseId, Token,
    lock::{LockGrant, LockMode, LockOp, LockReply, LockWaiting, Owner},
    memory::MemoryStore,
    op::{Committed, Failure, Op, Reason, Reply},
    store::{Batch, Key, Over, Page, Query, Record, Slice, Store},
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
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Lie {
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
    /// A lock that is held is granted to one who tries.
    LockHeldTwice,
    /// A grant of a lock lives half its time.
    LockTooShort,
    /// A lock that is lost is released all the same.
    LockReleasedTwice,
    /// A lock that is released is still refused, now and then.
    LockNeverFree,
}

pub(crate) struct Liar {
    clock: Arc<ManualClock>,
    lie: Lie,
    store: Arc<MemoryStore>,
}

impl Liar {
    pub(crate) fn new(lie: Lie) -> Liar {
        let clock = ManualClock::new();
        let store = Arc::new(MemoryStore::new(clock.clone()).without_housekeeping());
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

    fn lie_about_lock(&self, answer: &mut Result<Committed, Failure>, released: bool) {
        let told = |reply| Ok(Committed { replies: vec![Reply::Lock(reply)], repeated: false });
        let refused = match &*answer {
            Err(Failure::Rejected(rejection)) => Some(rejection.reason.clone()),
            _ => None,
        };
        match (self.lie, refused) {
            (Lie::LockHeldTwice, Some(Reason::LockHeld(held))) => {
                let lease = LeaseId { token: Token(1 << 52), nonce: 1 };
                let (name, expires_at) = (held.name, held.expires_at);
                let grant = LockGrant { name, lease, mode: LockMode::Exclusive, ttl_ms: 1_000, expires_at };
                *answer = told(LockReply::Granted(grant));
            }
            (Lie::LockReleasedTwice, Some(Reason::LockLost)) if released => {
                *answer = told(LockReply::Released);
            }
            (Lie::LockNeverFree, None) => {
                let Ok(done) = &answer else { return };
                let [Reply::Lock(LockReply::Granted(grant))] = &done.replies[..] else { return };
                if grant.token().0 % 3 == 0 {
                    let waiting = LockWaiting {
                        name: grant.name.clone(),
                        position: None,
                        holder: Owner::new("nobody").expect("an owner"),
                        expires_at: grant.expires_at,
                        waiters: 0,
                    };
                    *answer = told(LockReply::Waiting(waiting));
                }
            }
            _ => {}
        }
    }
}

#[async_trait]
impl Over for LyingStore {
    fn below(&self) -> &dyn Store {
        &*self.inner
    }

    async fn submit(&self, mut batch: Batch) -> Result<Vec<Result<Committed, Failure>>, Error> {
        for op in batch.commits.iter_mut().flat_map(|commit| &mut commit.ops) {
            if let (Lie::LockTooShort, Op::Lock(LockOp::Acquire(ask))) = (self.lie, op) {
                ask.ttl_ms /= 2;
            }
        }
        let released = batch.commits.iter().flat_map(|commit| &commit.ops);
        let released = released.filter(|op| matches!(op, Op::Lock(LockOp::Release { .. }))).count();
        let mut answers = self.inner.submit(batch).await?;
        answers.iter_mut().for_each(|answer| self.lie_about_lock(answer, released > 0));
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

    async fn close(&self, at_most: Duration) -> Result<(), Error> {
        if self.lie == Lie::Undying { Ok(()) } else { self.inner.close(at_most).await }
    }
}
