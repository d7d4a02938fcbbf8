//! Taking jobs.

use serde::{Deserialize, Serialize};

use super::read::{lease_span, name};
use crate::strict::{Cx, Fields, Path, Strict, Value, int};
use crate::{JobId, RawJson, Timestamp};

/// How long a lease lives when the claim does not say, in milliseconds.
pub const DEFAULT_LEASE_MS: u64 = 30_000;
/// How many jobs a claim takes when it does not say.
pub const DEFAULT_CLAIM_MAX: u32 = 1;

/// Asks for jobs: `POST /v1/jobs/claim`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Claim {
    /// Where from, in order of preference; unknown ones are simply empty.
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 100))]
    pub queues: Vec<String>,
    /// How many at most, 1 to 1000. Defaults to 1.
    #[cfg_attr(
        feature = "openapi",
        schema(required = false, nullable = true, minimum = 1, maximum = 1000, default = 1)
    )]
    pub max: u32,
    /// How long the leases live, in milliseconds, 1 s to 24 h. Defaults to 30 s.
    #[cfg_attr(
        feature = "openapi",
        schema(required = false, nullable = true, minimum = 1000, maximum = 86_400_000, default = 30_000)
    )]
    pub lease_ms: u64,
    /// How long to wait for a first job, in milliseconds, up to 60 s. Defaults to not at all.
    #[cfg_attr(
        feature = "openapi",
        schema(required = false, nullable = true, maximum = 60_000, default = 0)
    )]
    pub wait_ms: u64,
    /// Who asks; shown in lists of workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}

impl Claim {
    /// One job of this queue, without waiting.
    pub fn from_queue(queue: impl Into<String>) -> Self {
        Self {
            queues: vec![queue.into()],
            max: DEFAULT_CLAIM_MAX,
            lease_ms: DEFAULT_LEASE_MS,
            wait_ms: 0,
            worker: None,
        }
    }
}

impl Strict for Claim {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["queues", "max", "lease_ms", "wait_ms", "worker"])?;
        let limits = cx.limits;
        let queues = f.list(cx, at, "queues", 1..=limits.claim_queues, name);
        let max = f.optional(cx, at, "max", int(1..=u64::from(limits.claim)));
        let lease_ms = f.optional(cx, at, "lease_ms", lease_span);
        let wait_ms = f.optional(cx, at, "wait_ms", int(0..=limits.wait_max_ms));
        let worker = f.optional(cx, at, "worker", name);
        Some(Self {
            queues: queues?,
            max: max.unwrap_or(DEFAULT_CLAIM_MAX),
            lease_ms: limits.lease_or(lease_ms, DEFAULT_LEASE_MS),
            wait_ms: wait_ms.unwrap_or(0),
            worker,
        })
    }
}

/// The answer to a claim.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Claimed {
    /// The jobs; empty when nothing came in time.
    pub jobs: Vec<ClaimedJob>,
}

/// A job, and the lease on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimedJob {
    /// The job's id.
    pub id: JobId,
    /// The queue it came from.
    pub queue: String,
    /// What is to be done.
    pub kind: String,
    /// What to do it with.
    pub payload: RawJson,
    /// 0 to 9, lower first.
    pub priority: u8,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How many there can be.
    pub max_attempts: u32,
    /// How many attempts ended in a lost lease.
    pub crashes: u32,
    /// When the job was made.
    pub created_at: Timestamp,
    /// What travels with it.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, RawJson>))]
    pub meta: RawJson,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// The trace of the call that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// How long this attempt may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Proves the claim; keep it secret.
    pub lease: String,
    /// The fencing token: grows with every claim of the job.
    pub token: u64,
    /// When the lease ends unless it is extended.
    pub expires_at: Timestamp,
}
