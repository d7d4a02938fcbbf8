//! What a commit changed, as plain data: a journal writes these blindly by primary key, in order.
//!
//! The tables they speak of are `queue`, `policy`, `job` (unfinished jobs), `finished` (ordered for retention),
//! `body`/`result`/`progress`/`failure` (by the job's number `n`), `uniq`, `limits`, `edge` and `ended` (who waits for
//! whom), `keyed`, `access_token`, `audit`, `schedule`, and those of [`super::locks::change`] and of [`EventChange`].

use std::sync::Arc;

pub use super::events::change::{
    DeadLetter, DeadRef, DeliveryLease, DeliveryState, EventChange, EventMeta, GroupId, GroupPlace, GroupRow,
    TopicId, Unsettled,
};
use super::locks::change::LockChange;
use crate::{
    access::{AccessToken, AuditRecord},
    after::AfterFailure,
    error::Error,
    id::JobId,
    job::{DeadReason, FailureRecord, JobBody, JobKeys, JobPolicy, JobState, Json, Verb},
    lease::LeaseId,
    name::{Name, QueueName, WorkerName},
    op::{IdempotencyKey, Reply},
    queue::QueueConfig,
    schedule::ScheduleChange,
    time::{StoreTime, Timestamp},
};

/// The store's own number of a queue. Never reused while its store is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u32);

/// The store's own number of a [`JobPolicy`]; equal policies share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId(pub u32);

/// The stored phase of an unfinished job. `scheduled`, `available` and `retryable` are one: the time tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Phase {
    /// Waits for its time, its back-off or a worker.
    Waiting = 0,
    /// Waits for other jobs.
    Blocked = 1,
    /// Claimed.
    Running = 2,
}

impl Phase {
    /// From the stored number.
    pub fn from_u8(number: u8) -> Option<Phase> {
        [Phase::Waiting, Phase::Blocked, Phase::Running].into_iter().find(|p| *p as u8 == number)
    }
}

/// The scheduling state of an unfinished job: small, flat, and all that is kept of it in RAM while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveJob {
    /// Its id.
    pub id: JobId,
    /// The number of its body.
    pub n: u64,
    /// Not before.
    pub run_at: Timestamp,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// Its queue.
    pub queue: QueueId,
    /// Its rules.
    pub policy: PolicyId,
    /// Attempts begun, less those released.
    pub attempt: u32,
    /// Bytes of its body.
    pub size: u32,
    /// Leases that ran out.
    pub crashes: u32,
    /// 0…9.
    pub priority: u8,
    /// Its phase.
    pub phase: Phase,
    /// It waits for a back-off.
    pub retrying: bool,
    /// Its end was asked for while it ran.
    pub cancel_requested: bool,
    /// There is an [`Extras`] of it.
    pub has_extras: bool,
}

impl LiveJob {
    /// The state the contract names, at wall time `now`.
    pub fn state(&self, now: Timestamp) -> JobState {
        match self.phase {
            Phase::Running => JobState::Running,
            Phase::Blocked => JobState::Blocked,
            Phase::Waiting if self.run_at <= now => JobState::Available,
            Phase::Waiting if self.retrying => JobState::Retryable,
            Phase::Waiting => JobState::Scheduled,
        }
    }
}

/// What only some jobs have, kept beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Never handed out after.
    pub expires_at: Option<Timestamp>,
    /// The key it is unique by.
    pub unique_key: Option<Arc<str>>,
    /// What it is counted by when it is handed out; jobs of the same keys share them.
    pub keys: Option<Arc<JobKeys>>,
}

impl Extras {
    /// What it is counted by when it is handed out.
    pub fn job_keys(&self) -> JobKeys {
        self.keys.as_deref().cloned().unwrap_or_default()
    }
}

/// The lease of a running job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveLease {
    /// Token and nonce.
    pub id: LeaseId,
    /// When it runs out.
    pub until: StoreTime,
    /// The last granted duration in milliseconds: what a live lease gets again after a restart.
    pub ms: u64,
    /// When the job was claimed.
    pub claimed_at: StoreTime,
    /// Who has it.
    pub worker: Option<WorkerName>,
}

/// The last lease of a job that was settled, with the answer its worker got, so that a repeat is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledLease {
    /// Token and nonce.
    pub id: LeaseId,
    /// How it was settled.
    pub verb: Verb,
    /// The answer: the job's state then.
    pub state: JobState,
    /// The answer: when the job was due again.
    pub run_at: Option<Timestamp>,
}

/// The order in which finished jobs of a queue are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Completed and cancelled jobs, by the queue's retention. `f` is the order of finishing.
    Done = 0,
    /// Dead letters. `f` is the order of finishing.
    Dead = 1,
    /// Finished jobs with a `retain_ms` of their own. `f` begins with the millisecond at which each is forgotten.
    Own = 2,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Lane; 3] = [Lane::Done, Lane::Dead, Lane::Own];
    /// From the stored number.
    pub fn from_u8(number: u8) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| *lane as u8 == number)
    }
}

