//! Ending or extending a claim.

use serde::{Deserialize, Serialize, Serializer};

use super::read::{job_id, lease, lease_span, span};
use super::{Claim, ClaimedJob, JobState};
use crate::limits::MAX_SPAN_MS;
use crate::strict::{Cx, Fields, Kind, Path, Strict, Value, int, one_of, text};
use crate::{Code, JobId, RawJson, Timestamp};

/// By how much a lease is extended when the call does not say, in milliseconds.
pub const DEFAULT_EXTEND_MS: u64 = 30_000;

/// Keeps a claim alive: `POST /v1/jobs/{id}/extend`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Extend {
    /// The claim's lease.
    pub lease: String,
    /// The lease's new life from now, in milliseconds, 1 s to 24 h. Defaults to 30 s.
    #[cfg_attr(
        feature = "openapi",
        schema(required = false, nullable = true, minimum = 1000, maximum = 86_400_000, default = 30_000)
    )]
    pub extend_ms: u64,
    /// How far the work has come; replaces the last report.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub progress: Option<RawJson>,
}

impl Strict for Extend {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["lease", "extend_ms", "progress"])?;
        let lease = f.required(cx, at, "lease", lease);
        let (extend_ms, progress) = extension(cx, at, &f);
        Some(Self { lease: lease?, extend_ms, progress })
    }
}

fn extension<const N: usize>(cx: &mut Cx<'_>, at: &Path<'_>, f: &Fields<'_, N>) -> (u64, Option<RawJson>) {
    let extend_ms = f.optional(cx, at, "extend_ms", lease_span);
    let extend_ms = cx.limits.lease_or(extend_ms, DEFAULT_EXTEND_MS);
    let progress = f.raw(cx, at, "progress", cx.limits.progress_bytes);
    (extend_ms, progress)
}

/// The answer to an extend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Extended {
    /// When the lease ends now.
    pub expires_at: Timestamp,
    /// Whether someone wants the job cancelled.
    pub cancel_requested: bool,
}

/// The job is done: `POST /v1/jobs/{id}/complete`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Complete {
    /// The claim's lease.
    pub lease: String,
    /// What came out. Defaults to `null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub result: Option<RawJson>,
}

impl Strict for Complete {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["lease", "result"])?;
        let lease = f.required(cx, at, "lease", lease);
        let result = f.raw(cx, at, "result", cx.limits.result_bytes);
        Some(Self { lease: lease?, result })
    }
}

/// The attempt failed: `POST /v1/jobs/{id}/fail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Fail {
    /// The claim's lease.
    pub lease: String,
    /// What went wrong.
    pub error: JobFailure,
    /// Whether and when to try again. Defaults to `auto`.
    #[serde(skip_serializing_if = "Retry::is_auto")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true))]
    pub retry: Retry,
}

impl Strict for Fail {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["lease", "error", "retry"])?;
        let lease = f.required(cx, at, "lease", lease);
        let error = f.required(cx, at, "error", JobFailure::read);
        let retry = f.optional(cx, at, "retry", Retry::read).unwrap_or_default();
        Some(Self { lease: lease?, error: error?, retry })
    }
}

/// What went wrong in an attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobFailure {
    /// The kind of error; dead letters can be chosen by it. 1 to 256 bytes.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub kind: Option<String>,
    /// What happened, for people. At most 16 KiB.
    pub message: String,
    /// Where it happened. At most 16 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backtrace: Option<String>,
}

impl JobFailure {
    /// An error with a message and nothing else.
    pub fn message(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }
}

impl Strict for JobFailure {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["type", "message", "backtrace"])?;
        let limits = cx.limits;
        let kind = f.optional(cx, at, "type", text(1..=256));
        let message = f.required(cx, at, "message", text(0..=limits.message_bytes));
        let backtrace = f.optional(cx, at, "backtrace", text(0..=limits.backtrace_bytes));
        Some(Self { kind, message: message?, backtrace })
    }
}

/// Whether and when a failed attempt is followed by another: `"auto"`, `"never"` or `{"delay_ms":n}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Retry {
    /// By the job's back-off.
    #[default]
    Auto,
    /// Not at all: the job is dead.
    Never,
    /// After this long, in milliseconds.
    After(u64),
}

