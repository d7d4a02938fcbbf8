//! Building a commit.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use mainstay_core::{
    GroupName,
    after::After,
    event::EventOp,
    id::JobId,
    job::{NewJob, Outcome},
    lease::LeaseId,
    lock::LockOp,
    op::{Commit, IdempotencyKey, Op, Reply, Require, Settle},
};

use super::{Client, OwnEnd, Result, StoreError};
use crate::{
    event::IntoPublish,
    job::IntoNewJob,
    lock::{LockGuard, fence::Fence},
};

/// A list of changes that happen together or not at all, durable when the `.await` answers.
#[must_use = "a commit happens when it is awaited"]
pub struct CommitBuilder {
    client: Client,
    commit: Commit,
    /// The first thing that could not be put into the commit.
    mistake: Option<StoreError>,
    /// What it ends of the handler that makes it.
    ends: Option<OwnEnd>,
}

impl CommitBuilder {
    pub(super) fn new(client: Client) -> Self {
        let commit = Commit { entropy: client.entropy(), ..Commit::default() };
        CommitBuilder { client, commit, mistake: None, ends: None }
    }

    /// Adds a job.
    pub fn enqueue(mut self, job: impl IntoNewJob) -> Self {
        self.add(job);
        self
    }

    /// Adds a job that later ones of this commit can wait for.
    ///
    /// ```
    /// # use mainstay::{Client, Job};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)] struct Step(u32);
    /// # impl Job for Step { const KIND: &'static str = "step"; const QUEUE: &'static str = "steps"; }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let store = Client::memory();
    /// let mut commit = store.commit();
    /// let first = commit.add(Step(1));
    /// commit.add(Step(2).with().after(first));
    /// commit.await?;
    /// # Ok::<_, mainstay::StoreError>(())
    /// # }).unwrap();
    /// ```
    pub fn add(&mut self, job: impl IntoNewJob) -> After {
        let place = After::Op(self.commit.ops.len() as u32);
        match job.into_new_job(&self.client) {
            Ok(job) => self.push(job),
            Err(error) => self.mistake = self.mistake.take().or(Some(error)),
        }
        place
    }

    pub(super) fn push(&mut self, job: NewJob) {
        self.commit.ops.push(Op::Enqueue(Box::new(job)));
    }

    /// Announces an event in the log of the store.
    pub fn publish(mut self, event: impl IntoPublish) -> Self {
        match event.into_publish() {
            Ok(publish) => self.commit.ops.push(Op::Event(EventOp::Publish(Box::new(publish)))),
            Err(error) => self.mistake = self.mistake.or(Some(error)),
        }
        self
    }

    /// Acknowledges a delivery. A repeat is refused (`AlreadySettled`), so that what else is in the commit happens once.
    pub fn ack(self, group: &GroupName, lease: LeaseId) -> Self {
        self.op(Op::Event(EventOp::Ack { group: group.clone(), lease }))
    }

    /// Ends a claim.
    pub fn settle(self, id: JobId, lease: LeaseId, outcome: Outcome) -> Self {
        self.op(Op::Settle(Settle { id, lease, outcome, repeat_is_ok: false }))
    }

    /// Only if this lease of the job is live.
    pub fn require_job(mut self, id: JobId, lease: LeaseId) -> Self {
        self.commit.require.push(Require::Job { id, lease });
        self
    }

    /// Only if the lock is held under this guard's token: what a holder writes that has lost it meanwhile does not happen.
    pub fn require_lock(self, guard: &LockGuard) -> Self {
        self.require_token(&Fence::new(guard.name().clone(), guard.token()))
    }

    /// Only if the lock is held under this token, which may have come from elsewhere.
    pub fn require_token(mut self, fence: &Fence) -> Self {
        self.commit.require.push(Require::Lock { name: fence.lock().clone(), token: fence.token() });
        self
    }

    /// Gives a lock back. The guard goes on until it is dropped, and is lost then.
    pub fn release_lock(self, guard: &LockGuard) -> Self {
        self.op(Op::Lock(LockOp::Release { name: guard.name().clone(), lease: guard.lease() }))
    }

    /// It also ends what the handler that makes it has in hand.
    pub(crate) fn ending(mut self, ends: &OwnEnd, op: Op) -> Self {
        self.ends = Some(ends.clone());
        self.op(op)
    }

    /// Any other change.
    pub fn op(mut self, op: Op) -> Self {
        self.commit.ops.push(op);
        self
    }

    /// Repeating the commit under the same key (for 24 h) gets the first answer again.
    pub fn idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.commit.key = Some(key);
        self
    }
}

impl IntoFuture for CommitBuilder {
    /// The answers, one a change, in order.
    type Output = Result<Vec<Reply>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            if let Some(error) = self.mistake {
                return Err(error);
            }
            let under_way = self.ends.as_ref().map(OwnEnd::begin);
            let committed = self.client.submit_paced(self.commit).await?;
            if let Some(under_way) = under_way {
                under_way.done();
            }
            Ok(committed.replies)
        })
    }
}
