//! Entries by priority, first in first out within each.

use super::blocks::Blocks;
use super::state::Load;

/// How many priorities there are.
pub(super) const LANES: usize = 10;

pub(super) struct Lanes<E> {
    lanes: [Blocks<(u64, E)>; LANES],
    weights: [u64; LANES],
    /// Bit `n` is set while lane `n` holds something.
    occupied: u16,
    len: usize,
}

impl<E> Lanes<E> {
    pub fn new() -> Self {
        Self { lanes: std::array::from_fn(|_| Blocks::new()), weights: [0; LANES], occupied: 0, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// At the end of its lane; a priority beyond the last counts as the last.
    pub fn push(&mut self, lane: u8, weight: u64, entry: E) {
        let lane = usize::from(lane).min(LANES - 1);
        self.lanes[lane].push((weight, entry));
        self.weights[lane] += weight;
        self.occupied |= 1 << lane;
        self.len += 1;
    }

    /// The oldest of the most urgent.
    pub fn pop(&mut self) -> Option<(u64, E)> {
        self.take(self.occupied.trailing_zeros() as usize)
    }

    /// The oldest of the least urgent, unless that is more urgent than `lane`.
    pub fn evict(&mut self, lane: u8) -> Option<(u64, E)> {
        let last = (u16::BITS - 1).checked_sub(self.occupied.leading_zeros())? as usize;
        if last < usize::from(lane) { None } else { self.take(last) }
    }

    /// What [`evict`](Self::evict) could make room of, all told.
    pub fn evictable(&self, lane: u8) -> Load {
        let from = usize::from(lane).min(LANES - 1);
        let items = self.lanes[from..].iter().map(Blocks::len).sum();
        Load { items, weight: self.weights[from..].iter().sum() }
    }

    fn take(&mut self, lane: usize) -> Option<(u64, E)> {
        let (weight, entry) = self.lanes.get_mut(lane)?.pop()?;
        self.weights[lane] -= weight;
        if self.lanes[lane].is_empty() {
            self.occupied &= !(1 << lane);
        }
        self.len -= 1;
        Some((weight, entry))
    }
}
