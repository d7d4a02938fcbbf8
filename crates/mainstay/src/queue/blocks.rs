//! First in first out, in blocks: a long queue neither copies itself to grow nor is freed all at once.

use std::collections::VecDeque;

pub(super) struct Blocks<E> {
    /// Only the last may be empty.
    blocks: VecDeque<VecDeque<E>>,
    len: usize,
    /// A block that was emptied, for the next one that is needed.
    spare: Option<VecDeque<E>>,
}

/// A block of a short queue: small enough to stay in the caches.
const SHORT_BYTES: usize = 16 << 10;
/// A queue this long has blocks of this many bytes: enough for allocators to give each back to the system by itself.
/// (glibc returns everything at once when the last of many small ones is freed.)
const LONG: usize = 16_384;
const LONG_BYTES: usize = 256 << 10;

impl<E> Blocks<E> {
    const SHORT: usize = SHORT_BYTES / size_of_entry::<E>() + 1;

    pub fn new() -> Self {
        Self { blocks: VecDeque::new(), len: 0, spare: None }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn push(&mut self, entry: E) {
        self.len += 1;
        match self.blocks.back_mut() {
            Some(last) if last.len() < last.capacity().max(Self::SHORT) => last.push_back(entry),
            _ => self.push_into_another(entry),
        }
    }

    #[inline]
    pub fn front(&self) -> Option<&E> {
        self.blocks.front()?.front()
    }

    #[inline]
    pub fn pop(&mut self) -> Option<E> {
        let first = self.blocks.front_mut()?;
        let entry = first.pop_front()?;
        let emptied = first.is_empty();
        self.len -= 1;
        if emptied {
            self.retire();
        }
        Some(entry)
    }

    fn push_into_another(&mut self, entry: E) {
        let mut block = match self.spare.take() {
            Some(spare) => spare,
            None if self.len > LONG => VecDeque::with_capacity(LONG_BYTES / size_of_entry::<E>()),
            // Most queues are short: the first block grows as it is needed.
            None if self.blocks.is_empty() => VecDeque::new(),
            None => VecDeque::with_capacity(Self::SHORT),
        };
        block.push_back(entry);
        self.blocks.push_back(block);
    }

    /// The first block is empty: it stays if it is the only one, is kept as the spare one, or is given back.
    fn retire(&mut self) {
        // Growth by doubling goes beyond what was asked for.
        let is_short = |block: &VecDeque<E>| block.capacity() <= 2 * Self::SHORT;
        if self.blocks.len() == 1 && self.blocks.front().is_some_and(is_short) {
            return;
        }
        let Some(mut emptied) = self.blocks.pop_front() else { return };
        if is_short(&emptied) {
            self.spare.get_or_insert(emptied);
            return;
        }
        // The highest memory is given back first, at the price of a copy: a heap shrinks from its top, so that the other
        // way round all of it would go at once at the end, and its thread would stand still for that.
        let address = |block: &VecDeque<E>| block.as_slices().0.as_ptr().addr();
        if let Some(highest) = self.blocks.iter_mut().max_by_key(|block| address(block))
            && address(highest) > address(&emptied)
            && highest.capacity() <= emptied.capacity()
        {
            emptied.append(highest);
            std::mem::swap(highest, &mut emptied);
        }
    }
}

const fn size_of_entry<E>() -> usize {
    if size_of::<E>() == 0 { 1 } else { size_of::<E>() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_length_hold_over_many_blocks() {
        let (mut blocks, mut model) = (Blocks::new(), VecDeque::new());
        let mut next = 0;
        // Up and down again, past several block boundaries each time, and past the bound between short and long.
        for (pushes, pops) in [(3, 1), (1, 3), (5, 0), (0, 5)].into_iter().cycle().take(6_400) {
            for _ in 0..pushes * 32 {
                blocks.push(next);
                model.push_back(next);
                next += 1;
            }
            for _ in 0..pops * 32 {
                assert_eq!(blocks.front(), model.front());
                assert_eq!(blocks.pop(), model.pop_front());
            }
            assert_eq!((blocks.len(), blocks.is_empty()), (model.len(), model.is_empty()));
        }
        for _ in 0..100_000 {
            blocks.push(next);
            model.push_back(next);
            next += 1;
        }
        assert!(std::iter::from_fn(|| blocks.pop()).eq(model));
    }

    #[test]
    fn memory_is_given_back_as_a_long_queue_is_consumed() {
        let room = |blocks: &Blocks<u64>| {
            blocks.blocks.iter().chain(&blocks.spare).map(VecDeque::capacity).sum::<usize>()
        };
        let mut blocks = Blocks::new();
        (0..1_000_000).for_each(|n| blocks.push(n));
        assert!(room(&blocks) < 1_100_000, "{}", room(&blocks));
        for _ in 0..900_000 {
            blocks.pop();
        }
        assert!(room(&blocks) < 200_000, "{}", room(&blocks));
        while blocks.pop().is_some() {}
        assert!(room(&blocks) <= 8_192, "{}", room(&blocks));
    }
}
