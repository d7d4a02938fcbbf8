//! First in first out, in blocks: a long queue neither copies itself to grow nor is freed all at once.

use std::collections::VecDeque;

pub(super) struct Blocks<E> {
    /// Empty only if all is. Here and not behind a pointer: most queues have no other, and each line of memory more that
    /// both ends write to is one more that moves between processors.
    first: VecDeque<E>,
    more: Option<Box<More<E>>>,
}

/// What a queue needs that has been long.
struct More<E> {
    /// Those after the first. Only the last may be empty.
    blocks: VecDeque<VecDeque<E>>,
    /// How much is in them.
    len: usize,
    /// A block that was emptied, for the next one that is needed.
    spare: Option<VecDeque<E>>,
}

/// A block of a short queue: small enough to stay in the caches.
const SHORT_BYTES: usize = 16 << 10;
/// A queue this long has blocks of this many bytes: enough for allocators to give each back to the system by itself.
/// (glibc returns everything at once when the last of many small ones is freed; so it does with blocks of 64 KiB.)
const LONG: usize = 16_384;
const LONG_BYTES: usize = 256 << 10;

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
        let in_first = self.first.len();
        let more = self.more.get_or_insert_with(Box::default);
        more.len += 1;
        match more.blocks.back_mut() {
            Some(last) if has_room(last) => last.push_back(entry),
            _ => {
                let mut block = match more.spare.take() {
                    Some(spare) => spare,
                    None if in_first + more.len > LONG => {
                        VecDeque::with_capacity(LONG_BYTES / size_of_entry::<E>())
                    }
                    None => VecDeque::with_capacity(short::<E>()),
                };
                block.push_back(entry);
                more.blocks.push_back(block);
            }
        }
    }

    /// The first block is empty: it stays if it is the only one, is kept as the spare one, or is given back.
    fn retire(&mut self) {
        let next = self.more.as_mut().and_then(|more| more.blocks.pop_front());
        if next.is_none() && is_short(&self.first) {
            return;
        }
        let mut emptied = std::mem::replace(&mut self.first, next.unwrap_or_default());
        let Some(more) = &mut self.more else { return };
        more.len -= self.first.len();
        if is_short(&emptied) {
            more.spare.get_or_insert(emptied);
            return;
        }
        // The highest memory is given back first, at the price of a copy: a heap shrinks from its top, so that the other
        // way round all of it would go at once at the end, and its thread would stand still for that.
        let address = |block: &VecDeque<E>| block.as_slices().0.as_ptr().addr();
        if let Some(highest) = more.blocks.iter_mut().max_by_key(|block| address(block))
            && address(highest) > address(&emptied)
            && highest.capacity() <= emptied.capacity()
        {
            emptied.append(highest);
            std::mem::swap(highest, &mut emptied);
        }
    }
}

impl<E> Default for More<E> {
    fn default() -> Self {
        Self { blocks: VecDeque::new(), len: 0, spare: None }
    }
}

/// Growth by doubling goes beyond what was asked for.
fn is_short<E>(block: &VecDeque<E>) -> bool {
    block.capacity() <= 2 * short::<E>()
}

/// The first block of a queue grows as it is needed.
#[inline]
fn has_room<E>(block: &VecDeque<E>) -> bool {
    block.len() < block.capacity().max(short::<E>())
}

const fn short<E>() -> usize {
    SHORT_BYTES / size_of_entry::<E>() + 1
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
            let more = blocks.more.iter().flat_map(|more| more.blocks.iter().chain(&more.spare));
            more.chain([&blocks.first]).map(VecDeque::capacity).sum::<usize>()
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
