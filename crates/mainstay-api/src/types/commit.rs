//! One commit for everything.

use serde::{Deserialize, Serialize};

use super::enqueue::{ENQUEUE_OP, check_local};
use super::read::{job_id, lease, name, span};
use super::{CloudEvent, Enqueued, JobFailure, NewJob, Published, Released, Retry, StateAnswer};
use crate::limits::MAX_SAFE_INTEGER;
use crate::names::{TOPIC_RULE, is_topic};
use crate::strict::{Cx, Fields, Kind, Path, Strict, Value, int, matching, one_of};
use crate::{JobId, RawJson};

/// A list of changes that happen all or not at all: `POST /v1/commit`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Commit {
    /// What must hold for anything to happen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true))]
    pub require: Vec<Require>,
    /// What is to happen, in order; at most 1,000.
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 1000))]
    pub ops: Vec<CommitOp>,
}

impl Strict for Commit {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["require", "ops"])?;
        let max = cx.limits.commit;
        let require = f.list(cx, at, "require", 0..=max, Require::read).unwrap_or_default();
        let ops = f.list(cx, at, "ops", 1..=max, CommitOp::read)?;
        let jobs = ops.iter().map(|op| match op {
            CommitOp::Enqueue { job, .. } => Some(&**job),
            _ => None,
        });
        check_local(cx, &at.key("ops"), jobs);
        Some(Self { require, ops })
    }
}

/// What must hold for a commit to happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum Require {
    /// The lock is held under this fencing token.
    Lock {
        /// The lock.
        lock: String,
        /// The grant's token.
        #[cfg_attr(feature = "openapi", schema(maximum = 9_007_199_254_740_991_u64))]
        token: u64,
    },
    /// The job is claimed under this lease.
    Job {
        /// The job.
        job: JobId,
        /// The claim's lease.
        lease: String,
    },
}

impl Strict for Require {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        match (value.get("lock").is_some(), value.get("job").is_some()) {
            (true, false) => {
                let f = Fields::open(cx, at, value, &["lock", "token"])?;
                let lock = f.required(cx, at, "lock", name);
                let token = f.required(cx, at, "token", int(0..=MAX_SAFE_INTEGER));
                Some(Self::Lock { lock: lock?, token: token? })
            }
            (false, true) => {
                let f = Fields::open(cx, at, value, &["job", "lease"])?;
                let job = f.required(cx, at, "job", job_id);
                let lease = f.required(cx, at, "lease", lease);
                Some(Self::Job { job: job?, lease: lease? })
            }
            _ => {
                cx.error(at, "must be {lock, token} or {job, lease}");
                None
            }
        }
    }
}

/// One change of a commit.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum CommitOp {
    /// Makes a job.
    Enqueue {
        /// Where.
        queue: String,
        /// The job.
        #[serde(flatten)]
        job: Box<NewJob>,
    },
    /// Publishes an event.
    Publish {
        /// Where.
        topic: String,
        /// The CloudEvent, as in structured mode.
        #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, RawJson>))]
        event: RawJson,
    },
    /// Ends a claim: the job is done.
    Complete {
        /// The job.
        id: JobId,
        /// The claim's lease.
        lease: String,
        /// What came out. Defaults to `null`.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(nullable = false))]
        result: Option<RawJson>,
    },
    /// Ends a claim: the attempt failed.
    Fail {
        /// The job.
        id: JobId,
        /// The claim's lease.
        lease: String,
        /// What went wrong.
        error: JobFailure,
        /// Whether and when to try again. Defaults to `auto`.
        #[cfg_attr(feature = "openapi", schema(required = false, nullable = true))]
        retry: Retry,
    },
    /// Ends a claim: the job is given back without spending an attempt.
    Release {
        /// The job.
        id: JobId,
        /// The claim's lease.
        lease: String,
        /// Not to be handed out again before this long, in milliseconds. Defaults to 0.
        #[cfg_attr(
            feature = "openapi",
            schema(required = false, nullable = true, default = 0, maximum = 3_162_240_000_000_u64)
        )]
        delay_ms: u64,
    },
    /// Acknowledges a delivery.
    Ack {
        /// The consumer group.
        group: String,
        /// The delivery's lease.
        lease: String,
    },
    /// Releases a lock.
    ReleaseLock {
        /// The lock.
        name: String,
        /// The grant's lease.
        lease: String,
    },
}

