//! Rebuilding the engine from its tables. Call in this order: counters, policies (with their users), queues, finished counts, limits,
//! jobs, edges and ends, unique keys, kept answers, access tokens, locks, schedules, events (see [`Engine::load_last_seq`]), and
//! [`Engine::finish_load`] at the end.

use std::sync::Arc;

use super::{
    Engine, Leases,
    change::{Change, Counters, Extras, Lane, LiveJob, LiveLease, Phase, PolicyId, QueueId, SettledLease},
    keyed::Answer,
    queues::{Hold, Queue},
};
use crate::{
    access::AccessToken,
    id::JobId,
    job::JobPolicy,
    lease::Token,
    name::QueueName,
    op::{IdempotencyKey, Reply},
    queue::QueueConfig,
    time::{Now, Timestamp},
};

impl Engine {
    /// The counters of the last group.
    pub fn load_counters(&mut self, counters: Counters) {
        self.counters = counters;
        self.now.store = counters.clock;
    }

    /// A policy.
    pub fn load_policy(&mut self, id: PolicyId, policy: JobPolicy) {
        self.policies.load(id, policy);
    }

    /// Whether there are so many policies that those which no job has should go. Then the store counts whose they are.
    pub fn has_many_policies(&self) -> bool {
        self.policies.has_many()
    }

    /// How many finished jobs have each policy, once all policies are loaded. Without it none of these is ever forgotten.
    pub fn load_policy_users(&mut self, finished: impl IntoIterator<Item = (PolicyId, u64)>) {
        self.policies.load_users(finished);
    }

    /// A queue, dropped ones too.
    pub fn load_queue(
        &mut self,
        id: QueueId,
        name: QueueName,
        config: QueueConfig,
        paused: bool,
        dropped: bool,
    ) {
        let mut queue = Box::new(Queue::new(id, name.clone(), config));
        (queue.paused, queue.dropped) = (paused, dropped);
        self.queues.put(queue);
        if dropped {
            self.dropped.push(id);
        } else {
            self.queue_names.insert(name, id);
        }
    }

    /// How many finished jobs a lane of a queue has, and the last place that is taken.
    pub fn load_finished_count(&mut self, queue: QueueId, lane: Lane, count: u64, last: u64) {
        let queue = self.queue_mut(queue);
        queue.lanes[lane as usize] = count;
        if lane == Lane::Own {
            queue.own_up_to = last;
        }
    }

    /// The highest id of a finished job.
    pub fn load_finished_up_to(&mut self, id: JobId) {
        self.finished_up_to = Some(id);
    }

    /// An unfinished job. Its queue and policy are loaded.
    pub fn load_job(
        &mut self,
        job: LiveJob,
        mut extras: Extras,
        lease: Option<LiveLease>,
        settled: Option<SettledLease>,
    ) {
        if job.has_extras {
            extras.keys =
                extras.keys.and_then(|keys| self.shared_keys(job.queue, Arc::unwrap_or_clone(keys)));
            self.extras.insert(job.id, extras);
        }
        if let Some(worker) = lease.as_ref().and_then(|lease| lease.worker.clone())
            && let Some(queue) = self.queue_name(job.queue).cloned()
        {
            self.load_worker(&worker, &queue);
        }
        if lease.is_some() || settled.is_some() {
            self.swap_leases(job.id, Some(Leases { live: lease, settled }));
        }
        self.policies.load_user(job.policy);
        self.swap_job(job.id, Some(job));
    }

    /// Who holds a unique key.
    pub fn load_unique(&mut self, queue: QueueId, key: Arc<str>, id: JobId, until: Option<Timestamp>) {
        self.swap_unique(queue, key, Some(Hold { id, until }));
    }

    /// A kept answer, in the order of `k`.
    pub fn load_keyed(&mut self, k: u64, key: IdempotencyKey, at: Timestamp, replies: Arc<[Reply]>) {
        self.keyed.push(Answer { k, key, at, replies });
    }

    /// An access token.
    pub fn load_access_token(&mut self, token: AccessToken) {
        self.access.insert(token.name.clone(), token);
    }

    /// All is loaded. `now.store` is the clock of the last group: it stood still while no server ran.
    ///
    /// Leases that lived at the last group get their full time again; that is a change to be written before
    /// anything is served. Token numbers go on past whatever an earlier copy can have granted.
    pub fn finish_load(&mut self, now: Now) {
        self.set_now(now);
        self.workers_came_back();
        let first = Token::first_after_open(Token(self.counters.token), now.wall);
        self.counters.token = first.0 - 1;
        let running: Vec<LiveJob> =
            self.jobs.iter().filter(|job| job.phase == Phase::Running).copied().collect();
        for job in running {
            let Some(Leases { live: Some(mut live), settled }) = self.leases.get(&job.id).cloned() else {
                continue;
            };
            if live.until > self.now.store {
                live.until = self.now.store.plus_ms(live.ms);
                self.set_leases(job.id, Some(Leases { live: Some(live.clone()), settled }));
                self.changes.push(Change::JobUpdated { job, lease: Some(live), settled });
            }
        }
        self.queues.finish_load();
        self.policies.finish_load();
        self.finish_load_of_locks();
        self.finish_load_events();
        self.over_retention += 1;
        self.tick(now);
    }
}
