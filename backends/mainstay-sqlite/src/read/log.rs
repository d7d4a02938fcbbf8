//! The log from the tables, for readers that are behind the tail; and what deliveries lack.

use std::{path::Path, sync::Arc};

use hashbrown::HashMap;
use mainstay_core::{
    Error, TopicFilter, TopicName,
    engine::change::{EventMeta, TopicId},
    event::{DeadEventFilter, Delivery, Event, EventItem, LogBudget, LogSlice, LoggedEvent},
    store::Record,
};
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::list::Pages;
use crate::{
    apply::{Batch, Body},
    block::{Block, Merge},
    fault::{damaged_row, read_error},
    row::{BLOCK, Cells, DEAD_REF, EVENT_BODY, FROM_OF_ALL, FROM_OF_TOPIC, LOGGED, Place, bits, logged},
    tail::{Judged, Matching, Tail},
};

/// A piece of the log looks at no more events of topics that match, and no more blocks of others, than this; and what
/// lies side by side with them.
const SCAN_LIMIT: usize = 10_000;
/// So many topics are read one by one; of more, all blocks are looked at. Also so many blocks are kept in hand.
const FEW_TOPICS: usize = 16;

/// What is asked, and what the tail has said to it.
pub(crate) struct LogQuery {
    pub(crate) filters: Arc<[TopicFilter]>,
    pub(crate) from: u64,
    pub(crate) budget: LogBudget,
    /// The tables have everything before this number.
    pub(crate) until: u64,
    pub(crate) head: u64,
}

/// Reads blocks before `until`. Retention may overtake this: what it has removed by the end is left out, and told.
pub(super) fn read(conn: &Connection, path: &Path, tail: &Tail, query: &LogQuery) -> Result<LogSlice, Error> {
    let mut reader = LogReader {
        path,
        tail,
        query,
        topics: HashMap::new(),
        merge: Merge::default(),
        found: vec![],
        next: query.from,
        bytes: 0,
    };
    match tail.matching(&query.filters, FEW_TOPICS) {
        Matching::These(topics) => reader.by_topic(conn, &topics)?,
        Matching::Filtered => reader.all(conn)?,
    }
    let LogReader { found, next, .. } = reader;
    let slice = LogSlice {
        from: query.from,
        events: vec![],
        next: next.min(query.until),
        head: query.head,
        removed_up_to: 0,
        removed: vec![],
    };
    Ok(tail.add_living(&query.filters, found, slice))
}

struct LogReader<'r> {
    path: &'r Path,
    tail: &'r Tail,
    query: &'r LogQuery,
    /// Those that were met; with the event of each that was found last.
    topics: HashMap<TopicId, (Option<Judged>, Option<Arc<Event>>)>,
    merge: Merge,
    found: Vec<(TopicId, Arc<LoggedEvent>)>,
    /// Everything before this number was looked at.
    next: u64,
    bytes: u64,
}

