//! Locks: taking them, keeping them, giving them back, looking.

use serde::{Deserialize, Serialize};

use super::ItemError;
use super::read::{lease, lease_span, name, text_line};
use crate::limits::MAX_SAFE_INTEGER;
use crate::strict::{Cx, Fields, Path, Strict, Value, int, one_of};
use crate::{Code, Timestamp};

/// How long a lock is held without a sign of life when the acquire does not say, in milliseconds.
pub const DEFAULT_TTL_MS: u64 = 30_000;
/// How many may hold one semaphore.
pub const MAX_PERMITS: u32 = 10_000;

/// Asks for a lock: `POST /v1/locks/{name}/acquire`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Acquire {
    /// Who asks, 1 to 256 bytes without control characters; shown to whoever looks. The same owner without its ticket waits like anybody else.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub owner: String,
    /// How long the lock is held unless it is renewed, in milliseconds, 1 s to 24 h. Defaults to 30 s.
    #[cfg_attr(
        feature = "openapi",
        schema(required = false, nullable = true, minimum = 1000, maximum = 86_400_000, default = 30_000)
    )]
    pub ttl_ms: u64,
    /// How long to wait for it, in milliseconds, up to 60 s. Defaults to not at all.
    #[cfg_attr(
        feature = "openapi",
        schema(required = false, nullable = true, maximum = 60_000, default = 0)
    )]
    pub wait_ms: u64,
    /// Alone, or with others who share. Defaults to alone. Not together with `permits`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<AcquireMode>,
    /// Takes one permit of a semaphore of this size. Not together with `mode`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 10_000))]
    pub permits: Option<u32>,
    /// How long others are kept out after the grant has expired (not after a release), in milliseconds, up to 60 s: for what cannot be fenced. Defaults to not at all.
    #[serde(skip_serializing_if = "is_zero")]
    #[cfg_attr(
        feature = "openapi",
        schema(required = false, nullable = true, maximum = 60_000, default = 0)
    )]
    pub delay_ms: u64,
}

/// The longest delay after an expiry, in milliseconds.
const MAX_DELAY_MS: u64 = 60_000;

pub(super) fn is_zero(ms: &u64) -> bool {
    *ms == 0
}

impl Acquire {
    /// An exclusive lock for 30 s, without waiting.
    pub fn by(owner: impl Into<String>) -> Self {
        let owner = owner.into();
        Self { owner, ttl_ms: DEFAULT_TTL_MS, wait_ms: 0, mode: None, permits: None, delay_ms: 0 }
    }
}

impl Strict for Acquire {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["owner", "ttl_ms", "wait_ms", "mode", "permits", "delay_ms"])?;
        let wait_max_ms = cx.limits.wait_max_ms;
        let owner = f.required(cx, at, "owner", text_line);
        let ttl_ms = f.optional(cx, at, "ttl_ms", lease_span);
        let wait_ms = f.optional(cx, at, "wait_ms", int(0..=wait_max_ms));
        let mode = f.optional(cx, at, "mode", one_of(AcquireMode::WORDS));
        let permits = f.optional(cx, at, "permits", int(1..=u64::from(MAX_PERMITS)));
        let delay_ms = f.optional(cx, at, "delay_ms", int(0..=MAX_DELAY_MS));
        if mode.is_some() && permits.is_some() {
            cx.conflict(at, "mode", "permits");
        }
        Some(Self {
            owner: owner?,
            ttl_ms: cx.limits.lease_or(ttl_ms, DEFAULT_TTL_MS),
            wait_ms: wait_ms.unwrap_or(0),
            mode,
            permits,
            delay_ms: delay_ms.unwrap_or(0),
        })
    }
}

/// How a lock may be asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum AcquireMode {
    /// Alone.
    #[default]
    Exclusive,
    /// With others who share.
    Shared,
}

impl AcquireMode {
    const WORDS: &[(&str, Self)] = &[("exclusive", Self::Exclusive), ("shared", Self::Shared)];
}

/// The answer to an acquire: the lock is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Acquired {
    /// The lock.
    pub name: String,
    /// Proves the grant; keep it secret.
    pub lease: String,
    /// The fencing token: larger than that of every earlier grant of this lock.
    pub token: u64,
    /// When the lock is free again unless it is renewed.
    pub expires_at: Timestamp,
}

/// The answer to the withdrawal of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Withdrawn {
    /// Always: nothing is left of the ticket.
    pub withdrawn: bool,
}

/// Keeps a lock: `POST /v1/locks/{name}/renew`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Renew {
    /// The grant's lease.
    pub lease: String,
    /// The new life from now, in milliseconds, 1 s to 24 h. Defaults to the acquire's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1000, maximum = 86_400_000))]
    pub ttl_ms: Option<u64>,
}

