//! Claims end or are prolonged.

use super::{
    DEFAULT_MAX_CRASHES, Engine, Leases, Refusal,
    change::{Archive, Change, LiveJob, Phase, SettledLease},
};
use crate::{
    error::Error,
    id::JobId,
    job::{FailureRecord, JobState, Json, Outcome},
    lease::LeaseId,
    op::{Reason, Reply, Settle},
    rules::{self, Next, RunningJob},
};

impl Engine {
    pub(super) fn settle(
        &mut self,
        settle: &Settle,
        entropy: u64,
        archive: &mut dyn Archive,
    ) -> Result<Reply, Refusal> {
        let Settle { id, lease, outcome, .. } = settle;
        if self.live_lease(*id, *lease).is_none() {
            return self.repeated_settle(settle, archive);
        }
        let Some(job) = self.jobs.get(*id).copied() else { return Err(Reason::NotFound("job").into()) };
        match outcome {
            Outcome::Complete { result: Some(result) } => {
                self.changes.push(Change::Result { n: job.n, result: result.clone() });
            }
            Outcome::Fail { error, .. } | Outcome::Cancel { error: Some(error) } => {
                let record =
                    FailureRecord { attempt: job.attempt, at: self.now.wall, failure: error.clone() };
                self.changes.push(Change::Failure { n: job.n, record: Box::new(record) });
            }
            _ => {}
        }
        let next = rules::after(&self.running(&job), outcome, self.now.wall, entropy);
        let (state, run_at) = self.arrive(
            job,
            next,
            |state, run_at| Some(SettledLease { id: *lease, verb: outcome.verb(), state, run_at }),
            archive,
        )?;
        Ok(Reply::Settled { id: *id, state, run_at })
    }

    /// A settle whose lease is not live: the repeat of the last one, or too late.
    fn repeated_settle(&mut self, settle: &Settle, archive: &mut dyn Archive) -> Result<Reply, Refusal> {
        let last = self.last_settled(settle.id, archive)?.ok_or(Reason::NotFound("job"))?;
        match last {
            Some(last) if last.id == settle.lease && !settle.repeat_is_ok => {
                Err(Reason::AlreadySettled.into())
            }
            Some(last) if last.id == settle.lease && last.verb == settle.outcome.verb() => {
                Ok(Reply::Settled { id: settle.id, state: last.state, run_at: last.run_at })
            }
            _ => Err(Reason::LeaseLost.into()),
        }
    }

    /// The last settled lease of a job; `None` if there is no such job.
    fn last_settled(
        &mut self,
        id: JobId,
        archive: &mut dyn Archive,
    ) -> Result<Option<Option<SettledLease>>, Refusal> {
        if self.jobs.get(id).is_some() {
            return Ok(Some(self.leases.get(&id).and_then(|leases| leases.settled)));
        }
        Ok(self.find_finished(id, archive)?.map(|finished| finished.settled))
    }

    pub(super) fn extend(
        &mut self,
        id: JobId,
        lease: LeaseId,
        extend_ms: u64,
        progress: Option<&Json>,
        archive: &mut dyn Archive,
    ) -> Result<Reply, Refusal> {
        let Some(live) = self.live_lease(id, lease) else {
            self.last_settled(id, archive)?.ok_or(Reason::NotFound("job"))?;
            return Err(Reason::LeaseLost.into());
        };
        let mut live = live.clone();
        let Some(job) = self.jobs.get(id).copied() else { return Err(Reason::NotFound("job").into()) };
        let mut until = self.now.store.plus_ms(extend_ms);
        if let Some(timeout_ms) = self.policies.get(job.policy).timeout_ms {
            until = until.min(live.claimed_at.plus_ms(timeout_ms));
            // The attempt has had its time. How it ended can still be said under what is left of the lease.
            if until <= self.now.store {
                return Err(Reason::TimeIsUp { timeout_ms }.into());
            }
        }
        live.until = until;
        live.ms = until.0.saturating_sub(self.now.store.0);
        self.saw_again(live.worker.as_ref());
        let settled = self.leases.get(&id).and_then(|leases| leases.settled);
        self.set_leases(id, Some(Leases { live: Some(live.clone()), settled }));
        self.changes.push(Change::JobUpdated { job, lease: Some(live), settled });
        if let Some(progress) = progress {
            self.changes.push(Change::Progress { n: job.n, progress: progress.clone() });
        }
        let expires_at = self.now.wall_at(until);
        Ok(Reply::Extended { id, expires_at, cancel_requested: job.cancel_requested })
    }

    /// The lease of a running job has run out.
    pub(super) fn crash(&mut self, id: JobId, archive: &mut dyn Archive) -> Result<(), Error> {
        let Some(job) = self.jobs.get(id).copied() else { return Ok(()) };
        let settled = self.leases.get(&id).and_then(|leases| leases.settled);
        let next = rules::after_crash(&self.running(&job));
        self.arrive(job, next, |_, _| settled, archive)?;
        Ok(())
    }

    fn running(&self, job: &LiveJob) -> RunningJob {
        let policy = self.policies.get(job.policy);
        let of_queue = self.queue_ref(job.queue).config.max_crashes;
        RunningJob {
            attempt: job.attempt,
            crashes: job.crashes,
            run_at: job.run_at,
            cancel_requested: job.cancel_requested,
            policy,
            max_crashes: policy.max_crashes.or(of_queue).unwrap_or(DEFAULT_MAX_CRASHES),
        }
    }

    /// A running job arrives where the rules send it; its live lease is over.
    fn arrive(
        &mut self,
        mut job: LiveJob,
        next: Next,
        settled: impl FnOnce(JobState, Option<crate::time::Timestamp>) -> Option<SettledLease>,
        archive: &mut dyn Archive,
    ) -> Result<(JobState, Option<crate::time::Timestamp>), Error> {
        let (state, reason) = match next {
            Next::Waits { run_at, attempt, crashes, retrying } => {
                job = LiveJob { phase: Phase::Waiting, run_at, attempt, crashes, retrying, ..job };
                // A failure is to be tried again, also where its wait is over as it begins.
                let state = if retrying { JobState::Retryable } else { job.state(self.now.wall) };
                let settled = settled(state, Some(run_at));
                self.set_leases(job.id, settled.map(|settled| Leases { live: None, settled: Some(settled) }));
                self.set_job(job.id, Some(job));
                self.changes.push(Change::JobUpdated { job, lease: None, settled });
                return Ok((state, Some(run_at)));
            }
            Next::Completed => (JobState::Completed, None),
            Next::Cancelled { crashes } => {
                job.crashes = crashes;
                (JobState::Cancelled, None)
            }
            Next::Dead { reason, crashes } => {
                job.crashes = crashes;
                (JobState::Dead, Some(reason))
            }
        };
        let settled = settled(state, None);
        self.finish_as(job, state, reason, settled, archive)?;
        Ok((state, None))
    }
}
