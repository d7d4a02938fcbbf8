use serde::{Deserialize, Serialize};

/// One page of a list. It may be short or empty and still have a cursor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one begins; `null` when this is the last.
    pub next_cursor: Option<String>,
}
