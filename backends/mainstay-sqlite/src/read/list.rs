//! Lists: bounded pages over the tables.

use std::path::Path;

use mainstay_core::{
    Error, ErrorKind, JobId,
    access::{AccessToken, AuditRecord},
    engine::change::{FinishedJob, Lane, QueueId},
    event::EventQuery,
    job::JobState,
    store::{DeadFilter, JobFilter, Page, Query, Record, Slice, open_cursor, seal_cursor},
    time::Now,
};
use rusqlite::{Connection, OptionalExtension, Rows, ToSql, params};

use super::{Jobs, log};
use crate::{
    fault::read_error,
    row::{Cells, FINISHED, JOB, LiveRow},
};

/// A page looks at no more rows than this, so that a rare match costs many short pages, not one long snapshot.
const SCAN_LIMIT: usize = 10_000;

/// A page of anything but queues, locks, topics and groups, which the engine knows best.
pub(super) fn list(
    conn: &Connection,
    jobs: &mut Jobs<'_>,
    query: &Query,
    page: &Page,
    now: Now,
) -> Result<Slice, Error> {
    let after = page.cursor.as_deref().map(|cursor| open_cursor(query, cursor)).transpose()?;
    let mut pages =
        Pages { query, limit: page.limit as usize, looked: 0, last: None, slice: Slice::default() };
    match query {
        Query::Jobs(filter) => {
            let end = after.map(parse::<JobId>).transpose()?;
            list_jobs(conn, jobs, filter, end, now, &mut pages)?;
        }
        Query::Dead(filter) => {
            let end = after.map(parse::<u64>).transpose()?;
            list_dead(conn, jobs, filter, end, now, &mut pages)?;
        }
        Query::AccessTokens => list_tokens(conn, jobs.path, after.unwrap_or_default(), &mut pages)?,
        Query::Audit => {
            let end = after.map(parse::<u64>).transpose()?;
            list_audit(conn, jobs.path, end, &mut pages)?;
        }
        Query::Event(EventQuery::Dead(filter)) => {
            let end = after.map(parse::<u64>).transpose()?;
            log::list_dead(conn, jobs.path, filter, end, &mut pages)?;
        }
        Query::Queues
        | Query::Locks { .. }
        | Query::Schedules(_)
        | Query::Workers
        | Query::Event(EventQuery::Topics | EventQuery::Groups) => {
            return Err(Error::new(ErrorKind::Invalid, "what the engine has is listed by the writer"));
        }
    }
    Ok(pages.slice)
}

/// A page that fills.
pub(super) struct Pages<'q> {
    query: &'q Query,
    limit: usize,
    looked: usize,
    /// Where the last row that was looked at stands.
    last: Option<String>,
    slice: Slice,
}

impl Pages<'_> {
    /// There is another row; whether to look at it. If not, the page has its cursor.
    pub(super) fn wants_another(&mut self) -> bool {
        if self.slice.items.len() < self.limit && self.looked < SCAN_LIMIT {
            return true;
        }
        self.slice.next = self.last.take().map(|position| seal_cursor(self.query, &position));
        false
    }

    pub(super) fn looked_at(&mut self, position: impl ToString, record: Option<Record>) {
        self.looked += 1;
        self.slice.items.extend(record);
        // Only the last position before the page ends is ever needed.
        if self.slice.items.len() >= self.limit || self.looked >= SCAN_LIMIT {
            self.last = Some(position.to_string());
        }
    }
}

/// Rows of one table with a look at the next one.
struct Ahead<'s, T> {
    path: &'s Path,
    table: &'static str,
    rows: Option<Rows<'s>>,
    decode: fn(Cells<'_>) -> Result<T, Error>,
    next: Option<T>,
}

impl<T> Ahead<'_, T> {
    fn peek(&mut self) -> Result<Option<&T>, Error> {
        if self.next.is_none()
            && let Some(rows) = &mut self.rows
        {
            match rows.next().map_err(|e| read_error(self.path, e))? {
                Some(row) => {
                    self.next = Some((self.decode)(Cells { path: self.path, table: self.table, row })?)
                }
                None => self.rows = None,
            }
        }
        Ok(self.next.as_ref())
    }
}

