//! What a job is: what its author says of it, what a store knows of it, and how an attempt may end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    after::{After, AfterFailure, WaitsFor},
    id::JobId,
    lease::{LeaseId, Token},
    name::{QueueName, WorkerName},
    time::Timestamp,
};

/// The state of a job as the contract names it. `Scheduled`, `Available` and `Retryable` are one stored phase,
/// told apart by the time of the reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// `run_at` lies in the future.
    Scheduled,
    /// Waits for other jobs.
    Blocked,
    /// Can be claimed.
    Available,
    /// Claimed, with a live lease.
    Running,
    /// Failed, and waits for its back-off.
    Retryable,
    /// Ended well.
    Completed,
    /// Ended on request.
    Cancelled,
    /// Ended for good without success: a dead letter.
    Dead,
}

impl JobState {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Scheduled => "scheduled",
            JobState::Blocked => "blocked",
            JobState::Available => "available",
            JobState::Running => "running",
            JobState::Retryable => "retryable",
            JobState::Completed => "completed",
            JobState::Cancelled => "cancelled",
            JobState::Dead => "dead",
        }
    }

    /// The state with this name.
    pub fn parse(text: &str) -> Option<JobState> {
        use JobState::*;
        [Scheduled, Blocked, Available, Running, Retryable, Completed, Cancelled, Dead]
            .into_iter()
            .find(|state| state.as_str() == text)
    }

    /// Nothing more will happen to the job by itself.
    pub fn is_finished(self) -> bool {
        matches!(self, JobState::Completed | JobState::Cancelled | JobState::Dead)
    }
}

/// Why a job is a dead letter: the reason follows the last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeadReason {
    /// It failed on its last attempt.
    Exhausted,
    /// Its worker said that trying again is useless.
    Permanent,
    /// Its leases ran out too often, or once on the last attempt.
    Crashed,
    /// Its `expires_at` passed before it could be handed out.
    Expired,
}

impl DeadReason {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            DeadReason::Exhausted => "exhausted",
            DeadReason::Permanent => "permanent",
            DeadReason::Crashed => "crashed",
            DeadReason::Expired => "expired",
        }
    }
}

/// How chance enters a back-off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Jitter {
    /// Anywhere from 0 to the whole delay. The default: it spreads a herd best.
    #[default]
    Full,
    /// Half of the delay plus a random half.
    Equal,
    /// The whole delay, always.
    None,
}

/// How long a failed job waits: `min(max_ms, base_ms × factor^(n−1))` before the n-th retry, jittered below that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Backoff {
    /// The first delay, in milliseconds. Defaults to 1 s.
    pub base_ms: u64,
    /// Growth from one retry to the next, in thousandths, so that arithmetic is exact. Defaults to 2,000 (×2).
    pub factor_milli: u64,
    /// No delay is longer, in milliseconds. Defaults to 1 h.
    pub max_ms: u64,
    /// Defaults to [`Jitter::Full`].
    pub jitter: Jitter,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { base_ms: 1_000, factor_milli: 2_000, max_ms: 3_600_000, jitter: Jitter::Full }
    }
}

/// The rules a job is run by. Most jobs of a service share a handful, so stores keep each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobPolicy {
    /// Failures and crashes before the job is dead. Releases never count. Defaults to 20.
    pub max_attempts: u32,
    /// Crashes (leases that ran out) before the job is dead; else the queue's, else 3.
    pub max_crashes: Option<u32>,
    /// The wait between attempts.
    pub backoff: Backoff,
    /// How long one attempt may take, in milliseconds. The worker keeps it; a lease is never extended past it.
    pub timeout_ms: Option<u64>,
    /// How long the finished job stays readable, in milliseconds; else the queue's retention.
    pub retain_ms: Option<u64>,
}

impl Default for JobPolicy {
    fn default() -> Self {
        JobPolicy {
            max_attempts: 20,
            max_crashes: None,
            backoff: Backoff::default(),
            timeout_ms: None,
            retain_ms: None,
        }
    }
}

/// An instant given absolutely or from the moment the store applies the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    /// At this wall time; one in the past means now.
    At(Timestamp),
    /// This many milliseconds after the commit.
    In(u64),
}

impl When {
    /// The instant on the wall clock, seen from `now`.
    pub fn from(self, now: Timestamp) -> Timestamp {
        match self {
            When::At(at) => at,
            When::In(ms) => now.plus_ms(ms),
        }
    }
}

