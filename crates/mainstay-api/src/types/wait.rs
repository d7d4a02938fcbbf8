//! Waiting until looking again is worth it.

use serde::{Deserialize, Serialize};

use super::MAX_FILTERS;
use super::read::{job_id, name};
use crate::JobId;
use crate::limits::MAX_SAFE_INTEGER;
use crate::names::{FILTER_RULE, is_filter};
use crate::strict::{Cx, Fields, Path, Strict, Value, boolean, int, matching};

/// What to wait for, all of it at once: `POST /v1/wait`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WaitFor {
    /// A job of one of these queues can be claimed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true, max_items = 100))]
    pub queues: Vec<String>,
    /// One of these jobs has finished, or there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true, max_items = 100))]
    pub finished: Vec<JobId>,
    /// The cancellation of one of these jobs was asked for, or it has finished, or there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true, max_items = 100))]
    pub cancel_requested: Vec<JobId>,
    /// One of these consumer groups can hand out an event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true, max_items = 100))]
    pub groups: Vec<String>,
    /// The log has grown at one of these places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true, max_items = 100))]
    pub logs: Vec<WaitLog>,
    /// One of these locks has another holder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true, max_items = 100))]
    pub locks: Vec<WaitLock>,
    /// Something about schedules has changed. Defaults to `false`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true, default = false))]
    pub schedules: bool,
    /// How long at most, in milliseconds, up to 60 s. Defaults to not at all.
    #[cfg_attr(
        feature = "openapi",
        schema(required = false, nullable = true, maximum = 60_000, default = 0)
    )]
    pub wait_ms: u64,
}

impl Strict for WaitFor {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        const NAMES: [&str; 8] =
            ["queues", "finished", "cancel_requested", "groups", "logs", "locks", "schedules", "wait_ms"];
        let f = Fields::open(cx, at, value, &NAMES)?;
        let most = cx.limits.claim_queues;
        Some(Self {
            queues: f.list(cx, at, "queues", 0..=most, name).unwrap_or_default(),
            finished: f.list(cx, at, "finished", 0..=most, job_id).unwrap_or_default(),
            cancel_requested: f.list(cx, at, "cancel_requested", 0..=most, job_id).unwrap_or_default(),
            groups: f.list(cx, at, "groups", 0..=most, name).unwrap_or_default(),
            logs: f.list(cx, at, "logs", 0..=most, WaitLog::read).unwrap_or_default(),
            locks: f.list(cx, at, "locks", 0..=most, WaitLock::read).unwrap_or_default(),
            schedules: f.optional(cx, at, "schedules", boolean).unwrap_or(false),
            wait_ms: f.optional(cx, at, "wait_ms", int(0..=cx.limits.wait_max_ms)).unwrap_or(0),
        })
    }
}

/// A place in the log of events that is waited for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WaitLog {
    /// Of topics that one of these filters matches. Defaults to all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true, max_items = 100))]
    pub topics: Vec<String>,
    /// An event of this number or a higher one.
    #[cfg_attr(feature = "openapi", schema(maximum = 9_007_199_254_740_991_u64))]
    pub from: u64,
}

impl Strict for WaitLog {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["topics", "from"])?;
        let topics = f.list(cx, at, "topics", 0..=MAX_FILTERS, matching(is_filter, FILTER_RULE));
        let from = f.required(cx, at, "from", int(0..=MAX_SAFE_INTEGER));
        Some(Self { topics: topics.unwrap_or_default(), from: from? })
    }
}

/// A lock whose holder is watched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WaitLock {
    /// The lock.
    pub name: String,
    /// The highest token that was seen last. Left out: nobody held it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 9_007_199_254_740_991_u64))]
    pub seen: Option<u64>,
}

impl Strict for WaitLock {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["name", "seen"])?;
        let name = f.required(cx, at, "name", name);
        let seen = f.optional(cx, at, "seen", int(0..=MAX_SAFE_INTEGER));
        Some(Self { name: name?, seen })
    }
}

/// The answer to a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Waited {
    /// Whether it is worth looking again; `false`: the time was up, or the server is draining.
    pub woken: bool,
}
