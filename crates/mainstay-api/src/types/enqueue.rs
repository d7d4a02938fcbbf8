//! Making jobs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::JobState;
use super::read::{job_id, key, new_job_id, raw_object, some_span, span};
use crate::limits::MAX_SPAN_MS;
use crate::strict::{Cx, Fields, Path, Strict, Value, decimal, int, one_of, text, timestamp};
use crate::{JobId, RawJson, Timestamp};

/// A job's priority when it names none.
pub const DEFAULT_PRIORITY: u8 = 5;
/// How often a job is tried when it does not say.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 20;
/// How many crashes a job survives when neither it nor its queue says.
pub const DEFAULT_MAX_CRASHES: u32 = 3;

/// A job to be made: `POST /v1/queues/{queue}/jobs`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewJob {
    /// What is to be done: what workers choose their handler by. 1 to 256 bytes.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub kind: String,
    /// The job's id, a UUIDv7. Defaults to a new one; an id that is taken makes the call answer the first job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<JobId>,
    /// What the handler gets. Defaults to `null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub payload: Option<RawJson>,
    /// 0 to 9, lower first. Defaults to 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 9))]
    pub priority: Option<u8>,
    /// Not before this moment. Defaults to now; excludes `delay_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// Not before this long from now, in milliseconds; excludes `run_at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 3_162_240_000_000_u64))]
    pub delay_ms: Option<u64>,
    /// How many failures and crashes end the job. Defaults to 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1_000_000))]
    pub max_attempts: Option<u32>,
    /// How many crashes end the job. Defaults to the queue's, else 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1_000_000))]
    pub max_crashes: Option<u32>,
    /// How long to wait after a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// How long one attempt may take, in milliseconds; the worker's to keep. Defaults to no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 3_162_240_000_000_u64))]
    pub timeout_ms: Option<u64>,
    /// Never hand the job out after this moment. Defaults to never; excludes `expires_in_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Never hand the job out after this long, in milliseconds; excludes `expires_at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 3_162_240_000_000_u64))]
    pub expires_in_ms: Option<u64>,
    /// At most one job of the queue with this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    /// Bounds how many jobs of the queue with this key run at once. 1 to 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub concurrency_key: Option<String>,
    /// Whose turn the job counts for in a queue with fairness. 1 to 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub fairness_key: Option<String>,
    /// Jobs to wait for, at most 10,000: the job is `blocked` until all of them have completed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true, max_items = 10_000))]
    pub after: Vec<AfterRef>,
    /// What a dead job among those means. Defaults to `wait`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_failure: Option<AfterFailure>,
    /// Words to find the job by: at most 16 of 64 bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true, max_items = 16))]
    pub tags: Vec<String>,
    /// A JSON object of at most 4 KiB that travels with the job. Defaults to `{}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<std::collections::BTreeMap<String, RawJson>>))]
    pub meta: Option<RawJson>,
    /// How long the finished job stays readable, in milliseconds. Defaults to the queue's retention.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 3_162_240_000_000_u64))]
    pub retain_ms: Option<u64>,
}

impl NewJob {
    /// A job of this kind with this payload and the defaults for all else.
    pub fn new(kind: impl Into<String>, payload: RawJson) -> Self {
        Self { kind: kind.into(), payload: Some(payload), ..Self::default() }
    }

    pub(super) fn from_fields<const N: usize>(
        cx: &mut Cx<'_>,
        at: &Path<'_>,
        f: &Fields<'_, N>,
    ) -> Option<Self> {
        let limits = cx.limits;
        let kind = f.required(cx, at, "kind", key);
        let after = f.list(cx, at, "after", 0..=limits.after, after_ref).unwrap_or_default();
        let job = Self {
            kind: kind.unwrap_or_default(),
            id: f.optional(cx, at, "id", new_job_id),
            payload: f.raw(cx, at, "payload", limits.payload_bytes),
            priority: f.optional(cx, at, "priority", int(0..=9)),
            run_at: f.optional(cx, at, "run_at", timestamp),
            delay_ms: f.optional(cx, at, "delay_ms", span),
            max_attempts: f.optional(cx, at, "max_attempts", int(1..=1_000_000)),
            max_crashes: f.optional(cx, at, "max_crashes", int(1..=1_000_000)),
            backoff: f.optional(cx, at, "backoff", Backoff::read),
            timeout_ms: f.optional(cx, at, "timeout_ms", some_span),
            expires_at: f.optional(cx, at, "expires_at", timestamp),
            expires_in_ms: f.optional(cx, at, "expires_in_ms", some_span),
            unique: f.optional(cx, at, "unique", Unique::read),
            concurrency_key: f.optional(cx, at, "concurrency_key", key),
            fairness_key: f.optional(cx, at, "fairness_key", key),
            after,
            after_failure: f.optional(cx, at, "after_failure", one_of(AfterFailure::WORDS)),
            tags: f.list(cx, at, "tags", 0..=limits.tags, text(1..=limits.tag_bytes)).unwrap_or_default(),
            meta: f.optional(cx, at, "meta", raw_object(limits.meta_bytes)),
            retain_ms: f.optional(cx, at, "retain_ms", span),
        };
        if given(f, "run_at") && given(f, "delay_ms") {
            cx.conflict(at, "run_at", "delay_ms");
        }
        if given(f, "expires_at") && given(f, "expires_in_ms") {
            cx.conflict(at, "expires_at", "expires_in_ms");
        }
        Some(job)
    }
}

