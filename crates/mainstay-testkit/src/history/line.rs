//! Whether waiters were served in the order in which they came.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One who waited in the line of a lock and was there until it was served. Times as in [`super::Call`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// For which lock.
    pub lock: String,
    /// Before it asked.
    pub from: u64,
    /// When it was seen in the line; `None`: it was not.
    pub seen: Option<u64>,
    /// The token it got.
    pub token: u64,
}

/// The pairs of waiters of which the second was served first: the one was seen in the line before the other asked, and
/// has the higher token.
pub fn overtaken(waiters: &[Waited]) -> Vec<(Waited, Waited)> {
    let mut locks: BTreeMap<&str, Vec<&Waited>> = BTreeMap::new();
    for waiter in waiters {
        locks.entry(&waiter.lock).or_default().push(waiter);
    }
    let mut pairs = Vec::new();
    for line in locks.into_values() {
        for first in &line {
            let Some(seen) = first.seen else { continue };
            let after = line.iter().filter(|second| second.from > seen && second.token < first.token);
            pairs.extend(after.map(|second| ((*first).clone(), (*second).clone())));
        }
    }
    pairs
}
