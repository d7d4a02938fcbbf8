//! First in first out, in blocks: a long queue neither copies itself to grow nor is freed all at once.

use std::collections::VecDeque;

pub(super) struct Blocks<E> {
    /// None is empty.
    blocks: VecDeque<VecDeque<E>>,
    len: usize,
    /// The block that was emptied last, for the next one that is needed.
    spare: Option<VecDeque<E>>,
}

/// Entries in a block of a short queue: few enough to stay in the caches.
const SHORT: usize = 256;
/// A queue this long has blocks of this many bytes: enough for allocators to give each back to the system by itself.
/// (glibc returns everything at once when the last of many small ones is freed: 20 ms for 4,000,000 entries.)
const LONG: usize = 16_384;
const LONG_BYTES: usize = 256 << 10;

impl<E> Blocks<E> {
    pub fn new() -> Self {
        Self { blocks: VecDeque::new(), len: 0, spare: None }
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn push(&mut self, entry: E) {
        self.len += 1;
        if let Some(last) = self.blocks.back_mut().filter(|block| block.len() < block.capacity().max(SHORT)) {
            return last.push_back(entry);
        }
        let mut block = match self.spare.take() {
            Some(spare) => spare,
            None if self.len > LONG => VecDeque::with_capacity(LONG_BYTES / size_of::<E>().max(1)),
            // Most queues are short: the block grows as it is needed.
            None => VecDeque::new(),
        };
        block.push_back(entry);
        self.blocks.push_back(block);
    }

    pub fn pop(&mut self) -> Option<E> {
        let first = self.blocks.front_mut()?;
        let entry = first.pop_front();
        self.len -= 1;
        if first.is_empty() {
            let emptied = self.blocks.pop_front();
            self.spare = emptied.filter(|block| block.capacity() <= SHORT);
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_length_hold_over_many_blocks() {
        let (mut blocks, mut model) = (Blocks::new(), VecDeque::new());
        let mut next = 0;
        // Up and down again, past several block boundaries each time.
        for (pushes, pops) in [(3, 1), (1, 3), (5, 0), (0, 5)].into_iter().cycle().take(1_600) {
            for _ in 0..pushes {
                blocks.push(next);
                model.push_back(next);
                next += 1;
            }
            for _ in 0..pops {
                assert_eq!(blocks.pop(), model.pop_front());
            }
            assert_eq!((blocks.len(), blocks.is_empty()), (model.len(), model.is_empty()));
        }
    }
}
