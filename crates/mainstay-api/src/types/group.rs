//! Consumer groups.

use serde::{Deserialize, Serialize};

use super::read::{lease, lease_span, name, span};
use super::{AttemptError, Backoff, Envelope, ItemError, JobFailure};
use crate::limits::MAX_SAFE_INTEGER;
use crate::names::{FILTER_RULE, is_filter};
use crate::strict::{Cx, Fields, Kind, Path, Strict, Value, boolean, int, matching, text, timestamp};
use crate::{RawJson, Timestamp};

/// How long a delivery's lease lives when the group does not say, in milliseconds.
pub const DEFAULT_ACK_WAIT_MS: u64 = 30_000;
/// How often an event is delivered when the group does not say.
pub const DEFAULT_MAX_DELIVER: u32 = 5;
/// How many events of a group are in flight when it does not say.
pub const DEFAULT_MAX_IN_FLIGHT: u32 = 1_000;
/// The most filters of a group or a stream.
pub const MAX_FILTERS: usize = 100;

/// The whole configuration of a group: `PUT /v1/groups/{group}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupConfig {
    /// Which topics: `*` stands for one token, a last `>` for one or more.
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 100))]
    pub topics: Vec<String>,
    /// Where a new group begins; on an existing one it is ignored. Defaults to `latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// How long a delivery's lease lives, in milliseconds, 1 s to 24 h. Defaults to 30 s.
    #[serde(default = "default_ack_wait_ms")]
    #[cfg_attr(
        feature = "openapi",
        schema(required = false, nullable = true, minimum = 1000, maximum = 86_400_000, default = 30_000)
    )]
    pub ack_wait_ms: u64,
    /// So many deliveries without an ack, and the event is a dead letter. Defaults to 5.
    #[serde(default = "default_max_deliver")]
    #[cfg_attr(
        feature = "openapi",
        schema(required = false, nullable = true, minimum = 1, maximum = 10_000, default = 5)
    )]
    pub max_deliver: u32,
    /// At most so many events are in flight. Defaults to 1,000.
    #[serde(default = "default_max_in_flight")]
    #[cfg_attr(
        feature = "openapi",
        schema(required = false, nullable = true, minimum = 1, maximum = 100_000, default = 1000)
    )]
    pub max_in_flight: u32,
    /// The wait before an event is delivered again, after a nack without a delay and after a lease that ran out.
    /// Defaults to that of jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// At most one event of a `partitionkey` is unsettled; the others of that key wait behind it. Defaults to `false`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true, default = false))]
    pub ordered_by_key: bool,
}

fn default_ack_wait_ms() -> u64 {
    DEFAULT_ACK_WAIT_MS
}
fn default_max_deliver() -> u32 {
    DEFAULT_MAX_DELIVER
}
fn default_max_in_flight() -> u32 {
    DEFAULT_MAX_IN_FLIGHT
}

impl GroupConfig {
    /// The defaults, for these topics.
    pub fn of(topics: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            topics: topics.into_iter().map(Into::into).collect(),
            start: None,
            ack_wait_ms: DEFAULT_ACK_WAIT_MS,
            max_deliver: DEFAULT_MAX_DELIVER,
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            backoff: None,
            ordered_by_key: false,
        }
    }
}

impl Strict for GroupConfig {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        const NAMES: [&str; 7] =
            ["topics", "start", "ack_wait_ms", "max_deliver", "max_in_flight", "backoff", "ordered_by_key"];
        let f = Fields::open(cx, at, value, &NAMES)?;
        let topics = f.list(cx, at, "topics", 1..=MAX_FILTERS, matching(is_filter, FILTER_RULE));
        let start = f.optional(cx, at, "start", Start::read);
        let ack_wait_ms = f.optional(cx, at, "ack_wait_ms", lease_span);
        let ack_wait_ms = cx.limits.lease_or(ack_wait_ms, DEFAULT_ACK_WAIT_MS);
        let max_deliver = f.optional(cx, at, "max_deliver", int(1..=10_000)).unwrap_or(DEFAULT_MAX_DELIVER);
        let max_in_flight = f.optional(cx, at, "max_in_flight", int(1..=100_000));
        let backoff = f.optional(cx, at, "backoff", Backoff::read);
        let ordered_by_key = f.optional(cx, at, "ordered_by_key", boolean).unwrap_or(false);
        let max_in_flight = max_in_flight.unwrap_or(DEFAULT_MAX_IN_FLIGHT);
        Some(Self {
            topics: topics?,
            start,
            ack_wait_ms,
            max_deliver,
            max_in_flight,
            backoff,
            ordered_by_key,
        })
    }
}

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Behind the last event.
    Latest,
    /// The oldest event there is.
    Earliest,
    /// This number, inclusive.
    Seq(u64),
    /// The first event that was published then or later.
    Time(Timestamp),
}

