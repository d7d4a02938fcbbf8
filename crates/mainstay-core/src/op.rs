//! What can be asked of a store: every change is an [`Op`], and a [`Commit`] is a list of them, all or nothing.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    access::{AccessToken, AuditRecord},
    event::{EventOp, EventReply},
    id::JobId,
    job::{Grant, JobState, Json, NewJob, Outcome},
    lease::{LeaseId, Token},
    lock::{LockOp, LockReply, LockWaiting},
    name::{Name, QueueName, WorkerName},
    queue::QueueConfig,
    schedule::{ScheduleOp, ScheduleReply},
    time::Timestamp,
};

/// A list of changes that happen together or not at all, durable when it is answered.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Commit {
    /// Repeating the commit under the same key gets the first answer again.
    pub key: Option<IdempotencyKey>,
    /// What must hold, judged before the ops.
    pub require: Vec<Require>,
    /// The changes, in order.
    pub ops: Vec<Op>,
    /// 64 random bits from the caller: the only chance an engine knows (jitter, nonces).
    pub entropy: u64,
}

impl Commit {
    /// A commit of one op.
    pub fn of(op: Op, entropy: u64) -> Commit {
        Commit { ops: vec![op], entropy, ..Commit::default() }
    }
}

/// A caller's idempotency key, already scoped and hashed by the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// Caller, path and key, hashed (the first half of a SHA-256).
    pub scope: [u8; 16],
    /// What was asked, hashed likewise: the same key with another body is a mistake.
    pub fingerprint: [u8; 16],
}

/// What must hold for a commit to happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Require {
    /// This lease of the job is live.
    Job {
        /// Which job.
        id: JobId,
        /// Its lease.
        lease: LeaseId,
    },
    /// A live holder of the lock has this fencing token.
    Lock {
        /// Which lock.
        name: Name,
        /// The token.
        token: Token,
    },
    /// The commit's key was answered before: it is a repeat, or it does not happen. For a caller that cannot judge any
    /// more what is asked, and owes the first answer all the same.
    Repeat,
}

/// One change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Op {
    /// Adds a job. → [`Reply::Enqueued`]
    Enqueue(Box<NewJob>),
    /// Takes jobs. → [`Reply::Claimed`], empty when there are none: waiting is [`crate::Store::wait`] and trying again.
    Claim(Claim),
    /// Ends a claim. → [`Reply::Settled`]
    Settle(Settle),
    /// Prolongs a claim. → [`Reply::Extended`]
    Extend {
        /// Which job.
        id: JobId,
        /// The proof.
        lease: LeaseId,
        /// The lease runs this long from now, but not past the job's time limit, which counts from the claim. Once that is
        /// over: [`Reason::TimeIsUp`], and the lease stays as it is.
        extend_ms: u64,
        /// How far the work is, as JSON text.
        progress: Option<Json>,
    },
    /// Asks for a job's end: at once if it is not running. → [`Reply::Cancelled`]
    Cancel {
        /// Which job.
        id: JobId,
    },
    /// Makes a job that waits or has finished available now, attempts reset. → [`Reply::Retried`]
    Retry {
        /// Which job.
        id: JobId,
    },
    /// Forgets a job that is not running. → [`Reply::Deleted`]
    Delete {
        /// Which job.
        id: JobId,
    },
    /// Retries those of the ids that are dead letters of the queue. → [`Reply::Count`]
    RequeueDead {
        /// The queue.
        queue: QueueName,
        /// At most 1,000.
        ids: Vec<JobId>,
    },
    /// Forgets those of the ids that are dead letters of the queue. → [`Reply::Count`]
    DeleteDead {
        /// The queue.
        queue: QueueName,
        /// At most 1,000.
        ids: Vec<JobId>,
    },
    /// Forgets up to `limit` waiting jobs of the queue. → [`Reply::Count`]; call again until it is below `limit`. Or, if
    /// they wait for so many others that it would be too much at once: → [`Reply::CountSoFar`]; call again.
    Purge {
        /// The queue.
        queue: QueueName,
        /// At most 1,000.
        limit: u32,
    },
    /// Creates a queue or replaces its configuration. → [`Reply::Done`]
    PutQueue {
        /// The queue.
        queue: QueueName,
        /// All of its configuration.
        config: QueueConfig,
    },
    /// Pauses (creating the queue if need be) or resumes. → [`Reply::Done`]
    SetPaused {
        /// The queue.
        queue: QueueName,
        /// Hand out nothing?
        paused: bool,
    },
    /// Forgets a queue without unfinished or dead jobs, and its finished ones. → [`Reply::Done`]
    DeleteQueue {
        /// The queue.
        queue: QueueName,
    },
    /// Adds an access token; the name must be new. → [`Reply::Done`]
    PutAccessToken(AccessToken),
    /// Forgets an access token. → [`Reply::Done`]
    RevokeAccessToken {
        /// Whose.
        name: Name,
    },
    /// Writes a line of the audit trail. → [`Reply::Done`]
    Audit(AuditRecord),
    /// Changes nothing. → [`Reply::Note`]: the same text, and that of the first commit where this one repeats it under
    /// an idempotency key. For what a repeat has to know and nobody else is to keep. Up to [`MAX_NOTE_BYTES`].
    Note(Arc<str>),
    /// Changes a lock. → [`Reply::Lock`]
    Lock(LockOp),
    /// Topics, events and groups. → [`Reply::Event`], [`Reply::Count`] or [`Reply::Done`]
    Event(EventOp),
    /// Changes a schedule, or fires one. → [`Reply::Schedule`] or [`Reply::Done`]
    Schedule(ScheduleOp),
}

