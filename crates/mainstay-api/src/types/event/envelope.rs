//! Events as they are answered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{RawJson, Timestamp};

/// An event in the log: an element of lists, of a fetch, and the `data:` of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Envelope {
    /// Its topic.
    pub topic: String,
    /// Its number: gap-free over the whole log, in the order of commits.
    pub seq: u64,
    /// The CloudEvent, in the JSON format of version 1.0.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, RawJson>))]
    pub event: RawJson,
}

/// The answer to a publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Published {
    /// The event's id.
    pub id: String,
    /// Its number; that of the first if this is a duplicate. `null` on a store that numbers later.
    pub seq: Option<u64>,
    /// Its topic.
    pub topic: String,
    /// Nothing was stored: the same topic, source and id came within the last two minutes.
    pub deduplicated: bool,
}

/// The answer to a publish in batched mode.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PublishedBatch {
    /// One for each event, in order.
    pub results: Vec<Published>,
}

/// An event of `GET /v1/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LoggedEvent {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub seq: u64,
    /// The CloudEvent, in the JSON format of version 1.0.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, RawJson>))]
    pub event: RawJson,
    /// When it was published.
    pub published_at: Timestamp,
}

/// A piece of the log: `GET /v1/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogPage {
    /// The events, in order.
    pub items: Vec<LoggedEvent>,
    /// Where it begins: the number that the asked-for position stood for.
    pub from: u64,
    /// Where to go on. A piece may be short, even empty, and not be the end.
    pub next: u64,
    /// The last number given so far, of whatever topic. At the end of the log, `next` is one more.
    pub head: u64,
    /// The highest number at or behind `from` that retention has removed of a topic that matches; 0: nothing is gone.
    pub removed_up_to: u64,
    /// The same for each topic of which something at or behind `from` is gone.
    #[serde(default)]
    pub removed: BTreeMap<String, u64>,
}
