//! Events on their way into the tables: sheets of the log, a block or a few for each topic of a sheet.

use hashbrown::HashMap;
use mainstay_core::{
    engine::change::{EventMeta, TopicId},
    event::Event,
};
use rusqlite::{Connection, Result, Statement, params};

use crate::{
    block::{Builder, IDS_OF_A_BLOCK, KnownId, Row, put_ids},
    pace::Pace,
    row::bits,
};

/// A sheet ends with as many events, or as many bytes of them: what a reader of many topics has in hand at once.
const SHEET_EVENTS: usize = 4_096;
const SHEET_BYTES: usize = 1 << 20;
/// So many builders keep their memory for the next sheet.
const SPARE: usize = 16;

/// The sheet in the making, and the statements that write it.
pub(crate) struct Sheets<'c> {
    block: Statement<'c>,
    blocks_removed: Statement<'c>,
    ids: Statement<'c>,
    ids_removed: Statement<'c>,
    ids_forgotten: Statement<'c>,
    builders: HashMap<TopicId, Builder>,
    spare: Vec<Builder>,
    start: u64,
    events: usize,
    bytes: usize,
}

impl<'c> Sheets<'c> {
    pub(crate) fn prepare(conn: &'c Connection) -> Result<Sheets<'c>> {
        let p = |sql: &str| conn.prepare(sql);
        Ok(Sheets {
            block: p("INSERT INTO event_block (first, sheet, topic, last, count, heads, bodies) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?,
            blocks_removed: p("DELETE FROM event_block WHERE topic = ?1 AND first <= ?2 AND last <= ?2")?,
            ids: p("INSERT INTO event_ids (first, last, ids) VALUES (?1, ?2, ?3)")?,
            ids_removed: p("DELETE FROM event_ids WHERE first <= ?1 AND last <= ?1")?,
            ids_forgotten: p("UPDATE event_log SET ids_forgotten = ?1")?,
            builders: HashMap::new(),
            spare: Vec::new(),
            start: 0,
            events: 0,
            bytes: 0,
        })
    }

    /// Writes events, which come in the order of the log.
    pub(crate) fn write<'e>(
        &mut self,
        events: impl Iterator<Item = (&'e EventMeta, &'e Event)>,
        pace: &Pace<'_>,
    ) -> Result<()> {
        // What a write that failed has left.
        self.reset();
        for (meta, event) in events {
            self.push(meta, event, pace)?;
        }
        self.end_sheet()
    }

    fn push(&mut self, meta: &EventMeta, event: &Event, pace: &Pace<'_>) -> Result<()> {
        if self.events == 0 {
            self.start = meta.seq;
        }
        let spare = &mut self.spare;
        let builder = self.builders.entry(meta.topic).or_insert_with(|| spare.pop().unwrap_or_default());
        if !builder.takes(meta) {
            put(&mut self.block, self.start, builder)?;
            pace.rest();
        }
        self.bytes += builder.push(meta, event);
        self.events += 1;
        if self.events >= SHEET_EVENTS || self.bytes >= SHEET_BYTES {
            self.end_sheet()?;
        }
        Ok(())
    }

    fn end_sheet(&mut self) -> Result<()> {
        let mut builders: Vec<_> = self.builders.values_mut().collect();
        builders.sort_unstable_by_key(|builder| builder.first());
        for builder in builders {
            put(&mut self.block, self.start, builder)?;
        }
        self.reset();
        Ok(())
    }

    fn reset(&mut self) {
        (self.events, self.bytes) = (0, 0);
        for (_, mut builder) in self.builders.drain() {
            if self.spare.len() < SPARE {
                builder.clear();
                self.spare.push(builder);
            }
        }
    }

    /// The events of a topic up to this number go. A block of which something is left stays; that the rest of it is
    /// gone, the topic's row says.
    pub(crate) fn remove(&mut self, topic: TopicId, up_to: u64) -> Result<()> {
        self.blocks_removed.execute((topic.0, bits(up_to))).map(drop)
    }

    /// Writes ids, in the order of their numbers.
    pub(crate) fn write_ids(&mut self, ids: &[KnownId]) -> Result<()> {
        let mut bytes = Vec::new();
        for piece in ids.chunks(IDS_OF_A_BLOCK) {
            let [Some(first), Some(last)] =
                [piece.first(), piece.last()].map(|known| known.map(|known| known.0))
            else {
                continue;
            };
            put_ids(&mut bytes, first, piece);
            self.ids.execute(params![bits(first), bits(last), bytes])?;
        }
        Ok(())
    }

    /// The ids of events up to this number are forgotten.
    pub(crate) fn forget_ids(&mut self, up_to: u64) -> Result<()> {
        self.ids_removed.execute([bits(up_to)])?;
        self.ids_forgotten.execute([bits(up_to)]).map(drop)
    }
}

fn put(statement: &mut Statement<'_>, sheet: u64, builder: &mut Builder) -> Result<()> {
    if let Some(Row { first, topic, last, count, heads, bodies }) = builder.finish() {
        statement.execute(params![bits(first), bits(sheet), topic, bits(last), count, heads, bodies])?;
    }
    builder.clear();
    Ok(())
}
