//! Lists over the maps.

use super::tables::Tables;
use crate::{
    engine::{
        Engine,
        change::{FinishedKey, Lane},
    },
    error::{Error, ErrorKind},
    event::{DeadEvent, EventItem, EventQuery},
    id::JobId,
    job::JobRecord,
    store::{JobFilter, Page, Query, Record, Slice, open_cursor, seal_cursor},
    time::Now,
};

/// A page looks at no more rows than this, so that a rare match costs many short pages, not one long stop.
const SCAN_LIMIT: usize = 10_000;

pub(super) fn list(
    engine: &mut Engine,
    tables: &mut Tables,
    query: &Query,
    page: &Page,
    now: Now,
) -> Result<Slice, Error> {
    let after = page.cursor.as_deref().map(|cursor| open_cursor(query, cursor)).transpose()?;
    let limit = page.limit as usize;
    match query {
        Query::Jobs(filter) => {
            let end = after.map(parse::<JobId>).transpose()?.unwrap_or(JobId::MAX);
            let rows = tables.ids.range(..end).rev().map(|id| (id.to_string(), *id));
            let keep = |id| tables.job(engine, id, now).filter(|job| fits(job, filter));
            Ok(scan(query, limit, rows, |id| keep(id).map(|job| Record::Job(Box::new(job)))))
        }
        Query::Dead(filter) => {
            let Some(queue) = engine.queue_id(filter.queue.as_str()) else { return Ok(Slice::default()) };
            let key = |f| FinishedKey { queue, lane: Lane::Dead, f };
            let end = after.map(parse::<u64>).transpose()?.unwrap_or(u64::MAX);
            let rows = tables.lanes.range(key(0)..key(end)).rev().map(|(key, id)| (key.f.to_string(), *id));
            let keep = |id| {
                let job = tables.job(engine, id, now)?;
                let error_type = job.failures.last().and_then(|last| last.failure.kind.as_deref());
                let fits = filter.kind.as_deref().is_none_or(|kind| *job.body.kind == *kind)
                    && filter.error_type.as_deref().is_none_or(|wanted| error_type == Some(wanted));
                fits.then(|| Record::Job(Box::new(job)))
            };
            Ok(scan(query, limit, rows, keep))
        }
        Query::Queues => {
            let queues = engine.queues(after, limit + 1, now).into_iter();
            let rows = queues.map(|queue| (queue.name.to_string(), queue)).collect::<Vec<_>>();
            Ok(scan(query, limit, rows.into_iter(), |queue| Some(Record::Queue(queue))))
        }
        Query::AccessTokens => {
            let tokens = engine.access_tokens().filter(|token| after.is_none_or(|a| token.name.as_str() > a));
            let rows = tokens.map(|token| (token.name.to_string(), token.clone()));
            Ok(scan(query, limit, rows, |token| Some(Record::AccessToken(token))))
        }
        Query::Locks { prefix } => {
            let prefix = prefix.as_deref().unwrap_or_default();
            let locks = engine.locks(prefix, after, limit + 1, now).into_iter();
            let rows = locks.map(|lock| (lock.name.to_string(), lock));
            Ok(scan(query, limit, rows, |lock| Some(Record::Lock(Box::new(lock)))))
        }
        Query::Audit => {
            let end = after.map(parse::<u64>).transpose()?.unwrap_or(u64::MAX);
            let rows = tables.audit.range(..end).rev().map(|(number, record)| (number.to_string(), record));
            Ok(scan(query, limit, rows, |record| Some(Record::Audit(record.clone()))))
        }
        Query::Event(EventQuery::Topics) => {
            let rows =
                engine.topics(after, limit + 1).into_iter().map(|topic| (topic.name.to_string(), topic));
            Ok(scan(query, limit, rows, |topic| Some(Record::Event(EventItem::Topic(topic)))))
        }
        Query::Event(EventQuery::Groups) => {
            let groups = engine.groups(after, limit + 1, now, tables)?;
            let rows = groups.into_iter().map(|group| (group.name.to_string(), group));
            Ok(scan(query, limit, rows, |group| Some(Record::Event(EventItem::Group(group)))))
        }
        Query::Event(EventQuery::Dead(filter)) => {
            let Some(group) = engine.group_number(filter.group.as_str()) else { return Ok(Slice::default()) };
            let end = after.map(parse::<u64>).transpose()?.unwrap_or(u64::MAX);
            let rows = tables.events.dead_before(group, end).map(|(number, dead)| (number.to_string(), dead));
            let keep =
                |dead: DeadEvent| filter.fits(&dead).then(|| Record::Event(EventItem::Dead(Box::new(dead))));
            Ok(scan(query, limit, rows, keep))
        }
        Query::Workers => {
            let workers = engine.workers(after, limit + 1, now).into_iter();
            let rows = workers.map(|worker| (worker.name.to_string(), worker));
            Ok(scan(query, limit, rows, |worker| Some(Record::Worker(worker))))
        }
        Query::Schedules(order) => {
            let records = engine.schedules(*order, after, limit + 1)?;
            let rows = records.into_iter().map(|record| (order.position(&record), record));
            Ok(scan(query, limit, rows, |record| Some(Record::Schedule(record))))
        }
    }
}

/// Takes what `keep` keeps until the page is full, the rows end, or enough was looked at.
fn scan<T>(
    query: &Query,
    limit: usize,
    rows: impl Iterator<Item = (String, T)>,
    mut keep: impl FnMut(T) -> Option<Record>,
) -> Slice {
    let mut slice = Slice::default();
    let mut last = None;
    for (looked, (position, row)) in rows.enumerate() {
        if slice.items.len() == limit || looked == SCAN_LIMIT {
            slice.next = last.map(|position: String| seal_cursor(query, &position));
            break;
        }
        slice.items.extend(keep(row));
        last = Some(position);
    }
    slice
}

/// Whether a job fits a filter.
fn fits(job: &JobRecord, filter: &JobFilter) -> bool {
    filter.queue.as_ref().is_none_or(|queue| job.queue == *queue)
        && filter.state.is_none_or(|state| job.state == state)
        && filter.kind.as_deref().is_none_or(|kind| *job.body.kind == *kind)
        && filter.tag.as_deref().is_none_or(|tag| job.body.tags.iter().any(|t| **t == *tag))
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|_| Error::new(ErrorKind::Invalid, "the cursor is damaged: start again without a cursor"))
}
