//! Lists: bounded pages over the tables.

use mainstay_core::{
    Error, ErrorKind, JobId,
    engine::change::{Change, EventChange, Lane, QueueId},
    event::{DeadEvent, DeadEventFilter, EventItem, EventQuery},
    job::JobState,
    store::{DeadFilter, JobFilter, Page, Query, Record, Slice, open_cursor, seal_cursor},
    time::{Now, Timestamp},
};
use mainstay_writer::{codec::parts, numbers::STATES};
use tokio_postgres::types::Type;

use super::{query, records, token};
use crate::{
    fill::event,
    link::Link,
    rows::{Cells, RETRYING, uuid},
    step::Param,
    write::lane_number,
};

/// A page looks at no more rows than this, so that a rare match costs many short pages, not one long stop.
const SCAN_LIMIT: usize = 10_000;
/// Rows that are looked at together.
const PIECE: usize = 500;

/// A page of a list of what the tables have. In a transaction of one snapshot.
pub(crate) async fn list(link: &Link, asked: &Query, page: &Page, now: Now) -> Result<Slice, Error> {
    let after = page.cursor.as_deref().map(|cursor| open_cursor(asked, cursor)).transpose()?;
    let mut pages =
        Pages { query: asked, limit: page.limit as usize, looked: 0, last: None, slice: Slice::default() };
    let number = || after.map(parse::<u64>).transpose();
    match asked {
        Query::Jobs(filter) => jobs(link, filter, after.map(parse).transpose()?, now, &mut pages).await?,
        Query::Dead(filter) => dead_jobs(link, filter, number()?, now, &mut pages).await?,
        Query::AccessTokens => tokens(link, after.unwrap_or_default(), &mut pages).await?,
        Query::Audit => audit(link, number()?, &mut pages).await?,
        Query::Event(EventQuery::Dead(filter)) => dead_events(link, filter, number()?, &mut pages).await?,
        Query::Queues
        | Query::Locks { .. }
        | Query::Schedules(_)
        | Query::Workers
        | Query::Event(EventQuery::Topics | EventQuery::Groups) => {
            return Err(Error::new(ErrorKind::Invalid, "what the engine has is asked of the writer"));
        }
    }
    Ok(pages.slice)
}

/// A page that is being filled.
struct Pages<'q> {
    query: &'q Query,
    limit: usize,
    looked: usize,
    /// The position of the last row that was looked at.
    last: Option<String>,
    slice: Slice,
}

impl Pages<'_> {
    /// There is another row; whether to look at it. If not, the page has its cursor.
    fn wants_another(&mut self) -> bool {
        if self.slice.items.len() < self.limit && self.looked < SCAN_LIMIT {
            return true;
        }
        self.slice.next = self.last.take().map(|position| seal_cursor(self.query, &position));
        false
    }

    fn looked_at(&mut self, position: impl ToString, record: Option<Record>) {
        self.looked += 1;
        self.slice.items.extend(record);
        // Only the last position before the page ends is ever needed.
        if self.slice.items.len() >= self.limit || self.looked >= SCAN_LIMIT {
            self.last = Some(position.to_string());
        }
    }
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Error> {
    let damaged = "the cursor is damaged: start again without a cursor";
    text.parse().map_err(|_| Error::new(ErrorKind::Invalid, damaged))
}

/// A job as far as a filter looks at it.
struct Light {
    id: JobId,
    fits: bool,
}

async fn jobs(
    link: &Link,
    filter: &JobFilter,
    end: Option<JobId>,
    now: Now,
    pages: &mut Pages<'_>,
) -> Result<(), Error> {
    let queue = match &filter.queue {
        None => None,
        Some(name) => match queue_id(link, name.as_str()).await? {
            Some(id) => Some(id),
            None => return Ok(()),
        },
    };
    let mut end = end.unwrap_or(JobId::MAX);
    loop {
        let piece = piece(link, filter, queue, end, now).await?;
        let wanted: Vec<_> = piece.iter().filter(|job| job.fits).map(|job| job.id).collect();
        let mut found = records(link, &wanted, now).await?;
        let full = piece.len() == PIECE;
        for Light { id, .. } in piece {
            if !pages.wants_another() {
                return Ok(());
            }
            end = id;
            pages.looked_at(id, found.remove(&id).map(|job| Record::Job(Box::new(job))));
        }
        if !full {
            return Ok(());
        }
    }
}