/// At most one unfinished job of a queue holds a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unique {
    /// The key, unique within the queue.
    pub key: Arc<str>,
    /// Hold it for this many milliseconds from the enqueue; else until the job has finished.
    pub for_ms: Option<u64>,
}

/// The longest concurrency or fairness key, in bytes.
pub const MAX_KEY_BYTES: usize = 256;

/// Whether a text can be a concurrency or fairness key.
pub(crate) fn is_key(text: &str) -> bool {
    (1..=MAX_KEY_BYTES).contains(&text.len())
}

/// What a job is counted by when its queue hands it out. Both are words of its queue alone: the same key in another
/// queue is another key.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobKeys {
    /// Jobs with one key share the queue's `key_concurrency`.
    pub concurrency: Option<Arc<str>>,
    /// Whose turn the job counts for, in a queue with fairness.
    pub fairness: Option<Arc<str>>,
}

impl JobKeys {
    /// It has none.
    pub fn is_empty(&self) -> bool {
        self.concurrency.is_none() && self.fairness.is_none()
    }
}

/// A raw JSON text, kept byte for byte. The edge has checked that it is JSON.
pub type Json = Arc<str>;

/// The part of a job that never changes after its enqueue. Stores keep it apart from the small state row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobBody {
    /// What the job is, for the worker that picks a handler: 1–256 bytes.
    pub kind: Arc<str>,
    /// The input, as JSON text. Defaults to `null`.
    pub payload: Json,
    /// A JSON object of the author's, up to 4 KiB.
    pub meta: Option<Json>,
    /// Up to 16 words to find the job by.
    pub tags: Vec<Arc<str>>,
    /// The W3C trace context of the enqueue.
    pub traceparent: Option<Arc<str>>,
    /// What it waited for. Made by the store from [`NewJob::after`]; whatever a caller puts here is left out.
    pub after: Option<WaitsFor>,
    /// How long its unique key is held, if not until it has finished: [`Unique::for_ms`]. Made by the store as well.
    #[serde(default)]
    pub unique_for_ms: Option<u64>,
}

impl JobBody {
    /// A body with nothing but a kind and a payload.
    pub fn new(kind: &str, payload: &str) -> JobBody {
        JobBody {
            kind: kind.into(),
            payload: payload.into(),
            meta: None,
            tags: vec![],
            traceparent: None,
            after: None,
            unique_for_ms: None,
        }
    }

    /// The bytes it takes in an answer, roughly; what the size bounds of claims are counted in.
    pub fn size(&self) -> usize {
        let meta = self.meta.as_ref().map_or(0, |m| m.len());
        let tags: usize = self.tags.iter().map(|t| t.len() + 3).sum();
        let after = self.after.as_ref().map_or(0, |after| size_of_val(&*after.jobs));
        let trace = self.traceparent.as_ref().map_or(0, |t| t.len());
        self.kind.len() + self.payload.len() + meta + tags + trace + after
    }
}

/// A job to be enqueued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewJob {
    /// Made by [`crate::id::JobIds`], or by the caller.
    pub id: JobId,
    /// The caller chose the id, so it may exist already: then the job is a duplicate.
    pub caller_id: bool,
    /// Where it goes. A queue exists from its first job.
    pub queue: QueueName,
    /// What it is.
    pub body: Arc<JobBody>,
    /// 0…9, lower first. Defaults to 5.
    pub priority: u8,
    /// Not before; `None` means now.
    pub run_at: Option<When>,
    /// Never handed out after; `None` means no limit.
    pub expires: Option<When>,
    /// Its rules.
    pub policy: JobPolicy,
    /// Deduplication by key.
    pub unique: Option<Unique>,
    /// Not before all of these have completed; at most [`crate::after::MAX_AFTER`].
    pub after: Vec<After>,
    /// What a dead one among those means. Defaults to [`AfterFailure::Wait`].
    pub after_failure: AfterFailure,
    /// What it is counted by when it is handed out.
    pub keys: JobKeys,
}

impl NewJob {
    /// A job with every default.
    pub fn new(id: JobId, queue: QueueName, body: JobBody) -> NewJob {
        NewJob {
            id,
            caller_id: false,
            queue,
            body: Arc::new(body),
            priority: 5,
            run_at: None,
            expires: None,
            policy: JobPolicy::default(),
            unique: None,
            after: Vec::new(),
            after_failure: AfterFailure::Wait,
            keys: JobKeys::default(),
        }
    }
}

