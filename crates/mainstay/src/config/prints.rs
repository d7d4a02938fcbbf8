//! Whether a value has changed, secrets too, without keeping any.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use serde::Serialize;

use super::effective::object;
use super::secret::revealing;
use super::{Settings, tree};

/// A print of every value, by key. Prints of one process can be compared; they tell nothing about the values.
pub(crate) type Prints = BTreeMap<String, u64>;

pub(super) fn prints<C: Serialize>(config: &C, settings: &Settings) -> Prints {
    static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let mut all = revealing(|| object(serde_json::to_value(settings)));
    all.extend(revealing(|| object(serde_json::to_value(config))));
    let print = |value: &serde_json::Value| KEYED.hash_one(value.to_string());
    tree::leaves(&all).into_iter().map(|(path, value)| (path.join("."), print(value))).collect()
}