fn list_jobs(
    conn: &Connection,
    jobs: &mut Jobs<'_>,
    filter: &JobFilter,
    end: Option<JobId>,
    now: Now,
    pages: &mut Pages<'_>,
) -> Result<(), Error> {
    let path = jobs.path;
    let failed = |e| read_error(path, e);
    let queue = match &filter.queue {
        None => None,
        Some(name) => match queue_id(conn, path, name.as_str())? {
            Some(id) => Some(id),
            None => return Ok(()),
        },
    };
    // Above every id.
    let end = end.map_or([0xff; 16], |id| *id.as_bytes());
    // A state names the table it can be in.
    let (with_live, with_finished) = match filter.state {
        None => (true, true),
        Some(state) => (!state.is_finished(), state.is_finished()),
    };
    let mut live = conn
        .prepare_cached(&format!("SELECT {JOB} FROM job WHERE id < ?1 ORDER BY id DESC"))
        .map_err(failed)?;
    let mut finished = conn
        .prepare_cached(&format!("SELECT {FINISHED} FROM finished WHERE id < ?1 ORDER BY id DESC"))
        .map_err(failed)?;
    let mut live = Ahead::<LiveRow> {
        path,
        table: "job",
        rows: if with_live { Some(live.query([end]).map_err(failed)?) } else { None },
        decode: |row| row.live_job(),
        next: None,
    };
    let mut finished = Ahead::<FinishedJob> {
        path,
        table: "finished",
        rows: if with_finished { Some(finished.query([end]).map_err(failed)?) } else { None },
        decode: |row| row.finished_job(),
        next: None,
    };
    loop {
        let (a, b) = (live.peek()?.map(|row| row.job.id), finished.peek()?.map(|row| row.job.id));
        if a.max(b).is_none() || !pages.wants_another() {
            return Ok(());
        }
        let (id, record) = if a > b {
            let Some(row) = live.next.take() else { return Ok(()) };
            let (id, n, of, state) = (row.job.id, row.job.n, row.job.queue, row.job.state(now.wall));
            let fits = fits(jobs, filter, queue, (of, state, n))?;
            (id, if fits { jobs.live_record(row, now)? } else { None })
        } else {
            let Some(row) = finished.next.take() else { return Ok(()) };
            let (id, n, of, state) = (row.job.id, row.job.n, row.job.queue, row.state);
            let fits = fits(jobs, filter, queue, (of, state, n))?;
            (id, if fits { jobs.finished_record(row, now)? } else { None })
        };
        pages.looked_at(id, record.map(|job| Record::Job(Box::new(job))));
    }
}

/// Whether a row fits a filter. The body is read only when the filter asks for something in it.
fn fits(
    jobs: &mut Jobs<'_>,
    filter: &JobFilter,
    queue: Option<QueueId>,
    (of, state, n): (QueueId, JobState, u64),
) -> Result<bool, Error> {
    if queue.is_some_and(|queue| queue != of) || filter.state.is_some_and(|wanted| wanted != state) {
        return Ok(false);
    }
    if filter.kind.is_none() && filter.tag.is_none() {
        return Ok(true);
    }
    jobs.is_labelled(n, filter.kind.as_deref(), filter.tag.as_deref())
}