#[derive(Clone, Copy)]
enum Verb {
    Enqueue,
    Publish,
    Complete,
    Fail,
    Release,
    Ack,
    ReleaseLock,
}

impl Strict for CommitOp {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        const VERBS: &[(&str, Verb)] = &[
            ("enqueue", Verb::Enqueue),
            ("publish", Verb::Publish),
            ("complete", Verb::Complete),
            ("fail", Verb::Fail),
            ("release", Verb::Release),
            ("ack", Verb::Ack),
            ("release_lock", Verb::ReleaseLock),
        ];
        if value.kind() != Kind::Object {
            cx.error(at, "must be an object");
            return None;
        }
        // The verb says which other fields there are.
        let Some(word) = value.get("op") else {
            cx.error(&at.key("op"), "is missing");
            return None;
        };
        match one_of(VERBS)(cx, &at.key("op"), word)? {
            Verb::Enqueue => {
                let f = Fields::open(cx, at, value, &ENQUEUE_OP)?;
                let queue = f.required(cx, at, "queue", name);
                let job = NewJob::from_fields(cx, at, &f);
                Some(Self::Enqueue { queue: queue?, job: Box::new(job?) })
            }
            Verb::Publish => {
                let f = Fields::open(cx, at, value, &["op", "topic", "event"])?;
                let topic = f.required(cx, at, "topic", matching(is_topic, TOPIC_RULE));
                let event = f.required(cx, at, "event", |cx, at, value| {
                    CloudEvent::read(cx, at, value).map(|_| value.to_raw())
                });
                Some(Self::Publish { topic: topic?, event: event? })
            }
            Verb::Complete => {
                let f = Fields::open(cx, at, value, &["op", "id", "lease", "result"])?;
                let id = f.required(cx, at, "id", job_id);
                let lease = f.required(cx, at, "lease", lease);
                let result = f.raw(cx, at, "result", cx.limits.result_bytes);
                Some(Self::Complete { id: id?, lease: lease?, result })
            }
            Verb::Fail => {
                let f = Fields::open(cx, at, value, &["op", "id", "lease", "error", "retry"])?;
                let id = f.required(cx, at, "id", job_id);
                let lease = f.required(cx, at, "lease", lease);
                let error = f.required(cx, at, "error", JobFailure::read);
                let retry = f.optional(cx, at, "retry", Retry::read).unwrap_or_default();
                Some(Self::Fail { id: id?, lease: lease?, error: error?, retry })
            }
            Verb::Release => {
                let f = Fields::open(cx, at, value, &["op", "id", "lease", "delay_ms"])?;
                let id = f.required(cx, at, "id", job_id);
                let lease = f.required(cx, at, "lease", lease);
                let delay_ms = f.optional(cx, at, "delay_ms", span).unwrap_or(0);
                Some(Self::Release { id: id?, lease: lease?, delay_ms })
            }
            Verb::Ack => {
                let f = Fields::open(cx, at, value, &["op", "group", "lease"])?;
                let group = f.required(cx, at, "group", name);
                let lease = f.required(cx, at, "lease", lease);
                Some(Self::Ack { group: group?, lease: lease? })
            }
            Verb::ReleaseLock => {
                let f = Fields::open(cx, at, value, &["op", "name", "lease"])?;
                let name = f.required(cx, at, "name", name);
                let lease = f.required(cx, at, "lease", lease);
                Some(Self::ReleaseLock { name: name?, lease: lease? })
            }
        }
    }
}

/// The answer to a commit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Committed {
    /// One for each op, in order.
    pub results: Vec<CommitResult>,
}

/// What one op of a commit did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CommitResult {
    /// An enqueue's answer.
    Enqueued(Enqueued),
    /// The answer of what ended a claim.
    State(StateAnswer),
    /// The answer of a lock's release.
    Released(Released),
    /// A publish's answer.
    Published(Published),
    /// An acknowledged delivery.
    Acked {
        /// Always `true`.
        ok: bool,
    },
}
