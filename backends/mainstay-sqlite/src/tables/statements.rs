//! Everything the tables' thread ever executes, prepared once.

use std::path::Path;

use rusqlite::{Connection, Statement};

use super::{
    events::EventStatements,
    limits::Limits,
    locks::LockStatements,
    many::{BODY_PLAIN, JOB_PLAIN, Many},
    schedules::Schedules,
};
use crate::{
    pace::Pace,
    row::{FINISHED, JOB},
};

pub(super) struct Statements<'c> {
    pub(super) pace: Pace<'c>,
    pub(super) many: Many<'c>,
    pub(super) begin: Statement<'c>,
    pub(super) commit: Statement<'c>,
    pub(super) data_version: Statement<'c>,
    pub(super) meta: Statement<'c>,
    pub(super) queue: Statement<'c>,
    pub(super) queue_removed: Statement<'c>,
    pub(super) policy: Statement<'c>,
    pub(super) policy_removed: Statement<'c>,
    pub(super) job_put: Statement<'c>,
    pub(super) job_put_plain: Statement<'c>,
    pub(super) job_updated: Statement<'c>,
    pub(super) job_updated_plain: Statement<'c>,
    pub(super) job_deleted: Statement<'c>,
    pub(super) jobs_between: Statement<'c>,
    pub(super) job_range: Statement<'c>,
    pub(super) finished_put: Statement<'c>,
    pub(super) finished_deleted: Statement<'c>,
    pub(super) body_put: Statement<'c>,
    pub(super) body_put_more: Statement<'c>,
    pub(super) forget: [Statement<'c>; 4],
    pub(super) finished_between: Statement<'c>,
    pub(super) finished_range: Statement<'c>,
    pub(super) result: Statement<'c>,
    pub(super) progress: Statement<'c>,
    pub(super) failure: Statement<'c>,
    pub(super) unique: Statement<'c>,
    pub(super) unique_removed: Statement<'c>,
    pub(super) edge: Statement<'c>,
    pub(super) edge_closed: Statement<'c>,
    pub(super) ended: Statement<'c>,
    pub(super) told: Statement<'c>,
    pub(super) keyed: Statement<'c>,
    pub(super) keyed_forgotten: Statement<'c>,
    pub(super) access_token: Statement<'c>,
    pub(super) access_token_removed: Statement<'c>,
    pub(super) audit: Statement<'c>,
    pub(super) audit_forgotten: Statement<'c>,
    pub(super) locks: LockStatements<'c>,
    pub(super) events: EventStatements<'c>,
    pub(super) limits: Limits<'c>,
    pub(super) schedules: Schedules<'c>,
}

/// A piece of a lane.
const RANGE: &str = "queue = ?1 AND lane = ?2 AND f BETWEEN ?3 AND ?4";
/// One for each column of [`JOB`].
const JOB_VALUES: &str = "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, \
     ?23, ?24, ?25, ?26, ?27";

impl<'c> Statements<'c> {
    pub(super) fn prepare(conn: &'c Connection, path: &'c Path) -> rusqlite::Result<Statements<'c>> {
        let p = |sql: &str| conn.prepare(sql);
        Ok(Statements {
            pace: Pace::default(),
            many: Many::prepare(conn)?,
            begin: p("BEGIN IMMEDIATE")?,
            commit: p("COMMIT")?,
            data_version: p("PRAGMA data_version")?,
            meta: p(
                "UPDATE meta SET token = ?1, n = ?2, f = ?3, k = ?4, audit = ?5, clock = ?6, clean = ?7, lsn = ?8, \
                 epoch = ?9",
            )?,
            queue: p(
                "INSERT OR REPLACE INTO queue (id, name, paused, dropped, config) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
            queue_removed: p("DELETE FROM queue WHERE id = ?1")?,
            policy_removed: p("DELETE FROM policy WHERE id = ?1")?,
            policy: p(
                "INSERT OR REPLACE INTO policy (id, max_attempts, max_crashes, base_ms, factor_milli, max_ms, jitter, \
                 timeout_ms, retain_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?,
            job_put: p(&format!("INSERT INTO job ({JOB}) VALUES ({JOB_VALUES})"))?,
            job_put_plain: p(&format!(
                "INSERT INTO job ({JOB_PLAIN}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
            ))?,
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
            jobs_between: p("SELECT id FROM job WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3")?,
            job_range: p("DELETE FROM job WHERE id BETWEEN ?1 AND ?2")?,
            finished_put: p(&format!(
                "INSERT INTO finished ({FINISHED}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, \
                 ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25)"
            ))?,
            finished_deleted: p("DELETE FROM finished WHERE queue = ?1 AND lane = ?2 AND f = ?3")?,
            body_put: p(&format!("INSERT INTO body ({BODY_PLAIN}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"))?,
            body_put_more: p(
                "INSERT INTO body (n, kind, payload, meta, tags, traceparent, waits_for, after_failure, unique_for_ms) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?,
            forget: [
                p("DELETE FROM body WHERE n BETWEEN ?1 AND ?2")?,
                p("DELETE FROM result WHERE n BETWEEN ?1 AND ?2")?,
                p("DELETE FROM progress WHERE n BETWEEN ?1 AND ?2")?,
                p("DELETE FROM failure WHERE n BETWEEN ?1 AND ?2")?,
            ],
            finished_between: p(&format!("SELECT f FROM finished WHERE {RANGE} ORDER BY f LIMIT ?5"))?,
            finished_range: p(&format!("DELETE FROM finished WHERE {RANGE}"))?,
            result: p("INSERT OR REPLACE INTO result (n, result) VALUES (?1, ?2)")?,
            progress: p("INSERT OR REPLACE INTO progress (n, progress) VALUES (?1, ?2)")?,
            failure: p("INSERT OR REPLACE INTO failure (n, slot, attempt, at, type, message, backtrace) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?,
            unique: p("INSERT OR REPLACE INTO uniq (queue, key, id, until) VALUES (?1, ?2, ?3, ?4)")?,
            unique_removed: p("DELETE FROM uniq WHERE queue = ?1 AND key = ?2")?,
            edge: p("INSERT OR REPLACE INTO edge (waiter, subject, failure) VALUES (?1, ?2, ?3)")?,
            edge_closed: p("DELETE FROM edge WHERE waiter = ?1 AND subject = ?2")?,
            ended: p("INSERT OR REPLACE INTO ended (id, how) VALUES (?1, ?2)")?,
            told: p("DELETE FROM ended WHERE id = ?1 AND how = ?2")?,
            keyed: p("INSERT INTO keyed (k, scope, fingerprint, at, replies) VALUES (?1, ?2, ?3, ?4, ?5)")?,
            keyed_forgotten: p("DELETE FROM keyed WHERE k <= ?1")?,
            access_token: p("INSERT OR REPLACE INTO access_token (name, hash, scopes, created_at) \
                 VALUES (?1, ?2, ?3, ?4)")?,
            access_token_removed: p("DELETE FROM access_token WHERE name = ?1")?,
            audit: p(
                "INSERT INTO audit (number, at, actor, action, subject, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?,
            audit_forgotten: p("DELETE FROM audit WHERE number <= ?1")?,
            locks: LockStatements::prepare(conn)?,
            events: EventStatements::prepare(conn, path)?,
            limits: Limits::prepare(conn)?,
            schedules: Schedules::prepare(conn)?,
        })
    }
}
