//! Topics: `PUT /v1/topics/{topic}` and lists of them.

use serde::{Deserialize, Serialize};

use crate::RawJson;
use crate::limits::{MAX_SAFE_INTEGER, MAX_SPAN_MS};
use crate::strict::{Cx, Fields, Kind, Path, Strict, Value, int};

/// How many bytes a schema may have.
const SCHEMA_BYTES: usize = 256 << 10;

/// The whole configuration of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TopicConfig {
    /// How long events stay. Defaults to for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<TopicRetention>,
    /// A JSON Schema that the data of every event is checked against. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<std::collections::BTreeMap<String, RawJson>>))]
    pub schema: Option<RawJson>,
}

/// How long the events of a topic stay: whatever is given bounds them, the oldest go first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TopicRetention {
    /// At most this old, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 3_162_240_000_000_u64))]
    pub age_ms: Option<u64>,
    /// At most the newest this many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 9_007_199_254_740_991_u64))]
    pub count: Option<u64>,
    /// At most the newest that have this many bytes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 9_007_199_254_740_991_u64))]
    pub bytes: Option<u64>,
}

impl Strict for TopicConfig {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["retention", "schema"])?;
        let retention = f.optional(cx, at, "retention", TopicRetention::read);
        let schema = f.optional(cx, at, "schema", schema);
        Some(Self { retention, schema })
    }
}

impl Strict for TopicRetention {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["age_ms", "count", "bytes"])?;
        let age_ms = f.optional(cx, at, "age_ms", int(1..=MAX_SPAN_MS));
        let count = f.optional(cx, at, "count", int(0..=MAX_SAFE_INTEGER));
        let bytes = f.optional(cx, at, "bytes", int(0..=MAX_SAFE_INTEGER));
        Some(Self { age_ms, count, bytes })
    }
}

/// Whether it is a schema is for whoever knows JSON Schema to say.
fn schema(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<RawJson> {
    if !matches!(value.kind(), Kind::Object | Kind::Bool) {
        cx.error(at, "must be a JSON Schema: an object, true or false");
        return None;
    }
    crate::strict::raw(SCHEMA_BYTES)(cx, at, value)
}

/// A topic: an element of `GET /v1/topics`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// How many events it has.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The number of its newest event, gone or not; 0: it never had one.
    pub last_seq: u64,
    /// Retention has removed its events up to this number; 0: none yet.
    pub removed_up_to: u64,
    /// Its configuration.
    pub config: TopicConfig,
}

/// The answer to `PUT /v1/topics/{topic}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(from = "FlatPut")]
pub struct TopicPut {
    /// The topic as it is now.
    #[serde(flatten)]
    pub topic: TopicView,
    /// Where the new schema refuses what the one before it let through: readers of old events, and publishers that do
    /// not know of it yet, will meet it. Empty if none was found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incompatible: Vec<String>,
}

/// As it stands on the wire. JSON that is kept as text (a schema) cannot be read out of a flattened struct.
#[derive(Deserialize)]
struct FlatPut {
    name: String,
    count: u64,
    bytes: u64,
    last_seq: u64,
    removed_up_to: u64,
    config: TopicConfig,
    #[serde(default)]
    incompatible: Vec<String>,
}

impl From<FlatPut> for TopicPut {
    fn from(flat: FlatPut) -> Self {
        let FlatPut { name, count, bytes, last_seq, removed_up_to, config, incompatible } = flat;
        Self { topic: TopicView { name, count, bytes, last_seq, removed_up_to, config }, incompatible }
    }
}
