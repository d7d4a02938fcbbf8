//! Whole job records from the rows of their tables.

use std::{path::Path, sync::Arc};

use mainstay_core::{
    Error, JobId, QueueName,
    engine::change::{FinishedJob, LiveJob, Phase, PolicyId, QueueId},
    event::EventReply,
    job::{FAILURES_KEPT, FailureRecord, JobBody, JobKeys, JobPolicy, JobRecord, Json},
    op::Reply,
    time::Now,
};
use rusqlite::{Connection, OptionalExtension, Row, Statement, Transaction, params};

use crate::{
    answer::Answer,
    apply::{Batch, Live},
    behind::Stuck,
    fault::{damaged_row, read_error, read_error_in},
    row::{BODY, Cells, FAILURE, FINISHED, JOB, LiveRow, POLICY, bits},
};

/// A reading connection with the statements that records are made with.
pub(crate) struct Jobs<'c> {
    conn: &'c Connection,
    pub(super) path: &'c Path,
    /// What is not in the tables and cannot be brought there now; it comes first.
    pub(super) lacking: Option<Arc<Batch>>,
    reached: Statement<'c>,
    live: Statement<'c>,
    finished: Statement<'c>,
    queue: Statement<'c>,
    policy: Statement<'c>,
    body: Statement<'c>,
    pub(super) bodies: Statement<'c>,
    labels: Statement<'c>,
    result: Statement<'c>,
    progress: Statement<'c>,
    failures: Statement<'c>,
    waits_for: Statement<'c>,
}

