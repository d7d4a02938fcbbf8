//! What a caller was told, and so what a store must know: here its jobs, below its events, locks and schedules.

pub(super) mod events;
pub(super) mod locks;
pub(super) mod schedules;

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::{
    JobId, LeaseId, QueueName, Timestamp, Token,
    after::{After, AfterFailure},
    engine::change::Ending,
    job::{JobRecord, JobState, Json, NewJob, Outcome, Retry},
    lock::LockRecord,
    name::Name,
    op::{Commit, Op, Reply},
    queue::QueueRecord,
    schedule::{ScheduleOp, ScheduleRecord},
};

use events::{Events, ShownEvents};
use locks::Locks;
use schedules::Schedules;

/// A queue that nobody else touches, as its only caller knows it.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) queue: QueueName,
    pub(super) jobs: BTreeMap<JobId, Known>,
    /// The highest token granted to this caller.
    pub(super) last_token: Token,
    /// The last keyed commit that was answered.
    pub(super) keyed: Option<Commit>,
    /// Completed and cancelled ones with the act that ended them; retention may have taken all but the newest.
    finished: Vec<(u64, JobId)>,
    acts: u64,
    now: Timestamp,
    /// The configuration: `max_depth`, and how many finished jobs are kept.
    config: Option<(Option<u64>, u64)>,
    pub(super) audit: BTreeSet<String>,
    pub(super) events: Events,
    pub(super) locks: Locks,
    pub(super) schedules: Schedules,
}

/// A job.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) is: Is,
    pub(super) run_at: Timestamp,
    pub(super) cancel_requested: bool,
    priority: u8,
    attempt: u32,
    crashes: u32,
    /// The attempts that failed. A requeued job starts counting again, and writes over them.
    failures: BTreeSet<u32>,
    result: Option<Json>,
    progress: Option<Json>,
    body_bytes: usize,
    /// What it still waits for.
    waits_for: BTreeSet<JobId>,
    if_dead: AfterFailure,
}

/// What state it is in, as far as the store's clock has no say in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    Waiting,
    /// Waits for others.
    Blocked,
    /// Under this lease; `None`: under one that nobody was told of.
    Running(Option<LeaseId>),
    Completed,
    Cancelled,
    Dead,
}

/// Something that happens to a store at once or not at all.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Commit(Commit),
    /// All leases have run out, and the store notices.
    LoseLeases,
    /// The store was closed in good order and opened again.
    Reopen,
}

/// What a store shows of one queue.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) jobs: BTreeMap<JobId, JobRecord>,
    pub(super) queue: Option<QueueRecord>,
    /// The audit records about the queue.
    pub(super) audit: BTreeSet<String>,
    pub(super) events: ShownEvents,
    /// Those that are held.
    pub(super) locks: BTreeMap<Name, LockRecord>,
    pub(super) schedules: BTreeMap<Name, ScheduleRecord>,
}

/// The defaults of the contract.
const MAX_ATTEMPTS: u32 = 20;
const MAX_CRASHES: u32 = 3;

impl Ledger {
    pub(super) fn new(queue: QueueName) -> Ledger {
        Ledger {
            queue,
            jobs: BTreeMap::new(),
            last_token: Token(0),
            keyed: None,
            finished: vec![],
            acts: 0,
            now: Timestamp(0),
            config: None,
            audit: BTreeSet::new(),
            events: Events::default(),
            locks: Locks::default(),
            schedules: Schedules::default(),
        }
    }

    /// `act` happened, with these replies.
    pub(super) fn heard(&mut self, act: &Act, replies: &[Reply], now: Timestamp) {
        (self.acts, self.now) = (self.acts + 1, now);
        match act {
            Act::Commit(commit) => {
                assert_eq!(commit.ops.len(), replies.len(), "one reply an op");
                for (op, reply) in commit.ops.iter().zip(replies) {
                    self.change(op, Some(reply), now);
                }
                if commit.key.is_some() {
                    self.keyed = Some(commit.clone());
                }
            }
            Act::LoseLeases => self.lose_leases(),
            Act::Reopen => self.locks.reopened(),
        }
    }

