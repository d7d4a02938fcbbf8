//! Keys and their state, bounded.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::gcra::{self, Ticks};
use super::{Decision, Rate};

/// What is kept of a key is a hash with a secret of this process: keys cost the same however long they are.
pub(super) struct Table {
    hasher: RandomState,
    places: HashMap<u64, usize>,
    keys: Vec<Key>,
    max: usize,
    /// Where to look for a key to forget.
    hand: usize,
}

struct Key {
    hash: u64,
    due: Ticks,
}

/// Keys that are looked at to find one to forget.
const LOOKED_AT: usize = 16;

impl Table {
    pub fn new(max: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            places: HashMap::new(),
            keys: Vec::new(),
            max: max.max(1),
            hand: 0,
        }
    }

    pub fn resize(&mut self, max: usize) {
        self.max = max.max(1);
        self.hand = 0;
        for key in self.keys.drain(self.max.min(self.keys.len())..) {
            self.places.remove(&key.hash);
        }
    }

    /// Decides, and says whether a key had to be forgotten that still counted.
    pub fn take(&mut self, rate: &Rate, key: &str, now_ns: u64, cost: u32) -> (Decision, bool) {
        let hash = self.hasher.hash_one(key);
        if let Some(place) = self.places.get(&hash) {
            return (gcra::take(rate, &mut self.keys[*place].due, now_ns, cost), false);
        }
        let mut due = 0;
        let decision = gcra::take(rate, &mut due, now_ns, cost);
        let new = Key { hash, due };
        if self.keys.len() < self.max {
            self.places.insert(hash, self.keys.len());
            self.keys.push(new);
            return (decision, false);
        }
        let place = self.least_useful(rate, now_ns);
        let counted = !gcra::is_idle(rate, self.keys[place].due, now_ns);
        let old = std::mem::replace(&mut self.keys[place], new);
        self.places.remove(&old.hash);
        self.places.insert(hash, place);
        (decision, counted)
    }

    /// The next that is as good as new, else, of those looked at, the one that is nearest to it. So a flood of keys
    /// pushes out itself before those that have used their burst up.
    fn least_useful(&mut self, rate: &Rate, now_ns: u64) -> usize {
        let mut least = self.hand;
        for _ in 0..LOOKED_AT.min(self.keys.len()) {
            let at = self.hand;
            self.hand = (at + 1) % self.keys.len();
            if gcra::is_idle(rate, self.keys[at].due, now_ns) {
                return at;
            }
            if self.keys[at].due < self.keys[least].due {
                least = at;
            }
        }
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_bounded_and_forgets_the_idle_first() {
        let (rate, mut table) = (Rate::per_second(1).burst(5), Table::new(4));
        let mut take = |key: &str, ms: u64, cost| table.take(&rate, key, ms * 1_000_000, cost);
        assert!(!take("idle", 0, 1).1);
        for key in ["a", "b", "c"] {
            assert!(!take(key, 2_000, 5).1);
        }
        // "idle" has its full burst again: forgetting it changes nothing.
        assert_eq!((take("d", 2_000, 3).1, take("a", 2_000, 1).0.allowed), (false, false));
        // Now somebody who still counts has to go: the one who used the least.
        assert_eq!((take("e", 2_000, 5).1, take("d", 2_000, 5).0.allowed), (true, true));
        assert!(table.keys.len() == 4 && table.places.len() == 4);
    }

    #[test]
    fn a_table_in_use_can_shrink() {
        let (rate, mut table) = (Rate::per_second(1).burst(5), Table::new(4));
        for (key, cost) in [("a", 5), ("b", 5), ("idle", 1), ("c", 5)] {
            table.take(&rate, key, 0, cost);
        }
        table.take(&rate, "d", 2_000_000_000, 5);
        assert!(table.hand > 1, "it would look at a key that is about to go");
        table.resize(2);
        assert!(table.take(&rate, "new", 0, 5).0.allowed);
        assert!(table.keys.len() == 2 && table.places.len() == 2);
    }

    #[test]
    fn a_flood_of_keys_does_not_free_who_is_over_the_rate() {
        let (rate, mut table) = (Rate::per_second(1).burst(100), Table::new(1_000));
        assert!(table.take(&rate, "greedy", 0, 100).0.allowed);
        for n in 0..100_000 {
            table.take(&rate, &n.to_string(), 1_000_000, 1);
        }
        assert!(!table.take(&rate, "greedy", 2_000_000, 1).0.allowed);
        assert_eq!(table.keys.len(), 1_000);
    }
}
