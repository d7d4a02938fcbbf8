//! First in first out, in blocks: a long queue neither copies itself to grow, nor is its memory given back at once.
//!
//! Each block that was emptied is freed by itself, and is small: that is a note in the allocator's books. What takes time
//! is to give memory back to the system, which an allocator does from the top of its heap once enough of that is free.
//! That is where the newest block is, and the nearest to it stays (see `retire`); so what was freed stays with the
//! process, for whoever asks next.

use std::collections::{LinkedList, VecDeque};

pub(super) struct Blocks<E> {
    /// Empty only if all is. Here and not behind a pointer: most queues have no other, and each line of memory more that
    /// both ends write to is one more that moves between processors.
    first: VecDeque<E>,
    more: Option<Box<More<E>>>,
}

/// What a queue needs that has been long.
struct More<E> {
    /// Those after the first; none is empty. A list, since it need not move what it holds to grow.
    blocks: LinkedList<VecDeque<E>>,
    /// How much is in them.
    len: usize,
    /// A block that was emptied, for the next one that is needed.
    spare: Option<VecDeque<E>>,
}

/// Small enough to stay in the caches, and for allocators to cut it from the heap and not to ask the system for each.
const BLOCK_BYTES: usize = 16 << 10;

impl<E> Blocks<E> {
    pub fn new() -> Self {
        Self { first: VecDeque::new(), more: None }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.first.len() + self.more.as_ref().map_or(0, |more| more.len)
    }

    #[inline]
    pub fn push(&mut self, entry: E) {
        let is_last = self.more.as_ref().is_none_or(|more| more.blocks.is_empty());
        if is_last && has_room(&self.first) {
            self.first.push_back(entry);
        } else {
            self.push_into_another(entry);
        }
    }

    #[inline]
    pub fn front(&self) -> Option<&E> {
        self.first.front()
    }

    #[inline]
    pub fn pop(&mut self) -> Option<E> {
        let entry = self.first.pop_front()?;
        if self.first.is_empty() {
            self.retire();
        }
        Some(entry)
    }

    fn push_into_another(&mut self, entry: E) {
        let more = self.more.get_or_insert_with(Box::default);
        more.len += 1;
        match more.blocks.back_mut() {
            Some(last) if has_room(last) => last.push_back(entry),
            _ => {
                let mut block =
                    more.spare.take().unwrap_or_else(|| VecDeque::with_capacity(block_len::<E>()));
                block.push_back(entry);
                more.blocks.push_back(block);
            }
        }
    }

    /// The first block is empty: it stays if it is the only one, is kept as the spare one, or is given back.
    fn retire(&mut self) {
        let Some(more) = &mut self.more else { return };
        let Some(next) = more.blocks.pop_front() else { return };
        more.len -= next.len();
        let emptied = std::mem::replace(&mut self.first, next);
        // Of two the one that is nearer to the top of the heap. The other way round, the last of many to be given back
        // would be the top, and all of them would go to the system at once, while its thread stands still.
        match &mut more.spare {
            Some(spare) if address(spare) > address(&emptied) => {}
            spare => *spare = Some(emptied),
        }
    }
}

impl<E> Default for More<E> {
    fn default() -> Self {
        Self { blocks: LinkedList::new(), len: 0, spare: None }
    }
}

/// The first block of a queue grows as it is needed.
#[inline]
fn has_room<E>(block: &VecDeque<E>) -> bool {
    block.len() < block.capacity().max(block_len::<E>())
}

fn address<E>(block: &VecDeque<E>) -> usize {
    block.as_slices().0.as_ptr().addr()
}

const fn block_len<E>() -> usize {
    let size = if size_of::<E>() == 0 { 1 } else { size_of::<E>() };
    if size > BLOCK_BYTES { 1 } else { BLOCK_BYTES / size }
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

    /// All blocks, also the spare one.
    fn all(blocks: &Blocks<u64>) -> impl Iterator<Item = &VecDeque<u64>> {
        let more = blocks.more.iter().flat_map(|more| more.blocks.iter().chain(&more.spare));
        more.chain([&blocks.first])
    }

    #[test]
    fn memory_is_given_back_as_a_long_queue_is_consumed() {
        let room = |blocks: &Blocks<u64>| all(blocks).map(VecDeque::capacity).sum::<usize>();
        let mut blocks = Blocks::new();
        (0..1_000_000).for_each(|n| blocks.push(n));
        assert!(room(&blocks) < 1_010_000, "{}", room(&blocks));
        for _ in 0..900_000 {
            blocks.pop();
        }
        assert!(room(&blocks) < 110_000, "{}", room(&blocks));
        while blocks.pop().is_some() {}
        assert!(room(&blocks) <= 4_096, "{}", room(&blocks));
    }

    #[test]
    fn no_block_grows_however_long_the_queue_is() {
        let mut blocks = Blocks::new();
        for round in 0..5 {
            (0..100_000).for_each(|n| blocks.push(n));
            for _ in 0..20_000 * round {
                blocks.pop();
            }
            assert_eq!(all(&blocks).map(VecDeque::capacity).max(), Some(BLOCK_BYTES / size_of::<u64>()));
        }
    }

    #[test]
    fn of_the_emptied_blocks_the_one_that_lies_highest_stays() {
        let mut blocks = Blocks::new();
        (0..1_000_000).for_each(|n| blocks.push(n));
        let mut highest = 0;
        while blocks.len() > 100_000 {
            if blocks.first.len() == 1 {
                // That of its last entry.
                highest = highest.max(address(&blocks.first));
            }
            blocks.pop();
        }
        let spare = blocks.more.as_ref().and_then(|more| more.spare.as_ref()).map(address);
        assert!(
            highest > 0 && spare.is_some_and(|spare| spare + BLOCK_BYTES > highest),
            "{spare:?}, {highest}"
        );
    }
}
