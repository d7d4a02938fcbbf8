//! Queues, unfinished jobs and access tokens, as they are now.

use super::{
    Engine, QueueId,
    change::{Extras, LiveJob, LiveLease, PolicyId},
};
use crate::{
    access::AccessToken,
    id::JobId,
    job::JobPolicy,
    name::QueueName,
    queue::QueueRecord,
    time::{Now, Timestamp},
};

/// A place in the order in which a queue hands out its jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub(super) priority: u8,
    pub(super) run_at: Timestamp,
    pub(super) id: JobId,
}

impl Engine {
    /// One queue as it is now.
    pub fn queue(&mut self, name: &str, now: Now) -> Option<QueueRecord> {
        self.set_now(now);
        let id = *self.queue_names.get(name)?;
        self.advance(id);
        let totals = Some(self.tally.of(id));
        Some(QueueRecord { totals, ..self.queue_ref(id).record(self.now.wall) })
    }

    /// Up to `limit` queues after `after`, by name.
    pub fn queues(&mut self, after: Option<&str>, limit: usize, now: Now) -> Vec<QueueRecord> {
        let mut names: Vec<QueueName> = self
            .queue_names
            .keys()
            .filter(|name| after.is_none_or(|after| name.as_str() > after))
            .cloned()
            .collect();
        names.sort_unstable();
        names.truncate(limit);
        names.iter().filter_map(|name| self.queue(name.as_str(), now)).collect()
    }

    /// An unfinished job with what is kept beside it.
    pub fn job(&self, id: JobId) -> Option<(LiveJob, Extras, Option<LiveLease>)> {
        let job = *self.jobs.get(id)?;
        let extras = self.extras.get(&id).cloned().unwrap_or_default();
        Some((job, extras, self.leases.get(&id).and_then(|leases| leases.live.clone())))
    }

    /// The bodies that claims of a queue will ask for next, in that order, as far as it is known: each with its job's
    /// turn, its number and its bytes. With a turn, those behind it. Jobs with keys are left out, and ageing is not
    /// looked at.
    pub fn next_bodies(&self, queue: QueueId, after: Option<Turn>) -> impl Iterator<Item = (Turn, u64, u32)> {
        let queue = self.queues.get(queue);
        let turns = queue.into_iter().flat_map(move |queue| queue.next_plain(after));
        turns.filter_map(|turn| self.jobs.get(turn.id).map(|job| (turn, job.n, job.size)))
    }

    /// How many jobs this one still waits for.
    pub fn waiting_for(&self, id: JobId) -> u32 {
        self.edges.waiting_for(id)
    }

    /// All unfinished jobs, in no order.
    pub fn jobs(&self) -> impl Iterator<Item = &LiveJob> {
        self.jobs.iter()
    }

    /// How many jobs are unfinished.
    pub fn unfinished(&self) -> usize {
        self.jobs.len()
    }

    /// The name of a queue that was not deleted.
    pub fn queue_name(&self, id: QueueId) -> Option<&QueueName> {
        self.queues.get(id).filter(|queue| !queue.dropped).map(|queue| &queue.name)
    }

    /// The number of a queue that was not deleted.
    pub fn queue_id(&self, name: &str) -> Option<QueueId> {
        self.queue_names.get(name).copied()
    }

    /// The content of a policy.
    pub fn policy(&self, id: PolicyId) -> JobPolicy {
        self.policies.get(id)
    }

    /// The access token with this name.
    pub fn access_token(&self, name: &str) -> Option<&AccessToken> {
        self.access.get(name)
    }

    /// All access tokens by name.
    pub fn access_tokens(&self) -> impl Iterator<Item = &AccessToken> {
        self.access.values()
    }
}
