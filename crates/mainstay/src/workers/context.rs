//! What a handler gets beside its payload.

use std::{ops::Deref, sync::Arc, time::Duration};

use mainstay_core::{
    id::JobId,
    job::{Grant, Outcome},
    lease::{LeaseId, Token},
    op::{Op, Reply, Settle},
};
use serde::Serialize;
use tokio::{sync::watch, time::Instant};

use super::{
    limit::end_of_lease,
    running::{RunningJobs, Told},
};
use crate::client::{Client, CommitBuilder, OwnEnd, StoreError};
use crate::job::ms;
use crate::policy::{Policies, Target};

/// A running job's surroundings. Dereferences to the state the workers were made with. Cheap to clone.
#[derive(Clone)]
pub struct JobContext<S> {
    state: S,
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    grant: Grant,
    stop: watch::Receiver<Told>,
    policies: Policies,
    lease: Duration,
    own_end: OwnEnd,
    running: RunningJobs,
}

impl<S> JobContext<S> {
    #[expect(clippy::too_many_arguments, reason = "what a context is made of; there is one call")]
    pub(super) fn new(
        state: S,
        client: Client,
        grant: Grant,
        stop: watch::Receiver<Told>,
        policies: Policies,
        lease: Duration,
        own_end: OwnEnd,
        running: RunningJobs,
    ) -> Self {
        let inner = Inner { client, grant, stop, policies, lease, own_end, running };
        JobContext { state, inner: Arc::new(inner) }
    }

    /// What the workers were made with; the context also dereferences to it.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// The store the job came from.
    pub fn store(&self) -> &Client {
        &self.inner.client
    }

    /// Something that the job calls, under the service's policy for it: the setting `policies.NAME`, or the default.
    ///
    /// Short waits between attempts are waited for; one that is longer than the policy's `reschedule_above_ms`, and
    /// an open breaker, end the attempt with an error that puts the job off for that time, so that no worker's slot
    /// waits.
    pub fn policy(&self, name: &str) -> Target {
        let mut target = self.inner.policies.target(name);
        target.in_job = true;
        target
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.inner.grant.id
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.inner.grant.attempt
    }

    /// The fencing token of this attempt: larger than that of every earlier one.
    pub fn token(&self) -> Token {
        self.inner.grant.lease.token
    }

    /// The proof of this attempt, for a commit that must only happen while it is live
    /// ([`crate::client::CommitBuilder::require_job`]).
    pub fn lease(&self) -> LeaseId {
        self.inner.grant.lease
    }

    /// A commit that also completes this job: what it changes and the job's end happen together or not at all, and only
    /// while the attempt's lease is live. The handler returns `Ok(())` after it; a result of its own would come too late.
    /// What it does before it returns is not part of the job: it runs on within its time limit.
    pub fn commit(&self) -> CommitBuilder {
        let outcome = Outcome::Complete { result: None };
        let end = Settle { id: self.id(), lease: self.lease(), outcome, repeat_is_ok: false };
        self.store().commit().ending(&self.inner.own_end, Op::Settle(end))
    }

    /// Tells how far the work is; seen by whoever reads the job. Renews the lease.
    ///
    /// # Errors
    /// The lease is lost, or the store's trouble.
    pub async fn progress(&self, progress: &impl Serialize) -> Result<(), StoreError> {
        let progress = serde_json::to_string(progress)
            .map_err(|error| StoreError::invalid("progress", error.to_string()))?;
        let Grant { id, lease, .. } = self.inner.grant;
        self.inner.running.extends((id, lease));
        let op = Op::Extend { id, lease, extend_ms: ms(self.inner.lease), progress: Some(progress.into()) };
        let sent = Instant::now();
        let Reply::Extended { .. } = self.inner.client.apply(op).await? else { return Ok(()) };
        self.inner.running.renewed((id, lease), end_of_lease(sent, self.inner.lease));
        Ok(())
    }

    /// Whether the handler should stop: the job was cancelled, its lease is lost, or the process is on its way out.
    pub fn is_cancelled(&self) -> bool {
        *self.inner.stop.borrow() != Told::GoOn
    }

    /// Resolves when the handler should stop. If its job was cancelled, it is cut at its next await point after the
    /// workers' [`grace`](crate::Workers::grace). Cancel safe.
    pub async fn cancelled(&self) {
        let mut stop = self.inner.stop.clone();
        if stop.wait_for(|told| *told != Told::GoOn).await.is_err() {
            // Nobody can tell any more: the pool is gone, and with it this job's owner.
            std::future::pending::<()>().await;
        }
    }
}

impl<S> Deref for JobContext<S> {
    type Target = S;
    fn deref(&self) -> &S {
        &self.state
    }
}
