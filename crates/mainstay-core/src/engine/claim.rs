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

/// A claim that is being answered.
struct Hand<'c> {
    claim: &'c Claim,
    entropy: u64,
    grants: Vec<Grant>,
    bytes: u64,
    /// Jobs met that had expired.
    expired: u32,
}

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
        self.saw_claim(claim.worker.as_ref(), &claim.queues);
        let mut hand = Hand { claim, entropy, grants: Vec::new(), bytes: 0, expired: 0 };
        for name in &claim.queues {
            let Some(&queue) = self.queue_names.get(name) else { continue };
            if self.queue_ref(queue).paused {
                continue;
            }
            self.advance(queue);
            let before = hand.grants.len();
            let goes_on = self.claim_from(queue, &mut hand, archive);
            // Also after trouble: what was granted may stand.
            self.note_handed(queue, (hand.grants.len() - before) as u64);
            if !goes_on? {
                break;
            }
        }
        Ok(Reply::Claimed(hand.grants))
    }

    /// Hands out jobs of one queue; `false`: the claim has all it may have.
    fn claim_from(
        &mut self,
        queue: QueueId,
        hand: &mut Hand<'_>,
        archive: &mut dyn Archive,
    ) -> Result<bool, Refusal> {
        let (mut room, _) = self.queue_ref(queue).room(self.now.store);
        while room > 0 {
            if (hand.grants.len() as u64) >= u64::from(hand.claim.max) {
                return Ok(false);
            }
            let Some(id) = self.queue_ref(queue).first_due() else { break };
            let Some(job) = self.jobs.get(id).copied() else { break };
            if self.has_expired(&job) {
                self.finish(id, JobState::Dead, Some(DeadReason::Expired), None, archive)?;
                hand.expired += 1;
                if hand.expired == EXPIRED_PER_CLAIM {
                    return Ok(false);
                }
                continue;
            }
            hand.bytes += u64::from(job.size);
            if hand.bytes > hand.claim.max_bytes && !hand.grants.is_empty() {
                return Ok(false);
            }
            let grant = self.grant(queue, job, hand.claim, hand.entropy);
            hand.grants.push(grant);
            room -= 1;
        }
        Ok(true)
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
        self.pass_turn(queue, &job);
        self.set_leases(job.id, Some(leases));
        self.set_job(job.id, Some(job));
        self.settle_turns(queue);
        self.changes.push(Change::JobUpdated { job, lease: Some(lease), settled });
        grant
    }
}