fn given<const N: usize>(fields: &Fields<'_, N>, name: &'static str) -> bool {
    fields.value(name).is_some_and(|value| !value.is_null())
}

const NEW_JOB: [&str; 20] = [
    "kind",
    "id",
    "payload",
    "priority",
    "run_at",
    "delay_ms",
    "max_attempts",
    "max_crashes",
    "backoff",
    "timeout_ms",
    "expires_at",
    "expires_in_ms",
    "unique",
    "concurrency_key",
    "fairness_key",
    "after",
    "after_failure",
    "tags",
    "meta",
    "retain_ms",
];

/// The fields of an enqueue inside a commit.
pub(super) const ENQUEUE_OP: [&str; 22] = {
    let mut all = ["op"; 22];
    all[1] = "queue";
    let (_, job) = all.split_at_mut(2);
    job.copy_from_slice(&NEW_JOB);
    all
};

impl Strict for NewJob {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let fields = Fields::open(cx, at, value, &NEW_JOB)?;
        Self::from_fields(cx, at, &fields)
    }
}

/// How long to wait before the next attempt: `min(max_ms, base_ms × factor^(n−1))`, jittered below that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Backoff {
    /// The first wait, in milliseconds. Defaults to 1 s.
    #[cfg_attr(feature = "openapi", schema(nullable = true, maximum = 3_162_240_000_000_u64))]
    pub base_ms: u64,
    /// What each further wait is multiplied with, 1 to 100. Defaults to 2.
    #[serde(serialize_with = "shortest")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1.0, maximum = 100.0, nullable = true))]
    pub factor: f64,
    /// The longest wait, in milliseconds. Defaults to 1 h.
    #[cfg_attr(feature = "openapi", schema(nullable = true, maximum = 3_162_240_000_000_u64))]
    pub max_ms: u64,
    /// How much of the wait is left to chance. Defaults to `full`.
    #[cfg_attr(feature = "openapi", schema(nullable = true))]
    pub jitter: Jitter,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base_ms: 1_000, factor: 2.0, max_ms: 3_600_000, jitter: Jitter::Full }
    }
}

impl Strict for Backoff {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["base_ms", "factor", "max_ms", "jitter"])?;
        let default = Self::default();
        Some(Self {
            base_ms: f.optional(cx, at, "base_ms", span).unwrap_or(default.base_ms),
            factor: f.optional(cx, at, "factor", decimal(1.0..=100.0)).unwrap_or(default.factor),
            max_ms: f.optional(cx, at, "max_ms", span).unwrap_or(default.max_ms),
            jitter: f.optional(cx, at, "jitter", one_of(Jitter::WORDS)).unwrap_or_default(),
        })
    }
}

/// Writes 2 rather than 2.0.
fn shortest<S: Serializer>(factor: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if factor.fract() == 0.0 && (0.0..1e15).contains(factor) {
        return serializer.serialize_u64(*factor as u64);
    }
    serializer.serialize_f64(*factor)
}

/// How much of a wait is left to chance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Jitter {
    /// All of it.
    #[default]
    Full,
    /// Half of it.
    Equal,
    /// Nothing.
    None,
}

impl Jitter {
    const WORDS: &[(&str, Self)] = &[("full", Self::Full), ("equal", Self::Equal), ("none", Self::None)];
}

/// At most one job of the queue with this key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Unique {
    /// The key, 1 to 256 bytes.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub key: String,
    /// How long it is held from the enqueue on, in milliseconds. Defaults to until the job has finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 3_162_240_000_000_u64))]
    pub for_ms: Option<u64>,
}

impl Strict for Unique {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["key", "for_ms"])?;
        let key = f.required(cx, at, "key", key);
        let for_ms = f.optional(cx, at, "for_ms", int(1..=MAX_SPAN_MS));
        Some(Self { key: key?, for_ms })
    }
}

/// A job to wait for: `"019a…"`, or in bulk and commit `"#N"`, the N-th of the same request from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRef {
    /// A job that exists.
    Job(JobId),
    /// An earlier one of this request.
    Local(u32),
}

