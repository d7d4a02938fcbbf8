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

impl<T, I> Entry<T, I> {
    /// Of no weight and without an end.
    #[inline]
    pub fn plain(item: T) -> Self {
        Self { item, weight: 0, expires: None, since: None }
    }
}

// In this order: what is written with every entry comes first, see `State`.
#[repr(C)]
pub(super) struct Lanes<T, I> {
    /// Bit `n` is set while lane `n` holds something.
    occupied: u16,
    /// Whether items have a weight or an end.
    detailed: bool,
    len: usize,
    /// Up to the least urgent that was ever used.
    lanes: Vec<Lane<T, I>>,
}

/// What comes in at one end and leaves at the other: everything in here has the same order.
pub(super) struct Lane<T, I> {
    items: Blocks<T>,
    /// The number of the next one to leave.
    next: u64,
    /// The number of the first of the sample: beyond all while there is none.
    sampled: u64,
    /// When those of the sample came in, with their number.
    sample: Option<Box<Blocks<(u64, I)>>>,
    /// If the queue is detailed.
    details: Option<Box<Details<I>>>,
}

struct Details<I> {
    /// Weight and end of each.
    of: Blocks<(u64, Option<I>)>,
    weight: u64,
}

impl<T, I: Copy> Lanes<T, I> {
    /// Only in a `detailed` queue may entries have a weight or an end.
    pub fn new(detailed: bool) -> Self {
        Self { occupied: 0, detailed, len: 0, lanes: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most urgent lane that holds something; beyond the last if none does.
    #[inline]
    pub fn first(&self) -> usize {
        self.occupied.trailing_zeros() as usize
    }

    /// The least urgent lane that holds something.
    pub fn last(&self) -> Option<usize> {
        (u16::BITS - 1).checked_sub(self.occupied.leading_zeros()).map(|last| last as usize)
    }

    /// All of a lane, in exchange for an empty one that goes on where it ends.
    pub fn hand_over(&mut self, at: usize, lane: &mut Lane<T, I>) {
        let own = &mut self.lanes[at];
        lane.next = own.next + own.len() as u64;
        std::mem::swap(own, lane);
        self.occupied &= !(1 << at);
        self.len -= lane.len();
    }

    /// All of it, at once.
    pub fn take_all(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.detailed))
    }

    /// At the end of its lane; a priority beyond the last counts as the last.
    #[inline]
    pub fn push(&mut self, lane: u8, entry: Entry<T, I>) {
        debug_assert!(self.detailed || entry.weight == 0 && entry.expires.is_none(), "details nobody keeps");
        let at = place(lane);
        if at >= self.lanes.len() {
            self.lanes.resize_with(at + 1, Lane::new);
        }
        let lane = &mut self.lanes[at];
        if let Some(since) = entry.since {
            let number = lane.next + lane.items.len() as u64;
            lane.sampled = lane.sampled.min(number);
            lane.sample.get_or_insert_with(|| Box::new(Blocks::new())).push((number, since));
        }
        if self.detailed {
            let empty = || Box::new(Details { of: Blocks::new(), weight: 0 });
            let details = lane.details.get_or_insert_with(empty);
            details.of.push((entry.weight, entry.expires));
            details.weight += entry.weight;
        }
        lane.items.push(entry.item);
        self.occupied |= 1 << at;
        self.len += 1;
    }

    /// The oldest of the most urgent.
    #[inline]
    pub fn pop(&mut self) -> Option<Entry<T, I>> {
        self.take(self.first())
    }

    /// What lies in this lane and in all that are less urgent.
    pub fn load_from(&self, at: usize) -> Load {
        let add = |sum: Load, lane: &Lane<T, I>| sum.plus(lane.load());
        self.lanes.iter().skip(at).fold(Load::default(), add)
    }

    /// The oldest of this lane.
    #[inline]
    pub fn take(&mut self, at: usize) -> Option<Entry<T, I>> {
        let lane = self.lanes.get_mut(at)?;
        let entry = lane.pop()?;
        if lane.is_empty() {
            self.occupied &= !(1 << at);
        }
        self.len -= 1;
        Some(entry)
    }
}

/// The lane of a priority: one beyond the last counts as the last.
#[inline]
pub(super) fn place(priority: u8) -> usize {
    usize::from(priority).min(LANES - 1)
}

impl<T, I> Lane<T, I> {
    pub fn new() -> Self {
        Self { items: Blocks::new(), next: 0, sampled: u64::MAX, sample: None, details: None }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn load(&self) -> Load {
        Load { items: self.items.len(), weight: self.details.as_ref().map_or(0, |details| details.weight) }
    }

    /// The oldest.
    #[inline]
    pub fn pop(&mut self) -> Option<Entry<T, I>> {
        let item = self.items.pop()?;
        let mut entry = Entry::plain(item);
        if let Some(details) = &mut self.details {
            (entry.weight, entry.expires) = details.of.pop().unwrap_or((0, None));
            details.weight -= entry.weight;
        }
        if self.sampled == self.next {
            entry.since = self.pop_sample();
        }
        self.next += 1;
        Some(entry)
    }

    #[cold]
    fn pop_sample(&mut self) -> Option<I> {
        let sample = self.sample.as_mut()?;
        let since = sample.pop().map(|(_, since)| since);
        self.sampled = sample.front().map_or(u64::MAX, |(number, _)| *number);
        since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_beside_an_item_leaves_with_it() {
        let mut lanes = Lanes::new(true);
        let about = |item: u32| ((!item.is_multiple_of(3)).then_some(item), item.is_multiple_of(4));
        let mut front = Lane::new();
        for round in 0..3_u32 {
            for item in round * 5_000..(round + 1) * 5_000 {
                let (expires, sampled) = about(item);
                let entry = Entry { item, weight: u64::from(item), expires, since: sampled.then_some(item) };
                lanes.push((item % 2) as u8, entry);
            }
            for _ in 0..4_000 {
                if front.is_empty() && lanes.first() < LANES {
                    lanes.hand_over(lanes.first(), &mut front);
                }
                let out =
                    if round == 1 { lanes.take(1).or_else(|| lanes.pop()) } else { front.pop() }.unwrap();
                let (expires, sampled) = about(out.item);
                assert_eq!((out.weight, out.expires), (u64::from(out.item), expires));
                assert_eq!(out.since, sampled.then_some(out.item));
            }
        }
        let rest = std::iter::from_fn(|| lanes.pop()).map(|entry| entry.weight).sum::<u64>();
        assert!(rest > 0);
        assert_eq!((lanes.len(), lanes.load_from(0)), (0, Load::default()));
        assert!(std::iter::from_fn(|| front.pop()).all(|entry| entry.weight == u64::from(entry.item)));
        assert_eq!(front.load(), Load::default());
    }
}
