//! Calls that may wait: claims, and results of jobs.

use std::{future::Future, pin::pin, time::Duration};

use futures_util::future::{Either, select};
use mainstay_core::{
    id::JobId,
    job::{Grant, JobRecord},
    op::{Claim, Commit, IdempotencyKey, Op, Reply},
    store::{Interest, Wake},
    time::StoreTime,
};

use super::{Client, Deadline, Result, unexpected};

impl Client {
    /// Takes jobs, waiting up to `wait` for the first; empty when none came or when `stop` resolved first.
    ///
    /// Only the waiting is cut short by `stop`, never a claim under way, so no grant is lost by it. Dropping the
    /// future is safe too: the store takes back what it could not hand over.
    ///
    /// # Errors
    /// The store's; [`mainstay_core::ErrorKind::DeadlineExceeded`] when the context's deadline comes before `wait` is
    /// over.
    pub async fn claim(
        &self,
        claim: Claim,
        key: Option<IdempotencyKey>,
        wait: Duration,
        stop: impl Future<Output = ()>,
    ) -> Result<Vec<Grant>> {
        let interests: Vec<_> = claim.queues.iter().cloned().map(Interest::Queue).collect();
        let deadline = self.deadline(wait);
        let mut stop = pin!(stop);
        // Held until the claim it woke has been answered: then it is passed on.
        let mut _woken: Option<Wake> = None;
        loop {
            let op = Op::Claim(claim.clone());
            let commit = Commit { key, ..Commit::of(op, self.entropy()) };
            let committed = self.submit_one(commit).await?;
            let grants = match committed.replies.into_iter().next() {
                Some(Reply::Claimed(grants)) => grants,
                other => return Err(unexpected("claim", &other)),
            };
            let left = self.left(deadline);
            // A repeated claim never grants anew, so there is nothing to wait for.
            if !grants.is_empty() || committed.repeated || left.is_zero() {
                return Ok(grants);
            }
            _woken = None;
            let waiting = pin!(self.store().wait(&interests, Deadline::current()?.limit_wait(left)));
            match select(waiting, stop.as_mut()).await {
                Either::Left((wake, _)) => _woken = Some(wake?),
                Either::Right(_) => return Ok(Vec::new()),
            }
        }
    }

    /// A job once it has finished, or as it is when `wait` is over or `stop` has resolved. `None`: no such job.
    ///
    /// # Errors
    /// The store's; [`mainstay_core::ErrorKind::DeadlineExceeded`] when the context's deadline comes before `wait` is
    /// over.
    pub async fn finished(
        &self,
        id: JobId,
        wait: Duration,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<JobRecord>> {
        let deadline = self.deadline(wait);
        let mut stop = pin!(stop);
        loop {
            let job = self.job(id).await?;
            let left = self.left(deadline);
            if job.as_ref().is_none_or(|job| job.state.is_finished()) || left.is_zero() {
                return Ok(job);
            }
            let interests = [Interest::Finished(id)];
            let waiting = pin!(self.store().wait(&interests, Deadline::current()?.limit_wait(left)));
            match select(waiting, stop.as_mut()).await {
                Either::Left((wake, _)) => drop(wake?),
                Either::Right(_) => return Ok(job),
            }
        }
    }

    /// Waits until looking again may be worth it, `at_most` this long.
    pub(crate) async fn wait_for(&self, on: &[Interest], at_most: Duration) -> Result<Wake> {
        Ok(self.store().wait(on, Deadline::current()?.limit_wait(at_most)).await?)
    }

    pub(super) fn deadline(&self, wait: Duration) -> StoreTime {
        self.now().store.plus_ms(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn left(&self, deadline: StoreTime) -> Duration {
        Duration::from_millis(deadline.0.saturating_sub(self.now().store.0))
    }
}
