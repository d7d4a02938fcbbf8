//! Queues and their dead letters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::read::{job_id, key, some_span, span};
use crate::limits::MAX_SAFE_INTEGER;
use crate::strict::{Cx, Fields, Path, Strict, Value, boolean, decimal, int, one_of};
use crate::{JobId, Timestamp};

/// The whole configuration of a queue: `PUT /v1/queues/{queue}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct QueueConfig {
    /// How many jobs may wait. Defaults to no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 9_007_199_254_740_991_u64))]
    pub max_depth: Option<u64>,
    /// What happens to a job too many. Defaults to `reject`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overflow: Option<Overflow>,
    /// Refuse jobs while the oldest available one has been available for longer, in milliseconds. Defaults to no bound;
    /// `overflow` is about the depth alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 3_162_240_000_000_u64))]
    pub max_age_ms: Option<u64>,
    /// How many jobs may run at once. Defaults to no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1_000_000))]
    pub concurrency: Option<u32>,
    /// How many jobs with one `concurrency_key` may run at once. Defaults to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1_000_000))]
    pub key_concurrency: Option<u32>,
    /// How many jobs are handed out in a time span. Defaults to no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Whether keys take turns. Defaults to no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fairness: Option<Fairness>,
    /// A waiting job gains one step of priority for each so many milliseconds that it has been due. Defaults to no.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 3_162_240_000_000_u64))]
    pub ageing_ms: Option<u64>,
    /// How many crashes end a job that does not say. Defaults to 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1_000_000))]
    pub max_crashes: Option<u32>,
    /// How long finished jobs stay readable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

impl Strict for QueueConfig {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(
            cx,
            at,
            value,
            &[
                "max_depth",
                "overflow",
                "max_age_ms",
                "concurrency",
                "key_concurrency",
                "rate",
                "fairness",
                "ageing_ms",
                "max_crashes",
                "retention",
            ],
        )?;
        Some(Self {
            max_depth: f.optional(cx, at, "max_depth", int(1..=MAX_SAFE_INTEGER)),
            overflow: f.optional(cx, at, "overflow", one_of(Overflow::WORDS)),
            max_age_ms: f.optional(cx, at, "max_age_ms", some_span),
            concurrency: f.optional(cx, at, "concurrency", int(1..=1_000_000)),
            key_concurrency: f.optional(cx, at, "key_concurrency", int(1..=1_000_000)),
            rate: f.optional(cx, at, "rate", Rate::read),
            fairness: f.optional(cx, at, "fairness", Fairness::read),
            ageing_ms: f.optional(cx, at, "ageing_ms", some_span),
            max_crashes: f.optional(cx, at, "max_crashes", int(1..=1_000_000)),
            retention: f.optional(cx, at, "retention", Retention::read),
        })
    }
}

/// What happens to a job too many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// It is refused with `queue-full`.
    #[default]
    Reject,
    /// The oldest waiting one is cancelled for it.
    DropOldest,
}

impl Overflow {
    const WORDS: &[(&str, Self)] = &[("reject", Self::Reject), ("drop_oldest", Self::DropOldest)];
}

/// How many jobs are handed out in a time span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rate {
    /// The time span, in milliseconds.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 3_162_240_000_000_u64))]
    pub per_ms: u64,
    /// The number of jobs in it.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 9_007_199_254_740_991_u64))]
    pub count: u64,
}

impl Strict for Rate {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["per_ms", "count"])?;
        let per_ms = f.required(cx, at, "per_ms", some_span);
        let count = f.required(cx, at, "count", int(1..=MAX_SAFE_INTEGER));
        Some(Self { per_ms: per_ms?, count: count? })
    }
}

/// Lets keys take turns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Fairness {
    /// What is taken as the key.
    pub by: FairnessBy,
    /// Keys with more or less than the usual share, which is 1: 0.001 to 1000, in steps of 0.001.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true))]
    pub weights: BTreeMap<String, f64>,
}

/// What jobs take turns by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FairnessBy {
    /// The job's `fairness_key`.
    #[default]
    FairnessKey,
}

impl Strict for Fairness {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["by", "weights"])?;
        let by = f.required(cx, at, "by", one_of(&[("fairness_key", FairnessBy::FairnessKey)]));
        let weights = f.optional(cx, at, "weights", weights).unwrap_or_default();
        Some(Self { by: by?, weights })
    }
}

