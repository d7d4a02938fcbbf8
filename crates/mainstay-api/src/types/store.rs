use serde::{Deserialize, Serialize};

/// What the store can: `GET /v1/store`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoreInfo {
    /// The kind of store: `memory`, `sqlite`, …
    pub store: String,
    /// Whether what was answered survives a crash.
    pub durable: bool,
    /// What a commit can span.
    pub commit_scope: CommitScope,
    /// Over what fencing tokens grow.
    pub token_order: TokenOrder,
    /// Whether events have their number when the commit is answered.
    pub seq_at_commit: bool,
    /// Whether depths are exact, or may lag by a second.
    #[serde(default)]
    pub exact_depth: bool,
    /// Features of the contract this store (or version) has, by name.
    #[serde(default)]
    pub features: Vec<String>,
    /// The server's version.
    #[serde(default)]
    pub version: String,
}

/// What a commit can span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum CommitScope {
    /// Everything.
    Store,
    /// Names that are equal before the first `:`.
    Partition,
    /// One operation.
    Single,
}

/// Over what fencing tokens grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum TokenOrder {
    /// The whole store.
    Store,
    /// The grants of one thing.
    Name,
}
