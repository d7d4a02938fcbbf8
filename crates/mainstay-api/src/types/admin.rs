//! Probes and the admin API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::read::key;
use crate::strict::{Cx, Fields, Path, Strict, Value};
use crate::{RawJson, Timestamp};

/// The answer of a probe: `/livez`, `/readyz`, `/startupz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Probe {
    /// What the probe says.
    pub status: ProbeStatus,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ProbeReason>,
    /// With `?verbose`: every check by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<BTreeMap<String, CheckView>>,
    /// With `?verbose`: every loop that liveness watches, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loops: Option<BTreeMap<String, LoopView>>,
}

/// What a probe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProbeStatus {
    /// `/livez`: the process makes progress.
    Healthy,
    /// `/livez`: it does not.
    Unhealthy,
    /// `/readyz`: send work.
    Ready,
    /// `/readyz`: send none.
    NotReady,
    /// `/startupz`: booted.
    Started,
    /// `/startupz`: still booting.
    Starting,
}

/// Why a server is not ready, or not healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProbeReason {
    /// It is booting.
    Initializing,
    /// It is shutting down.
    Draining,
    /// A critical dependency is down.
    Dependency,
    /// `/livez`: a loop makes no progress.
    Stalled,
}

/// The last result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckView {
    /// How it went.
    pub status: CheckState,
    /// Whether it decides about readiness.
    pub critical: bool,
    /// How old the result is, in milliseconds; `null` when there is none yet.
    pub age_ms: Option<u64>,
    /// How long the check took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How a loop fares that has to advance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LoopView {
    /// It has not advanced for longer than its limit.
    pub stalled: bool,
    /// Since it last advanced, in milliseconds; `null` while it waits for work.
    pub age_ms: Option<u64>,
    /// How long it may take, in milliseconds.
    pub limit_ms: u64,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// Well.
    Up,
    /// Badly, but not so badly as to be down.
    Degraded,
    /// Badly.
    Down,
}

/// The log level: `GET` and `PUT /admin/log-level`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogLevel {
    /// `error`, `warn`, `info`, `debug` or `trace`, or directives such as `info,mainstay=debug`.
    pub level: String,
}

impl Strict for LogLevel {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["level"])?;
        Some(Self { level: f.required(cx, at, "level", key)? })
    }
}

/// The effective configuration by key, as in the file: `GET /admin/config`.
pub type Config = std::collections::BTreeMap<String, ConfigEntry>;

/// One value of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConfigEntry {
    /// The value; secrets are redacted.
    pub value: RawJson,
    /// Where it comes from: `default`, the file, the variable or the flag, by name.
    pub source: String,
}

/// The answer of `POST /admin/drain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Draining {
    /// `draining`.
    pub status: ProbeReason,
}

/// What someone did: `GET /admin/audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// Who: the token's name, or `null` where none was needed.
    pub principal: Option<String>,
    /// What: `token.create`, `queue.purge`, …
    pub action: String,
    /// On what.
    pub target: String,
    /// Why, if it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The request's id, as in the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}