    /// This ledger, had `act` happened and nobody been told.
    pub(super) fn after(&self, act: &Act, now: Timestamp) -> Ledger {
        let mut after = self.clone();
        (after.acts, after.now) = (after.acts + 1, now);
        match act {
            Act::Commit(commit) => commit.ops.iter().for_each(|op| after.change(op, None, now)),
            Act::LoseLeases => after.lose_leases(),
            Act::Reopen => after.locks.reopened(),
        }
        after
    }

    fn change(&mut self, op: &Op, reply: Option<&Reply>, now: Timestamp) {
        match op {
            Op::Enqueue(job) => {
                let run_at = match reply {
                    Some(Reply::Enqueued(answer)) => answer.run_at,
                    _ => now,
                };
                self.add(job, run_at);
            }
            Op::Claim(claim) => {
                let expected = self.claimable(claim.max as usize, now);
                let leases: Vec<_> = match reply {
                    Some(Reply::Claimed(grants)) => {
                        grants.iter().map(|grant| (grant.id, Some(grant.lease))).collect()
                    }
                    _ => expected.iter().map(|id| (*id, None)).collect(),
                };
                assert_eq!(
                    leases.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
                    expected,
                    "whose turn it was"
                );
                for (id, lease) in leases {
                    if let Some(lease) = lease {
                        assert!(
                            lease.token > self.last_token,
                            "{:?} after {:?}",
                            lease.token,
                            self.last_token
                        );
                        self.last_token = lease.token;
                    }
                    let job = self.job(id);
                    job.is = Is::Running(lease);
                    job.attempt += 1;
                }
            }
            Op::Settle(settle) => {
                let due = match reply {
                    Some(Reply::Settled { run_at, .. }) => *run_at,
                    _ => None,
                };
                self.settle(settle.id, &settle.outcome);
                let job = self.job(settle.id);
                job.run_at = due.unwrap_or(job.run_at);
            }
            Op::Extend { id, progress, .. } => {
                let job = self.job(*id);
                job.progress = progress.clone().or(job.progress.take());
            }
            Op::Cancel { id } => match self.job(*id).is {
                Is::Running(_) => self.job(*id).cancel_requested = true,
                _ => self.end(*id, Is::Cancelled),
            },
            Op::Delete { id } => self.forget(*id),
            Op::RequeueDead { ids, .. } => {
                for id in ids {
                    let job = self.job(*id);
                    (job.is, job.run_at, job.attempt, job.crashes) = (Is::Waiting, now, 0, 0);
                }
            }
            Op::DeleteDead { ids, .. } => ids.iter().for_each(|id| self.forget(*id)),
            Op::PutQueue { config, .. } => {
                self.config = Some((config.max_depth, config.retention.completed_count));
            }
            Op::Audit(record) => drop(self.audit.insert(record.detail.clone())),
            Op::Event(op) => self.events.change(op, reply),
            Op::Lock(op) => {
                let reply = reply.map(|reply| match reply {
                    Reply::Lock(reply) => reply,
                    other => panic!("a lock was answered with {other:?}"),
                });
                let Some((token, is_new)) = self.locks.change(op, reply) else { return };
                assert!(!is_new || token > self.last_token, "{token:?} after {:?}", self.last_token);
                self.last_token = self.last_token.max(token);
            }
            Op::Schedule(op) => {
                self.schedules.change(op);
                if let ScheduleOp::Fire(fire) = op
                    && let Some(job) = &fire.job
                {
                    self.add(job, now);
                }
            }
            other => panic!("callers do not do this: {other:?}"),
        }
    }

    fn add(&mut self, job: &NewJob, run_at: Timestamp) {
        let known = Known {
            is: Is::Waiting,
            run_at,
            cancel_requested: false,
            priority: job.priority,
            attempt: 0,
            crashes: 0,
            failures: BTreeSet::new(),
            result: None,
            progress: None,
            body_bytes: job.body.size() + job.after.len() * size_of::<JobId>(),
            waits_for: BTreeSet::new(),
            if_dead: job.after_failure,
        };
        self.jobs.insert(job.id, known);
        self.wait(job.id, &job.after);
    }