/// The longest [`Op::Note`].
pub const MAX_NOTE_BYTES: usize = 1_024;

/// How jobs are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// In order of preference; unknown ones are simply empty.
    pub queues: Vec<QueueName>,
    /// At most this many jobs.
    pub max: u32,
    /// At most this many bytes of bodies, but at least one job.
    pub max_bytes: u64,
    /// How long each lease lives, in milliseconds.
    pub lease_ms: u64,
    /// Who asks.
    pub worker: Option<WorkerName>,
}

/// How a claim ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    /// Which job.
    pub id: JobId,
    /// The proof.
    pub lease: LeaseId,
    /// How.
    pub outcome: Outcome,
    /// What a repeat of the last settled lease with the same verb is: the same answer again (`true`, single calls),
    /// or [`Reason::AlreadySettled`] (`false`, inside a larger commit, whose other ops must not happen twice).
    pub repeat_is_ok: bool,
}

/// The answer to an [`Op`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Op::Enqueue`].
    Enqueued(Enqueued),
    /// To [`Op::Claim`].
    Claimed(Vec<Grant>),
    /// To [`Op::Settle`]: what became of the job, and when it runs next if it will.
    Settled {
        /// Which job.
        id: JobId,
        /// Its state now.
        state: JobState,
        /// When it is due again.
        run_at: Option<Timestamp>,
    },
    /// To [`Op::Extend`].
    Extended {
        /// Which job.
        id: JobId,
        /// When the lease runs out now.
        expires_at: Timestamp,
        /// The work is not wanted any more.
        cancel_requested: bool,
    },
    /// To [`Op::Cancel`].
    Cancelled {
        /// Its state now.
        state: JobState,
        /// It is running and will be told.
        cancel_requested: bool,
    },
    /// To [`Op::Retry`].
    Retried {
        /// Its state now.
        state: JobState,
        /// When it is due.
        run_at: Timestamp,
    },
    /// To [`Op::Delete`].
    Deleted,
    /// To the bulk ops: how many were changed.
    Count(u64),
    /// Done.
    Done,
    /// To [`Op::Lock`].
    Lock(LockReply),
    /// To an [`Op::Event`] that has more to say.
    Event(EventReply),
    /// To [`Op::Schedule`].
    Schedule(ScheduleReply),
    /// To [`Op::Purge`]: how many were forgotten, fewer than there are and than was asked for.
    CountSoFar(u64),
    /// To [`Op::Note`].
    Note(Arc<str>),
}

/// A reply counts once for so many bytes of text.
const PIECE_BYTES: usize = 256;

impl Reply {
    /// What it counts for where replies are bounded: at least one, and one for each grant, delivery, item or holder. A
    /// piece has some hundred bytes.
    pub fn pieces(&self) -> usize {
        let pieces = match self {
            Reply::Claimed(grants) => grants.len(),
            Reply::Event(EventReply::Fetched(deliveries)) => deliveries.len(),
            Reply::Event(EventReply::Settled(settled)) => settled.len(),
            Reply::Lock(LockReply::Broken(holders)) => holders.len(),
            Reply::Note(text) => text.len().div_ceil(PIECE_BYTES),
            _ => 1,
        };
        pieces.max(1)
    }
}

/// The answer to an enqueue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enqueued {
    /// The new job's, or the first job's if this is a duplicate.
    pub id: JobId,
    /// The store's number of its body.
    pub n: u64,
    /// Its queue.
    pub queue: QueueName,
    /// Its kind. `None` inside a store for a duplicate whose first job's body is not at hand, and outside for one whose
    /// first job is gone by the time of the answer: by the same commit, or a moment later.
    pub kind: Option<Arc<str>>,
    /// Its state.
    pub state: JobState,
    /// Its priority.
    pub priority: u8,
    /// When it is due.
    pub run_at: Timestamp,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// Nothing was added: id or unique key say it is there already.
    pub deduplicated: bool,
    /// How close the queue is to refusing jobs, in thousandths: the larger of its depth and of the age of its oldest
    /// available job, each as a part of its bound. `None`: it has no bound.
    #[serde(default)]
    pub pressure: Option<u16>,
}

/// The answers to a commit, one an op.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// In the order of the ops.
    pub replies: Vec<Reply>,
    /// The commit happened before, under the same idempotency key; these are its answers then, word for word,
    /// but that a claim shows only the grants that still live.
    pub repeated: bool,
}

/// Why a commit of a batch has no answers. On a store with partitions one may fail where its neighbours stand.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    /// The store judged it: definitely nothing changed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The store could not judge it, or cannot say.
    #[error(transparent)]
    Failed(#[from] crate::Error),
}

