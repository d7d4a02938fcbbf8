//! The engine: a deterministic state machine over the [`rules`]. It *is* the memory store, the heart of
//! the embedded store, and the executable specification of every other.
//!
//! It is given time, ids and entropy with each commit, and hands out what changed as plain data
//! ([`change::Change`]) for a journal to write. Unfinished jobs are in RAM, without their bodies; finished ones are
//! asked of the [`change::Archive`] when a call names them.
//!
//! A host (a store) uses it in groups:
//!
//! 1. [`Engine::tick`] and, when [`Engine::maintenance_is_due`], [`Engine::maintain`];
//! 2. [`Engine::apply`] for each commit, writing [`Engine::take_changes`] after each;
//! 3. [`Engine::commit_group`] once the group is durable, or [`Engine::rollback_group`] if it could not be written;
//! 4. [`Engine::take_dirty`] to wake who waits.

pub mod change;

mod admin;
mod after;
mod claim;
mod drain;
mod enqueue;
mod events;
mod finished;
mod jobs;
mod keyed;
mod limits;
mod load;
pub mod locks;
mod look;
#[cfg(test)]
mod look_tests;
mod maintain;
#[cfg(test)]
mod nothing;
mod policies;
mod queues;
mod schedules;
mod settle;
mod slots;
mod totals;
mod undo;
#[cfg(test)]
mod untidy_tests;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hashbrown::{HashMap, HashSet};

use after::Edges;
use change::{Archive, Change, Counters, Extras, FinishedKey, LiveJob, LiveLease, QueueId, SettledLease};
use events::Events;
use jobs::Jobs;
use keyed::Keyed;
use locks::Locks;
use policies::Policies;
use queues::{Hold, Queue};
use schedules::Schedules;
use slots::Slots;
use totals::Tally;
use undo::Undo;
use workers::{Workers, worker_of};

use crate::{
    access::AccessToken,
    after::MAX_AFTER_OF_COMMIT,
    error::Error,
    id::JobId,
    lease::LeaseId,
    name::{Name, QueueName},
    op::{Commit, Committed, MAX_NOTE_BYTES, Op, Place, Reason, Rejection, Reply, Require},
    queue::QueueConfig,
    rules,
    time::{Now, StoreTime, Timestamp},
};

pub use keyed::{KEPT_ANSWERS, KEPT_MS, KEPT_REPLIES};
pub use look::Turn;
pub use maintain::TRIM_FROM;

/// A crash count that neither the job nor its queue says.
pub const DEFAULT_MAX_CRASHES: u32 = 3;

/// The most ops of a commit: what [`crate::store::Capabilities::max_commit_ops`] says of stores made of the engine.
pub const MAX_COMMIT_OPS: u32 = 10_000;

/// As many jobs of those that wait hear of an end in the commit that brings it about: one commit is never much larger
/// than the largest there may be. Others hear of it from [`Engine::maintain`].
const TOLD_PER_COMMIT: u32 = MAX_COMMIT_OPS;

/// As many jobs, and edges of theirs, make room for the new jobs of one commit: each op may take one away, and as many
/// edges close as may be told.
const ROOM_PER_COMMIT: u32 = MAX_COMMIT_OPS + TOLD_PER_COMMIT;

/// The scheduling state of a store.
#[derive(Default)]
pub struct Engine {
    jobs: Jobs,
    /// So many jobs and edges may still make room in the commit under way.
    room_left: u32,
    leases: HashMap<JobId, Leases>,
    extras: HashMap<JobId, Extras>,
    queues: Slots,
    queue_names: HashMap<QueueName, QueueId>,
    /// Queues that are gone for everybody, whose finished jobs are still being forgotten.
    dropped: Vec<QueueId>,
    policies: Policies,
    keyed: Keyed,
    access: BTreeMap<Name, AccessToken>,
    locks: Locks,
    /// Who waits for whom.
    edges: Edges,
    events: Events,
    schedules: Schedules,
    workers: Workers,
    tally: Tally,
    /// When live leases run out.
    lease_ends: BTreeSet<(StoreTime, JobId)>,
    /// When jobs that wait expire.
    expiries: BTreeSet<(Timestamp, JobId)>,
    /// When unique keys that are held for a time come free.
    unique_ends: BTreeSet<(Timestamp, QueueId, Arc<str>)>,
    /// When the next job of a queue becomes due.
    due_timers: BTreeSet<(Timestamp, QueueId)>,
    /// When the rate of a queue lets more through.
    openings: BTreeSet<(StoreTime, QueueId)>,
    /// Where retention looks next.
    trim_next: u32,
    /// Finished jobs above their queue's count since retention last looked.
    over_retention: u64,
    counters: Counters,
    /// No finished job has an id above this.
    finished_up_to: Option<JobId>,
    /// Places in [`change::Lane::Own`] that were given since changes were last handed out: the archive does not know
    /// them yet.
    own_places: HashSet<FinishedKey>,
    now: Now,
    changes: Vec<Change>,
    /// Some of `changes` are about finished jobs.
    finished_changed: bool,
    undo: Vec<Undo>,
    dirty: Vec<QueueId>,
}