/// The next jobs below an id, newest first.
async fn piece(
    link: &Link,
    filter: &JobFilter,
    queue: Option<QueueId>,
    end: JobId,
    now: Now,
) -> Result<Vec<Light>, Error> {
    // A state names the table it can be in.
    let (with_live, with_finished) = match filter.state {
        None => (true, true),
        Some(state) => (!state.is_finished(), state.is_finished()),
    };
    let below = if end == JobId::MAX { "id <= $1" } else { "id < $1" };
    let of = |table: &str, state: &str| {
        format!(
            "(select id, n, queue, {state} from {{s}}.{table} where {below} order by id desc limit {PIECE})"
        )
    };
    let live = of("job", "phase, flags, run_at, null::smallint as state");
    let finished = of("finished", "null::smallint as phase, flags, run_at, state");
    let from = match (with_live, with_finished) {
        (true, false) => live,
        (false, true) => finished,
        _ => format!("{live} union all {finished}"),
    };
    let sql = format!(
        "select j.id, j.queue, j.phase, j.flags, j.run_at, j.state, b.kind, b.more from ({from}) j \
         left join {{s}}.body b on b.n = j.n order by j.id desc limit {PIECE}"
    );
    let mut found = Vec::new();
    let rows = query(link, &sql, vec![Param::new(uuid(end), Type::UUID)]).await?;
    for row in &rows {
        let cells = Cells { table: "job", row };
        let (id, of) = (cells.job_id(0)?, QueueId(cells.u32(1)?));
        let state = match cells.get::<Option<i16>>(5)? {
            Some(number) => usize::try_from(number).ok().and_then(|at| STATES.get(at)).copied(),
            None => Some(live_state(cells.get(2)?, cells.get(3)?, cells.time(4)?, now)),
        };
        let fits = queue.is_none_or(|queue| queue == of)
            && filter.state.is_none_or(|wanted| state == Some(wanted))
            && is_labelled(cells, filter)?;
        found.push(Light { id, fits });
    }
    Ok(found)
}

/// As `LiveJob::state` has it.
fn live_state(phase: i16, flags: i16, run_at: Timestamp, now: Now) -> JobState {
    match phase {
        2 => JobState::Running,
        1 => JobState::Blocked,
        _ if run_at <= now.wall => JobState::Available,
        _ if flags & RETRYING != 0 => JobState::Retryable,
        _ => JobState::Scheduled,
    }
}

fn is_labelled(cells: Cells<'_>, filter: &JobFilter) -> Result<bool, Error> {
    if let Some(kind) = &filter.kind
        && cells.get::<Option<&str>>(6)? != Some(kind)
    {
        return Ok(false);
    }
    let Some(tag) = &filter.tag else { return Ok(true) };
    let more: Option<&[u8]> = cells.get(7)?;
    let more = more.map(parts::body_of).transpose().map_err(|what| cells.bad(7, what))?;
    Ok(more.is_some_and(|body| body.tags.iter().any(|each| **each == **tag)))
}

async fn dead_jobs(
    link: &Link,
    filter: &DeadFilter,
    end: Option<u64>,
    now: Now,
    pages: &mut Pages<'_>,
) -> Result<(), Error> {
    let Some(queue) = queue_id(link, filter.queue.as_str()).await? else { return Ok(()) };
    let mut end = end.map_or(i64::MAX, |end| end.min(i64::MAX as u64) as i64);
    loop {
        let sql = format!(
            "select id, f from {{s}}.finished where queue = $1 and lane = $2 and f < $3 order by f desc limit {PIECE}"
        );
        let lane = Param::new(lane_number(Lane::Dead), Type::INT2);
        let params = vec![Param::i32(queue.0), lane, Param::new(end, Type::INT8)];
        let rows = query(link, &sql, params).await?;
        let mut piece = Vec::with_capacity(rows.len());
        for row in &rows {
            let cells = Cells { table: "finished", row };
            piece.push((cells.job_id(0)?, cells.get::<i64>(1)?));
        }
        let ids: Vec<_> = piece.iter().map(|(id, _)| *id).collect();
        let mut found = records(link, &ids, now).await?;
        for (id, f) in piece {
            if !pages.wants_another() {
                return Ok(());
            }
            end = f;
            let record = found.remove(&id).filter(|job| {
                let error_type = job.failures.last().and_then(|last| last.failure.kind.as_deref());
                filter.kind.as_deref().is_none_or(|kind| *job.body.kind == *kind)
                    && filter.error_type.as_deref().is_none_or(|wanted| error_type == Some(wanted))
            });
            pages.looked_at(f, record.map(|job| Record::Job(Box::new(job))));
        }
        if rows.len() < PIECE {
            return Ok(());
        }
    }
}