/// The place of a finished job: the primary key of the `finished` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FinishedKey {
    /// Its queue.
    pub queue: QueueId,
    /// Its lane.
    pub lane: Lane,
    /// Its place in the lane.
    pub f: u64,
}

/// A finished job. Not in RAM; looked up by id when a call names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedJob {
    /// Where it is.
    pub key: FinishedKey,
    /// What it was when it ended. `phase` says nothing any more.
    pub job: LiveJob,
    /// What only some have.
    pub extras: Extras,
    /// `Completed`, `Cancelled` or `Dead`.
    pub state: JobState,
    /// Why it is dead.
    pub reason: Option<DeadReason>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Its last settled lease, to recognise a repeat.
    pub settled: Option<SettledLease>,
}

/// The place of a finished job with what is needed to forget it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinishedRef {
    /// Where it is.
    pub key: FinishedKey,
    /// Its id.
    pub id: JobId,
    /// The number of its body.
    pub n: u64,
    /// Its rules, which one job less has then.
    pub policy: PolicyId,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// A finished job that is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Where it was.
    pub key: FinishedKey,
    /// Its id.
    pub id: JobId,
    /// The number of its body.
    pub n: u64,
    /// When it ended.
    pub finished_at: Timestamp,
}

impl From<FinishedRef> for Forgotten {
    fn from(FinishedRef { key, id, n, finished_at, .. }: FinishedRef) -> Forgotten {
        Forgotten { key, id, n, finished_at }
    }
}

/// How a job ended, as far as those that wait for it are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Ending {
    /// It completed.
    Completed = 0,
    /// It is dead, and may be requeued.
    Dead = 1,
    /// It was cancelled or is gone.
    Gone = 2,
}

impl Ending {
    /// All of them, by their stored number.
    pub const ALL: [Ending; 3] = [Ending::Completed, Ending::Dead, Ending::Gone];

    /// From the stored number.
    pub fn from_u8(number: u8) -> Option<Ending> {
        Ending::ALL.into_iter().find(|ending| *ending as u8 == number)
    }
}

/// A change of who waits for whom.
#[derive(Clone, Debug, PartialEq)]
pub enum AfterChange {
    /// New `edge` rows, one for each of `on`.
    Opened {
        /// Key, first part: who waits.
        waiter: JobId,
        /// Key, second part: for whom.
        on: Vec<JobId>,
        /// What a dead one means.
        failure: AfterFailure,
    },
    /// The `edge` rows go.
    Closed {
        /// Key, first part: who waits.
        waiter: JobId,
        /// Key, second part: for whom.
        on: Vec<JobId>,
    },
    /// A new `ended` row: more jobs wait for this one than could be told at once.
    Ended {
        /// Key, first part.
        id: JobId,
        /// Key, second part.
        how: Ending,
    },
    /// The `ended` row goes: all have been told.
    Told {
        /// Key, first part.
        id: JobId,
        /// Key, second part.
        how: Ending,
    },
}

/// What a queue remembers of what it has handed out: the second part of the key of a `limits` row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitKey {
    /// Hand-outs that count for the rate until `per_ms` after this instant.
    Handed(StoreTime),
    /// When the next turn of a fairness key begins, in the queue's virtual time; `None`: of the jobs without one.
    Turn(Option<Arc<str>>),
    /// The queue's virtual time: when the last turn began.
    Now,
}