/// The leases of a job that was ever claimed.
#[derive(Clone, Debug, Default)]
struct Leases {
    live: Option<LiveLease>,
    settled: Option<SettledLease>,
}

/// Why an op did not happen: an answer, or trouble with the archive.
enum Refusal {
    Reason(Reason),
    Error(Error),
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Refusal::Reason(reason)
    }
}
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Error(error)
    }
}

impl Engine {
    /// An engine without any jobs.
    pub fn new() -> Engine {
        Engine::default()
    }

    /// Applies one commit at `now`. A rejected commit has left no trace but counters that moved on.
    ///
    /// # Errors
    /// The archive's; the commit has then left no trace either.
    pub fn apply(
        &mut self,
        commit: &Commit,
        now: Now,
        archive: &mut dyn Archive,
    ) -> Result<Result<Committed, Rejection>, Error> {
        self.set_now(now);
        if let Some(key) = &commit.key
            && let Some(answer) = self.repeat(key)
        {
            return Ok(answer);
        }
        if commit.ops.len() > MAX_COMMIT_OPS as usize {
            let detail = format!("a commit has at most {MAX_COMMIT_OPS}");
            return Ok(Err(Rejection {
                at: Place::Commit,
                reason: Reason::Invalid { field: "ops", detail },
            }));
        }
        let mark = (self.undo.len(), self.changes.len());
        let reject = |engine: &mut Engine, rejection| {
            engine.undo_to(mark.0);
            engine.changes.truncate(mark.1);
            engine.edges.forget_fresh();
            Ok(Err(rejection))
        };
        self.edges.share = TOLD_PER_COMMIT;
        self.room_left = ROOM_PER_COMMIT;
        let mut after = 0;
        for (i, require) in commit.require.iter().enumerate() {
            if let Err(reason) = self.require(require) {
                return reject(self, Rejection { at: Place::Require(i), reason });
            }
        }
        let mut replies = Vec::with_capacity(commit.ops.len());
        for (i, op) in commit.ops.iter().enumerate() {
            let entropy = rules::mix(commit.entropy, i as u64);
            if let Op::Enqueue(job) = op {
                after += job.after.len();
                if after > MAX_AFTER_OF_COMMIT {
                    let reason = too_much_after();
                    return reject(self, Rejection { at: Place::Op(i), reason });
                }
            }
            let mut reply = self.op(op, &replies, entropy, archive);
            if let Err(Refusal::Reason(Reason::After(wrong))) = &mut reply
                && let Err(error) = self.look_up_the_rest(&commit.ops, wrong, archive)
            {
                reply = Err(error);
            }
            // What waits for a job that ended here goes with it.
            match reply.and_then(|reply| self.tell_fresh(archive).map(|()| reply).map_err(Refusal::Error)) {
                Ok(reply) => replies.push(reply),
                Err(Refusal::Reason(reason)) => {
                    let reason = self.with_time(reason, &commit.ops[i..]);
                    return reject(self, Rejection { at: Place::Op(i), reason });
                }
                Err(Refusal::Error(error)) => {
                    self.undo_to(mark.0);
                    self.changes.truncate(mark.1);
                    self.edges.forget_fresh();
                    return Err(error);
                }
            }
        }
        self.keep_answer(commit, &replies);
        Ok(Ok(Committed { replies, repeated: false }))
    }