async fn tokens(link: &Link, after: &str, pages: &mut Pages<'_>) -> Result<(), Error> {
    let sql = "select data from {s}.access_token where key > $1 order by key limit 2000";
    for row in &query(link, sql, vec![Param::bytes(after.as_bytes().to_vec())]).await? {
        if !pages.wants_another() {
            break;
        }
        let token = token(Cells { table: "access_token", row }, 0)?;
        pages.looked_at(token.name.clone(), Some(Record::AccessToken(token)));
    }
    Ok(())
}

async fn audit(link: &Link, end: Option<u64>, pages: &mut Pages<'_>) -> Result<(), Error> {
    let end = end.unwrap_or(u64::MAX).to_be_bytes().to_vec();
    let sql = "select data from {s}.audit where key < $1 order by key desc limit 2000";
    for row in &query(link, sql, vec![Param::bytes(end)]).await? {
        if !pages.wants_another() {
            break;
        }
        let cells = Cells { table: "audit", row };
        match cells.change(0)? {
            Change::Audit { number, record } => pages.looked_at(number, Some(Record::Audit(record))),
            _ => return Err(cells.bad(0, "is of another kind")),
        }
    }
    Ok(())
}

/// Dead letters of a group, newest first.
async fn dead_events(
    link: &Link,
    filter: &DeadEventFilter,
    end: Option<u64>,
    pages: &mut Pages<'_>,
) -> Result<(), Error> {
    let Some(group) = group_id(link, filter.group.as_str()).await? else { return Ok(()) };
    let mut end = end.map_or(i64::MAX, |end| end.min(i64::MAX as u64) as i64);
    loop {
        let sql = format!(
            "select number, letter, body from {{s}}.dead_event \
             where grp = $1 and not revived and number < $2 order by number desc limit {PIECE}"
        );
        let rows = query(link, &sql, vec![Param::i32(group), Param::new(end, Type::INT8)]).await?;
        for row in &rows {
            if !pages.wants_another() {
                return Ok(());
            }
            let cells = Cells { table: "dead_event", row };
            let Change::Event(EventChange::Died { letter, .. }) = cells.change(1)? else {
                return Err(cells.bad(1, "is of another kind"));
            };
            end = cells.get(0)?;
            let dead = DeadEvent {
                number: letter.place.number,
                topic: letter.place.topic,
                seq: letter.place.seq,
                event: event(cells, 2)?.into(),
                published_at: letter.place.at,
                attempts: letter.attempts,
                reason: letter.reason,
                error: letter.error.as_deref().cloned(),
                died_at: letter.place.died_at,
            };
            let record = filter.fits(&dead).then(|| Record::Event(EventItem::Dead(Box::new(dead))));
            pages.looked_at(end, record);
        }
        if rows.len() < PIECE {
            return Ok(());
        }
    }
}

/// The number of a queue that was not deleted.
async fn queue_id(link: &Link, name: &str) -> Result<Option<QueueId>, Error> {
    for row in &query(link, "select data from {s}.queue", vec![]).await? {
        if let Change::Queue { id, name: found, dropped: false, .. } =
            (Cells { table: "queue", row }).change(0)?
            && found.as_str() == name
        {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

async fn group_id(link: &Link, name: &str) -> Result<Option<u32>, Error> {
    for row in &query(link, "select data from {s}.event_group", vec![]).await? {
        let cells = Cells { table: "event_group", row };
        if let Change::Event(EventChange::Group(group)) = cells.change(0)?
            && group.name.as_str() == name
        {
            return Ok(Some(group.id.0));
        }
    }
    Ok(None)
}