impl Strict for Start {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        match value.kind() {
            Kind::String => match &*value.as_str()? {
                "latest" => return Some(Start::Latest),
                "earliest" => return Some(Start::Earliest),
                _ => {}
            },
            Kind::Object => {
                let f = Fields::open(cx, at, value, &["seq", "time"])?;
                return position(cx, at, &f, "must have one of seq and time");
            }
            _ => {}
        }
        cx.error(at, r#"must be "latest", "earliest", {"seq":n} or {"time":t}"#);
        None
    }
}

/// One of the fields `seq` and `time`.
fn position<'a, const N: usize>(
    cx: &mut Cx<'_>,
    at: &Path<'_>,
    f: &Fields<'a, N>,
    rule: &str,
) -> Option<Start> {
    match (f.value("seq"), f.value("time")) {
        (Some(_), None) => f.required(cx, at, "seq", seq).map(Start::Seq),
        (None, Some(_)) => f.required(cx, at, "time", timestamp).map(Start::Time),
        _ => {
            cx.error(at, rule);
            None
        }
    }
}

fn seq(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<u64> {
    // The first event is number 1.
    int(1..=MAX_SAFE_INTEGER)(cx, at, value)
}

/// Where a group is to go on: `POST /v1/groups/{group}/seek`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seek(pub Start);

impl Strict for Seek {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        const RULE: &str = r#"must be {"seq":n}, {"time":t} or {"to":"earliest"|"latest"}"#;
        let f = Fields::open(cx, at, value, &["seq", "time", "to"])?;
        if f.value("to").is_none() {
            return position(cx, at, &f, RULE).map(Seek);
        }
        if f.value("seq").is_some() || f.value("time").is_some() {
            cx.error(at, RULE);
            return None;
        }
        let words = [("earliest", Start::Earliest), ("latest", Start::Latest)];
        f.required(cx, at, "to", crate::strict::one_of(&words)).map(Seek)
    }
}

impl Serialize for Seek {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(1))?;
        match self.0 {
            Start::Latest => map.serialize_entry("to", "latest")?,
            Start::Earliest => map.serialize_entry("to", "earliest")?,
            Start::Seq(seq) => map.serialize_entry("seq", &seq)?,
            Start::Time(at) => map.serialize_entry("time", &at)?,
        }
        map.end()
    }
}

/// The answer to a seek.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Sought {
    /// The next number the group will look at.
    pub cursor: u64,
}

/// A group: `GET /v1/groups/{group}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// The next number it will look at.
    pub cursor: u64,
    /// Everything below this number is settled, dead or skipped.
    pub floor: u64,
    /// Events that it still has to hand out, without those in flight.
    pub lag: u64,
    /// Of those: waiting for another try, or for an event of the same key before them.
    pub waiting: u64,
    /// Events with a live lease.
    pub in_flight: u64,
    /// How long ago the oldest event that is not settled was published, in milliseconds.
    pub oldest_unacked_age_ms: Option<u64>,
    /// Dead letters.
    pub dead: u64,
    /// Events that retention removed before they were settled.
    pub skipped: u64,
    /// Deliveries of an event that had been delivered before.
    pub redelivered: u64,
    /// Too much waits: nothing new is handed out until some of it is settled.
    pub stalled: bool,
    /// Its configuration.
    #[serde(flatten)]
    pub config: GroupConfig,
}

/// Asks for events: `POST /v1/groups/{group}/fetch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Fetch {
    /// How many at most, 1 to 1000. Defaults to 1.
    #[cfg_attr(
        feature = "openapi",
        schema(required = false, nullable = true, minimum = 1, maximum = 1000, default = 1)
    )]
    pub max: u32,
    /// How long to wait for a first event, in milliseconds, up to 60 s. Defaults to not at all.
    #[cfg_attr(
        feature = "openapi",
        schema(required = false, nullable = true, maximum = 60_000, default = 0)
    )]
    pub wait_ms: u64,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
}

impl Strict for Fetch {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["max", "wait_ms", "consumer"])?;
        let limits = cx.limits;
        let max = f.optional(cx, at, "max", int(1..=u64::from(limits.claim))).unwrap_or(1);
        let wait_ms = f.optional(cx, at, "wait_ms", int(0..=limits.wait_max_ms)).unwrap_or(0);
        let consumer = f.optional(cx, at, "consumer", name);
        Some(Self { max, wait_ms, consumer })
    }
}