/// What a worker says of an attempt that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailure {
    /// A class of errors, to group dead letters by.
    pub kind: Option<Arc<str>>,
    /// For people.
    pub message: Arc<str>,
    /// Up to 16 KiB.
    pub backtrace: Option<Arc<str>>,
}

/// A failure as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRecord {
    /// The attempt that failed, from 1.
    pub attempt: u32,
    /// When, on the wall clock.
    pub at: Timestamp,
    /// What was said.
    pub failure: JobFailure,
}

/// A store keeps this many of the newest failures of a job.
pub const FAILURES_KEPT: u32 = 32;

/// When a failed job is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Retry {
    /// By the job's back-off, while it has attempts left.
    Auto,
    /// Never: it is dead, reason `permanent`.
    Never,
    /// After this many milliseconds, while it has attempts left.
    After(u64),
}

/// How a worker ends its claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The work is done.
    Complete {
        /// For whoever asks for the result, as JSON text.
        result: Option<Json>,
    },
    /// The attempt failed.
    Fail {
        /// Why.
        error: JobFailure,
        /// And now?
        retry: Retry,
    },
    /// The job goes back as if it had not been claimed: no attempt is spent.
    Release {
        /// Not to be handed out for this many milliseconds.
        delay_ms: u64,
    },
    /// The worker gave up on request.
    Cancel {
        /// What it was at, or why it stopped: kept with the job's failures.
        error: Option<JobFailure>,
    },
}

/// The name of an outcome, kept with the lease it ended so that a repeat is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verb {
    /// [`Outcome::Complete`]
    Complete,
    /// [`Outcome::Fail`]
    Fail,
    /// [`Outcome::Release`]
    Release,
    /// [`Outcome::Cancel`]
    Cancel,
}

impl Outcome {
    /// Its name.
    pub fn verb(&self) -> Verb {
        match self {
            Outcome::Complete { .. } => Verb::Complete,
            Outcome::Fail { .. } => Verb::Fail,
            Outcome::Release { .. } => Verb::Release,
            Outcome::Cancel { .. } => Verb::Cancel,
        }
    }
}

/// A job that was handed to a worker, with the lease that proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Which job.
    pub id: JobId,
    /// The store's number of its body.
    pub n: u64,
    /// Of which queue.
    pub queue: QueueName,
    /// 0…9.
    pub priority: u8,
    /// This attempt, from 1.
    pub attempt: u32,
    /// Leases of it that ran out so far.
    pub crashes: u32,
    /// Its rules.
    pub policy: JobPolicy,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// The proof. Its token fences this attempt off from earlier ones.
    pub lease: LeaseId,
    /// When the lease runs out, projected to the wall clock.
    pub expires_at: Timestamp,
    /// What the job is. Every store fills it in before the grant leaves it; it is not kept with the answer.
    #[serde(skip)]
    pub body: Option<Arc<JobBody>>,
}

/// Everything a store knows of a job. The lease itself is never shown, only its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Which job.
    pub id: JobId,
    /// Of which queue.
    pub queue: QueueName,
    /// At the time of the reading.
    pub state: JobState,
    /// What it is.
    pub body: Arc<JobBody>,
    /// 0…9.
    pub priority: u8,
    /// Not before.
    pub run_at: Timestamp,
    /// Attempts begun, less those released.
    pub attempt: u32,
    /// Leases that ran out.
    pub crashes: u32,
    /// Its rules.
    pub policy: JobPolicy,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// The job's own expiry.
    pub expires_at: Option<Timestamp>,
    /// The key it is unique by.
    pub unique_key: Option<Arc<str>>,
    /// How many of the jobs it was to wait for ([`JobBody::after`]) it still waits for.
    pub waiting_for: u32,
    /// What it is counted by when it is handed out.
    pub keys: JobKeys,
    /// The token of the live lease.
    pub token: Option<Token>,
    /// When the live lease runs out, projected to the wall clock.
    pub lease_expires_at: Option<Timestamp>,
    /// Who has it.
    pub worker: Option<WorkerName>,
    /// Its worker is to be told to stop.
    pub cancel_requested: bool,
    /// What the worker last said of how far it is, as JSON text.
    pub progress: Option<Json>,
    /// What the job yielded, as JSON text.
    pub result: Option<Json>,
    /// The newest failures, oldest first; at most [`FAILURES_KEPT`].
    pub failures: Vec<FailureRecord>,
    /// When it finished.
    pub finished_at: Option<Timestamp>,
    /// Why it is dead.
    pub reason: Option<DeadReason>,
}
