//! Rows of blocks.

use std::path::Path;

use mainstay_core::{Error, TopicName, engine::change::TopicId};
use rusqlite::{OptionalExtension, Statement, types::ValueRef};

use super::{Cells, bits};
use crate::block::{Block, KnownId, ids};

/// The columns that [`Cells::block_place`] and [`Cells::heads`] read, of `event_block`.
pub(crate) const BLOCK: &str = "event_block.first, event_block.topic, event_block.last, event_block.count, \
     event_block.heads";

/// The block of a topic in which a number may be. The parameters: the name of the topic, the number.
pub(crate) const LOGGED: &str = "SELECT event_block.first, event_block.topic, event_block.last, event_block.count, \
     event_block.heads, event_block.bodies \
     FROM topic CROSS JOIN event_block ON event_block.first = \
     (SELECT max(first) FROM event_block AS of_topic WHERE of_topic.topic = topic.id AND of_topic.first <= ?2) \
     WHERE topic.name = ?1 AND event_block.last >= ?2";

/// Where the blocks of a topic begin that have something at or behind a number. The parameters: the topic, the number.
pub(crate) const FROM_OF_TOPIC: &str =
    "coalesce((SELECT max(first) FROM event_block WHERE topic = ?1 AND first <= ?2), ?2)";
/// The same for all topics: where the sheet begins in which the number is.
pub(crate) const FROM_OF_ALL: &str =
    "coalesce((SELECT sheet FROM event_block WHERE first <= ?1 ORDER BY first DESC LIMIT 1), ?1)";

/// Which numbers a block is about.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) first: u64,
    pub(crate) topic: TopicId,
    pub(crate) last: u64,
    pub(crate) count: u32,
}

impl Cells<'_> {
    /// The beginning of a row of [`BLOCK`].
    pub(crate) fn block_place(&self) -> Result<Place, Error> {
        let (first, topic) = (self.u64(0)?, TopicId(self.u32(1)?));
        Ok(Place { first, topic, last: self.u64(2)?, count: self.u32(3)? })
    }

    /// A row of [`BLOCK`], with what can be said of its events without their bodies.
    pub(crate) fn heads(&self) -> Result<Block, Error> {
        let Place { first, topic, last, count } = self.block_place()?;
        let block = Block::of_heads(first, topic, self.blob(4)?).map_err(|why| self.bad(4, why))?;
        let fits = block.metas.len() == count as usize
            && block.metas.first().is_some_and(|meta| meta.seq == first)
            && block.metas.last().is_some_and(|meta| meta.seq == last);
        if fits { Ok(block) } else { Err(self.bad(2, "is not what the heads say")) }
    }

    /// A row of [`BLOCK`] and `bodies`.
    pub(crate) fn block(&self) -> Result<Block, Error> {
        self.heads()?.with_bodies(self.blob(5)?).map_err(|why| self.bad(5, why))
    }

    /// A row of `first, ids`.
    pub(crate) fn known_ids(&self) -> Result<Vec<KnownId>, Error> {
        ids(self.u64(0)?, self.blob(1)?).map_err(|why| self.bad(1, why))
    }

    fn blob(&self, i: usize) -> Result<&[u8], Error> {
        match self.get(i)? {
            ValueRef::Blob(bytes) => Ok(bytes),
            other => Err(self.bad(i, &format!("holds {}, not a blob", other.data_type()))),
        }
    }
}

/// The block by a statement of [`LOGGED`], if there is one. Whether it has the event, it knows itself.
pub(crate) fn logged(
    statement: &mut Statement<'_>,
    path: &Path,
    topic: &TopicName,
    seq: u64,
) -> rusqlite::Result<Option<Result<Block, Error>>> {
    let found = statement
        .query_row((topic.as_str(), bits(seq)), |row| Ok(Cells { path, table: "event_block", row }.block()));
    found.optional()
}
