//! Blocks of several topics as one log.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    rc::Rc,
};

use mainstay_core::engine::change::EventMeta;

use super::Block;

/// The events of blocks in the order of the log. Blocks are added in the order of their first numbers; before each,
/// everything below that number is taken out. So there is never more in it than blocks that lie side by side.
#[derive(Default)]
pub struct Merge {
    /// By the number of the next event; the second tells apart.
    open: BinaryHeap<Reverse<(u64, usize)>>,
    blocks: Vec<Option<(Rc<Block>, usize)>>,
}

impl Merge {
    /// Adds a block, as far as it is at or behind `from`.
    pub fn add(&mut self, block: Block, from: u64) {
        let at = block.metas.partition_point(|meta| meta.seq < from);
        let Some(meta) = block.metas.get(at) else { return };
        if self.open.is_empty() {
            self.blocks.clear();
        }
        self.open.push(Reverse((meta.seq, self.blocks.len())));
        self.blocks.push(Some((Rc::new(block), at)));
    }

    /// The number of the next event.
    pub fn next_seq(&self) -> Option<u64> {
        self.open.peek().map(|Reverse((seq, _))| *seq)
    }

    /// Takes the next event if its number is below `until`; with it its block, and where it is in it.
    pub fn next(&mut self, until: u64) -> Option<(EventMeta, Rc<Block>, usize)> {
        let mut first = self.open.peek_mut().filter(|first| first.0.0 < until)?;
        let place = self.blocks.get_mut(first.0.1)?;
        let (block, at) = place.as_mut()?;
        let (meta, found) = (*block.metas.get(*at)?, *at);
        let block = block.clone();
        *at += 1;
        match block.metas.get(*at) {
            Some(next) => first.0.0 = next.seq,
            None => {
                PeekMut::pop(first);
                *place = None;
            }
        }
        Some((meta, block, found))
    }
}

#[cfg(test)]
mod tests {
    use mainstay_core::{TopicName, engine::change::TopicId, event::Event, time::Timestamp};

    use super::*;
    use crate::block::Builder;

    fn block(topic: u32, seqs: &[u64]) -> Block {
        let mut builder = Builder::default();
        for (i, seq) in (1..).zip(seqs) {
            let (topic, at) = (TopicId(topic), Timestamp(0));
            let meta = EventMeta { seq: *seq, topic, size: 1, ord: i, total: i, at, key: 0 };
            builder.push(&meta, &Event::new("i", &TopicName::new("t").unwrap(), "1"));
        }
        let row = builder.finish().unwrap();
        Block::of_heads(row.first, TopicId(row.topic), row.heads).unwrap()
    }

    #[test]
    fn blocks_that_lie_side_by_side_come_out_in_the_order_of_the_log() {
        let mut merge = Merge::default();
        let mut seen = vec![];
        let mut take = |merge: &mut Merge, until| {
            while let Some((meta, block, at)) = merge.next(until) {
                assert_eq!(block.metas[at], meta);
                seen.push((meta.seq, meta.topic.0));
            }
        };
        for (topic, seqs) in [(1, &[1, 4, 9][..]), (2, &[2, 3]), (3, &[5, 6]), (1, &[10])] {
            take(&mut merge, seqs[0]);
            merge.add(block(topic, seqs), 3);
        }
        assert_eq!(merge.next_seq(), Some(10));
        take(&mut merge, u64::MAX);
        assert_eq!(seen, [(3, 2), (4, 1), (5, 3), (6, 3), (9, 1), (10, 1)]);
        assert_eq!(merge.next_seq(), None);
    }
}