impl Failure {
    /// The answer, if the store could judge the commit.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Failure::Rejected(rejection) => Some(rejection),
            Failure::Failed(_) => None,
        }
    }
}

/// Definitely nothing changed, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{reason}")]
pub struct Rejection {
    /// What failed.
    pub at: Place,
    /// Why.
    pub reason: Reason,
}

/// The part of a commit that a [`Rejection`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// The commit as a whole (its idempotency key).
    Commit,
    /// `require[i]`
    Require(usize),
    /// `ops[i]`
    Op(usize),
}

/// An entry of a job's `after` that names nothing it could wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongAfter {
    /// The op that enqueues the job.
    pub op: usize,
    /// Where the entry stands in its `after`.
    pub at: usize,
    /// What is wrong with it.
    #[serde(deserialize_with = "word")]
    pub detail: Word,
}

/// A word of the code. (By this name, derived readers do not take it for borrowed.)
pub type Word = &'static str;

/// A word of the code, written by another process of the same build or another: each is kept once, and there are only as
/// many as there are in the code.
fn word<'de, D: serde::Deserializer<'de>>(from: D) -> Result<&'static str, D::Error> {
    static WORDS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let text = String::deserialize(from)?;
    let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = words.get(text.as_str()) {
        return Ok(known);
    }
    if words.len() == WORDS_KEPT {
        return Ok("something that this process has no word for");
    }
    let kept: &'static str = Box::leak(text.into_boxed_str());
    words.insert(kept);
    Ok(kept)
}

/// More words than any build has.
const WORDS_KEPT: usize = 1_000;

fn found_by(what: &str) -> &'static str {
    if what == "job" { "with that id" } else { "of that name" }
}

/// Why a commit was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Reason {
    /// There is no such thing.
    #[error("no {} {}", .0, found_by(.0))]
    NotFound(#[serde(deserialize_with = "word")] Word),
    /// The claim or delivery expired, was settled, or was taken over.
    #[error("the lease is not live any more: it ran out, was settled, or somebody else has taken over")]
    LeaseLost,
    /// The claim lives, but not longer: the attempt has had the job's time limit.
    #[error(
        "the attempt has had its timeout_ms of {timeout_ms} ms, so its lease is not extended; how it ended can be said \
         until the lease runs out"
    )]
    TimeIsUp {
        /// The job's time limit, in milliseconds from the claim.
        timeout_ms: u64,
    },
    /// This lease was settled before, with the same verb.
    #[error("this lease was settled before")]
    AlreadySettled,
    /// The op does not fit the state of its subject.
    #[error("{0}")]
    StateConflict(String),
    /// The queue is at its bound.
    #[error("queue `{queue}` holds {max_depth} waiting jobs, its max_depth")]
    QueueFull {
        /// Which queue.
        queue: QueueName,
        /// Its bound.
        max_depth: u64,
        /// How long it may take until there is room for the commit, in milliseconds: 1 s to 60 s. An estimate by how
        /// fast the queue's jobs have ended lately; without anything to go by, the shortest.
        retry_ms: u64,
    },
    /// The queue's workers are too far behind.
    #[error(
        "the oldest available job of queue `{queue}` waits since {age_ms} ms, longer than its max_age_ms of {max_age_ms}"
    )]
    QueueBehind {
        /// Which queue.
        queue: QueueName,
        /// How long its oldest available job has been available, in milliseconds.
        age_ms: u64,
        /// Its bound.
        max_age_ms: u64,
        /// How long it may take until the queue has caught up, estimated likewise.
        retry_ms: u64,
    },
    /// Entries of `after` that name nothing their job could wait for: all there are in the commit, by ops.
    #[error("after: {}", .0.first().map_or("", |wrong| wrong.detail))]
    After(Vec<WrongAfter>),
    /// The same idempotency key came with another body.
    #[error("this Idempotency-Key was used with another body")]
    IdempotencyMismatch,
    /// The caller's id belongs to a job of another queue.
    #[error("a job with this id exists in queue `{0}`")]
    IdInOtherQueue(QueueName),
    /// Somebody else holds the lock, or waits for it already.
    #[error("lock `{}` is held by `{}`", .0.name, .0.holder)]
    LockHeld(Box<LockWaiting>),
    /// The grant of the lock ran out, was released, or was taken away.
    #[error(
        "the lock is not held with this lease or token any more: it ran out, was released, or was broken"
    )]
    LockLost,
    /// A bound of all locks, or of one lock, is reached.
    #[error("lock `{lock}`: there are {limit} {what} already, the most there can be")]
    LocksFull {
        /// Which lock was asked for.
        lock: Name,
        /// Of what: `waiters`, `grants`.
        #[serde(deserialize_with = "word")]
        what: Word,
        /// How many.
        limit: u64,
    },
    /// A bound of the op itself is broken.
    #[error("{field}: {detail}")]
    Invalid {
        /// Which field.
        #[serde(deserialize_with = "word")]
        field: Word,
        /// What is wrong.
        detail: String,
    },
}
