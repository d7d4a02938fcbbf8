//! At open, the engine is rebuilt from the tables.

mod events;

use std::{
    cell::Cell,
    collections::HashSet,
    hash::Hash,
    path::Path,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use mainstay_core::{
    Error, ErrorKind, QueueName, StoreTime,
    access::AccessToken,
    engine::{
        Engine,
        change::{Counters, Phase, PolicyId, QueueId},
    },
    op::IdempotencyKey,
};
use rusqlite::{Connection, OptionalExtension};

use crate::{
    connection,
    fault::{damaged_row, read_error},
    options::Options,
    progress::Progress,
    row::{Cells, JOB, LOCK_GRANT, LOCK_WAITER, LiveRow, POLICY},
    tables::{LIMIT, Mark, SCHEDULE, limit, schedule_record},
};

/// What a file said when it was opened.
pub(crate) struct Loaded {
    /// Everything is in, but [`Engine::finish_load`] has not been called.
    pub engine: Engine,
    /// The store's clock at the last group.
    pub clock: StoreTime,
}

/// Where the tables stand in the journal.
pub(crate) fn mark(conn: &Connection, path: &Path) -> Result<Mark, Error> {
    let mark = conn.query_row("SELECT epoch, lsn, clean FROM meta", [], |row| {
        let (epoch, lsn) = (row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64);
        Ok(Mark { epoch, lsn, clean: row.get(2)? })
    });
    mark.optional().map_err(|e| read_error(path, e))?.ok_or_else(|| no_meta(path))
}

fn no_meta(path: &Path) -> Error {
    damaged_row(path, "table meta", "its one row is not there")
}

/// The engine relies on it that what a row refers to is there.
fn known<T: Hash + Eq>(all: &HashSet<T>, id: &T, row: Cells<'_>, column: usize) -> Result<(), Error> {
    if all.contains(id) { Ok(()) } else { Err(row.bad(column, "refers to a row that is not there")) }
}

/// Runs a query, row by row.
type Each<'e> =
    &'e dyn Fn(&'static str, &str, &mut dyn FnMut(Cells<'_>) -> Result<(), Error>) -> Result<(), Error>;

/// Reads everything the engine keeps in RAM, in one snapshot.
pub(crate) fn load(conn: &Connection, options: &Options, progress: &Progress) -> Result<Loaded, Error> {
    let path = options.path.as_path();
    let snapshot = conn.unchecked_transaction().map_err(|e| read_error(path, e))?;
    let mut engine = Engine::new();
    let seen = Cell::new(0_usize);
    let each = |table: &'static str, sql: &str, row: &mut dyn FnMut(Cells<'_>) -> Result<(), Error>| {
        let mut statement = conn.prepare(sql).map_err(|e| read_error(path, e))?;
        let mut rows = statement.query([]).map_err(|e| read_error(path, e))?;
        while let Some(found) = rows.next().map_err(|e| read_error(path, e))? {
            row(Cells { path, table, row: found })?;
            // SQLite itself shows no progress where it hands out row by row.
            seen.set(seen.get() + 1);
            if seen.get().is_multiple_of(PIECE) {
                progress.goes_on();
            }
        }
        Ok::<(), Error>(())
    };

    let mut counters = None;
    each("meta", "SELECT token, n, f, k, audit, clock FROM meta", &mut |row| {
        counters = Some(Counters {
            token: row.u64(0)?,
            n: row.u64(1)?,
            f: row.u64(2)?,
            k: row.u64(3)?,
            audit: row.u64(4)?,
            clock: StoreTime(row.u64(5)?),
        });
        Ok(())
    })?;
    let counters = counters.ok_or_else(|| no_meta(path))?;
    engine.load_counters(counters);

    let (mut queues, mut policies) = (HashSet::new(), HashSet::new());
    each("policy", &format!("SELECT {POLICY} FROM policy"), &mut |row| {
        let (id, policy) = row.policy(0)?;
        policies.insert(id);
        engine.load_policy(id, policy);
        Ok(())
    })?;
    if engine.has_many_policies() {
        let mut users = Vec::new();
        each("finished", "SELECT policy, count(*) FROM finished GROUP BY policy", &mut |row| {
            users.push((PolicyId(row.u32(0)?), row.u64(1)?));
            Ok(())
        })?;
        engine.load_policy_users(users);
    }
    each("queue", "SELECT id, name, config, paused, dropped FROM queue", &mut |row| {
        let (id, name) = (QueueId(row.u32(0)?), row.parse::<QueueName>(1)?);
        queues.insert(id);
        engine.load_queue(id, name, row.json(2)?, row.int(3)? != 0, row.int(4)? != 0);
        Ok(())
    })?;
    let counts = "SELECT queue, lane, count(*), max(f) FROM finished GROUP BY queue, lane";
    each("finished", counts, &mut |row| {
        let id = QueueId(row.u32(0)?);
        known(&queues, &id, row, 0)?;
        engine.load_finished_count(id, row.lane(1)?, row.u64(2)?, row.u64(3)?);
        Ok(())
    })?;
    each("finished", "SELECT id FROM finished ORDER BY id DESC LIMIT 1", &mut |row| {
        engine.load_finished_up_to(row.job_id(0)?);
        Ok(())
    })?;
    each("limits", &format!("SELECT {LIMIT} FROM limits"), &mut |row| {
        let (id, key, value) = limit(row)?;
        known(&queues, &id, row, 0)?;
        engine.load_limit(id, &key, value);
        Ok(())
    })?;
    load_jobs(&mut engine, options, &queues, &policies, progress)?;
    each("edge", "SELECT waiter, subject, failure FROM edge", &mut |row| {
        let waiter = row.job_id(0)?;
        // A job that has finished may be waited for, if it is dead.
        if engine.job(waiter).is_none_or(|(job, ..)| job.phase != Phase::Blocked) {
            return Err(row.bad(0, "is of a job that does not wait"));
        }
        engine.load_edge(waiter, row.job_id(1)?, row.after_failure(2)?);
        Ok(())
    })?;
    each("ended", "SELECT id, how FROM ended", &mut |row| {
        engine.load_ended(row.job_id(0)?, row.ending(1)?);
        Ok(())
    })?;
    each("uniq", "SELECT queue, key, id, until FROM uniq", &mut |row| {
        let until = row.int_opt(3)?.map(mainstay_core::Timestamp);
        let id = QueueId(row.u32(0)?);
        known(&queues, &id, row, 0)?;
        engine.load_unique(id, Arc::from(row.text(1)?), row.job_id(2)?, until);
        Ok(())
    })?;
    each("keyed", "SELECT k, scope, fingerprint, at, replies FROM keyed ORDER BY k", &mut |row| {
        let key = IdempotencyKey { scope: row.bytes(1)?, fingerprint: row.bytes(2)? };
        let replies: Vec<_> = row.json(4)?;
        engine.load_keyed(row.u64(0)?, key, row.time(3)?, Arc::from(replies));
        Ok(())
    })?;
    each("access_token", "SELECT name, hash, scopes, created_at FROM access_token", &mut |row| {
        let (name, hash, scopes) = (row.parse(0)?, row.bytes(1)?, row.json(2)?);
        engine.load_access_token(AccessToken { name, hash, scopes, created_at: row.time(3)? });
        Ok(())
    })?;
    each("lock_grant", &format!("SELECT {LOCK_GRANT} FROM lock_grant"), &mut |row| {
        engine.load_lock_grant(row.lock_grant()?);
        Ok(())
    })?;
    each("lock_waiter", &format!("SELECT {LOCK_WAITER} FROM lock_waiter ORDER BY place"), &mut |row| {
        engine.load_lock_waiter(row.lock_waiter()?);
        Ok(())
    })?;
    events::load_events(&mut engine, conn, path, &each)?;
    each("schedule", &format!("SELECT {SCHEDULE} FROM schedule"), &mut |row| {
        engine.load_schedule(schedule_record(row)?);
        Ok(())
    })?;
    drop(snapshot);
    Ok(Loaded { engine, clock: counters.clock })
}

/// Rows are decoded on one thread and indexed on another: with a million jobs, that is what opening takes its time for.
fn load_jobs(
    engine: &mut Engine,
    options: &Options,
    queues: &HashSet<QueueId>,
    policies: &HashSet<PolicyId>,
    progress: &Progress,
) -> Result<(), Error> {
    let conn = connection::open_reader(options)?;
    let (sender, decoded) = sync_channel(PIECES_AHEAD);
    thread::scope(|scope| {
        let decoder = scope.spawn(move || decode_jobs(&conn, &options.path, queues, policies, &sender));
        for piece in decoded {
            for LiveRow { job, extras, lease, settled } in piece {
                engine.load_job(job, extras, lease, settled);
            }
            progress.goes_on();
        }
        decoder
            .join()
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Untrusted, "the decoder of rows panicked")))
    })
}

/// Rows that travel together, and how many such pieces may lie between the threads.
const PIECE: usize = 1_000;
const PIECES_AHEAD: usize = 4;

fn decode_jobs(
    conn: &Connection,
    path: &Path,
    queues: &HashSet<QueueId>,
    policies: &HashSet<PolicyId>,
    sender: &SyncSender<Vec<LiveRow>>,
) -> Result<(), Error> {
    let failed = |e| read_error(path, e);
    let mut statement = conn.prepare(&format!("SELECT {JOB} FROM job")).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut piece = Vec::with_capacity(PIECE);
    // Most jobs share both with the job before.
    let mut last = None;
    while let Some(row) = rows.next().map_err(failed)? {
        let row = Cells { path, table: "job", row };
        let live = row.live_job()?;
        let refers_to = Some((live.job.queue, live.job.policy));
        if refers_to != last {
            known(queues, &live.job.queue, row, 2)?;
            known(policies, &live.job.policy, row, 3)?;
            last = refers_to;
        }
        piece.push(live);
        if piece.len() == PIECE {
            let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE));
            // Only a panic on the other side closes it; that is shown there.
            let _ = sender.send(full);
        }
    }
    let _ = sender.send(piece);
    Ok(())
}