fn list_dead(
    conn: &Connection,
    jobs: &mut Jobs<'_>,
    filter: &DeadFilter,
    end: Option<u64>,
    now: Now,
    pages: &mut Pages<'_>,
) -> Result<(), Error> {
    let path = jobs.path;
    let failed = |e| read_error(path, e);
    let Some(queue) = queue_id(conn, path, filter.queue.as_str())? else { return Ok(()) };
    let end = end.map_or(i64::MAX, |end| end.min(i64::MAX as u64) as i64);
    let sql =
        format!("SELECT {FINISHED} FROM finished WHERE queue = ?1 AND lane = ?2 AND f < ?3 ORDER BY f DESC");
    let mut statement = conn.prepare_cached(&sql).map_err(failed)?;
    let rows = statement.query(params![queue.0, Lane::Dead as u8, end]).map_err(failed)?;
    let decode = |row: Cells<'_>| row.finished_job();
    let mut dead = Ahead::<FinishedJob> { path, table: "finished", rows: Some(rows), decode, next: None };
    while dead.peek()?.is_some() && pages.wants_another() {
        let Some(row) = dead.next.take() else { break };
        let f = row.key.f;
        let record = jobs.finished_record(row, now)?.filter(|job| {
            let error_type = job.failures.last().and_then(|last| last.failure.kind.as_deref());
            filter.kind.as_deref().is_none_or(|kind| *job.body.kind == *kind)
                && filter.error_type.as_deref().is_none_or(|wanted| error_type == Some(wanted))
        });
        pages.looked_at(f, record.map(|job| Record::Job(Box::new(job))));
    }
    Ok(())
}

fn list_tokens(conn: &Connection, path: &Path, after: &str, pages: &mut Pages<'_>) -> Result<(), Error> {
    let sql = "SELECT name, hash, scopes, created_at FROM access_token WHERE name > ?1 ORDER BY name";
    list_rows(conn, path, "access_token", sql, &after, pages, |row| {
        let token = access_token(row)?;
        Ok((token.name.to_string(), Record::AccessToken(token)))
    })
}

fn list_audit(conn: &Connection, path: &Path, end: Option<u64>, pages: &mut Pages<'_>) -> Result<(), Error> {
    let sql =
        "SELECT number, at, actor, action, subject, detail FROM audit WHERE number < ?1 ORDER BY number DESC";
    let end = end.map_or(i64::MAX, |end| end.min(i64::MAX as u64) as i64);
    list_rows(conn, path, "audit", sql, &end, pages, |row| {
        let text = |i| row.text(i).map(str::to_owned);
        let (at, actor, action, subject, detail) = (row.time(1)?, text(2)?, text(3)?, text(4)?, text(5)?);
        Ok((row.int(0)?.to_string(), Record::Audit(AuditRecord { at, actor, action, subject, detail })))
    })
}

fn list_rows(
    conn: &Connection,
    path: &Path,
    table: &'static str,
    sql: &str,
    from: &dyn ToSql,
    pages: &mut Pages<'_>,
    decode: impl Fn(Cells<'_>) -> Result<(String, Record), Error>,
) -> Result<(), Error> {
    let failed = |e| read_error(path, e);
    let mut statement = conn.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query([from]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        if !pages.wants_another() {
            break;
        }
        let (position, record) = decode(Cells { path, table, row })?;
        pages.looked_at(position, Some(record));
    }
    Ok(())
}

/// The access token with this name.
pub(super) fn find_token(conn: &Connection, path: &Path, name: &str) -> Result<Option<AccessToken>, Error> {
    let sql = "SELECT name, hash, scopes, created_at FROM access_token WHERE name = ?1";
    let mut statement = conn.prepare_cached(sql).map_err(|e| read_error(path, e))?;
    let found =
        statement.query_row([name], |row| Ok(access_token(Cells { path, table: "access_token", row })));
    found.optional().map_err(|e| read_error(path, e))?.transpose()
}

fn access_token(row: Cells<'_>) -> Result<AccessToken, Error> {
    Ok(AccessToken {
        name: row.parse(0)?,
        hash: row.bytes(1)?,
        scopes: row.json(2)?,
        created_at: row.time(3)?,
    })
}

fn queue_id(conn: &Connection, path: &Path, name: &str) -> Result<Option<QueueId>, Error> {
    let mut statement = conn
        .prepare_cached("SELECT id FROM queue WHERE name = ?1 AND NOT dropped")
        .map_err(|e| read_error(path, e))?;
    let found = statement.query_row([name], |row| Ok(Cells { path, table: "queue", row }.u32(0)));
    Ok(found.optional().map_err(|e| read_error(path, e))?.transpose()?.map(QueueId))
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Error> {
    let damaged = "the cursor is damaged: start again without a cursor";
    text.parse().map_err(|_| Error::new(ErrorKind::Invalid, damaged))
}
