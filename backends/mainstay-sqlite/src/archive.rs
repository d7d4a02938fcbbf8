//! What the engine asks of the file, for the archive that all stores share: that has what the tables lack.

use std::path::Path;

use mainstay_core::{
    Error, JobId,
    engine::change::{
        DeadRef, EventMeta, FinishedJob, FinishedKey, FinishedRef, GroupId, Lane, QueueId, TopicId,
    },
};
use mainstay_writer::archive::OfTables;
use rusqlite::{Connection, OptionalExtension, Result as SqlResult, Rows, Statement, params};

use crate::{
    block::Merge,
    fault::read_error,
    row::{BLOCK, Cells, DEAD_REF, FINISHED, FINISHED_REF, FROM_OF_ALL, FROM_OF_TOPIC, bits},
};

/// The writer's archive.
pub(crate) type Recent<'c> = mainstay_writer::archive::Recent<OfFile<'c>>;

pub(crate) fn recent<'c>(conn: &'c Connection, path: &'c Path) -> Result<Recent<'c>, Error> {
    Ok(Recent::new(OfFile::new(conn, path)?))
}

pub(crate) struct OfFile<'c> {
    path: &'c Path,
    by_id: Statement<'c>,
    taken: Statement<'c>,
    oldest: Statement<'c>,
    of_topic: Statement<'c>,
    of_all: Statement<'c>,
    dead_by_number: Statement<'c>,
    dead_of_group: Statement<'c>,
}

impl<'c> OfFile<'c> {
    fn new(conn: &'c Connection, path: &'c Path) -> Result<OfFile<'c>, Error> {
        let prepare = |sql: &str| conn.prepare(sql).map_err(|e| read_error(path, e));
        Ok(OfFile {
            path,
            by_id: prepare(&format!("SELECT {FINISHED} FROM finished WHERE id = ?1"))?,
            taken: prepare("SELECT 1 FROM finished WHERE queue = ?1 AND lane = ?2 AND f = ?3")?,
            oldest: prepare(&format!(
                "SELECT {FINISHED_REF} FROM finished WHERE queue = ?1 AND lane = ?2 AND f > ?3 ORDER BY f LIMIT ?4"
            ))?,
            // In this order: the topic says how far its events are gone.
            of_topic: prepare(&format!(
                "SELECT {BLOCK}, topic.removed_up_to FROM event_block CROSS JOIN topic ON topic.id = event_block.topic \
                 WHERE event_block.topic = ?1 AND event_block.first >= {FROM_OF_TOPIC} ORDER BY event_block.first"
            ))?,
            of_all: prepare(&format!(
                "SELECT {BLOCK}, topic.removed_up_to FROM event_block CROSS JOIN topic ON topic.id = event_block.topic \
                 WHERE event_block.first >= {FROM_OF_ALL} ORDER BY event_block.first"
            ))?,
            dead_by_number: prepare(&format!(
                "SELECT {DEAD_REF} FROM dead_event WHERE number = ?1 AND revived <= ?2"
            ))?,
            dead_of_group: prepare(&format!(
                "SELECT {DEAD_REF} FROM dead_event WHERE grp = ?1 AND NOT revived ORDER BY number LIMIT ?2"
            ))?,
        })
    }
}

impl OfTables for OfFile<'_> {
    fn finished(&mut self, id: JobId) -> Result<Option<FinishedJob>, Error> {
        let path = self.path;
        let found = self
            .by_id
            .query_row([id.as_bytes()], |row| Ok(Cells { path, table: "finished", row }.finished_job()));
        found.optional().map_err(|e| read_error(path, e))?.transpose()
    }

    fn is_taken(&mut self, key: FinishedKey) -> Result<bool, Error> {
        let row = params![key.queue.0, key.lane as u8, bits(key.f)];
        self.taken.exists(row).map_err(|e| read_error(self.path, e))
    }

    fn oldest(
        &mut self,
        queue: QueueId,
        lane: Lane,
        behind: u64,
        limit: usize,
    ) -> Result<Vec<FinishedRef>, Error> {
        let rows = self.oldest.query(params![queue.0, lane as u8, bits(behind), limit as i64]);
        collect(self.path, "finished", rows, |row| row.finished_ref())
    }

    fn events(&mut self, topic: Option<TopicId>, from: u64, limit: usize) -> Result<Vec<EventMeta>, Error> {
        let rows = match topic {
            Some(topic) => self.of_topic.query(params![topic.0, bits(from)]),
            None => self.of_all.query(params![bits(from)]),
        };
        metas(self.path, rows, from, limit)
    }

    fn dead_event(&mut self, number: u64, revived_too: bool) -> Result<Option<DeadRef>, Error> {
        let rows = self.dead_by_number.query(params![bits(number), revived_too]);
        Ok(collect(self.path, "dead_event", rows, |row| row.dead_ref(0))?.pop())
    }

    fn dead_events(&mut self, group: GroupId, limit: usize) -> Result<Vec<DeadRef>, Error> {
        let rows = self.dead_of_group.query(params![group.0, limit as i64]);
        collect(self.path, "dead_event", rows, |row| row.dead_ref(0))
    }
}

/// What is known of the first `limit` events at or behind `from` that are left of blocks in order.
fn metas(path: &Path, rows: SqlResult<Rows<'_>>, from: u64, limit: usize) -> Result<Vec<EventMeta>, Error> {
    let mut rows = rows.map_err(|e| read_error(path, e))?;
    let (mut merge, mut found) = (Merge::default(), Vec::new());
    let mut take = |merge: &mut Merge, until| {
        while found.len() < limit
            && let Some((meta, ..)) = merge.next(until)
        {
            found.push(meta);
        }
        found.len() < limit
    };
    while let Some(row) = rows.next().map_err(|e| read_error(path, e))? {
        let row = Cells { path, table: "event_block", row };
        let place = row.block_place()?;
        if !take(&mut merge, place.first) {
            return Ok(found);
        }
        let from = from.max(row.u64(5)? + 1);
        if place.last >= from {
            merge.add(row.heads()?, from);
        }
    }
    take(&mut merge, u64::MAX);
    Ok(found)
}

fn collect<T>(
    path: &Path,
    table: &'static str,
    rows: SqlResult<Rows<'_>>,
    decode: impl Fn(Cells<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let mut rows = rows.map_err(|e| read_error(path, e))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(|e| read_error(path, e))? {
        found.push(decode(Cells { path, table, row })?);
    }
    Ok(found)
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
