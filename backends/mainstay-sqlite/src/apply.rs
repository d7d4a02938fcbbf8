//! The tables' thread: takes what is in the journal and brings it into the tables, many groups in one transaction.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
};

use mainstay_core::{Error, ErrorKind, engine::change::Counters};
use rusqlite::Connection;

use crate::{
    behind::{Handed, Stuck, Task},
    checkpoint,
    fault::{Fault, Severity},
    pace::Pace,
    shared::Shared,
    tables::{Mark, Tables},
};
pub(crate) use mainstay_writer::batch::{
    Batch, Body, Dead, Delivery, EventBatch, Grant, Group, Job, Live, Locks, Notes, Row, ScheduleRow, pieces,
};

/// The life of the thread. The connection comes back when it has ended; an error: what is in the journal is not all
/// in the tables.
pub(crate) fn run(conn: Connection, shared: &Shared, epoch: u64) -> (Connection, Result<(), Fault>) {
    let pace = Pace::beside(&shared.behind);
    let worked = catch_unwind(AssertUnwindSafe(|| {
        Applier { shared, epoch, batch: Batch::default(), pace }.run(&conn)
    }));
    let worked = worked.unwrap_or_else(|_| {
        let message = format!("the tables of the store {} have a bug: it panicked", shared.path.display());
        Err(Fault::fatal(Error::unknown(ErrorKind::Untrusted, message)))
    });
    if let Err(Fault { severity: Severity::Fatal, error }) = &worked {
        // In this order: whoever is told that it is over hears why, and what comes after is not acknowledged.
        shared.fail(error);
        shared.behind.abandon();
    }
    (conn, worked)
}

struct Applier<'s> {
    shared: &'s Shared,
    epoch: u64,
    batch: Batch,
    pace: Pace<'s>,
}

impl Applier<'_> {
    fn run(&mut self, conn: &Connection) -> Result<(), Fault> {
        let tables = Tables::new(conn, &self.shared.path).map_err(Fault::fatal)?;
        let mut tables = tables.paced(&self.shared.behind);
        loop {
            match self.shared.behind.next() {
                Task::Gather(groups) => self.gather(groups),
                Task::Apply(groups) => {
                    self.gather(groups);
                    if !self.apply(&mut tables)? {
                        return Ok(());
                    }
                    self.follow_checkpoint(&tables)?;
                }
                Task::Finish(counters) => return self.finish(&mut tables, &counters),
                Task::Stop => return Ok(()),
            }
        }
    }

    /// What came and went within the batch costs nothing from here on, not even memory.
    fn gather(&mut self, groups: Vec<Handed>) {
        for group in groups {
            self.batch.add(group);
            self.pace.rest();
        }
        self.shared.behind.holds(self.batch.bytes);
    }

    /// Until it is done; `false`: the store has ended.
    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<bool, Fault> {
        let shared = self.shared;
        let synced = loop {
            let mark = Mark { epoch: self.epoch, lsn: self.batch.lsn, clean: false };
            let counters = self.batch.counters;
            let synced = shared.checkpoints.is_held_up() || shared.behind.wants_sync();
            let applied =
                tables.sync_commits(synced).and_then(|()| tables.apply(&self.batch, &counters, mark));
            let error = match applied {
                Ok(()) => break synced,
                Err(fault) if fault.severity == Severity::Fatal => return Err(fault),
                Err(fault) => fault.error,
            };
            shared.stats.failed_batches.fetch_add(1, Ordering::Relaxed);
            if shared.behind.is_closing() {
                return Err(Fault::clean(error));
            }
            tracing::warn!(%error, "the tables cannot follow the journal; they are tried again");
            let overlay = Arc::new(std::mem::take(&mut self.batch));
            let stuck = Stuck { error, lsn: overlay.lsn, overlay: overlay.clone() };
            let Some(more) = shared.behind.stuck(stuck) else { return Ok(false) };
            self.batch = Arc::unwrap_or_clone(overlay);
            self.gather(more);
        };
        if shared.max_file_bytes.is_some()
            && let Ok(bytes) = tables.used_bytes()
        {
            shared.stats.used_bytes.store(bytes, Ordering::Relaxed);
        }
        let done = std::mem::take(&mut self.batch);
        shared.stats.batches.fetch_add(1, Ordering::Relaxed);
        let journal = shared.behind.applied(&done);
        if synced {
            shared.behind.set_floor(shared.behind.in_tables());
        }
        // What came and went is no work for a checkpoint, but lies in the journal until there was one.
        shared.checkpoints.committed(done.bytes.max(journal as usize));
        self.free(done);
        shared.tail.trim(shared.behind.seq());
        Ok(true)
    }

    /// A little at a time: it may be a hundred thousand things.
    fn free(&self, mut done: Batch) {
        let Batch { new, bodies, finished, events, .. } = &mut done;
        new.drain().for_each(|_| self.pace.row());
        bodies.drain().for_each(|_| self.pace.row());
        finished.drain().for_each(|_| self.pace.row());
        events.events.drain(..).for_each(|_| self.pace.row());
    }

    /// Moves what a background checkpoint has left, so that the next commit starts SQLite's own log anew.
    fn follow_checkpoint(&self, tables: &Tables<'_>) -> Result<(), Fault> {
        if !self.shared.checkpoints.take_finished() {
            return Ok(());
        }
        match checkpoint::passive(tables.conn, &self.shared.path) {
            Err(fault) if fault.severity == Severity::Fatal => Err(fault),
            // The background tries again, and counts.
            _ => Ok(()),
        }
    }

    /// The last write of a store that closes in good order.
    fn finish(&self, tables: &mut Tables<'_>, counters: &Counters) -> Result<(), Fault> {
        tables.sync_commits(true)?;
        let mark = Mark { epoch: self.epoch, lsn: self.shared.behind.lsn(), clean: true };
        tables.apply(&Batch::default(), counters, mark)
    }
}
