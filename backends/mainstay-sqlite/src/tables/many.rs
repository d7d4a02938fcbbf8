//! Rows of the two tables that get most of them, many in one statement: it stays where it was in the tree, and rows
//! that follow one another are put side by side without a search.

use mainstay_core::{engine::change::LiveJob, job::JobBody};
use rusqlite::{Connection, Result, Statement};

use crate::row::{bits, flags, tags_text};

/// So many rows are a statement.
pub(super) const ROWS: usize = 16;
/// What is bound to a statement stays in memory until the next: a body with a longer payload is put by itself.
pub(super) const SHORT: usize = 4_096;

/// Most jobs have none of the rarer columns, and every value that is handed over costs.
pub(super) const JOB_PLAIN: &str =
    "id, n, queue, policy, priority, phase, flags, run_at, created_at, attempt, crashes, size";
pub(super) const BODY_PLAIN: &str = "n, kind, payload, meta, tags, traceparent";

pub(super) struct Many<'c> {
    jobs: Statement<'c>,
    bodies: Statement<'c>,
}

impl<'c> Many<'c> {
    pub(super) fn prepare(conn: &'c Connection) -> Result<Many<'c>> {
        Ok(Many {
            jobs: conn.prepare(&insert("job", JOB_PLAIN))?,
            bodies: conn.prepare(&insert("body", BODY_PLAIN))?,
        })
    }

    /// Puts rows of `job`.
    pub(super) fn put_jobs(&mut self, jobs: &[&LiveJob; ROWS]) -> Result<usize> {
        let mut row = Binder { statement: &mut self.jobs, at: 0 };
        for job in jobs {
            row.bind(job.id.as_bytes())?;
            row.bind(bits(job.n))?;
            row.bind(job.queue.0)?;
            row.bind(job.policy.0)?;
            row.bind(job.priority)?;
            row.bind(job.phase as u8)?;
            row.bind(flags(job))?;
            row.bind(job.run_at.0)?;
            row.bind(job.created_at.0)?;
            row.bind(job.attempt)?;
            row.bind(job.crashes)?;
            row.bind(job.size)?;
        }
        self.jobs.raw_execute()
    }

    /// Puts rows of `body`, in the order of their numbers.
    pub(super) fn put_bodies(&mut self, bodies: &[(u64, &JobBody); ROWS]) -> Result<usize> {
        let mut row = Binder { statement: &mut self.bodies, at: 0 };
        for (n, body) in bodies {
            row.bind(bits(*n))?;
            row.bind(&*body.kind)?;
            row.bind(&*body.payload)?;
            row.bind(body.meta.as_deref())?;
            row.bind(tags_text(&body.tags))?;
            row.bind(body.traceparent.as_deref())?;
        }
        self.bodies.raw_execute()
    }
}

/// Whether a body can be put with others.
pub(super) fn is_plain(body: &JobBody) -> bool {
    body.payload.len() <= SHORT && body.after.is_none() && body.unique_for_ms.is_none()
}

/// Binds values from the first on.
struct Binder<'s, 'c> {
    statement: &'s mut Statement<'c>,
    at: usize,
}

impl Binder<'_, '_> {
    fn bind(&mut self, value: impl rusqlite::ToSql) -> Result<()> {
        self.at += 1;
        self.statement.raw_bind_parameter(self.at, value)
    }
}

/// If one of the rows cannot be there, the transaction is over, which it is then anyway: so SQLite need not keep what
/// it would take to undo the statement alone.
fn insert(table: &str, columns: &str) -> String {
    let row = format!("({})", vec!["?"; columns.split(',').count()].join(", "));
    format!("INSERT OR ROLLBACK INTO {table} ({columns}) VALUES {}", vec![row; ROWS].join(", "))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use mainstay_core::{
        ErrorKind, JobId, Timestamp,
        engine::change::{Change, Counters, Extras, Phase, PolicyId, QueueId},
    };

    use super::*;
    use crate::{
        apply::Batch,
        behind::Handed,
        fault::Severity,
        row::{BODY, Cells, JOB},
        schema::migrate,
        tables::{Mark, Tables},
    };

    /// The `n`-th of jobs that differ in every column; every seventh has a body that is put by itself.
    fn job(n: u64) -> (LiveJob, Arc<JobBody>) {
        let mut id = [0; 16];
        // Not in the order of the numbers.
        id[..4].copy_from_slice(&(n as u32 * 7_919 % 1_000).to_be_bytes());
        (id[6], id[8]) = (0x70, 0x80);
        let job = LiveJob {
            id: JobId::from_bytes(id).unwrap(),
            n,
            run_at: Timestamp(n as i64 + 1),
            created_at: Timestamp(n as i64 + 2),
            queue: QueueId(n as u32 + 3),
            policy: PolicyId(n as u32 + 4),
            attempt: n as u32 + 5,
            size: n as u32 + 6,
            crashes: n as u32 + 7,
            priority: (n % 10) as u8,
            phase: if n.is_multiple_of(3) { Phase::Waiting } else { Phase::Blocked },
            retrying: n.is_multiple_of(2),
            cancel_requested: n.is_multiple_of(5),
            has_extras: false,
        };
        let mut body = JobBody::new(&format!("kind {n}"), &n.to_string());
        match n % 7 {
            0 => body.unique_for_ms = Some(n),
            1 => body.payload = "1".repeat(SHORT + 1).into(),
            2 => body.tags = vec!["a".into(), "b".into()],
            3 => body.meta = Some("{}".into()),
            4 => body.traceparent = Some("00".into()),
            _ => {}
        }
        (job, Arc::new(body))
    }

    fn batch(jobs: &[(LiveJob, Arc<JobBody>)]) -> Batch {
        let (extras, settled) = (Extras::default(), None);
        let put = |(job, body): &(LiveJob, Arc<JobBody>)| Change::JobPut {
            job: *job,
            extras: extras.clone(),
            settled,
            body: Some(body.clone()),
        };
        let changes = jobs.iter().map(put).collect();
        let mut batch = Batch::default();
        batch.add(Handed { lsn: 1, counters: Counters::default(), changes, bytes: 0, growth: 0 });
        batch
    }

    #[test]
    fn rows_are_what_was_put_however_many_there_are() {
        for count in (0..=2 * ROWS as u64 + 1).chain([200]) {
            let (conn, path) = (Connection::open_in_memory().unwrap(), Path::new("a test"));
            migrate(&conn, path).unwrap();
            let jobs: Vec<_> = (1..=count).map(job).collect();
            let mut tables = Tables::new(&conn, path).unwrap();
            let mark = Mark { epoch: 1, lsn: 1, clean: false };
            tables.apply(&batch(&jobs), &Counters::default(), mark).unwrap();
            let mut rows = conn.prepare(&format!("SELECT {JOB} FROM job ORDER BY n")).unwrap();
            let found =
                rows.query_map([], |row| Ok(Cells { path, table: "job", row }.live_job().unwrap().job));
            let found: Vec<_> = found.unwrap().map(|job| job.unwrap()).collect();
            assert_eq!(found, jobs.iter().map(|(job, _)| *job).collect::<Vec<_>>());
            let mut rows = conn.prepare(&format!("SELECT {BODY} FROM body ORDER BY n")).unwrap();
            let found = rows.query_map([], |row| Ok(Cells { path, table: "body", row }.body().unwrap()));
            let found: Vec<_> = found.unwrap().map(|body| body.unwrap()).collect();
            assert_eq!(found, jobs.iter().map(|(_, body)| (**body).clone()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn of_a_batch_with_a_row_that_is_there_already_nothing_is_left() {
        let (conn, path) = (Connection::open_in_memory().unwrap(), Path::new("a test"));
        migrate(&conn, path).unwrap();
        let mut tables = Tables::new(&conn, path).unwrap();
        let mut apply = |jobs: &[(LiveJob, Arc<JobBody>)]| {
            tables.apply(&batch(jobs), &Counters::default(), Mark { epoch: 1, lsn: 1, clean: false })
        };
        let jobs: Vec<_> = (1..=3 * ROWS as u64).map(job).collect();
        apply(&jobs[20..21]).unwrap();
        let fault = apply(&jobs).unwrap_err();
        assert_eq!((fault.severity, fault.error.kind()), (Severity::Fatal, ErrorKind::Untrusted));
        assert!(fault.error.to_string().contains("job.id"), "{}", fault.error);
        let count = |table: &str| -> i64 {
            conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
        };
        assert_eq!((count("job"), count("body")), (1, 1));
    }
}
