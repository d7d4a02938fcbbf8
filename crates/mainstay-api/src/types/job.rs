//! Looking at jobs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AfterFailure, AfterRef, Backoff, Unique};
use crate::{JobId, RawJson, Timestamp};

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// `run_at` is in the future.
    Scheduled,
    /// Waits for other jobs.
    Blocked,
    /// Can be claimed.
    Available,
    /// Is claimed.
    Running,
    /// Waits for its back-off.
    Retryable,
    /// Done.
    Completed,
    /// Called off.
    Cancelled,
    /// Given up.
    Dead,
}

impl JobState {
    /// All states, in the order of a job's life.
    pub const ALL: [Self; 8] = [
        Self::Scheduled,
        Self::Blocked,
        Self::Available,
        Self::Running,
        Self::Retryable,
        Self::Completed,
        Self::Cancelled,
        Self::Dead,
    ];

    /// The state's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Blocked => "blocked",
            Self::Available => "available",
            Self::Running => "running",
            Self::Retryable => "retryable",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }

    /// Whether the job has ended.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Dead)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str);
            format!("must be {}", crate::strict::alternatives(&names))
        })
    }
}

/// Why a job is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeadReason {
    /// Its attempts are used up.
    Exhausted,
    /// It was failed with `retry: "never"`.
    Permanent,
    /// It lost too many leases.
    Crashed,
    /// Its time was over before it ran.
    Expired,
}

impl DeadReason {
    /// The reason's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Permanent => "permanent",
            Self::Crashed => "crashed",
            Self::Expired => "expired",
        }
    }
}

/// The whole job: `GET /v1/jobs/{id}` and lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobView {
    /// The job's id.
    pub id: JobId,
    /// Its queue.
    pub queue: String,
    /// What is to be done.
    pub kind: String,
    /// Where it is in its life.
    pub state: JobState,
    /// What to do it with.
    pub payload: RawJson,
    /// 0 to 9, lower first.
    pub priority: u8,
    /// Attempts begun.
    pub attempt: u32,
    /// How many there can be.
    pub max_attempts: u32,
    /// Attempts that ended in a lost lease.
    pub crashes: u32,
    /// How many of those there can be.
    pub max_crashes: u32,
    /// When it may run.
    pub run_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// How long it waits after a failure.
    pub backoff: Backoff,
    /// How long one attempt may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// After this moment it is not handed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The key no second job of the queue may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    /// Bounds how many jobs with this key run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// Whose turn it counts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fairness_key: Option<String>,
    /// Jobs it waits for, or waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub after: Vec<AfterRef>,
    /// What a dead job among those means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_failure: Option<AfterFailure>,
    /// While blocked: how many of `after` it still waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<u32>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// What travels with it.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, RawJson>))]
    pub meta: RawJson,
    /// How long it stays readable once finished, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_ms: Option<u64>,
    /// The trace of the call that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// While running: who has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// While running: the claim's fencing token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    /// While running: when the claim's lease ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_expires_at: Option<Timestamp>,
    /// The last report of its worker, or `null`.
    pub progress: RawJson,
    /// What came out, once completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub result: Option<RawJson>,
    /// What went wrong so far, oldest first.
    pub errors: Vec<AttemptError>,
    /// Whether someone wants it cancelled.
    pub cancel_requested: bool,
    /// Why it is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeadReason>,
    /// In lists of dead letters: the last of `errors`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<AttemptError>,
}

/// What went wrong in one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AttemptError {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
    /// The kind of error, if the worker gave one.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// What happened.
    pub message: String,
    /// Where it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backtrace: Option<String>,
}

/// The answer of `GET /v1/jobs/{id}/result`: 200 once finished, 202 with the state alone before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobResult {
    /// The job's state.
    pub state: JobState,
    /// What came out; there, if only as `null`, once the job has finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub result: Option<RawJson>,
    /// The last error of a job that is dead or cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<AttemptError>,
}

/// The answer to a cancel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CancelAnswer {
    /// The job's state now; still `running` if a worker has to be told.
    pub state: JobState,
    /// Whether a worker has to be told.
    pub cancel_requested: bool,
}