fn weights(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<BTreeMap<String, f64>> {
    const MAX: usize = 1_000;
    let Some(members) = value.members() else {
        cx.error(at, "must be an object of numbers");
        return None;
    };
    if members.clone().take(MAX + 1).count() > MAX {
        cx.error(at, format!("must have at most {MAX} members"));
        return None;
    }
    let mut all = BTreeMap::new();
    for (key, value) in members {
        let weight = decimal(0.001..=1000.0)(cx, &at.key(&key), value);
        if !(1..=256).contains(&key.len()) {
            cx.error(&at.key(&key), "must be named by a fairness key, 1 to 256 bytes");
        } else if let Some(weight) = weight {
            all.insert(key.into_owned(), weight);
        }
    }
    Some(all)
}

/// How long finished jobs stay readable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Retention {
    /// Completed and cancelled ones, in milliseconds. Defaults to 24 h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 3_162_240_000_000_u64))]
    pub completed_ms: Option<u64>,
    /// And no more than the newest so many of them. Defaults to 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 9_007_199_254_740_991_u64))]
    pub completed_count: Option<u64>,
    /// Dead ones, in milliseconds. Defaults to 30 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 3_162_240_000_000_u64))]
    pub dead_ms: Option<u64>,
}

impl Strict for Retention {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["completed_ms", "completed_count", "dead_ms"])?;
        Some(Self {
            completed_ms: f.optional(cx, at, "completed_ms", span),
            completed_count: f.optional(cx, at, "completed_count", int(0..=MAX_SAFE_INTEGER)),
            dead_ms: f.optional(cx, at, "dead_ms", span),
        })
    }
}

/// A queue: `GET /v1/queues/{queue}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// Whether it hands out nothing.
    pub paused: bool,
    /// How many jobs it has in each state.
    pub depth: Depth,
    /// How long the job that could be claimed the longest has waited, in milliseconds; `null` when there is none.
    pub oldest_available_age_ms: Option<u64>,
    /// What was `PUT`.
    pub config: QueueConfig,
    /// What has come and gone since the server was started; absent where the store does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
}

/// What has come into a queue and left it since the server was started: for rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Totals {
    /// Jobs that were made.
    pub enqueued: u64,
    /// Jobs that ended well.
    pub completed: u64,
    /// Jobs that were called off.
    pub cancelled: u64,
    /// Jobs that were given up.
    pub dead: u64,
}

impl Totals {
    /// Jobs that have finished, however.
    pub fn finished(&self) -> u64 {
        self.completed + self.cancelled + self.dead
    }
}

/// How many jobs a queue has in each state that is not finished for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Depth {
    /// With `run_at` in the future.
    pub scheduled: u64,
    /// Waiting for other jobs.
    pub blocked: u64,
    /// Ready to be claimed.
    pub available: u64,
    /// Claimed.
    pub running: u64,
    /// Waiting for their back-off.
    pub retryable: u64,
    /// Given up.
    pub dead: u64,
}

/// The answer to a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Purged {
    /// How many jobs are gone.
    pub purged: u64,
}

/// Which dead letters: `POST /v1/queues/{queue}/dead/requeue` and `/dead/delete`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeadSelect {
    /// These; excludes `kind` and `error_type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_items = 10_000))]
    pub ids: Option<Vec<JobId>>,
    /// Those of this kind; excludes `ids` and `error_type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub kind: Option<String>,
    /// Those whose last error had this type; excludes `ids` and `kind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub error_type: Option<String>,
    /// At most so many. Defaults to all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 9_007_199_254_740_991_u64))]
    pub limit: Option<u64>,
    /// Only count. Defaults to no.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true))]
    pub dry_run: bool,
}

impl Strict for DeadSelect {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["ids", "kind", "error_type", "limit", "dry_run"])?;
        let ids = f.list(cx, at, "ids", 0..=cx.limits.bulk, job_id);
        let kind = f.optional(cx, at, "kind", key);
        let error_type = f.optional(cx, at, "error_type", key);
        let limit = f.optional(cx, at, "limit", int(1..=MAX_SAFE_INTEGER));
        let dry_run = f.optional(cx, at, "dry_run", boolean).unwrap_or(false);
        only_one_given(cx, at, &f);
        Some(Self { ids, kind, error_type, limit, dry_run })
    }
}

/// There is one way to choose dead letters at a time.
pub(super) fn only_one_given<const N: usize>(cx: &mut Cx<'_>, at: &Path<'_>, f: &Fields<'_, N>) {
    let names = ["ids", "kind", "error_type"];
    let given = names.map(|name| f.value(name).is_some_and(|value| !value.is_null()));
    if given.iter().filter(|given| **given).count() > 1 {
        for (name, _) in names.into_iter().zip(given).filter(|(_, given)| *given) {
            cx.error(&at.key(name), "only one of ids, kind and error_type can be given");
        }
    }
}

/// The answer to a requeue or delete of dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeadChanged {
    /// How many fit, before `limit`.
    pub matched: u64,
    /// How many were changed; 0 on `dry_run`.
    pub changed: u64,
}

/// Who claims what: `GET /v1/workers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerView {
    /// The worker's name.
    pub name: String,
    /// The queues it claims from.
    pub queues: Vec<String>,
    /// How many jobs it has now.
    pub running: u64,
    /// When it last called.
    pub last_seen: Timestamp,
}
