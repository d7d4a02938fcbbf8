//! Jobs, access tokens, dead letters and old events from the tables, each reading in one snapshot.

mod list;
mod log;

use std::{collections::HashMap, sync::Arc};

use mainstay_core::{
    Error, JobId, QueueName,
    access::AccessToken,
    engine::change::{Change, LiveJob},
    job::{FAILURES_KEPT, FailureRecord, JobKeys, JobPolicy, JobRecord},
    time::Now,
};
use mainstay_writer::codec::decode;
use tokio_postgres::Row;

pub(crate) use list::list;
pub(crate) use log::{LogQuery, read_log};

use crate::{
    fault::{Trouble, damaged},
    fill::body,
    link::Link,
    rows::{Cells, FINISHED, JOB},
    step::Param,
    write::ids,
};

/// What stands around a job, by the columns `n`, `queue`, `policy` and `id` of `j`.
const AROUND: &str = "b.kind, b.payload, b.more, r.result, p.progress, q.data, o.data, \
     (select array_agg(data) from {s}.failure where failure.n = j.n), \
     (select count(*) from {s}.edge where edge.key between uuid_send(j.id) \
        and uuid_send(j.id) || '\\xffffffffffffffffffffffffffffffff'::bytea)";
const JOINS: &str = "left join {s}.body b on b.n = j.n left join {s}.result r on r.n = j.n \
     left join {s}.progress p on p.n = j.n left join {s}.queue q on q.key = int4send(j.queue) \
     left join {s}.policy o on o.key = int4send(j.policy)";

/// Jobs by their ids, those that there are. Those of deleted queues are not.
pub(crate) async fn records(
    link: &Link,
    wanted: &[JobId],
    now: Now,
) -> Result<HashMap<JobId, JobRecord>, Error> {
    let columns = |names: &str| {
        names.split(", ").map(|name| format!("j.{}", name.trim())).collect::<Vec<_>>().join(", ")
    };
    let live = format!("select {}, {AROUND} from {{s}}.job j {JOINS} where j.id = any($1)", columns(JOB));
    let finished =
        format!("select {}, {AROUND} from {{s}}.finished j {JOINS} where j.id = any($1)", columns(FINISHED));
    let mut found = HashMap::new();
    for row in &query(link, &live, vec![ids(wanted)]).await? {
        let cells = Cells { table: "job", row };
        let live = cells.live_job()?;
        let lease = live.lease.filter(|lease| lease.until > now.store);
        let Some(record) = around(cells, width(JOB), &live.job, now)? else { continue };
        let record = JobRecord {
            keys: live.extras.job_keys(),
            expires_at: live.extras.expires_at,
            unique_key: live.extras.unique_key,
            token: lease.as_ref().map(|lease| lease.id.token),
            lease_expires_at: lease.as_ref().map(|lease| now.wall_at(lease.until)),
            worker: lease.and_then(|lease| lease.worker),
            ..record
        };
        found.insert(record.id, record);
    }
    for row in &query(link, &finished, vec![ids(wanted)]).await? {
        let cells = Cells { table: "finished", row };
        let finished = cells.finished_job()?;
        let Some(record) = around(cells, width(FINISHED), &finished.job, now)? else { continue };
        let record = JobRecord {
            state: finished.state,
            keys: finished.extras.job_keys(),
            expires_at: finished.extras.expires_at,
            unique_key: finished.extras.unique_key,
            finished_at: Some(finished.finished_at),
            reason: finished.reason,
            waiting_for: 0,
            ..record
        };
        found.insert(record.id, record);
    }
    Ok(found)
}

fn width(columns: &str) -> usize {
    columns.split(',').count()
}

/// A job with the columns of [`AROUND`], which begin at `i`. `None`: its queue was deleted.
fn around(cells: Cells<'_>, i: usize, job: &LiveJob, now: Now) -> Result<Option<JobRecord>, Error> {
    let missing = |what: &str| damaged(&format!("job {}", job.id), what);
    let Some(queue) = queue(cells, i + 5)? else { return Ok(None) };
    let Some(policy) = policy(cells, i + 6)? else { return Err(missing("its policy is not there")) };
    if cells.get::<Option<&str>>(i)?.is_none() {
        return Err(missing("its body is not there"));
    }
    let text = |i| Ok::<_, Error>(cells.get::<Option<&str>>(i)?.map(Arc::from));
    Ok(Some(JobRecord {
        id: job.id,
        queue,
        state: job.state(now.wall),
        body: Arc::new(body(cells, i)?),
        priority: job.priority,
        run_at: job.run_at,
        attempt: job.attempt,
        crashes: job.crashes,
        policy,
        created_at: job.created_at,
        expires_at: None,
        unique_key: None,
        waiting_for: u32::try_from(cells.get::<i64>(i + 8)?).unwrap_or(u32::MAX),
        keys: JobKeys::default(),
        token: None,
        lease_expires_at: None,
        worker: None,
        cancel_requested: job.cancel_requested,
        progress: text(i + 4)?,
        result: text(i + 3)?,
        failures: failures(cells, i + 7)?,
        finished_at: None,
        reason: None,
    }))
}

/// The name of a queue that was not deleted.
fn queue(cells: Cells<'_>, i: usize) -> Result<Option<QueueName>, Error> {
    match cells.change_opt(i)? {
        Some(Change::Queue { name, dropped: false, .. }) => Ok(Some(name)),
        Some(Change::Queue { .. }) | None => Ok(None),
        Some(_) => Err(cells.bad(i, "is of another kind")),
    }
}

fn policy(cells: Cells<'_>, i: usize) -> Result<Option<JobPolicy>, Error> {
    match cells.change_opt(i)? {
        Some(Change::Policy { policy, .. }) => Ok(Some(policy)),
        None => Ok(None),
        Some(_) => Err(cells.bad(i, "is of another kind")),
    }
}

/// Oldest first.
fn failures(cells: Cells<'_>, i: usize) -> Result<Vec<FailureRecord>, Error> {
    let rows: Option<Vec<&[u8]>> = cells.get(i)?;
    let mut failures = Vec::new();
    for bytes in rows.unwrap_or_default() {
        match decode::one(bytes).map_err(|what| cells.bad(i, what))? {
            Change::Failure { record, .. } => failures.push(*record),
            _ => return Err(cells.bad(i, "is of another kind")),
        }
    }
    failures.sort_by_key(|record| (record.at, record.attempt));
    let too_many = failures.len().saturating_sub(FAILURES_KEPT as usize);
    failures.drain(..too_many);
    Ok(failures)
}

/// The access token with this name.
pub(crate) async fn access_token(link: &Link, name: &str) -> Result<Option<AccessToken>, Error> {
    let sql = "select data from {s}.access_token where key = $1";
    let found = query(link, sql, vec![Param::bytes(name.as_bytes().to_vec())]).await?;
    found.first().map(|row| token(Cells { table: "access_token", row }, 0)).transpose()
}

fn token(cells: Cells<'_>, i: usize) -> Result<AccessToken, Error> {
    match cells.change(i)? {
        Change::AccessToken(token) => Ok(token),
        _ => Err(cells.bad(i, "is of another kind")),
    }
}

async fn query(link: &Link, sql: &str, params: Vec<Param>) -> Result<Vec<Row>, Error> {
    link.query(sql, params).await.map_err(Trouble::error)
}