impl Retry {
    /// Whether it is the default.
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl Serialize for Retry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Delay {
            delay_ms: u64,
        }
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Never => serializer.serialize_str("never"),
            Self::After(delay_ms) => Delay { delay_ms: *delay_ms }.serialize(serializer),
        }
    }
}

impl Strict for Retry {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        if value.kind() == Kind::Object {
            let f = Fields::open(cx, at, value, &["delay_ms"])?;
            return f.required(cx, at, "delay_ms", int(0..=MAX_SPAN_MS)).map(Self::After);
        }
        match value.as_str().as_deref() {
            Some("auto") => Some(Self::Auto),
            Some("never") => Some(Self::Never),
            _ => {
                cx.error(at, r#"must be "auto", "never" or {"delay_ms":n}"#);
                None
            }
        }
    }
}

/// Gives a job back without spending an attempt: `POST /v1/jobs/{id}/release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Release {
    /// The claim's lease.
    pub lease: String,
    /// Not to be handed out again before this long, in milliseconds. Defaults to 0.
    #[cfg_attr(
        feature = "openapi",
        schema(required = false, nullable = true, default = 0, maximum = 3_162_240_000_000_u64)
    )]
    pub delay_ms: u64,
}

impl Strict for Release {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["lease", "delay_ms"])?;
        let lease = f.required(cx, at, "lease", lease);
        let delay_ms = f.optional(cx, at, "delay_ms", span).unwrap_or(0);
        Some(Self { lease: lease?, delay_ms })
    }
}

/// The answer to whatever changes a job's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StateAnswer {
    /// The job's state now.
    pub state: JobState,
    /// When it runs again, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
}

/// Settles many claims, each on its own, and claims more: `POST /v1/jobs/settle`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Settle {
    /// Up to 1,000 claims.
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub items: Vec<SettleItem>,
    /// What to claim in the same breath.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
}

impl Strict for Settle {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["items", "claim"])?;
        if f.value("items").is_none_or(Value::is_null) {
            cx.error(&at.key("items"), "is missing");
        }
        let items = f.list(cx, at, "items", 0..=cx.limits.batch, SettleItem::read);
        let claim = f.optional(cx, at, "claim", Claim::read);
        Some(Self { items: items?, claim })
    }
}

/// One claim to settle.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SettleItem {
    /// The job.
    pub id: JobId,
    /// The claim's lease.
    pub lease: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: SettleOutcome,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum SettleOutcome {
    /// The job is done.
    Complete {
        /// What came out. Defaults to `null`.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(nullable = false))]
        result: Option<RawJson>,
    },
    /// The attempt failed.
    Fail {
        /// What went wrong.
        error: JobFailure,
        /// Whether and when to try again. Defaults to `auto`.
        #[serde(skip_serializing_if = "Retry::is_auto")]
        #[cfg_attr(feature = "openapi", schema(required = false, nullable = true))]
        retry: Retry,
    },
    /// The job is given back without spending an attempt.
    Release {
        /// Not to be handed out again before this long, in milliseconds. Defaults to 0.
        #[cfg_attr(
            feature = "openapi",
            schema(required = false, nullable = true, default = 0, maximum = 3_162_240_000_000_u64)
        )]
        delay_ms: u64,
    },
    /// The job is not to be done at all.
    Cancel {
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<JobFailure>,
    },
    /// The claim goes on.
    Extend {
        /// The lease's new life from now, in milliseconds, 1 s to 24 h. Defaults to 30 s.
        #[cfg_attr(
            feature = "openapi",
            schema(
                required = false,
                nullable = true,
                default = 30_000,
                minimum = 1000,
                maximum = 86_400_000
            )
        )]
        extend_ms: u64,
        /// How far the work has come.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(nullable = false))]
        progress: Option<RawJson>,
    },
}

#[derive(Clone, Copy)]
enum Verb {
    Complete,
    Fail,
    Release,
    Cancel,
    Extend,
}

