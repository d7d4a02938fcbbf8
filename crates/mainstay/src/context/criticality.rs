//! How much it would hurt not to do something.

use serde::{Deserialize, Serialize};

/// How much it would hurt not to do something: what is shed first when there is too much. Ordered, the most critical
/// last. (After "Handling Overload" in Google's *Site Reliability Engineering*.)
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Criticality {
    /// May fail often, even all of it: batch work that nobody waits for.
    Sheddable,
    /// May fail in part: work that is tried again.
    SheddablePlus,
    /// A person notices. The default.
    #[default]
    Critical,
    /// A person notices at once, and it is grave. For very little.
    CriticalPlus,
}

impl Criticality {
    /// As in the header `x-criticality`.
    pub fn as_str(self) -> &'static str {
        match self {
            Criticality::Sheddable => "sheddable",
            Criticality::SheddablePlus => "sheddable-plus",
            Criticality::Critical => "critical",
            Criticality::CriticalPlus => "critical-plus",
        }
    }

    /// Reads what [`as_str`](Self::as_str) writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        use Criticality::{Critical, CriticalPlus, Sheddable, SheddablePlus};
        [Sheddable, SheddablePlus, Critical, CriticalPlus].into_iter().find(|level| level.as_str() == text)
    }
}

impl std::fmt::Display for Criticality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
