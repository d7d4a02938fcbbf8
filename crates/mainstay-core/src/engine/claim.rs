//! Jobs are handed out.

use super::{
    Engine, Refusal,
    change::{Archive, Change, LiveJob, LiveLease, Phase, QueueId},
};
use crate::{
    id::JobId,
    job::{DeadReason, Grant, JobState},
    lease::{LeaseId, Token},
    op::{Claim, Reason, Reply},
    rules,
};

/// A claim turns at most this many expired jobs into dead letters before it answers with what it has.
const EXPIRED_PER_CLAIM: u32 = 1_000;

impl Engine {
    pub(super) fn claim(
        &mut self,
        claim: &Claim,
        entropy: u64,
        archive: &mut dyn Archive,
    ) -> Result<Reply, Refusal> {
        if claim.max == 0 || claim.lease_ms == 0 {
            let field = if claim.max == 0 { "max" } else { "lease_ms" };
            return Err(Reason::Invalid { field, detail: "is at least 1".into() }.into());
        }
        let mut grants = Vec::new();
        let mut bytes = 0;
        let mut expired = 0;
        'queues: for name in &claim.queues {
            let Some(&queue) = self.queue_names.get(name) else { continue };
            if self.queue_ref(queue).paused {
                continue;
            }
            self.advance(queue);
            while let Some(id) = self.queue_ref(queue).first_due() {
                if (grants.len() as u64) >= u64::from(claim.max) {
                    break 'queues;
                }
                let Some(job) = self.jobs.get(id).copied() else { break };
                if self.has_expired(&job) {
                    self.finish(id, JobState::Dead, Some(DeadReason::Expired), None, archive)?;
                    expired += 1;
                    if expired == EXPIRED_PER_CLAIM {
                        break 'queues;
                    }
                    continue;
                }
                bytes += u64::from(job.size);
                if bytes > claim.max_bytes && !grants.is_empty() {
                    break 'queues;
                }
                grants.push(self.grant(queue, job, claim, entropy));
            }
        }
        Ok(Reply::Claimed(grants))
    }

    fn has_expired(&self, job: &LiveJob) -> bool {
        let expires_at = |id: &JobId| self.extras.get(id).and_then(|extras| extras.expires_at);
        job.has_extras && expires_at(&job.id).is_some_and(|at| at <= self.now.wall)
    }

    fn grant(&mut self, queue: QueueId, mut job: LiveJob, claim: &Claim, entropy: u64) -> Grant {
        self.counters.token += 1;
        let token = Token(self.counters.token);
        let lease = LiveLease {
            id: LeaseId { token, nonce: rules::mix(entropy, token.0) },
            until: self.now.store.plus_ms(claim.lease_ms),
            ms: claim.lease_ms,
            claimed_at: self.now.store,
            worker: claim.worker.clone(),
        };
        job.phase = Phase::Running;
        job.attempt += 1;
        job.retrying = false;
        let mut leases = self.leases.get(&job.id).cloned().unwrap_or_default();
        leases.live = Some(lease.clone());
        let settled = leases.settled;
        let grant = Grant {
            id: job.id,
            n: job.n,
            queue: self.queue_ref(queue).name.clone(),
            priority: job.priority,
            attempt: job.attempt,
            crashes: job.crashes,
            policy: self.policies.get(job.policy),
            created_at: job.created_at,
            lease: lease.id,
            expires_at: self.now.wall_at(lease.until),
            body: None,
        };
        self.set_leases(job.id, Some(leases));
        self.set_job(job.id, Some(job));
        self.changes.push(Change::JobUpdated { job, lease: Some(lease), settled });
        grant
    }
}