/// Upsert of a `limits` row; without a value it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitChange {
    /// Key, first part.
    pub queue: QueueId,
    /// Key, second part.
    pub key: LimitKey,
    /// The number that is remembered.
    pub value: Option<u64>,
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Upsert of a queue. A `dropped` one is gone for everybody, but its finished jobs are still being forgotten.
    Queue {
        /// Key.
        id: QueueId,
        /// Its name; several dropped queues may have had the same.
        name: QueueName,
        /// Its configuration.
        config: QueueConfig,
        /// It hands out nothing.
        paused: bool,
        /// Nobody sees it any more.
        dropped: bool,
    },
    /// A dropped queue is empty and gone.
    QueueRemoved(QueueId),
    /// A new policy.
    Policy {
        /// Key.
        id: PolicyId,
        /// Its content.
        policy: JobPolicy,
    },
    /// No job has this policy any more. A later one may get its number.
    PolicyRemoved(PolicyId),
    /// Upsert of a whole `job` row.
    JobPut {
        /// The row.
        job: LiveJob,
        /// Its rarer columns.
        extras: Extras,
        /// Its settled-lease columns (a revived job keeps them). A job that is put is never running.
        settled: Option<SettledLease>,
        /// The body to insert under `n`; `None` if it is there already (a revived job).
        body: Option<Arc<JobBody>>,
    },
    /// Update of the columns that change: everything of [`LiveJob`] but id, n, queue, policy, created_at, size,
    /// priority; and the leases.
    JobUpdated {
        /// The row.
        job: LiveJob,
        /// Its lease columns: `Some` exactly while it runs.
        lease: Option<LiveLease>,
        /// Its settled-lease columns.
        settled: Option<SettledLease>,
    },
    /// The `job` row goes, the `finished` row comes. The body stays. (Shared: a journal hands it on and looks it up.)
    JobFinished(Arc<FinishedJob>),
    /// The `finished` row goes; a `JobPut` follows. The body stays.
    FinishedRevived {
        /// Key.
        key: FinishedKey,
        /// Its id.
        id: JobId,
    },
    /// The `job` row goes, with body, result, progress and failures.
    JobRemoved {
        /// Key.
        id: JobId,
        /// The number of its body.
        n: u64,
    },
    /// The `finished` row goes, with body, result, progress and failures.
    FinishedRemoved(Forgotten),
    /// Upsert.
    Result {
        /// Of the job with this number.
        n: u64,
        /// JSON text.
        result: Json,
    },
    /// Upsert.
    Progress {
        /// Of the job with this number.
        n: u64,
        /// JSON text.
        progress: Json,
    },
    /// Upsert at `(n, attempt % FAILURES_KEPT)`: a ring of the newest.
    Failure {
        /// Of the job with this number.
        n: u64,
        /// What failed.
        record: Box<FailureRecord>,
    },
    /// Upsert of who holds a unique key.
    Unique {
        /// Key, first part.
        queue: QueueId,
        /// Key, second part.
        key: Arc<str>,
        /// The first job.
        id: JobId,
        /// Held until then; `None`: until the job has finished.
        until: Option<Timestamp>,
    },
    /// The key is free.
    UniqueRemoved {
        /// Key, first part.
        queue: QueueId,
        /// Key, second part.
        key: Arc<str>,
    },
    /// Who waits for whom.
    After(AfterChange),
    /// What a queue with a rate or fairness remembers.
    Limit(LimitChange),
    /// A commit was answered under an idempotency key.
    Keyed {
        /// Key: grows by one.
        k: u64,
        /// The caller's key.
        key: IdempotencyKey,
        /// When.
        at: Timestamp,
        /// The answers.
        replies: Arc<[Reply]>,
    },
    /// Answers up to and with this `k` are forgotten.
    KeyedForgotten {
        /// The last to go.
        up_to: u64,
    },
    /// Upsert.
    AccessToken(AccessToken),
    /// Gone.
    AccessTokenRemoved(Name),
    /// A line of the audit trail.
    Audit {
        /// Key: grows by one.
        number: u64,
        /// The line.
        record: AuditRecord,
    },
    /// Lines up to and with this number are forgotten.
    AuditForgotten {
        /// The last to go.
        up_to: u64,
    },
    /// Something about a lock.
    Lock(LockChange),
    /// Of topics, events and groups.
    Event(EventChange),
    /// Of the schedules.
    Schedule(ScheduleChange),
}

/// What the engine asks of its tables: what it does not keep in RAM of finished jobs, older events and dead letters.
///
/// All see every change that was handed out before, also those of the commits of an unfinished group.
pub trait Archive {
    /// The finished job with this id.
    fn finished(&mut self, id: JobId) -> Result<Option<FinishedJob>, Error>;

    /// Whether a finished job has this place. One that had it and went may still count.
    fn is_taken(&mut self, key: FinishedKey) -> Result<bool, Error>;

    /// The first `limit` finished jobs of a lane, in the order of `f`.
    fn oldest(&mut self, queue: QueueId, lane: Lane, limit: usize) -> Result<Vec<FinishedRef>, Error>;

    /// The first `limit` events of a topic (or of all), from this number on, in order. Removed ones may be among them.
    fn events(&mut self, topic: Option<TopicId>, from: u64, limit: usize) -> Result<Vec<EventMeta>, Error>;

    /// A dead letter. One that is delivered again is none.
    fn dead_event(&mut self, number: u64) -> Result<Option<DeadRef>, Error>;

    /// The first `limit` dead letters of a group, by number.
    fn dead_events(&mut self, group: GroupId, limit: usize) -> Result<Vec<DeadRef>, Error>;
}

/// The counters a journal keeps with every group, and gives back when it opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The last fencing token granted.
    pub token: u64,
    /// The last body number given.
    pub n: u64,
    /// The last place in a lane given.
    pub f: u64,
    /// The last number of an idempotency answer.
    pub k: u64,
    /// The last number of an audit line.
    pub audit: u64,
    /// The store's clock at the last commit.
    pub clock: StoreTime,
}