/// The answer to a fetch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Fetched {
    /// The events; empty when nothing came in time.
    pub events: Vec<DeliveredEvent>,
}

/// An event, and the lease on this delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(from = "FlatDelivery")]
pub struct DeliveredEvent {
    /// The event.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// Which delivery this is, from 1.
    pub attempt: u32,
    /// Proves the delivery; keep it secret.
    pub lease: String,
    /// The fencing token: grows with every delivery of the group.
    pub token: u64,
    /// When the lease ends unless it is extended.
    pub expires_at: Timestamp,
    /// When the event was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<Timestamp>,
}

/// As it stands on the wire. JSON that is kept as text cannot be read out of a flattened struct.
#[derive(Deserialize)]
struct FlatDelivery {
    topic: String,
    seq: u64,
    event: RawJson,
    attempt: u32,
    lease: String,
    token: u64,
    expires_at: Timestamp,
    #[serde(default)]
    published_at: Option<Timestamp>,
}

impl From<FlatDelivery> for DeliveredEvent {
    fn from(flat: FlatDelivery) -> Self {
        let FlatDelivery { topic, seq, event, attempt, lease, token, expires_at, published_at } = flat;
        Self { envelope: Envelope { topic, seq, event }, attempt, lease, token, expires_at, published_at }
    }
}

/// Gives deliveries back as if they had not been fetched: `POST /v1/events/release`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReleaseDeliveries {
    /// Their leases, of whatever groups; 1 to 1,000.
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 1000))]
    pub leases: Vec<String>,
    /// They are not handed out again before so many milliseconds have passed. Defaults to 0.
    #[serde(skip_serializing_if = "super::lock::is_zero")]
    #[cfg_attr(
        feature = "openapi",
        schema(required = false, nullable = true, default = 0, maximum = 3_162_240_000_000_u64)
    )]
    pub delay_ms: u64,
}

impl Strict for ReleaseDeliveries {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["leases", "delay_ms"])?;
        let max = cx.limits.batch;
        let leases = f.list(cx, at, "leases", 1..=max, lease);
        let delay_ms = f.optional(cx, at, "delay_ms", span).unwrap_or(0);
        Some(Self { leases: leases?, delay_ms })
    }
}

/// The answer to a release of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliveriesReleased {
    /// How many went back; those whose lease was not live any more did not.
    pub released: u64,
}

/// Ends deliveries, each alone: `POST /v1/groups/{group}/settle`. Together at most 1,000.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SettleDeliveries {
    /// Leases of what is done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true))]
    pub ack: Vec<String>,
    /// What is to be delivered again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true))]
    pub nack: Vec<Nack>,
    /// What takes longer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true))]
    pub extend: Vec<ExtendDelivery>,
}

/// A delivery that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Nack {
    /// The delivery's lease.
    pub lease: String,
    /// Deliver it again after this long, in milliseconds. Defaults to the group's back-off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 3_162_240_000_000_u64))]
    pub delay_ms: Option<u64>,
    /// Do not deliver it again: it is a dead letter at once. Defaults to `false`. Not together with `delay_ms`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true, default = false))]
    pub dead: bool,
    /// What went wrong: a text, or as a job's failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(required = false, schema_with = super::schema::text_or_failure))]
    pub error: Option<JobFailure>,
}

/// A delivery that takes longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExtendDelivery {
    /// The delivery's lease.
    pub lease: String,
    /// It runs this long from now, in milliseconds, 1 s to 24 h.
    #[cfg_attr(feature = "openapi", schema(minimum = 1000, maximum = 86_400_000))]
    pub extend_ms: u64,
}

impl Strict for SettleDeliveries {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["ack", "nack", "extend"])?;
        let max = cx.limits.batch;
        let ack = f.list(cx, at, "ack", 0..=max, lease).unwrap_or_default();
        let nack = f.list(cx, at, "nack", 0..=max, Nack::read).unwrap_or_default();
        let extend = f.list(cx, at, "extend", 0..=max, ExtendDelivery::read).unwrap_or_default();
        if ack.len() + nack.len() + extend.len() > max {
            cx.error(at, format!("ack, nack and extend have at most {max} elements together"));
            return None;
        }
        Some(Self { ack, nack, extend })
    }
}

impl Strict for Nack {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["lease", "delay_ms", "dead", "error"])?;
        let lease = f.required(cx, at, "lease", lease);
        let delay_ms = f.optional(cx, at, "delay_ms", span);
        let dead = f.optional(cx, at, "dead", boolean).unwrap_or(false);
        let error = f.optional(cx, at, "error", failure);
        if dead && delay_ms.is_some() {
            cx.conflict(at, "delay_ms", "dead");
        }
        Some(Self { lease: lease?, delay_ms, dead, error })
    }
}