impl<'c> Jobs<'c> {
    pub(crate) fn new(conn: &'c Connection, path: &'c Path) -> Result<Jobs<'c>, Error> {
        let prepare = |sql: &str| conn.prepare(sql).map_err(|e| read_error(path, e));
        Ok(Jobs {
            conn,
            path,
            lacking: None,
            reached: prepare("SELECT lsn FROM meta")?,
            live: prepare(&format!("SELECT {JOB} FROM job WHERE id = ?1"))?,
            finished: prepare(&format!("SELECT {FINISHED} FROM finished WHERE id = ?1"))?,
            queue: prepare("SELECT name FROM queue WHERE id = ?1 AND NOT dropped")?,
            policy: prepare(&format!("SELECT {POLICY} FROM policy WHERE id = ?1"))?,
            body: prepare(&format!("SELECT {BODY} FROM body WHERE n = ?1"))?,
            bodies: prepare(&format!("SELECT {BODY}, n FROM body WHERE n BETWEEN ?1 AND ?2 ORDER BY n"))?,
            labels: prepare("SELECT kind, tags FROM body WHERE n = ?1")?,
            result: prepare("SELECT result FROM result WHERE n = ?1")?,
            progress: prepare("SELECT progress FROM progress WHERE n = ?1")?,
            failures: prepare(&format!("SELECT {FAILURE} FROM failure WHERE n = ?1 ORDER BY at, attempt"))?,
            waits_for: prepare("SELECT count(*) FROM edge WHERE waiter = ?1")?,
        })
    }

    /// The tables as they are when the first statement after this reads them, until it is dropped.
    pub(crate) fn snapshot(&self) -> Result<Transaction<'c>, Error> {
        // Read-only, so that its end cannot fail in a way that matters.
        self.conn.unchecked_transaction().map_err(|e| read_error(self.path, e))
    }

    /// What the tables lack comes first, unless they have it by now in the snapshot that is read.
    pub(crate) fn lack(&mut self, stuck: Option<Stuck>) -> Result<(), Error> {
        self.lacking = None;
        if let Some(Stuck { lsn, overlay, .. }) = stuck {
            let reached = self.reached.query_row([], |row| row.get::<_, i64>(0));
            if (reached.map_err(|e| read_error(self.path, e))? as u64) < lsn {
                self.lacking = Some(overlay);
            }
        }
        Ok(())
    }

    /// The job with this id. `None` also if its queue was deleted.
    pub(crate) fn job(&mut self, id: JobId, now: Now) -> Result<Option<JobRecord>, Error> {
        let lacking = self.lacking.clone();
        match lacking.as_ref().and_then(|batch| batch.live(id)) {
            Some(Some(Live::Whole(row))) => return self.live_record(row.clone(), now),
            Some(Some(changed)) => {
                // What never changes is in the tables.
                let row = one(self.path, "job", &mut self.live, id.as_bytes(), |row| row.live_job())?;
                return self.live_record(changed.row(|| row.map(|row| row.extras).unwrap_or_default()), now);
            }
            Some(None) => {}
            None => {
                if let Some(live) =
                    one(self.path, "job", &mut self.live, id.as_bytes(), |row| row.live_job())?
                {
                    return self.live_record(live, now);
                }
            }
        }
        if let Some(finished) = lacking.as_ref().and_then(|batch| batch.finished(id)) {
            return self.finished_record(finished.clone(), now);
        }
        let finished =
            one(self.path, "finished", &mut self.finished, id.as_bytes(), |row| row.finished_job())?;
        match finished.filter(|finished| lacking.is_none_or(|batch| !batch.is_gone(&finished.key))) {
            Some(finished) => self.finished_record(finished, now),
            None => Ok(None),
        }
    }

    /// An unfinished job with everything around it.
    pub(super) fn live_record(&mut self, live: LiveRow, now: Now) -> Result<Option<JobRecord>, Error> {
        let Some(record) = self.record(&live.job, now)? else { return Ok(None) };
        let lease = live.lease.filter(|lease| lease.until > now.store);
        let waiting_for = if live.job.phase == Phase::Blocked { self.waiting_for(live.job.id)? } else { 0 };
        Ok(Some(JobRecord {
            waiting_for,
            keys: live.extras.job_keys(),
            expires_at: live.extras.expires_at,
            unique_key: live.extras.unique_key,
            token: lease.as_ref().map(|lease| lease.id.token),
            lease_expires_at: lease.as_ref().map(|lease| now.wall_at(lease.until)),
            worker: lease.and_then(|lease| lease.worker),
            ..record
        }))
    }

    /// A finished job with everything around it.
    pub(super) fn finished_record(
        &mut self,
        finished: FinishedJob,
        now: Now,
    ) -> Result<Option<JobRecord>, Error> {
        let Some(record) = self.record(&finished.job, now)? else { return Ok(None) };
        Ok(Some(JobRecord {
            state: finished.state,
            keys: finished.extras.job_keys(),
            expires_at: finished.extras.expires_at,
            unique_key: finished.extras.unique_key,
            finished_at: Some(finished.finished_at),
            reason: finished.reason,
            ..record
        }))
    }

    fn record(&mut self, job: &LiveJob, now: Now) -> Result<Option<JobRecord>, Error> {
        let Some(queue) = self.queue_name(job.queue)? else { return Ok(None) };
        let missing = |what: &str| damaged_row(self.path, &format!("job {}", job.id), what);
        let Some(body) = self.body(job.n)? else { return Err(missing("its body is not there")) };
        let Some(policy) = self.policy(job.policy)? else { return Err(missing("its policy is not there")) };
        Ok(Some(JobRecord {
            id: job.id,
            queue,
            state: job.state(now.wall),
            body,
            priority: job.priority,
            run_at: job.run_at,
            attempt: job.attempt,
            crashes: job.crashes,
            policy,
            created_at: job.created_at,
            expires_at: None,
            unique_key: None,
            waiting_for: 0,
            keys: JobKeys::default(),
            token: None,
            lease_expires_at: None,
            worker: None,
            cancel_requested: job.cancel_requested,
            progress: self.text(job.n, "progress")?,
            result: self.text(job.n, "result")?,
            failures: self.failures(job.n)?,
            finished_at: None,
            reason: None,
        }))
    }

    fn waiting_for(&mut self, id: JobId) -> Result<u32, Error> {
        let more = self.lacking.as_ref().map_or(0, |batch| batch.more_to_wait_for(id));
        let known = one(self.path, "edge", &mut self.waits_for, id.as_bytes(), |row| row.int(0))?;
        Ok(u32::try_from(known.unwrap_or(0) + more).unwrap_or(0))
    }

    fn queue_name(&mut self, id: QueueId) -> Result<Option<QueueName>, Error> {
        if let Some(name) = self.lacking.as_ref().and_then(|batch| batch.queue(id)) {
            return Ok(name.cloned());
        }
        one(self.path, "queue", &mut self.queue, id.0, |row| row.parse(0))
    }

    fn policy(&mut self, id: PolicyId) -> Result<Option<JobPolicy>, Error> {
        if let Some(policy) = self.lacking.as_ref().and_then(|batch| batch.policy(id)) {
            return Ok(Some(policy));
        }
        one(self.path, "policy", &mut self.policy, id.0, |row| row.policy(0).map(|(_, policy)| policy))
    }

    /// The body with this number.
    pub(super) fn body(&mut self, n: u64) -> Result<Option<Arc<JobBody>>, Error> {
        if let Some(body) = self.lacking.as_ref().and_then(|batch| batch.body(n)) {
            return Ok(Some(body.clone()));
        }
        one(self.path, "body", &mut self.body, bits(n), |row| row.body().map(Arc::new))
    }

    /// Whether a job is of this kind and has this tag; its payload is not read.
    pub(super) fn is_labelled(
        &mut self,
        n: u64,
        kind: Option<&str>,
        tag: Option<&str>,
    ) -> Result<bool, Error> {
        let fits = one(self.path, "body", &mut self.labels, bits(n), |row| {
            Ok(kind.is_none_or(|kind| row.text(0).is_ok_and(|text| text == kind))
                && (tag.is_none() || row.tags(1)?.iter().any(|each| Some(&**each) == tag)))
        });
        Ok(fits?.unwrap_or(false))
    }

    fn text(&mut self, n: u64, table: &'static str) -> Result<Option<Json>, Error> {
        let lacking = self.lacking.as_ref().and_then(|batch| match table {
            "result" => batch.result(n),
            _ => batch.progress(n),
        });
        if let Some(text) = lacking {
            return Ok(Some(text.clone()));
        }
        let statement = if table == "result" { &mut self.result } else { &mut self.progress };
        one(self.path, table, statement, bits(n), |row| row.text(0).map(Json::from))
    }

    /// The failures of a job, oldest first.
    pub(super) fn failures(&mut self, n: u64) -> Result<Vec<FailureRecord>, Error> {
        let path = self.path;
        let failed = |e| read_error_in(path, "failure", e);
        let mut rows = self.failures.query([bits(n)]).map_err(failed)?;
        let mut failures = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            failures.push(Cells { path, table: "failure", row }.failure()?);
        }
        if let Some(batch) = &self.lacking {
            failures.extend_from_slice(batch.failures(n));
            let too_many = failures.len().saturating_sub(FAILURES_KEPT as usize);
            failures.drain(..too_many);
        }
        Ok(failures)
    }

    /// Fills in what the writer did not have at hand. What is not there must have been forgotten since: a job that is
    /// there and has no body is damage, which is told, for its grant would run out, and again, until the job is dead.
    /// Within a snapshot, so that it can tell the two apart.
    pub(crate) fn fill(
        &mut self,
        answer: &mut Answer,
        lacking: Option<Stuck>,
        now: Now,
    ) -> Result<(), Error> {
        self.lack(lacking)?;
        for reply in answer.replies_mut() {
            match reply {
                Reply::Claimed(grants) => {
                    for grant in grants.iter_mut().filter(|grant| grant.body.is_none()) {
                        grant.body = self.body(grant.n)?;
                        if grant.body.is_none() {
                            // In the same snapshot: reading a job that has none is an error.
                            self.job(grant.id, now)?;
                        }
                    }
                    // Forgotten since: its lease is lost.
                    grants.retain(|grant| grant.body.is_some());
                }
                Reply::Enqueued(enqueued) if enqueued.kind.is_none() => {
                    enqueued.kind = self.body(enqueued.n)?.map(|body| body.kind.clone());
                    if enqueued.kind.is_none() {
                        // Nobody knows it any more once the first job has been forgotten.
                        self.job(enqueued.id, now)?;
                    }
                }
                Reply::Event(EventReply::Fetched(deliveries)) => {
                    let lacking = self.lacking.as_deref();
                    super::log::fill(self.conn, self.path, deliveries, lacking)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The one row that a statement finds for a key.
fn one<T>(
    path: &Path,
    table: &'static str,
    statement: &mut Statement<'_>,
    key: impl rusqlite::ToSql,
    read: impl FnOnce(Cells<'_>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    let found = statement.query_row(params![key], |row: &Row<'_>| Ok(read(Cells { path, table, row })));
    found.optional().map_err(|e| read_error_in(path, table, e))?.transpose()
}

#[cfg(test)]
mod tests {
    use mainstay_core::{
        ErrorKind, LeaseId, StoreTime, Timestamp, Token,
        engine::change::{Change, Counters, Extras},
        id::JobIds,
        job::{Grant, JobFailure},
        op::Committed,
        queue::QueueConfig,
    };

    use super::*;
    use crate::{
        behind::Handed,
        inbox::Inbox,
        schema::migrate,
        tables::{Mark, Tables},
    };

    fn job(n: u64) -> LiveJob {
        LiveJob {
            id: JobIds::default().next(1_000, &QueueName::new("q").unwrap(), n),
            n,
            run_at: Timestamp(1),
            created_at: Timestamp(1),
            queue: QueueId(0),
            policy: PolicyId(0),
            attempt: 1,
            size: 1,
            crashes: 0,
            priority: 5,
            phase: Phase::Waiting,
            retrying: true,
            cancel_requested: false,
            has_extras: false,
        }
    }

    fn grant(job: &LiveJob) -> Grant {
        Grant {
            id: job.id,
            n: job.n,
            queue: QueueName::new("q").unwrap(),
            priority: 5,
            attempt: 1,
            crashes: 0,
            policy: JobPolicy::default(),
            created_at: Timestamp(1),
            lease: LeaseId { token: Token(1), nonce: 2 },
            expires_at: Timestamp(9),
            body: None,
        }
    }

    /// Also one of its name that came after it is another.
    #[test]
    fn a_grant_of_a_job_that_was_forgotten_since_is_left_out() {
        let (conn, path) = (Connection::open_in_memory().unwrap(), Path::new("a test"));
        migrate(&conn, path).unwrap();
        let (mut tables, mut jobs) = (Tables::new(&conn, path).unwrap(), Jobs::new(&conn, path).unwrap());
        let (name, config) = (QueueName::new("q").unwrap(), QueueConfig::default());
        let put = |job: LiveJob, body: Option<&str>| Change::JobPut {
            job,
            extras: Extras::default(),
            settled: None,
            body: body.map(|text| Arc::new(JobBody::new("k", text))),
        };
        let again = LiveJob { n: 3, ..job(2) };
        let changes = vec![
            Change::Queue { id: QueueId(0), name, config, paused: false, dropped: false },
            Change::Policy { id: PolicyId(0), policy: JobPolicy::default() },
            put(again, Some("3")),
            put(job(4), Some("4")),
        ];
        let counters = Counters::default();
        let mut batch = Batch::default();
        batch.add(Handed { lsn: 1, counters, changes, bytes: 0, growth: 0 });
        tables.apply(&batch, &counters, Mark { epoch: 1, lsn: 1, clean: false }).unwrap();
        let grants = [job(1), job(2), job(4)].iter().map(grant).collect();
        let committed = Committed { replies: vec![Reply::Claimed(grants)], repeated: false };
        let inbox = Arc::new(Inbox::new(1));
        let mut answer = Answer::new(vec![Ok(committed)], vec![], vec![], &inbox);
        let now = Now { wall: Timestamp(1), store: StoreTime(1) };
        jobs.fill(&mut answer, None, now).unwrap();
        let replies: Vec<_> = answer.replies_mut().map(|reply| reply.clone()).collect();
        let [Reply::Claimed(grants)] = &replies[..] else { panic!("{replies:?}") };
        assert_eq!(grants.iter().map(|grant| grant.n).collect::<Vec<_>>(), [4]);

        conn.execute_batch("DELETE FROM body WHERE n = 4").unwrap();
        let Some(Reply::Claimed(grants)) = answer.replies_mut().next() else { panic!("{replies:?}") };
        grants[0].body = None;
        let error = jobs.fill(&mut answer, None, now).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
    }

    #[test]
    fn what_the_tables_have_by_now_is_not_added_to_them() {
        let (conn, path) = (Connection::open_in_memory().unwrap(), Path::new("a test"));
        migrate(&conn, path).unwrap();
        let (mut tables, mut jobs) = (Tables::new(&conn, path).unwrap(), Jobs::new(&conn, path).unwrap());
        let name = QueueName::new("q").unwrap();
        let job = job(1);
        let config = QueueConfig::default();
        let failure = JobFailure { message: "no".into(), ..JobFailure::default() };
        let changes = vec![
            Change::Queue { id: QueueId(0), name, config, paused: false, dropped: false },
            Change::Policy { id: PolicyId(0), policy: JobPolicy::default() },
            Change::JobPut {
                job,
                extras: Extras::default(),
                settled: None,
                body: Some(Arc::new(JobBody::new("k", "1"))),
            },
            Change::Failure {
                n: 1,
                record: Box::new(FailureRecord { attempt: 1, at: Timestamp(1), failure }),
            },
        ];
        let counters = Counters::default();
        let mut batch = Batch::default();
        batch.add(Handed { lsn: 1, counters, changes, bytes: 0, growth: 0 });
        let (error, overlay) = (Error::new(ErrorKind::Unavailable, "no room"), Arc::new(batch));
        let stuck = Stuck { error, lsn: 1, overlay: overlay.clone() };
        let now = Now { wall: Timestamp(1), store: StoreTime(1) };
        for applied in [false, true] {
            if applied {
                tables.apply(&overlay, &counters, Mark { epoch: 1, lsn: 1, clean: false }).unwrap();
            }
            jobs.lack(Some(stuck.clone())).unwrap();
            assert_eq!(jobs.job(job.id, now).unwrap().unwrap().failures.len(), 1, "applied: {applied}");
        }
    }
}