impl Strict for Renew {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["lease", "ttl_ms"])?;
        let lease = f.required(cx, at, "lease", lease);
        let ttl_ms = f.optional(cx, at, "ttl_ms", lease_span);
        Some(Self { lease: lease?, ttl_ms })
    }
}

/// The answer to a renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Renewed {
    /// When the lock is free again now.
    pub expires_at: Timestamp,
}

/// Keeps many locks: `POST /v1/locks/renew`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewMany {
    /// 1 to 1,000 of them; each stands alone.
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 1000))]
    pub leases: Vec<RenewItem>,
}

impl Strict for RenewMany {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["leases"])?;
        let max = cx.limits.batch;
        Some(Self { leases: f.list(cx, at, "leases", 1..=max, RenewItem::read)? })
    }
}

/// One lock to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewItem {
    /// The lock.
    pub name: String,
    /// The grant's lease.
    pub lease: String,
    /// The new life from now, in milliseconds, 1 s to 24 h. Defaults to the acquire's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1000, maximum = 86_400_000))]
    pub ttl_ms: Option<u64>,
}

impl Strict for RenewItem {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["name", "lease", "ttl_ms"])?;
        let name = f.required(cx, at, "name", name);
        let lease = f.required(cx, at, "lease", lease);
        let ttl_ms = f.optional(cx, at, "ttl_ms", lease_span);
        Some(Self { name: name?, lease: lease?, ttl_ms })
    }
}

/// The answer to a renewal of many.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewedMany {
    /// One for each lease, in order.
    pub results: Vec<RenewResult>,
}

/// What became of one renewal of many: an instant or an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewResult {
    /// The lock.
    pub name: String,
    /// When it is free again now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Why nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ItemError>,
}

impl RenewResult {
    /// It is held for longer.
    pub fn renewed(name: impl Into<String>, expires_at: Timestamp) -> Self {
        Self { name: name.into(), expires_at: Some(expires_at), error: None }
    }

    /// It is not.
    pub fn error(name: impl Into<String>, code: Code, detail: impl Into<String>) -> Self {
        let error = Some(ItemError { code, detail: detail.into() });
        Self { name: name.into(), expires_at: None, error }
    }
}

/// Gives a lock back: `POST /v1/locks/{name}/release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReleaseLock {
    /// The grant's lease.
    pub lease: String,
}

impl Strict for ReleaseLock {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["lease"])?;
        Some(Self { lease: f.required(cx, at, "lease", lease)? })
    }
}

/// The answer to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Released {
    /// Always true: what was not held is an error.
    pub released: bool,
}

/// Asks whether a token still counts: `POST /v1/locks/{name}/check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckLock {
    /// The grant's fencing token.
    #[cfg_attr(feature = "openapi", schema(maximum = 9_007_199_254_740_991_u64))]
    pub token: u64,
}

impl Strict for CheckLock {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["token"])?;
        Some(Self { token: f.required(cx, at, "token", int(0..=MAX_SAFE_INTEGER))? })
    }
}

/// The answer to a check, true at the moment it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockChecked {
    /// Whether the lock is held under this token.
    pub valid: bool,
    /// The highest token it is held under; `null` when it is free.
    pub current_token: Option<u64>,
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// By one alone.
    Exclusive,
    /// By some who share.
    Shared,
    /// By as many as there are permits.
    Semaphore,
}

impl LockMode {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Shared => "shared",
            Self::Semaphore => "semaphore",
        }
    }
}

/// A lock that is held, with those who wait for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockView {
    /// Its name.
    pub name: String,
    /// How it is held.
    pub mode: LockMode,
    /// A semaphore's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permits: Option<u32>,
    /// Who holds it, the first grant first.
    pub holders: Vec<LockHolder>,
    /// Who waits, in the order in which they will get it; the first thousand.
    pub waiters: Vec<LockWaiter>,
    /// How many wait.
    #[serde(default)]
    pub waiting: u64,
    /// Nobody holds it, but until then the delay after an expiry keeps others out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delayed_until: Option<Timestamp>,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockHolder {
    /// As they called themselves.
    pub owner: String,
    /// The grant's fencing token.
    pub token: u64,
    /// When it was granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acquired_at: Option<Timestamp>,
    /// When the grant ends unless it is renewed.
    pub expires_at: Timestamp,
}

/// Who waits for a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockWaiter {
    /// As they called themselves.
    pub owner: String,
    /// Their place in the queue, from 1.
    pub position: u64,
    /// What they ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<LockMode>,
    /// Of a semaphore of this size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permits: Option<u32>,
    /// `false`: a ticket that only keeps its place, and is passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}