    fn op(
        &mut self,
        op: &Op,
        before: &[Reply],
        entropy: u64,
        archive: &mut dyn Archive,
    ) -> Result<Reply, Refusal> {
        match op {
            Op::Enqueue(job) => self.enqueue(job, before, archive),
            Op::Claim(claim) => self.claim(claim, entropy, archive),
            Op::Settle(settle) => self.settle(settle, entropy, archive),
            Op::Extend { id, lease, extend_ms, progress } => {
                self.extend(*id, *lease, *extend_ms, progress.as_ref(), archive)
            }
            Op::Cancel { id } => self.cancel(*id, archive),
            Op::Retry { id } => self.retry(*id, archive),
            Op::Delete { id } => self.delete(*id, archive),
            Op::RequeueDead { queue, ids } => self.requeue_dead(queue, ids, archive),
            Op::DeleteDead { queue, ids } => self.delete_dead(queue, ids, archive),
            Op::Purge { queue, limit } => Ok(self.purge(queue, *limit)?),
            Op::PutQueue { queue, config } => Ok(self.put_queue(queue, config)?),
            Op::SetPaused { queue, paused } => Ok(self.set_paused(queue, *paused)?),
            Op::DeleteQueue { queue } => Ok(self.delete_queue(queue)?),
            Op::PutAccessToken(token) => Ok(self.put_access_token(token)?),
            Op::RevokeAccessToken { name } => Ok(self.revoke_access_token(name)?),
            Op::Audit(record) => Ok(self.audit(record)),
            Op::Note(text) if text.len() > MAX_NOTE_BYTES => {
                let detail = format!("has at most {MAX_NOTE_BYTES} bytes");
                Err(Reason::Invalid { field: "note", detail }.into())
            }
            Op::Note(text) => Ok(Reply::Note(text.clone())),
            Op::Lock(op) => Ok(Reply::Lock(self.lock_op(op, entropy)?)),
            Op::Event(op) => self.event(op, entropy, archive),
            Op::Schedule(op) => self.schedule_op(op, archive),
        }
    }

    fn require(&self, require: &Require) -> Result<(), Reason> {
        match require {
            Require::Job { id, lease } if self.live_lease(*id, *lease).is_some() => Ok(()),
            Require::Job { .. } => Err(Reason::LeaseLost),
            Require::Lock { name, token } if self.holds_lock(name, *token) => Ok(()),
            Require::Lock { .. } => Err(Reason::LockLost),
            // A repeat was answered before anything was required.
            Require::Repeat => Err(Reason::NotFound("first answer")),
        }
    }

    /// What changed since the last call, in order, appended to `into`.
    pub fn take_changes(&mut self, into: &mut Vec<Change>) {
        self.tally_changes();
        into.append(&mut self.changes);
        self.own_places.clear();
        self.finished_changed = false;
    }

    /// The group is durable: nothing of it will be undone.
    pub fn commit_group(&mut self) {
        self.undo.clear();
        self.changes.clear();
        self.tally.commit(self.now.store);
        self.queues.commit(|id| self.tally.forget(id));
    }

    /// The group could not be written: the state is as it was after the last [`Engine::commit_group`].
    pub fn rollback_group(&mut self) {
        self.undo_to(0);
        self.changes.clear();
        self.tally.roll_back();
    }

    /// The counters to keep with the group.
    pub fn counters(&self) -> Counters {
        Counters { clock: self.now.store, ..self.counters }
    }

    /// Queues whose number of claimable jobs may have changed, with that number. Call after each group.
    pub fn take_dirty(&mut self, mut tell: impl FnMut(&QueueName, u64)) {
        for id in std::mem::take(&mut self.dirty) {
            if let Some(queue) = self.queues.get_mut(id) {
                queue.dirty = false;
                if !queue.dropped {
                    let (claimable, opens) = queue.claimable(self.now.store);
                    if let Some(at) = queue.opens {
                        self.openings.remove(&(at, id));
                    }
                    queue.opens = opens;
                    self.openings.extend(opens.map(|at| (at, id)));
                    tell(&queue.name, claimable);
                }
            }
        }
    }

    /// Lets time pass: counts what has become due. Touches nothing that is stored.
    pub fn tick(&mut self, now: Now) {
        self.set_now(now);
        while let Some((at, id)) = self.due_timers.first().copied().filter(|(at, _)| *at <= self.now.wall) {
            self.due_timers.remove(&(at, id));
            if let Some(queue) = self.queues.get_mut(id) {
                queue.armed = None;
                self.advance(id);
                self.arm(id);
            }
        }
        self.tick_events();
        self.open_rates();
    }