/// A failure as a job has it, or only its message.
fn failure(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<JobFailure> {
    if value.kind() == Kind::String {
        return text(0..=cx.limits.message_bytes)(cx, at, value).map(JobFailure::message);
    }
    JobFailure::read(cx, at, value)
}

impl Strict for ExtendDelivery {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["lease", "extend_ms"])?;
        let lease = f.required(cx, at, "lease", lease);
        let extend_ms = f.required(cx, at, "extend_ms", lease_span);
        Some(Self { lease: lease?, extend_ms: extend_ms? })
    }
}

/// The answer to a settle: one result for each item, in the order ack, nack, extend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SettledDeliveries {
    /// In the order ack, nack, extend.
    pub results: Vec<DeliverySettled>,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliverySettled {
    /// The item's lease.
    pub lease: String,
    /// `true` when it is settled as asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// When it is delivered again, after a nack; when the lease ends, after an extend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// It is a dead letter now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<bool>,
    /// Why nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ItemError>,
}

/// A dead letter of a group: an element of `GET /v1/groups/{group}/dead`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(from = "FlatDead")]
pub struct DeadEvent {
    /// The event's id, by which it can be chosen.
    pub id: String,
    /// The event.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// How often it was delivered.
    pub attempts: u32,
    /// Why it is dead: `exhausted`, `permanent` or `crashed`.
    pub reason: super::DeadReason,
    /// What was said at the last nack.
    pub error: Option<AttemptError>,
    /// Since when.
    pub died_at: Timestamp,
    /// The server's number of it, by which exactly this letter can be chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// When the event was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<Timestamp>,
}

/// As it stands on the wire, like `FlatDelivery`.
#[derive(Deserialize)]
struct FlatDead {
    id: String,
    topic: String,
    seq: u64,
    event: RawJson,
    attempts: u32,
    reason: super::DeadReason,
    error: Option<AttemptError>,
    died_at: Timestamp,
    #[serde(default)]
    number: Option<u64>,
    #[serde(default)]
    published_at: Option<Timestamp>,
}

impl From<FlatDead> for DeadEvent {
    fn from(flat: FlatDead) -> Self {
        let FlatDead { id, topic, seq, event, attempts, reason, error, died_at, number, published_at } = flat;
        let envelope = Envelope { topic, seq, event };
        Self { id, envelope, attempts, reason, error, died_at, number, published_at }
    }
}

/// Which dead letters: as for jobs, but by the ids of events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeadEventSelect {
    /// These.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_items = 10_000))]
    pub ids: Option<Vec<String>>,
    /// These, by their numbers. Not together with another choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_items = 10_000))]
    pub numbers: Option<Vec<u64>>,
    /// Those of this `type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 1024))]
    pub kind: Option<String>,
    /// Those whose last failure was of this type.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub error_type: Option<String>,
    /// At most so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 9_007_199_254_740_991_u64))]
    pub limit: Option<u64>,
    /// Only count. Defaults to `false`.
    #[cfg_attr(feature = "openapi", schema(required = false, nullable = true, default = false))]
    pub dry_run: bool,
}

impl Strict for DeadEventSelect {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["ids", "numbers", "kind", "error_type", "limit", "dry_run"])?;
        let ids = f.list(cx, at, "ids", 0..=cx.limits.bulk, text(1..=1_024));
        let numbers = f.list(cx, at, "numbers", 0..=cx.limits.bulk, int(0..=MAX_SAFE_INTEGER));
        let kind = f.optional(cx, at, "kind", text(1..=1_024));
        let error_type = f.optional(cx, at, "error_type", super::read::key);
        let limit = f.optional(cx, at, "limit", int(1..=MAX_SAFE_INTEGER));
        let dry_run = f.optional(cx, at, "dry_run", boolean).unwrap_or(false);
        super::queue::only_one_given(cx, at, &f);
        if numbers.is_some() && (ids.is_some() || kind.is_some() || error_type.is_some()) {
            cx.error(&at.key("numbers"), "cannot be given together with ids, kind or error_type");
        }
        Some(Self { ids, numbers, kind, error_type, limit, dry_run })
    }
}

/// An event `lagged` of a stream: retention removed what its reader had not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Lagged {
    /// How many events, or numbers where the store does not know which matched.
    pub skipped: u64,
    /// Where it goes on.
    pub next: u64,
}