impl LogReader<'_> {
    fn all(&mut self, conn: &Connection) -> Result<(), Error> {
        let failed = |e| read_error(self.path, e);
        let sql = format!(
            "SELECT {BLOCK}, event_block.bodies FROM event_block WHERE first >= {FROM_OF_ALL} AND first < ?2 ORDER BY first"
        );
        let mut statement = conn.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement.query((bits(self.query.from), bits(self.query.until))).map_err(failed)?;
        let mut looked = 0;
        while let Some(row) = rows.next().map_err(failed)? {
            let cells = Cells { path: self.path, table: "event_block", row };
            let Place { first, topic, last, count } = cells.block_place()?;
            if !self.take_until(first)? {
                return Ok(());
            }
            // What lies side by side with the first number belongs to the first step.
            if looked >= SCAN_LIMIT && first > self.query.from {
                self.next = first;
                return Ok(());
            }
            let from = self.judge(topic).map(|judged| judged.removed_up_to + 1);
            let Some(from) = from.map(|from| from.max(self.query.from)).filter(|from| last >= *from) else {
                looked += 1;
                continue;
            };
            looked += count as usize;
            self.merge.add(cells.block()?, from);
        }
        self.take_the_rest(self.query.until)
    }

    fn by_topic(&mut self, conn: &Connection, topics: &[TopicId]) -> Result<(), Error> {
        let failed = |e| read_error(self.path, e);
        let LogBudget { events: most, bytes: most_bytes } = self.query.budget;
        let mut blocks: Vec<(u64, u64)> = Vec::new();
        let mut until = self.query.until;
        let sql = format!(
            "SELECT first, last, count, length(bodies) FROM event_block \
             WHERE topic = ?1 AND first >= {FROM_OF_TOPIC} AND first < ?3 ORDER BY first"
        );
        let mut index = conn.prepare_cached(&sql).map_err(failed)?;
        for topic in topics {
            let Some(gone) = self.judge(*topic).map(|judged| judged.removed_up_to) else { continue };
            let from = self.query.from.max(gone + 1);
            let mut rows = index.query(params![topic.0, bits(from), bits(until)]).map_err(failed)?;
            let (mut events, mut bytes) = (0, 0);
            while let Some(row) = rows.next().map_err(failed)? {
                let cells = Cells { path: self.path, table: "event_block", row };
                let (first, last) = (cells.u64(0)?, cells.u64(1)?);
                if last < from {
                    continue;
                }
                blocks.push((first, from));
                // Of the one in which it begins, nobody knows yet how much counts.
                if first >= from {
                    (events, bytes) = (events + cells.u64(2)?, bytes + cells.u64(3)?);
                }
                if events >= u64::from(most) || bytes >= most_bytes {
                    // Others of this topic follow: nothing behind this one counts.
                    until = until.min(last + 1);
                    break;
                }
            }
        }
        blocks.sort_unstable();
        let mut one = by_first(conn).map_err(failed)?;
        for (first, from) in blocks.into_iter().filter(|(first, _)| *first < until) {
            if !self.take_until(first)? {
                return Ok(());
            }
            let mut rows = one.query([bits(first)]).map_err(failed)?;
            if let Some(row) = rows.next().map_err(failed)? {
                self.merge.add(Cells { path: self.path, table: "event_block", row }.block()?, from);
            }
        }
        self.take_the_rest(until)
    }

    fn judge(&mut self, topic: TopicId) -> Option<&Judged> {
        let (tail, filters) = (self.tail, &self.query.filters);
        let met = self.topics.entry(topic).or_insert_with(|| (tail.judge(filters, topic), None));
        met.0.as_ref()
    }

    fn take_the_rest(&mut self, until: u64) -> Result<(), Error> {
        if self.take_until(until)? {
            self.next = until;
        }
        Ok(())
    }

    /// Takes what is before `until`; `false`: the slice is full, and `next` the number that did not fit.
    fn take_until(&mut self, until: u64) -> Result<bool, Error> {
        while let Some(seq) = self.merge.next_seq().filter(|seq| *seq < until) {
            self.next = seq;
            if self.found.len() as u64 >= u64::from(self.query.budget.events.max(1)) {
                return Ok(false);
            }
            let Some((meta, block, at)) = self.merge.next(until) else { break };
            if !self.take(meta, &block, at)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes an event if it fits.
    fn take(&mut self, meta: EventMeta, block: &Block, at: usize) -> Result<bool, Error> {
        let EventMeta { seq, topic: id, size, at: published_at, .. } = meta;
        let bytes = self.bytes + u64::from(size);
        if bytes > self.query.budget.bytes && !self.found.is_empty() {
            return Ok(false);
        }
        let Some((Some(judged), like)) = self.topics.get_mut(&id) else { return Ok(true) };
        let event = block.event(at, like.as_deref()).map_err(|why| damaged(self.path, seq, why))?;
        *like = Some(event.clone());
        let topic = judged.name.clone();
        self.bytes = bytes;
        self.found.push((id, Arc::new(LoggedEvent { topic, seq, published_at, event })));
        Ok(true)
    }
}

fn damaged(path: &Path, seq: u64, why: &str) -> Error {
    damaged_row(path, &format!("table event_block, event {seq}"), why)
}

fn by_first(conn: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    conn.prepare_cached(&format!("SELECT {BLOCK}, event_block.bodies FROM event_block WHERE first = ?1"))
}

/// Fills in what the writer did not have at hand. An event that is not there any more has been removed since: its
/// delivery is dropped, and its lease runs out.
pub(super) fn fill(
    conn: &Connection,
    path: &Path,
    deliveries: &mut Vec<Delivery>,
    lacking: Option<&Batch>,
) -> Result<(), Error> {
    let mut bodies = Bodies { conn, path, lacking, blocks: HashMap::new() };
    for delivery in deliveries.iter_mut().filter(|delivery| delivery.event.is_none()) {
        delivery.event = match delivery.dead {
            Some(number) => bodies.dead(number)?,
            None => bodies.logged(&delivery.topic, delivery.seq)?,
        };
    }
    deliveries.retain(|delivery| delivery.event.is_some());
    Ok(())
}

/// Where events are looked up one by one.
struct Bodies<'r> {
    conn: &'r Connection,
    path: &'r Path,
    lacking: Option<&'r Batch>,
    /// The block of each topic that was needed last: the next event is often in it.
    blocks: HashMap<TopicName, Block>,
}