impl Strict for SettleItem {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        const VERBS: &[(&str, Verb)] = &[
            ("complete", Verb::Complete),
            ("fail", Verb::Fail),
            ("release", Verb::Release),
            ("cancel", Verb::Cancel),
            ("extend", Verb::Extend),
        ];
        // The outcome says which other fields there are.
        let verb = match value.get("outcome") {
            Some(word) => one_of(VERBS)(cx, &at.key("outcome"), word),
            None if value.kind() == Kind::Object => {
                cx.error(&at.key("outcome"), "is missing");
                None
            }
            None => None,
        };
        let Some(verb) = verb else {
            // What can be checked without it still is.
            let f = Fields::open(
                cx,
                at,
                value,
                &["id", "lease", "outcome", "result", "error", "retry", "delay_ms", "extend_ms", "progress"],
            )?;
            claim_of(cx, at, &f);
            return None;
        };
        let (claim, outcome) = match verb {
            Verb::Complete => {
                let f = Fields::open(cx, at, value, &["id", "lease", "outcome", "result"])?;
                let result = f.raw(cx, at, "result", cx.limits.result_bytes);
                (claim_of(cx, at, &f), Some(SettleOutcome::Complete { result }))
            }
            Verb::Fail => {
                let f = Fields::open(cx, at, value, &["id", "lease", "outcome", "error", "retry"])?;
                let error = f.required(cx, at, "error", JobFailure::read);
                let retry = f.optional(cx, at, "retry", Retry::read).unwrap_or_default();
                (claim_of(cx, at, &f), error.map(|error| SettleOutcome::Fail { error, retry }))
            }
            Verb::Release => {
                let f = Fields::open(cx, at, value, &["id", "lease", "outcome", "delay_ms"])?;
                let delay_ms = f.optional(cx, at, "delay_ms", span).unwrap_or(0);
                (claim_of(cx, at, &f), Some(SettleOutcome::Release { delay_ms }))
            }
            Verb::Cancel => {
                let f = Fields::open(cx, at, value, &["id", "lease", "outcome", "error"])?;
                let error = f.optional(cx, at, "error", JobFailure::read);
                (claim_of(cx, at, &f), Some(SettleOutcome::Cancel { error }))
            }
            Verb::Extend => {
                let f = Fields::open(cx, at, value, &["id", "lease", "outcome", "extend_ms", "progress"])?;
                let (extend_ms, progress) = extension(cx, at, &f);
                (claim_of(cx, at, &f), Some(SettleOutcome::Extend { extend_ms, progress }))
            }
        };
        let (id, lease) = claim?;
        Some(Self { id, lease, outcome: outcome? })
    }
}

fn claim_of<const N: usize>(cx: &mut Cx<'_>, at: &Path<'_>, f: &Fields<'_, N>) -> Option<(JobId, String)> {
    let id = f.required(cx, at, "id", job_id);
    let lease = f.required(cx, at, "lease", lease);
    Some((id?, lease?))
}

/// The answer to a settle.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Settled {
    /// One for each item, in order.
    pub results: Vec<SettleResult>,
    /// What was claimed.
    #[serde(default)]
    pub jobs: Vec<ClaimedJob>,
}

/// What became of one item: a state or an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SettleResult {
    /// The job.
    pub id: JobId,
    /// Its state now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// When it runs again, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// After an extend: when the lease ends now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// After an extend: whether someone wants the job cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_requested: Option<bool>,
    /// Why nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ItemError>,
}

impl SettleResult {
    /// The item did what it was meant to.
    pub fn state(id: JobId, state: JobState) -> Self {
        Self { id, state: Some(state), run_at: None, expires_at: None, cancel_requested: None, error: None }
    }

    /// The item changed nothing.
    pub fn error(id: JobId, code: Code, detail: impl Into<String>) -> Self {
        let error = Some(ItemError { code, detail: detail.into() });
        Self { id, state: None, run_at: None, expires_at: None, cancel_requested: None, error }
    }
}

/// Why one item of many failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ItemError {
    /// The code programs decide by.
    pub code: Code,
    /// What went wrong, for people.
    pub detail: String,
}
