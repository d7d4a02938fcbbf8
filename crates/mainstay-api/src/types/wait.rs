//! Waiting until looking again is worth it.

use serde::{Deserialize, Serialize};

use super::read::{job_id, name};
use crate::JobId;
use crate::strict::{Cx, Fields, Path, Strict, Value, int};

/// What to wait for, all of it at once: `POST /v1/wait`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WaitFor {
    /// A job of one of these queues can be claimed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, max_items = 100))]
    pub queues: Vec<String>,
    /// One of these jobs has finished, or there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, max_items = 100))]
    pub finished: Vec<JobId>,
    /// The cancellation of one of these jobs was asked for, or it has finished, or there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, max_items = 100))]
    pub cancel_requested: Vec<JobId>,
    /// How long at most, in milliseconds, up to 60 s. Defaults to not at all.
    #[cfg_attr(feature = "openapi", schema(required = false, maximum = 60_000, default = 0))]
    pub wait_ms: u64,
}

impl Strict for WaitFor {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["queues", "finished", "cancel_requested", "wait_ms"])?;
        let most = cx.limits.claim_queues;
        Some(Self {
            queues: f.list(cx, at, "queues", 0..=most, name).unwrap_or_default(),
            finished: f.list(cx, at, "finished", 0..=most, job_id).unwrap_or_default(),
            cancel_requested: f.list(cx, at, "cancel_requested", 0..=most, job_id).unwrap_or_default(),
            wait_ms: f.optional(cx, at, "wait_ms", int(0..=cx.limits.wait_max_ms)).unwrap_or(0),
        })
    }
}

/// The answer to a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Waited {
    /// Whether it is worth looking again; `false`: the time was up, or the server is draining.
    pub woken: bool,
}