    fn settle(&mut self, id: JobId, outcome: &Outcome) {
        let job = self.job(id);
        let asked_to_stop = job.cancel_requested;
        match outcome {
            Outcome::Complete { result } => {
                job.result = result.clone();
                self.end(id, Is::Completed);
            }
            Outcome::Fail { retry, .. } => {
                job.failures.insert(job.attempt);
                let last = job.attempt >= MAX_ATTEMPTS || *retry == Retry::Never;
                match (asked_to_stop, last) {
                    (true, _) => self.end(id, Is::Cancelled),
                    (false, true) => self.die(id),
                    (false, false) => job.is = Is::Waiting,
                }
            }
            Outcome::Release { .. } if asked_to_stop => self.end(id, Is::Cancelled),
            Outcome::Release { .. } => {
                job.is = Is::Waiting;
                job.attempt -= 1;
            }
            Outcome::Cancel { .. } => self.end(id, Is::Cancelled),
        }
    }

    fn lose_leases(&mut self) {
        self.locks.lose();
        for id in self.running().map(|(id, _)| id).collect::<Vec<_>>() {
            let job = self.job(id);
            job.crashes += 1;
            if job.cancel_requested {
                self.end(id, Is::Cancelled);
                continue;
            }
            let last = job.crashes >= MAX_CRASHES || job.attempt >= MAX_ATTEMPTS;
            if last {
                self.die(id);
            } else {
                job.is = Is::Waiting;
            }
        }
    }

    fn end(&mut self, id: JobId, is: Is) {
        self.job(id).is = is;
        self.finished.push((self.acts, id));
        self.tell(id, if is == Is::Completed { Ending::Completed } else { Ending::Gone });
    }

    fn die(&mut self, id: JobId) {
        self.job(id).is = Is::Dead;
        self.tell(id, Ending::Dead);
    }

    fn forget(&mut self, id: JobId) {
        self.jobs.remove(&id);
        self.tell(id, Ending::Gone);
    }

    /// A new job begins to wait for these.
    fn wait(&mut self, id: JobId, after: &[After]) {
        for named in after {
            let After::Job(on) = named else { panic!("callers name jobs by their ids") };
            let failure = self.job(id).if_dead;
            match (self.job(*on).is, failure) {
                (Is::Completed, _) | (Is::Dead, AfterFailure::Run) => {}
                (Is::Cancelled, _) | (Is::Dead, AfterFailure::Cancel) => return self.end(id, Is::Cancelled),
                _ => {
                    let job = self.job(id);
                    job.waits_for.insert(*on);
                    job.is = Is::Blocked;
                }
            }
        }
    }

    /// What an end means for those that wait.
    fn tell(&mut self, on: JobId, how: Ending) {
        let waits = |job: &Known| job.is == Is::Blocked && job.waits_for.contains(&on);
        let waiting: Vec<_> = self.jobs.iter().filter(|(_, job)| waits(job)).map(|(id, _)| *id).collect();
        for id in waiting {
            let now = self.now;
            let job = self.job(id);
            match (how, job.if_dead) {
                (Ending::Dead, AfterFailure::Wait) => {}
                (Ending::Gone, _) | (Ending::Dead, AfterFailure::Cancel) => self.end(id, Is::Cancelled),
                _ => {
                    job.waits_for.remove(&on);
                    if job.waits_for.is_empty() {
                        (job.is, job.run_at) = (Is::Waiting, job.run_at.max(now));
                    }
                }
            }
        }
    }

    fn job(&mut self, id: JobId) -> &mut Known {
        self.jobs.get_mut(&id).expect("callers only touch what they know")
    }

