//! The log from the tables, for readers that are behind the tail; and what deliveries lack.

use std::{path::Path, sync::Arc};

use hashbrown::HashMap;
use mainstay_core::{
    Error, TopicFilter,
    engine::change::TopicId,
    event::{DeadEventFilter, Delivery, Event, EventItem, LogBudget, LogSlice, LoggedEvent},
    store::Record,
};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::list::Pages;
use crate::{
    apply::{Batch, Body},
    fault::read_error,
    row::{Cells, DEAD_REF, EVENT_BODY, EVENT_META, bits},
    tail::{Judged, Matching, Tail},
};

/// A piece of the log looks at no more rows than this.
const SCAN_LIMIT: usize = 10_000;
/// So many topics are read one by one; of more, all events are looked at.
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

/// Reads rows before `until`. Retention may overtake this: what it has removed by the end is left out, and told.
pub(super) fn read(conn: &Connection, path: &Path, tail: &Tail, query: &LogQuery) -> Result<LogSlice, Error> {
    let mut reader =
        LogReader { path, tail, query, topics: HashMap::new(), found: vec![], next: query.from, bytes: 0 };
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
    topics: HashMap<TopicId, Option<Judged>>,
    found: Vec<(TopicId, Arc<LoggedEvent>)>,
    /// Everything before this number was looked at.
    next: u64,
    bytes: u64,
}

impl LogReader<'_> {
    fn all(&mut self, conn: &Connection) -> Result<(), Error> {
        let failed = |e| read_error(self.path, e);
        let sql =
            format!("SELECT {EVENT_META}, {EVENT_BODY} FROM event WHERE seq >= ?1 AND seq < ?2 ORDER BY seq");
        let mut statement = conn.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement.query((bits(self.query.from), bits(self.query.until))).map_err(failed)?;
        let mut looked = 0;
        while let Some(row) = rows.next().map_err(failed)? {
            let seq = Cells { path: self.path, table: "event", row }.u64(0)?;
            self.next = seq;
            if looked == SCAN_LIMIT || !self.take(row)? {
                return Ok(());
            }
            looked += 1;
        }
        self.next = self.query.until;
        Ok(())
    }

    fn by_topic(&mut self, conn: &Connection, topics: &[TopicId]) -> Result<(), Error> {
        let failed = |e| read_error(self.path, e);
        let limit = self.query.budget.events.max(1) as usize + 1;
        let mut seqs: Vec<u64> = Vec::new();
        let mut until = self.query.until;
        let mut index = conn
            .prepare_cached(
                "SELECT seq FROM event WHERE topic = ?1 AND seq >= ?2 AND seq < ?3 ORDER BY seq LIMIT ?4",
            )
            .map_err(failed)?;
        for topic in topics {
            let gone = self.judge(*topic).map_or(0, |judged| judged.removed_up_to);
            let from = self.query.from.max(gone + 1);
            let rows = params![topic.0, bits(from), bits(until), limit as i64];
            let rows = index.query_map(rows, |row| row.get::<_, i64>(0)).map_err(failed)?;
            let found =
                rows.map(|seq| seq.map(|seq| seq as u64)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
            if found.len() == limit {
                // Others of this topic follow: nothing behind this one counts.
                until = found.last().map_or(until, |last| *last);
            }
            seqs.extend(found);
        }
        seqs.sort_unstable();
        let mut one = by_seq(conn).map_err(failed)?;
        for seq in seqs.into_iter().filter(|seq| *seq < until) {
            self.next = seq;
            let mut rows = one.query([bits(seq)]).map_err(failed)?;
            if let Some(row) = rows.next().map_err(failed)?
                && !self.take(row)?
            {
                return Ok(());
            }
        }
        self.next = until;
        Ok(())
    }

    fn judge(&mut self, topic: TopicId) -> Option<&Judged> {
        let (tail, filters) = (self.tail, &self.query.filters);
        self.topics.entry(topic).or_insert_with(|| tail.judge(filters, topic)).as_ref()
    }

    /// Takes a row if it fits; `false`: the slice is full.
    fn take(&mut self, row: &Row<'_>) -> Result<bool, Error> {
        let cells = Cells { path: self.path, table: "event", row };
        let meta = cells.event_meta()?;
        let Some(judged) = self.judge(meta.topic) else { return Ok(true) };
        if meta.seq <= judged.removed_up_to {
            return Ok(true);
        }
        let topic = judged.name.clone();
        let bytes = self.bytes + u64::from(meta.size);
        let LogBudget { events, bytes: most } = self.query.budget;
        let full = self.found.len() as u64 >= u64::from(events) || bytes > most;
        if full && !self.found.is_empty() {
            return Ok(false);
        }
        self.bytes = bytes;
        let event = Arc::new(cells.event_body(7)?);
        let logged = LoggedEvent { topic, seq: meta.seq, published_at: meta.at, event };
        self.found.push((meta.topic, Arc::new(logged)));
        Ok(true)
    }
}

fn by_seq(conn: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    conn.prepare_cached(&format!("SELECT {EVENT_META}, {EVENT_BODY} FROM event WHERE seq = ?1"))
}

/// Fills in what the writer did not have at hand. An event that is not there any more has been removed since: its
/// delivery is dropped, and its lease runs out.
pub(super) fn fill(
    conn: &Connection,
    path: &Path,
    deliveries: &mut Vec<Delivery>,
    lacking: Option<&Batch>,
) -> Result<(), Error> {
    for delivery in deliveries.iter_mut().filter(|delivery| delivery.event.is_none()) {
        delivery.event = match delivery.dead {
            Some(number) => dead_body(conn, path, number, lacking)?,
            None => logged_body(conn, path, delivery.seq, lacking)?,
        };
    }
    deliveries.retain(|delivery| delivery.event.is_some());
    Ok(())
}

fn dead_body(
    conn: &Connection,
    path: &Path,
    number: u64,
    lacking: Option<&Batch>,
) -> Result<Option<Arc<Event>>, Error> {
    match lacking.and_then(|batch| batch.events.dead_body(number)) {
        Some(Body::Here(event)) => return Ok(Some(event.clone())),
        Some(Body::Log(seq)) => return logged_body(conn, path, *seq, None),
        Some(Body::Dead(before)) => return dead_body(conn, path, *before, None),
        None => {}
    }
    let sql = format!("SELECT {EVENT_BODY} FROM dead_event WHERE number = ?1");
    one(conn, path, "dead_event", &sql, number)
}

fn logged_body(
    conn: &Connection,
    path: &Path,
    seq: u64,
    lacking: Option<&Batch>,
) -> Result<Option<Arc<Event>>, Error> {
    if let Some((_, event)) = lacking.and_then(|batch| batch.events.events.get(&seq)) {
        return Ok(Some(event.clone()));
    }
    one(conn, path, "event", &format!("SELECT {EVENT_BODY} FROM event WHERE seq = ?1"), seq)
}

fn one(
    conn: &Connection,
    path: &Path,
    table: &'static str,
    sql: &str,
    key: u64,
) -> Result<Option<Arc<Event>>, Error> {
    let mut statement = conn.prepare_cached(sql).map_err(|e| read_error(path, e))?;
    let found = statement.query_row([bits(key)], |row| Ok(Cells { path, table, row }.event_body(0)));
    Ok(found.optional().map_err(|e| read_error(path, e))?.transpose()?.map(Arc::new))
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