impl fmt::Display for AfterRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(id) => id.fmt(f),
            Self::Local(index) => write!(f, "#{index}"),
        }
    }
}

impl FromStr for AfterRef {
    type Err = crate::id::JobIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix('#') {
            Some(index) if index.bytes().all(|byte| byte.is_ascii_digit()) => {
                index.parse().map(Self::Local).map_err(|_| crate::id::JobIdError)
            }
            _ => text.parse().map(Self::Job),
        }
    }
}

impl Serialize for AfterRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AfterRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn after_ref(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<AfterRef> {
    let text = value.as_str().unwrap_or_default();
    if !text.starts_with('#') {
        return job_id(cx, at, value).map(AfterRef::Job);
    }
    let local = text.parse().ok();
    if local.is_none() {
        cx.error(at, "must be a job's id or #N");
    }
    local
}

/// What it means for a waiting job that one it waits for is dead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum AfterFailure {
    /// It goes on waiting: the dead one may be requeued.
    #[default]
    Wait,
    /// It is cancelled.
    Cancel,
    /// It runs.
    Run,
}

impl AfterFailure {
    const WORDS: &[(&str, Self)] = &[("wait", Self::Wait), ("cancel", Self::Cancel), ("run", Self::Run)];
}

/// The answer to an enqueue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Enqueued {
    /// The job's id; the first job's, when this is a duplicate.
    pub id: JobId,
    /// Its queue.
    pub queue: String,
    /// Its kind.
    pub kind: String,
    /// Its state now.
    pub state: JobState,
    /// Its priority.
    pub priority: u8,
    /// When it may run.
    pub run_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether an earlier job answers for this one.
    pub deduplicated: bool,
    /// How close the queue is to refusing jobs, 0 to 1: the larger of its depth as a part of `max_depth` and of
    /// `oldest_available_age_ms` as a part of `max_age_ms`. Not there if it has neither bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0.0, maximum = 1.0))]
    pub pressure: Option<f64>,
}

/// Many jobs at once, all or none: `POST /v1/queues/{queue}/jobs/bulk`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BulkEnqueue {
    /// 1 to 10,000 jobs.
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 10_000))]
    pub jobs: Vec<NewJob>,
}

impl Strict for BulkEnqueue {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["jobs"])?;
        let jobs = f.list(cx, at, "jobs", 1..=cx.limits.bulk, NewJob::read)?;
        check_local(cx, &at.key("jobs"), jobs.iter().map(Some));
        Some(Self { jobs })
    }
}

impl BulkEnqueue {
    /// Reads an `application/x-ndjson` body: one job a line.
    ///
    /// # Errors
    /// As [`crate::strict::parse`]; line `n` is `/jobs/n`.
    pub fn parse_lines(
        body: &[u8],
        limits: &crate::Limits,
    ) -> Result<crate::strict::Parsed<Self>, crate::Problem> {
        let jobs = crate::strict::parse_lines::<NewJob>(body, "jobs", limits.bulk, limits)?;
        let mut cx = Cx::new(limits);
        check_local(&mut cx, &Path::Root.key("jobs"), jobs.value.iter().map(Some));
        let checked = cx.finish(Some(()))?;
        debug_assert!(checked.unsupported.is_empty());
        Ok(crate::strict::Parsed { value: Self { jobs: jobs.value }, unsupported: jobs.unsupported })
    }
}

/// `#N` may only name an earlier enqueue of the same request. `None` stands for an operation that is none.
pub(super) fn check_local<'j>(
    cx: &mut Cx<'_>,
    list: &Path<'_>,
    jobs: impl Iterator<Item = Option<&'j NewJob>>,
) {
    let mut is_job = Vec::new();
    for (index, job) in jobs.enumerate() {
        for (place, after) in job.map_or(&[][..], |job| &job.after).iter().enumerate() {
            let AfterRef::Local(earlier) = after else { continue };
            let names_one = usize::try_from(*earlier).is_ok_and(|earlier| is_job.get(earlier) == Some(&true));
            if !names_one {
                cx.error(
                    &list.index(index).key("after").index(place),
                    format!("{after} names no earlier enqueue of this request"),
                );
            }
        }
        is_job.push(job.is_some());
    }
}

/// The answer to a bulk enqueue, in the order of the request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BulkEnqueued {
    /// One for each job.
    pub results: Vec<BulkResult>,
    /// How close the queue is to refusing jobs, as for one job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0.0, maximum = 1.0))]
    pub pressure: Option<f64>,
}

/// What became of one job of a bulk enqueue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BulkResult {
    /// The job's id; the first job's, when this is a duplicate.
    pub id: JobId,
    /// Its state now.
    pub state: JobState,
    /// Whether an earlier job answers for this one.
    pub deduplicated: bool,
}