    /// What a claim gets, in the order of the contract.
    fn claimable(&self, max: usize, now: Timestamp) -> Vec<JobId> {
        let due = |job: &Known| job.is == Is::Waiting && job.run_at <= now;
        let mut due: Vec<_> = self.jobs.iter().filter(|(_, job)| due(job)).collect();
        due.sort_by_key(|(id, job)| (job.priority, job.run_at, **id));
        due.into_iter().map(|(id, _)| *id).take(max).collect()
    }

    /// Jobs in a state.
    pub(super) fn those(&self, is: Is) -> impl Iterator<Item = JobId> {
        self.jobs.iter().filter(move |(_, job)| job.is == is).map(|(id, _)| *id)
    }

    /// Jobs that run.
    pub(super) fn running(&self) -> impl Iterator<Item = (JobId, Option<LeaseId>)> {
        self.jobs.iter().filter_map(|(id, job)| match job.is {
            Is::Running(lease) => Some((*id, lease)),
            _ => None,
        })
    }

    /// Whether a store that shows this knows all that is in here, and no more.
    pub(super) fn fits(&self, shown: &Shown) -> Result<(), String> {
        if let Some(id) = shown.jobs.keys().find(|id| !self.jobs.contains_key(id)) {
            return Err(format!("job {id} is there, but nobody was told, or it was deleted"));
        }
        for (id, job) in &self.jobs {
            match shown.jobs.get(id) {
                Some(record) => {
                    job.fits(record).map_err(|what| format!("{what}: {job:?}, shown as {record:?}"))?
                }
                None if self.may_be_forgotten(*id) => {}
                None => return Err(format!("job {id} is lost: {job:?}")),
            }
        }
        let config = shown.queue.as_ref().map(|q| (q.config.max_depth, q.config.retention.completed_count));
        if self.config.is_some() && config != self.config {
            return Err(format!("the queue is configured as {config:?}, not {:?}", self.config));
        }
        self.events.fits(&shown.events)?;
        self.locks.fits(&shown.locks)?;
        self.schedules.fits(&shown.schedules)?;
        if shown.audit != self.audit {
            return Err(format!("the audit trail has {:?}, not {:?}", shown.audit, self.audit));
        }
        Ok(())
    }

    fn may_be_forgotten(&self, id: JobId) -> bool {
        let Some((_, kept)) = self.config else { return false };
        let Some((act, _)) = self.finished.iter().rev().find(|(_, finished)| *finished == id) else {
            return false;
        };
        // Of those that ended in one act, any may be the newest.
        let newer = self.finished.iter().filter(|(other, finished)| other >= act && *finished != id).count();
        newer as u64 >= kept
    }
}

impl Known {
    fn fits(&self, record: &JobRecord) -> Result<(), &'static str> {
        let waits = matches!(record.state, JobState::Scheduled | JobState::Available | JobState::Retryable);
        let state_fits = match self.is {
            Is::Waiting => waits,
            Is::Blocked => {
                record.state == JobState::Blocked && record.waiting_for as usize == self.waits_for.len()
            }
            Is::Running(_) => record.state == JobState::Running,
            Is::Completed => record.state == JobState::Completed,
            Is::Cancelled => record.state == JobState::Cancelled,
            Is::Dead => record.state == JobState::Dead,
        };
        let lease = match self.is {
            Is::Running(lease) => lease,
            _ => None,
        };
        let rules = [
            (state_fits, "it is in another state"),
            (lease.is_none_or(|lease| record.token == Some(lease.token)), "it runs under another token"),
            (record.attempt == self.attempt, "it is at another attempt"),
            (record.crashes == self.crashes, "it has another number of crashes"),
            (record.failures.len() == self.failures.len(), "it has another number of failures"),
            (
                record.cancel_requested == self.cancel_requested || !waits && lease.is_none(),
                "its cancellation",
            ),
            (record.result == self.result, "it has another result"),
            (lease.is_none() || record.progress == self.progress, "it has come to another point"),
            (record.body.size() == self.body_bytes, "its body is another"),
            (record.priority == self.priority, "it has another priority"),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what))
    }
}
