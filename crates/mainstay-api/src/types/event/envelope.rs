//! Events as they are answered.

use serde::{Deserialize, Serialize};

use crate::RawJson;

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