    /// When [`Engine::tick`] will next find something due, on the wall clock.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due_timers.first().map(|(at, _)| *at)
    }

    /// When the next lease of a job or delivery, grant of a lock or waiter's time runs out, or something else of
    /// [`Engine::maintain`] is due on the store's clock.
    pub fn next_lease_end(&self) -> Option<StoreTime> {
        let of_jobs = self.lease_ends.first().map(|(at, _)| *at);
        [of_jobs, self.locks.next_end(), self.next_event_time()].into_iter().flatten().min()
    }

    /// When the next waiting job expires, on the wall clock.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.expiries.first().map(|(at, _)| *at)
    }
}

fn too_much_after() -> Reason {
    let detail = format!("the jobs of one commit wait for at most {MAX_AFTER_OF_COMMIT} in all");
    Reason::Invalid { field: "after", detail }
}

// The few places that touch state, its indexes and the undo journal together.
impl Engine {
    fn set_now(&mut self, now: Now) {
        // The store's clock never goes back; the wall clock is whatever people set it to.
        if now.wall < self.now.wall {
            for at in 0..self.queues.end() {
                self.retreat(QueueId(at), now.wall);
            }
        }
        self.now = Now { wall: now.wall, store: self.now.store.max(now.store) };
    }

    fn queue_ref(&self, id: QueueId) -> &Queue {
        self.queues.get(id).expect("a queue outlives what refers to it")
    }

    fn queue_mut(&mut self, id: QueueId) -> &mut Queue {
        self.queues.get_mut(id).expect("a queue outlives what refers to it")
    }

    fn advance(&mut self, id: QueueId) {
        let (wall, jobs) = (self.now.wall, &self.jobs);
        let queue = self.queues.get_mut(id).expect("a queue outlives what refers to it");
        let was_dirty = queue.dirty;
        queue.advance(wall, |job| jobs.get(job).is_some_and(|job| job.retrying));
        if queue.dirty && !was_dirty {
            self.dirty.push(id);
        }
    }

    fn retreat(&mut self, id: QueueId, wall: Timestamp) {
        let jobs = &self.jobs;
        let Some(queue) = self.queues.get_mut(id) else { return };
        let was_dirty = queue.dirty;
        queue.retreat(wall, |job| jobs.get(job).is_some_and(|job| job.retrying));
        if queue.dirty && !was_dirty {
            self.dirty.push(id);
        }
        self.arm(id);
    }

    /// Sets the timer for the next job of the queue to become due.
    fn arm(&mut self, id: QueueId) {
        let queue = self.queue_mut(id);
        let next = queue.next_due();
        if queue.armed != next {
            let old = std::mem::replace(&mut queue.armed, next);
            if let Some(at) = old {
                self.due_timers.remove(&(at, id));
            }
            if let Some(at) = next {
                self.due_timers.insert((at, id));
            }
        }
    }

    /// Puts or removes an unfinished job, with every index of it. The caller keeps the before-image.
    fn swap_job(&mut self, id: JobId, new: Option<LiveJob>) -> Option<LiveJob> {
        let old = self.jobs.set(id, new);
        let expiry = |engine: &Engine| engine.extras.get(&id).and_then(|extras| extras.expires_at);
        for (job, comes) in [(old.as_ref(), false), (new.as_ref(), true)] {
            let Some(job) = job else { continue };
            let queue = self.queues.get_mut(job.queue).expect("a queue outlives its jobs");
            let was_dirty = queue.dirty;
            let extras = if job.has_extras { self.extras.get(&id) } else { None };
            let keys = extras.and_then(|extras| extras.keys.as_ref());
            if comes {
                queue.index(job, keys)
            } else {
                queue.unindex(job, keys)
            }
            if queue.dirty && !was_dirty {
                self.dirty.push(job.queue);
            }
            if comes && job.phase == change::Phase::Waiting && !queue.is_due(job) {
                let armed = queue.armed;
                if armed.is_none_or(|at| job.run_at < at) {
                    queue.armed = Some(job.run_at);
                    if let Some(at) = armed {
                        self.due_timers.remove(&(at, job.queue));
                    }
                    self.due_timers.insert((job.run_at, job.queue));
                }
            }
            if job.has_extras
                && let Some(at) = expiry(self)
            {
                // A running job does not expire; what its attempt reports decides.
                if comes && job.phase != change::Phase::Running {
                    self.expiries.insert((at, id));
                } else {
                    self.expiries.remove(&(at, id));
                }
            }
        }
        old
    }