impl Bodies<'_> {
    fn dead(&mut self, number: u64) -> Result<Option<Arc<Event>>, Error> {
        let number = match self.lacking.and_then(|batch| batch.events.new_dead(number)) {
            Some((_, Body::Here(event))) => return Ok(Some(event.clone())),
            Some((letter, Body::Log)) => return self.logged(&letter.place.topic, letter.place.seq),
            Some((_, Body::Dead(before))) => *before,
            None => number,
        };
        let failed = |e| read_error(self.path, e);
        let sql = format!("SELECT {EVENT_BODY} FROM dead_event WHERE number = ?1");
        let mut statement = self.conn.prepare_cached(&sql).map_err(failed)?;
        let found = statement.query_row([bits(number)], |row| {
            Ok(Cells { path: self.path, table: "dead_event", row }.event_body(0))
        });
        Ok(found.optional().map_err(failed)?.transpose()?.map(Arc::new))
    }

    fn logged(&mut self, topic: &TopicName, seq: u64) -> Result<Option<Arc<Event>>, Error> {
        if let Some(event) = self.lacking.and_then(|batch| batch.events.event(seq)) {
            return Ok(Some(event.clone()));
        }
        if self.blocks.get(topic).is_none_or(|block| block.find(seq).is_none()) {
            let failed = |e| read_error(self.path, e);
            let mut statement = self.conn.prepare_cached(LOGGED).map_err(failed)?;
            let Some(block) = logged(&mut statement, self.path, topic, seq).map_err(failed)? else {
                return Ok(None);
            };
            if self.blocks.len() >= FEW_TOPICS {
                self.blocks.clear();
            }
            self.blocks.insert(topic.clone(), block?);
        }
        let Some(block) = self.blocks.get(topic) else { return Ok(None) };
        let Some(at) = block.find(seq) else { return Ok(None) };
        block.event(at, None).map(Some).map_err(|why| damaged(self.path, seq, why))
    }
}

/// Dead letters of a group, newest first.
pub(super) fn list_dead(
    conn: &Connection,
    path: &Path,
    filter: &DeadEventFilter,
    end: Option<u64>,
    pages: &mut Pages<'_>,
) -> Result<(), Error> {
    let failed = |e| read_error(path, e);
    let end = end.map_or(i64::MAX, |end| end.min(i64::MAX as u64) as i64);
    let sql = format!(
        "SELECT {DEAD_REF}, attempts, reason, error, {EVENT_BODY} FROM dead_event \
         WHERE grp = (SELECT id FROM event_group WHERE name = ?1) AND NOT revived AND number < ?2 ORDER BY number DESC"
    );
    let mut statement = conn.prepare_cached(&sql).map_err(failed)?;
    let mut rows = statement.query(params![filter.group.as_str(), end]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        if !pages.wants_another() {
            break;
        }
        let dead = Cells { path, table: "dead_event", row }.dead_event()?;
        let number = dead.number;
        let fits = filter.fits(&dead);
        pages.looked_at(number, fits.then(|| Record::Event(EventItem::Dead(Box::new(dead)))));
    }
    Ok(())
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
