//! Rows of single events, as older formats have them, as blocks.

use std::{path::Path, sync::Arc};

use mainstay_core::{
    Error, Timestamp,
    engine::change::{EventMeta, TopicId},
    event::{DedupKey, Event},
};
use rusqlite::{Connection, Result, Row};

use crate::{
    fault::read_error,
    pace::Pace,
    row::{Cells, EVENT_BODY},
    tables::Sheets,
};

/// So much is moved at once: as many events, or bytes of them.
const PIECE_EVENTS: i64 = 4_096;
const PIECE_BYTES: u64 = 1 << 20;

/// Moves all that is in the tables `event` and `event_dedup` into those of blocks, piece by piece: what has moved makes
/// room for what follows, so that the file grows little.
pub(super) fn move_rows(conn: &Connection, path: &Path) -> std::result::Result<(), Error> {
    let failed = |e| read_error(path, e);
    conn.execute_batch("DROP INDEX event_topic").map_err(failed)?;
    let mut sheets = Sheets::prepare(conn).map_err(failed)?;
    let sql = format!(
        "SELECT seq, topic, size, ord, total, at, key, {EVENT_BODY} FROM event ORDER BY seq LIMIT {PIECE_EVENTS}"
    );
    let (mut rows, mut gone) = (
        conn.prepare(&sql).map_err(failed)?,
        conn.prepare("DELETE FROM event WHERE seq <= ?1").map_err(failed)?,
    );
    loop {
        let mut piece: Vec<(EventMeta, Arc<Event>)> = Vec::new();
        let (mut found, mut bytes) = (rows.query([]).map_err(failed)?, 0);
        while bytes < PIECE_BYTES
            && let Some(row) = found.next().map_err(failed)?
        {
            let (meta, event) = event(Cells { path, table: "event", row })?;
            bytes += u64::from(meta.size);
            piece.push((meta, event));
        }
        drop(found);
        let Some((last, _)) = piece.last() else { break };
        let last = last.seq as i64;
        sheets.write(piece.iter().map(|(meta, event)| (meta, &**event)), &Pace::default()).map_err(failed)?;
        gone.execute([last]).map_err(failed)?;
    }
    let mut ids = conn.prepare("SELECT seq, topic, at, key FROM event_dedup ORDER BY seq").map_err(failed)?;
    let known = |row: &Row<'_>| {
        let (seq, topic) = (row.get::<_, i64>(0)? as u64, TopicId(row.get(1)?));
        Ok((seq, topic, Timestamp(row.get(2)?), DedupKey(row.get(3)?)))
    };
    let ids: Result<Vec<_>> = ids.query_map([], known).and_then(Iterator::collect);
    sheets.write_ids(&ids.map_err(failed)?).map_err(failed)
}

fn event(row: Cells<'_>) -> std::result::Result<(EventMeta, Arc<Event>), Error> {
    let meta = EventMeta {
        seq: row.u64(0)?,
        topic: TopicId(row.u32(1)?),
        size: row.u32(2)?,
        ord: row.u64(3)?,
        total: row.u64(4)?,
        at: row.time(5)?,
        key: row.u64(6)?,
    };
    Ok((meta, Arc::new(row.event_body(7)?)))
}

#[cfg(test)]
#[path = "to_blocks_tests.rs"]
mod tests;