    fn set_job(&mut self, id: JobId, new: Option<LiveJob>) {
        let old = self.swap_job(id, new);
        self.undo.push(Undo::Job(id, old));
    }

    fn swap_leases(&mut self, id: JobId, new: Option<Leases>) -> Option<Leases> {
        let end = |leases: &Option<Leases>| leases.as_ref()?.live.as_ref().map(|live| live.until);
        let new_end = end(&new);
        let is = worker_of(&new).cloned();
        let old = match new {
            Some(leases) => self.leases.insert(id, leases),
            None => self.leases.remove(&id),
        };
        let old_end = end(&old);
        if worker_of(&old) != is.as_ref() {
            self.count_worker(worker_of(&old).cloned(), is);
        }
        if old_end != new_end {
            if let Some(at) = old_end {
                self.lease_ends.remove(&(at, id));
            }
            if let Some(at) = new_end {
                self.lease_ends.insert((at, id));
            }
        }
        old
    }

    fn set_leases(&mut self, id: JobId, new: Option<Leases>) {
        let old = self.swap_leases(id, new);
        self.undo.push(Undo::Leases(id, old));
    }

    /// Replaces the extras of a job that is not in `jobs` at that moment (its expiry is indexed with the job).
    fn swap_extras(&mut self, id: JobId, new: Option<Extras>) -> Option<Extras> {
        match new {
            Some(extras) => self.extras.insert(id, extras),
            None => self.extras.remove(&id),
        }
    }

    fn set_extras(&mut self, id: JobId, new: Option<Extras>) {
        let old = self.swap_extras(id, new);
        self.undo.push(Undo::Extras(id, old));
    }

    fn swap_unique(&mut self, queue: QueueId, key: Arc<str>, new: Option<Hold>) -> Option<Hold> {
        let uniques = &mut self.queue_mut(queue).uniques;
        let old = match new {
            Some(hold) => uniques.insert(key.clone(), hold),
            None => uniques.remove(&key),
        };
        if let Some(at) = old.and_then(|hold| hold.until) {
            self.unique_ends.remove(&(at, queue, key.clone()));
        }
        if let Some(at) = new.and_then(|hold| hold.until) {
            self.unique_ends.insert((at, queue, key));
        }
        old
    }

    fn set_unique(&mut self, queue: QueueId, key: &Arc<str>, new: Option<Hold>) {
        let old = self.swap_unique(queue, key.clone(), new);
        self.undo.push(Undo::Unique(queue, key.clone(), old));
        let key = key.clone();
        self.changes.push(match new {
            Some(hold) => Change::Unique { queue, key, id: hold.id, until: hold.until },
            None => Change::UniqueRemoved { queue, key },
        });
    }

    fn count_lane(&mut self, queue: QueueId, lane: change::Lane, by: i64) {
        let count = &mut self.queue_mut(queue).lanes[lane as usize];
        *count = count.wrapping_add_signed(by);
        self.undo.push(Undo::Lane(queue, lane, by));
    }

    /// The queue with this name, created if need be.
    fn queue_or_create(&mut self, name: &QueueName) -> QueueId {
        if let Some(id) = self.queue_names.get(name) {
            return *id;
        }
        let (id, own_up_to) = self.queues.vacant();
        let mut queue = Box::new(Queue::new(id, name.clone(), QueueConfig::default()));
        queue.own_up_to = own_up_to;
        self.queues.put(queue);
        self.queue_names.insert(name.clone(), id);
        self.undo.push(Undo::QueueCreated(id));
        self.changed_queue(id);
        id
    }

    /// What a queue that goes waits for does not come.
    fn disarm(&mut self, queue: &mut Queue) {
        if let Some(at) = queue.armed.take() {
            self.due_timers.remove(&(at, queue.id));
        }
        if let Some(at) = queue.opens.take() {
            self.openings.remove(&(at, queue.id));
        }
    }

    fn changed_queue(&mut self, id: QueueId) {
        let Queue { name, config, paused, dropped, .. } = self.queue_ref(id);
        let change = Change::Queue {
            id,
            name: name.clone(),
            config: config.clone(),
            paused: *paused,
            dropped: *dropped,
        };
        self.changes.push(change);
    }

    /// The lease of a running job, if it is this one and has not run out.
    fn live_lease(&self, id: JobId, lease: LeaseId) -> Option<&LiveLease> {
        let live = self.leases.get(&id)?.live.as_ref()?;
        (live.id == lease && live.until > self.now.store).then_some(live)
    }
}
