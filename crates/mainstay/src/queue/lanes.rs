//! Entries by priority, first in first out within each. Beside the items it keeps only what the queue asks of them, so
//! that the memory of a plain queue is that of its items.

use super::blocks::Blocks;
use super::state::Load;

/// How many priorities there are.
pub(super) const LANES: usize = 10;

/// An item with what the queue knows of it; `I` is a point in time.
pub(super) struct Entry<T, I> {
    pub item: T,
    pub weight: u64,
    pub expires: Option<I>,
    /// When it came in, of a sample.
    pub since: Option<I>,
}

pub(super) struct Lanes<T, I> {
    lanes: [Lane<T, I>; LANES],
    /// Whether items have a weight or an end.
    detailed: bool,
    /// Bit `n` is set while lane `n` holds something.
    occupied: u16,
    len: usize,
}

/// What comes in at one end and leaves at the other: everything in here has the same order.
struct Lane<T, I> {
    items: Blocks<T>,
    /// Weight and end of each, if the queue is detailed.
    details: Blocks<(u64, Option<I>)>,
    /// When those of the sample came in, with their number.
    sample: Blocks<(u64, I)>,
    /// The number of the next one to leave.
    next: u64,
    weight: u64,
}

impl<T, I: Copy> Lanes<T, I> {
    /// Only in a `detailed` queue may entries have a weight or an end.
    pub fn new(detailed: bool) -> Self {
        Self { lanes: std::array::from_fn(|_| Lane::new()), detailed, occupied: 0, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn weight(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.weight).sum()
    }

    /// All of it, at once.
    pub fn take_all(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.detailed))
    }

    /// At the end of its lane; a priority beyond the last counts as the last.
    #[inline]
    pub fn push(&mut self, lane: u8, entry: Entry<T, I>) {
        debug_assert!(self.detailed || entry.weight == 0 && entry.expires.is_none(), "details nobody keeps");
        let at = usize::from(lane).min(LANES - 1);
        let lane = &mut self.lanes[at];
        if let Some(since) = entry.since {
            lane.sample.push((lane.next + lane.items.len() as u64, since));
        }
        if self.detailed {
            lane.details.push((entry.weight, entry.expires));
            lane.weight += entry.weight;
        }
        lane.items.push(entry.item);
        self.occupied |= 1 << at;
        self.len += 1;
    }

    /// The oldest of the most urgent.
    #[inline]
    pub fn pop(&mut self) -> Option<Entry<T, I>> {
        self.take(self.occupied.trailing_zeros() as usize)
    }

    /// The oldest of the least urgent, unless that is more urgent than `lane`.
    pub fn evict(&mut self, lane: u8) -> Option<Entry<T, I>> {
        let last = (u16::BITS - 1).checked_sub(self.occupied.leading_zeros())? as usize;
        if last < usize::from(lane).min(LANES - 1) { None } else { self.take(last) }
    }

    /// What [`evict`](Self::evict) could make room of, all told.
    pub fn evictable(&self, lane: u8) -> Load {
        let from = &self.lanes[usize::from(lane).min(LANES - 1)..];
        Load {
            items: from.iter().map(|lane| lane.items.len()).sum(),
            weight: from.iter().map(|lane| lane.weight).sum(),
        }
    }

    #[inline]
    fn take(&mut self, at: usize) -> Option<Entry<T, I>> {
        let lane = self.lanes.get_mut(at)?;
        let item = lane.items.pop()?;
        let (weight, expires) = lane.details.pop().unwrap_or((0, None));
        lane.weight -= weight;
        let since = match lane.sample.front() {
            Some((number, _)) if *number == lane.next => lane.sample.pop().map(|(_, since)| since),
            _ => None,
        };
        lane.next += 1;
        if lane.items.is_empty() {
            self.occupied &= !(1 << at);
        }
        self.len -= 1;
        Some(Entry { item, weight, expires, since })
    }
}

impl<T, I> Lane<T, I> {
    fn new() -> Self {
        Self { items: Blocks::new(), details: Blocks::new(), sample: Blocks::new(), next: 0, weight: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_beside_an_item_leaves_with_it() {
        let mut lanes = Lanes::new(true);
        let about = |item: u32| ((!item.is_multiple_of(3)).then_some(item), item.is_multiple_of(4));
        for round in 0..3_u32 {
            for item in round * 5_000..(round + 1) * 5_000 {
                let (expires, sampled) = about(item);
                let entry = Entry { item, weight: u64::from(item), expires, since: sampled.then_some(item) };
                lanes.push((item % 2) as u8, entry);
            }
            for _ in 0..4_000 {
                let out = if round == 1 { lanes.evict(0) } else { lanes.pop() }.unwrap();
                let (expires, sampled) = about(out.item);
                assert_eq!((out.weight, out.expires), (u64::from(out.item), expires));
                assert_eq!(out.since, sampled.then_some(out.item));
            }
        }
        let rest = std::iter::from_fn(|| lanes.pop()).map(|entry| entry.weight).sum::<u64>();
        assert!(rest > 0);
        assert_eq!((lanes.len(), lanes.weight()), (0, 0));
    }
}
