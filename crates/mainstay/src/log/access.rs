//! Which requests get a line of their own.

use serde::{Deserialize, Serialize};

/// Which requests get a line of their own when they have ended. Metrics count all of them in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AccessLog {
    /// None.
    Off,
    /// Those that we are to blame for, and those whose client did not wait. Not those that were shed.
    Errors,
    /// All. The default.
    #[default]
    All,
}
