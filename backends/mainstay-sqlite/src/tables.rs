//! The tables under the writer: changes as blind writes by primary key, and the archive the engine asks.

use std::path::Path;

use mainstay_core::{
    Error, JobId,
    engine::change::{
        Archive, Change, Counters, FinishedJob, FinishedRef, Lane, LiveJob, LiveLease, QueueId, SettledLease,
    },
    job::{FAILURES_KEPT, JobPolicy},
};
use rusqlite::{Connection, OptionalExtension, Statement, params};

use crate::{
    fault::{Fault, Result, damaged_row, foreign_writer, read_error},
    row::{
        Cells, FINISHED, FINISHED_REF, bits, flags, jitter_number, reason_number, state_number, tags_text,
        verb_number,
    },
};

/// The writer's connection with everything it ever executes, prepared once.
pub(crate) struct Tables<'c> {
    pub(crate) conn: &'c Connection,
    path: &'c Path,
    in_transaction: bool,
    /// What `PRAGMA data_version` says as long as nobody else writes.
    data_version: i64,
    s: Statements<'c>,
}

struct Statements<'c> {
    begin: Statement<'c>,
    commit: Statement<'c>,
    data_version: Statement<'c>,
    meta: Statement<'c>,
    queue: Statement<'c>,
    queue_removed: Statement<'c>,
    policy: Statement<'c>,
    job_put: Statement<'c>,
    job_put_plain: Statement<'c>,
    job_updated: Statement<'c>,
    job_updated_plain: Statement<'c>,
    job_deleted: Statement<'c>,
    finished_put: Statement<'c>,
    finished_deleted: Statement<'c>,
    finished_by_id: Statement<'c>,
    finished_oldest: Statement<'c>,
    body_put: Statement<'c>,
    forget: [Statement<'c>; 4],
    trim_count: Statement<'c>,
    trim: [Statement<'c>; 5],
    result: Statement<'c>,
    progress: Statement<'c>,
    failure: Statement<'c>,
    unique: Statement<'c>,
    unique_removed: Statement<'c>,
    keyed: Statement<'c>,
    keyed_forgotten: Statement<'c>,
    access_token: Statement<'c>,
    access_token_removed: Statement<'c>,
    audit: Statement<'c>,
    audit_forgotten: Statement<'c>,
}

/// A piece of a lane.
const RANGE: &str = "queue = ?1 AND lane = ?2 AND f BETWEEN ?3 AND ?4";
/// So many jobs forgotten in a row are worth a look whether they are a whole piece of their lane.
const WORTH_A_RANGE: usize = 8;

impl<'c> Statements<'c> {
    fn prepare(conn: &'c Connection) -> rusqlite::Result<Statements<'c>> {
        let p = |sql: &str| conn.prepare(sql);
        Ok(Statements {
            begin: p("BEGIN IMMEDIATE")?,
            commit: p("COMMIT")?,
            data_version: p("PRAGMA data_version")?,
            meta: p(
                "UPDATE meta SET token = ?1, n = ?2, f = ?3, k = ?4, audit = ?5, clock = ?6, clean = ?7",
            )?,
            queue: p(
                "INSERT OR REPLACE INTO queue (id, name, paused, dropped, config) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
            queue_removed: p("DELETE FROM queue WHERE id = ?1")?,
            policy: p(
                "INSERT INTO policy (id, max_attempts, max_crashes, base_ms, factor_milli, max_ms, jitter, \
                 timeout_ms, retain_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?,
            job_put: p(
                "INSERT INTO job (id, n, queue, policy, priority, phase, flags, run_at, created_at, attempt, \
                 crashes, size, expires_at, unique_key, settled_token, settled_nonce, settled_verb, settled_state, \
                 settled_run_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, \
                 ?17, ?18, ?19)",
            )?,
            // Most jobs have none of the rarer columns, and every value that is handed over costs.
            job_put_plain: p(
                "INSERT INTO job (id, n, queue, policy, priority, phase, flags, run_at, created_at, attempt, \
                 crashes, size) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?,
            job_updated: p(
                "UPDATE job SET phase = ?2, flags = ?3, run_at = ?4, attempt = ?5, crashes = ?6, \
                 token = ?7, nonce = ?8, lease_until = ?9, lease_ms = ?10, claimed_at = ?11, worker = ?12, \
                 settled_token = ?13, settled_nonce = ?14, settled_verb = ?15, settled_state = ?16, \
                 settled_run_at = ?17 WHERE id = ?1",
            )?,
            // A job that was never settled: these columns hold nothing, and keep it.
            job_updated_plain: p(
                "UPDATE job SET phase = ?2, flags = ?3, run_at = ?4, attempt = ?5, crashes = ?6, \
                 token = ?7, nonce = ?8, lease_until = ?9, lease_ms = ?10, claimed_at = ?11, worker = ?12 \
                 WHERE id = ?1 AND settled_token IS NULL",
            )?,
            job_deleted: p("DELETE FROM job WHERE id = ?1")?,
            finished_put: p(&format!(
                "INSERT INTO finished ({FINISHED}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, \
                 ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)"
            ))?,
            finished_deleted: p("DELETE FROM finished WHERE queue = ?1 AND lane = ?2 AND f = ?3")?,
            finished_by_id: p(&format!("SELECT {FINISHED} FROM finished WHERE id = ?1"))?,
            finished_oldest: p(&format!(
                "SELECT {FINISHED_REF} FROM finished WHERE queue = ?1 AND lane = ?2 ORDER BY f LIMIT ?3"
            ))?,
            body_put: p(
                "INSERT INTO body (n, kind, payload, meta, tags, traceparent) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?,
            forget: [
                p("DELETE FROM body WHERE n = ?1")?,
                p("DELETE FROM result WHERE n = ?1")?,
                p("DELETE FROM progress WHERE n = ?1")?,
                p("DELETE FROM failure WHERE n = ?1")?,
            ],
            trim_count: p(&format!("SELECT count(*) FROM finished WHERE {RANGE}"))?,
            trim: [
                p(&format!("DELETE FROM body WHERE n IN (SELECT n FROM finished WHERE {RANGE})"))?,
                p(&format!("DELETE FROM result WHERE n IN (SELECT n FROM finished WHERE {RANGE})"))?,
                p(&format!("DELETE FROM progress WHERE n IN (SELECT n FROM finished WHERE {RANGE})"))?,
                p(&format!("DELETE FROM failure WHERE n IN (SELECT n FROM finished WHERE {RANGE})"))?,
                p(&format!("DELETE FROM finished WHERE {RANGE}"))?,
            ],
            result: p("INSERT OR REPLACE INTO result (n, result) VALUES (?1, ?2)")?,
            progress: p("INSERT OR REPLACE INTO progress (n, progress) VALUES (?1, ?2)")?,
            failure: p("INSERT OR REPLACE INTO failure (n, slot, attempt, at, type, message, backtrace) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?,
            unique: p("INSERT OR REPLACE INTO uniq (queue, key, id, until) VALUES (?1, ?2, ?3, ?4)")?,
            unique_removed: p("DELETE FROM uniq WHERE queue = ?1 AND key = ?2")?,
            keyed: p("INSERT INTO keyed (k, scope, fingerprint, at, replies) VALUES (?1, ?2, ?3, ?4, ?5)")?,
            keyed_forgotten: p("DELETE FROM keyed WHERE k <= ?1")?,
            access_token: p("INSERT OR REPLACE INTO access_token (name, hash, scopes, created_at) \
                 VALUES (?1, ?2, ?3, ?4)")?,
            access_token_removed: p("DELETE FROM access_token WHERE name = ?1")?,
            audit: p(
                "INSERT INTO audit (number, at, actor, action, subject, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?,
            audit_forgotten: p("DELETE FROM audit WHERE number <= ?1")?,
        })
    }
}

impl<'c> Tables<'c> {
    pub(crate) fn new(conn: &'c Connection, path: &'c Path) -> std::result::Result<Tables<'c>, Error> {
        let mut s = Statements::prepare(conn).map_err(|e| read_error(path, e))?;
        let data_version = s.data_version.query_row([], |row| row.get(0)).map_err(|e| read_error(path, e))?;
        Ok(Tables { conn, path, in_transaction: false, data_version, s })
    }

    /// Writes changes in order, beginning a transaction if none has begun.
    pub(crate) fn write(&mut self, changes: &[Change]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        self.begin()?;
        let mut trimmed = 0;
        for (i, change) in changes.iter().enumerate() {
            if i < trimmed {
                continue;
            }
            let written = match self.s.trim(&changes[i..]) {
                Ok(0) => self.s.write(change),
                Ok(many) => {
                    trimmed = i + many;
                    Ok(true)
                }
                Err(e) => Err(e),
            };
            let written = written.map_err(|e| Fault::of_statement(self.path, e))?;
            if !written {
                let place = format!("a row to be changed is not there: {change:?}");
                return Err(Fault::fatal(damaged_row(self.path, &place, "memory and file disagree")));
            }
        }
        Ok(())
    }

    /// Begins a transaction if none has begun, and makes sure that nobody else has written since the last.
    pub(crate) fn begin(&mut self) -> Result<()> {
        if self.in_transaction {
            return Ok(());
        }
        let of_statement = |e| Fault::of_statement(self.path, e);
        self.s.begin.execute([]).map_err(of_statement)?;
        self.in_transaction = true;
        let seen: i64 = self.s.data_version.query_row([], |row| row.get(0)).map_err(of_statement)?;
        if seen != self.data_version {
            return Err(Fault::fatal(foreign_writer(self.path)));
        }
        Ok(())
    }

    /// Something was written since the last commit or rollback.
    pub(crate) fn is_dirty(&self) -> bool {
        self.in_transaction
    }

    /// Ends the transaction: everything is durable, or nothing happened, or (a fatal fault) nobody knows.
    pub(crate) fn commit(&mut self, counters: &Counters, clean: bool) -> Result<()> {
        let Counters { token, n, f, k, audit, clock } = *counters;
        let numbers = params![bits(token), bits(n), bits(f), bits(k), bits(audit), bits(clock.0), clean];
        self.s.meta.execute(numbers).map_err(|e| Fault::of_statement(self.path, e))?;
        self.s.commit.execute([]).map_err(|e| Fault::of_commit(self.path, e))?;
        self.in_transaction = false;
        Ok(())
    }

    /// From the next transaction on, a commit is synced, or not. Call between transactions.
    pub(crate) fn sync_next(&mut self, sync: bool) -> Result<()> {
        let sql = if sync { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
        self.conn.execute_batch(sql).map_err(|e| Fault::of_statement(self.path, e))
    }

    /// Undoes the transaction, if there is one.
    pub(crate) fn rollback(&mut self) -> Result<()> {
        self.in_transaction = false;
        // Some errors have rolled back already.
        if !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK").map_err(|e| Fault::of_commit(self.path, e))?;
        }
        // After an error SQLite may drop its cache, which counts as if another had written.
        let seen = self.s.data_version.query_row([], |row| row.get(0));
        self.data_version = seen.map_err(|e| Fault::of_statement(self.path, e))?;
        Ok(())
    }
}

impl Statements<'_> {
    /// `false`: the row that was to change is not there.
    fn write(&mut self, change: &Change) -> rusqlite::Result<bool> {
        let rows = match change {
            Change::JobPut { job, extras, settled, body } => {
                if let Some(body) = body {
                    let tags = tags_text(&body.tags);
                    let (meta, trace) = (body.meta.as_deref(), body.traceparent.as_deref());
                    let row = params![bits(job.n), &*body.kind, &*body.payload, meta, tags, trace];
                    self.body_put.execute(row)?;
                }
                if settled.is_none() && !job.has_extras {
                    return self.put_plain(job);
                }
                let s = SettledCells::new(settled);
                self.job_put.execute(params![
                    job.id.as_bytes(),
                    bits(job.n),
                    job.queue.0,
                    job.policy.0,
                    job.priority,
                    job.phase as u8,
                    flags(job),
                    job.run_at.0,
                    job.created_at.0,
                    job.attempt,
                    job.crashes,
                    job.size,
                    extras.expires_at.map(|at| at.0),
                    extras.unique_key.as_deref(),
                    s.token,
                    s.nonce,
                    s.verb,
                    s.state,
                    s.run_at,
                ])?
            }
            Change::JobUpdated { job, lease, settled } => self.update(job, lease.as_ref(), settled)?,
            Change::JobFinished(finished) => {
                let rows = self.job_deleted.execute([finished.job.id.as_bytes()])?;
                self.finish(finished)?;
                rows
            }
            Change::FinishedRevived { key, .. } => {
                self.finished_deleted.execute(params![key.queue.0, key.lane as u8, bits(key.f)])?
            }
            Change::JobRemoved { id, n } => {
                self.forget(*n)?;
                self.job_deleted.execute([id.as_bytes()])?
            }
            Change::FinishedRemoved(FinishedRef { key, n, .. }) => {
                self.forget(*n)?;
                self.finished_deleted.execute(params![key.queue.0, key.lane as u8, bits(key.f)])?
            }
            other => {
                self.write_rare(other)?;
                1
            }
        };
        Ok(rows == 1)
    }

    fn put_plain(&mut self, job: &LiveJob) -> rusqlite::Result<bool> {
        let rows = self.job_put_plain.execute(params![
            job.id.as_bytes(),
            bits(job.n),
            job.queue.0,
            job.policy.0,
            job.priority,
            job.phase as u8,
            flags(job),
            job.run_at.0,
            job.created_at.0,
            job.attempt,
            job.crashes,
            job.size,
        ])?;
        Ok(rows == 1)
    }

    /// Forgets the finished jobs at the beginning of `changes` in one go, if they are a whole piece of a lane. Answers
    /// how many changes that was.
    fn trim(&mut self, changes: &[Change]) -> rusqlite::Result<usize> {
        let Some(Change::FinishedRemoved(FinishedRef { key: first, .. })) = changes.first() else {
            return Ok(0);
        };
        let mut last = *first;
        let mut many = 1;
        for change in &changes[1..] {
            match change {
                Change::FinishedRemoved(FinishedRef { key, .. })
                    if (key.queue, key.lane) == (last.queue, last.lane) && key.f > last.f =>
                {
                    last = *key;
                    many += 1;
                }
                _ => break,
            }
        }
        if many < WORTH_A_RANGE {
            return Ok(0);
        }
        let range = (first.queue.0, first.lane as u8, bits(first.f), bits(last.f));
        let there: i64 = self.trim_count.query_row(range, |row| row.get(0))?;
        if there != many as i64 {
            return Ok(0);
        }
        self.trim.iter_mut().try_for_each(|statement| statement.execute(range).map(drop))?;
        Ok(many)
    }

    fn update(
        &mut self,
        job: &LiveJob,
        lease: Option<&LiveLease>,
        settled: &Option<SettledLease>,
    ) -> rusqlite::Result<usize> {
        let id = job.id.as_bytes();
        let (token, nonce) = (lease.map(|l| bits(l.id.token.0)), lease.map(|l| bits(l.id.nonce)));
        let (until, ms) = (lease.map(|l| bits(l.until.0)), lease.map(|l| bits(l.ms)));
        let claimed_at = lease.map(|l| bits(l.claimed_at.0));
        let worker = lease.and_then(|l| l.worker.as_ref()).map(|worker| worker.as_str());
        if settled.is_none() {
            return self.job_updated_plain.execute(params![
                id,
                job.phase as u8,
                flags(job),
                job.run_at.0,
                job.attempt,
                job.crashes,
                token,
                nonce,
                until,
                ms,
                claimed_at,
                worker,
            ]);
        }
        let s = SettledCells::new(settled);
        self.job_updated.execute(params![
            id,
            job.phase as u8,
            flags(job),
            job.run_at.0,
            job.attempt,
            job.crashes,
            token,
            nonce,
            until,
            ms,
            claimed_at,
            worker,
            s.token,
            s.nonce,
            s.verb,
            s.state,
            s.run_at,
        ])
    }

    fn finish(&mut self, finished: &FinishedJob) -> rusqlite::Result<usize> {
        let FinishedJob { key, job, extras, state, reason, finished_at, settled } = finished;
        let s = SettledCells::new(settled);
        self.finished_put.execute(params![
            key.queue.0,
            key.lane as u8,
            bits(key.f),
            job.id.as_bytes(),
            bits(job.n),
            job.policy.0,
            job.priority,
            flags(job),
            job.run_at.0,
            job.created_at.0,
            job.attempt,
            job.crashes,
            job.size,
            state_number(*state),
            reason.map(reason_number),
            finished_at.0,
            extras.expires_at.map(|at| at.0),
            extras.unique_key.as_deref(),
            s.token,
            s.nonce,
            s.verb,
            s.state,
            s.run_at,
        ])
    }

    fn forget(&mut self, n: u64) -> rusqlite::Result<()> {
        self.forget.iter_mut().try_for_each(|statement| statement.execute([bits(n)]).map(drop))
    }

    fn write_rare(&mut self, change: &Change) -> rusqlite::Result<usize> {
        match change {
            Change::Queue { id, name, config, paused, dropped } => {
                self.queue.execute(params![id.0, name.as_str(), paused, dropped, json(config)])
            }
            Change::QueueRemoved(id) => self.queue_removed.execute([id.0]),
            Change::Policy { id, policy } => {
                let JobPolicy { max_attempts, max_crashes, backoff, timeout_ms, retain_ms } = policy;
                self.policy.execute(params![
                    id.0,
                    max_attempts,
                    max_crashes,
                    bits(backoff.base_ms),
                    bits(backoff.factor_milli),
                    bits(backoff.max_ms),
                    jitter_number(backoff.jitter),
                    timeout_ms.map(bits),
                    retain_ms.map(bits),
                ])
            }
            Change::Result { n, result } => self.result.execute(params![bits(*n), &**result]),
            Change::Progress { n, progress } => self.progress.execute(params![bits(*n), &**progress]),
            Change::Failure { n, record } => self.failure.execute(params![
                bits(*n),
                record.attempt % FAILURES_KEPT,
                record.attempt,
                record.at.0,
                record.failure.kind.as_deref(),
                &*record.failure.message,
                record.failure.backtrace.as_deref(),
            ]),
            Change::Unique { queue, key, id, until } => {
                self.unique.execute(params![queue.0, &**key, id.as_bytes(), until.map(|at| at.0)])
            }
            Change::UniqueRemoved { queue, key } => self.unique_removed.execute(params![queue.0, &**key]),
            Change::Keyed { k, key, at, replies } => {
                self.keyed.execute(params![bits(*k), key.scope, key.fingerprint, at.0, json(&**replies)])
            }
            Change::KeyedForgotten { up_to } => self.keyed_forgotten.execute([bits(*up_to)]),
            Change::AccessToken(token) => {
                let scopes = json(&token.scopes);
                self.access_token.execute(params![
                    token.name.as_str(),
                    token.hash,
                    scopes,
                    token.created_at.0
                ])
            }
            Change::AccessTokenRemoved(name) => self.access_token_removed.execute([name.as_str()]),
            Change::Audit { number, record: r } => {
                self.audit.execute(params![bits(*number), r.at.0, r.actor, r.action, r.subject, r.detail])
            }
            Change::AuditForgotten { up_to } => self.audit_forgotten.execute([bits(*up_to)]),
            // Written by the caller.
            Change::JobPut { .. }
            | Change::JobUpdated { .. }
            | Change::JobFinished(_)
            | Change::FinishedRevived { .. }
            | Change::JobRemoved { .. }
            | Change::FinishedRemoved(_) => Ok(0),
        }
    }
}

/// The settled-lease columns.
#[derive(Default)]
struct SettledCells {
    token: Option<i64>,
    nonce: Option<i64>,
    verb: Option<i64>,
    state: Option<i64>,
    run_at: Option<i64>,
}

impl SettledCells {
    fn new(settled: &Option<SettledLease>) -> SettledCells {
        let Some(SettledLease { id, verb, state, run_at }) = settled else { return SettledCells::default() };
        SettledCells {
            token: Some(bits(id.token.0)),
            nonce: Some(bits(id.nonce)),
            verb: Some(verb_number(*verb)),
            state: Some(state_number(*state)),
            run_at: run_at.map(|at| at.0),
        }
    }
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("the vocabulary has a JSON form")
}

impl Archive for Tables<'_> {
    fn finished(&mut self, id: JobId) -> std::result::Result<Option<FinishedJob>, Error> {
        let path = self.path;
        let found = self
            .s
            .finished_by_id
            .query_row([id.as_bytes()], |row| Ok(Cells { path, table: "finished", row }.finished_job()));
        found.optional().map_err(|e| read_error(path, e))?.transpose()
    }

    fn oldest(
        &mut self,
        queue: QueueId,
        lane: Lane,
        limit: usize,
    ) -> std::result::Result<Vec<FinishedRef>, Error> {
        let path = self.path;
        let mut rows = self
            .s
            .finished_oldest
            .query(params![queue.0, lane as u8, limit as i64])
            .map_err(|e| read_error(path, e))?;
        let mut found = Vec::with_capacity(limit.min(1_024));
        while let Some(row) = rows.next().map_err(|e| read_error(path, e))? {
            found.push(Cells { path, table: "finished", row }.finished_ref()?);
        }
        Ok(found)
    }
}
