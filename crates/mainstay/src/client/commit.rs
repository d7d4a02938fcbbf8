//! Building a commit.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use mainstay_core::{
    id::JobId,
    job::Outcome,
    lease::LeaseId,
    op::{Commit, IdempotencyKey, Op, Reply, Require, Settle},
};

use super::{Client, Result, StoreError};
use crate::job::IntoNewJob;

/// A list of changes that happen together or not at all, durable when the `.await` answers.
#[must_use = "a commit happens when it is awaited"]
pub struct CommitBuilder {
    client: Client,
    commit: Commit,
    /// The first thing that could not be put into the commit.
    mistake: Option<StoreError>,
}

impl CommitBuilder {
    pub(super) fn new(client: Client) -> Self {
        let commit = Commit { entropy: client.entropy(), ..Commit::default() };
        CommitBuilder { client, commit, mistake: None }
    }

    /// Adds a job.
    pub fn enqueue(mut self, job: impl IntoNewJob) -> Self {
        match job.into_new_job(&self.client) {
            Ok(job) => self.commit.ops.push(Op::Enqueue(Box::new(job))),
            Err(error) => self.mistake = self.mistake.or(Some(error)),
        }
        self
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
            match self.mistake {
                Some(error) => Err(error),
                None => Ok(self.client.submit_one(self.commit).await?.replies),
            }
        })
    }
}
