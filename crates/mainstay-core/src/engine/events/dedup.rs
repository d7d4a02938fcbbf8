//! Ids that publishers chose, remembered for a while.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::change::TopicId;
use crate::{
    event::{DEDUP_KEPT, DEDUP_MS, DedupKey},
    time::Timestamp,
};

/// Forgetting goes in steps of this many milliseconds or entries.
const SLACK_MS: u64 = 5_000;
const SLACK: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Known {
    pub seq: u64,
    pub topic: TopicId,
    pub at: Timestamp,
    pub key: DedupKey,
}

#[derive(Default)]
pub(super) struct Dedup {
    /// Oldest first, by number.
    order: VecDeque<Known>,
    by_key: HashMap<DedupKey, u64>,
}

impl Dedup {
    /// The event with this key, if it is not too old and its topic is still that one.
    pub(super) fn find(&self, key: &DedupKey, topic: TopicId, now: Timestamp) -> Option<u64> {
        let seq = *self.by_key.get(key)?;
        let at = self.order.binary_search_by_key(&seq, |known| known.seq).ok()?;
        let known = self.order.get(at)?;
        (known.topic == topic && known.at.plus_ms(DEDUP_MS) > now).then_some(seq)
    }

    /// The newest with a key wins.
    pub(super) fn push(&mut self, known: Known) -> Option<u64> {
        self.order.push_back(known);
        self.by_key.insert(known.key, known.seq)
    }

    /// Takes the last [`Dedup::push`] back; `before` is what it answered.
    pub(super) fn pop(&mut self, before: Option<u64>) {
        let Some(known) = self.order.pop_back() else { return };
        match before {
            Some(seq) => drop(self.by_key.insert(known.key, seq)),
            None => drop(self.by_key.remove(&known.key)),
        }
    }

    pub(super) fn put_back(&mut self, known: Known) {
        self.by_key.entry(known.key).or_insert(known.seq);
        self.order.push_front(known);
    }

    fn is_old(&self, now: Timestamp, slack: u64) -> bool {
        self.order.front().is_some_and(|known| known.at.plus_ms(DEDUP_MS + slack) <= now)
    }

    /// Whether there is enough to forget.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.order.len() > DEDUP_KEPT + SLACK || self.is_old(now, SLACK_MS)
    }

    /// Forgets the oldest if it is too old or one too many.
    pub(super) fn forget_one(&mut self, now: Timestamp) -> Option<Known> {
        if self.order.len() <= DEDUP_KEPT && !self.is_old(now, 0) {
            return None;
        }
        let known = self.order.pop_front()?;
        if self.by_key.get(&known.key) == Some(&known.seq) {
            self.by_key.remove(&known.key);
        }
        Some(known)
    }
}
