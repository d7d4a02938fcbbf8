//! Moves what SQLite's log holds into the file, in the background, and keeps that log short. What is in the tables when
//! one begins is durable when it is over; so this also says from where on the store's own journal is needed.
//!
//! A checkpoint in the background can never catch up with a connection that keeps committing, so the log would grow
//! for ever. Each time one has finished, the tables' thread moves the few pages that are left itself; then nothing is
//! left, and its next commit starts the log from the beginning.

mod due;
#[cfg(test)]
mod model;

use std::{path::Path, sync::atomic::Ordering};

use mainstay_core::{Error, ErrorKind};
use rusqlite::Connection;

pub(crate) use due::Checkpoints;

use crate::{
    fault::{self, Fault, Result, Severity, read_error},
    shared::Shared,
    sync,
};

/// The life of the checkpointing thread.
pub(crate) fn run(conn: &Connection, shared: &Shared) {
    while shared.checkpoints.next() {
        // Whatever is in the tables by now is durable when all of it has been moved.
        let reached = shared.behind.in_tables();
        match passive(conn, &shared.path) {
            Ok(None) => {}
            Ok(Some(Moved { frames, all })) => {
                if all {
                    shared.behind.set_floor(reached);
                }
                shared.stats.checkpoints.fetch_add(1, Ordering::Relaxed);
                shared.stats.wal_frames.store(frames, Ordering::Relaxed);
                shared.checkpoints.has_finished(all);
            }
            Err(Fault { severity: Severity::Clean, error }) => {
                // The log keeps everything; it only grows until one succeeds.
                shared.stats.failed_checkpoints.fetch_add(1, Ordering::Relaxed);
                shared.checkpoints.again();
                tracing::warn!(%error, "checkpoint failed; it is tried again");
            }
            Err(Fault { severity: Severity::Fatal, error }) => {
                shared.fail(&error);
                return;
            }
        }
    }
}

/// What a checkpoint has done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// How many frames SQLite's log had when it began.
    frames: u64,
    /// All of them are in the file, and durable. If a reader holds on to an older state, SQLite moves less and says
    /// that all is well, and may not have synced anything.
    all: bool,
}

/// Moves what can be moved without waiting for anybody. `None`: another checkpoint is under way.
pub(crate) fn passive(conn: &Connection, path: &Path) -> Result<Option<Moved>> {
    let mut statement =
        conn.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)").map_err(|e| fault::of_checkpoint(path, e))?;
    let (busy, frames, moved) = statement
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
        .map_err(|e| fault::of_checkpoint(path, e))?;
    Ok((busy == 0).then_some(Moved { frames: frames.max(0) as u64, all: moved == frames }))
}

/// Moves everything into the file and syncs it. Must succeed before a store that ended badly is served again: after
/// a failed sync, the system may show what is not on the disk, and only writing it once more puts it there.
pub(crate) fn full(conn: &Connection, path: &Path) -> std::result::Result<(), Error> {
    let (busy, frames, moved) = conn
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })
        .map_err(|e| read_error(path, e))?;
    // Busy with everything moved: somebody reads, so the journal could not be emptied; that can wait.
    if busy != 0 && moved < frames {
        let message = format!(
            "SQLite's log of the store {} cannot be moved into the file because another program is reading it; end \
             that program and try again",
            path.display()
        );
        return Err(Error::new(ErrorKind::Unavailable, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The journal may be written over only up to what is durable in the tables; a reader keeps SQLite from making it
    /// so, and SQLite does not say it.
    #[test]
    fn a_checkpoint_that_a_reader_holds_up_is_not_taken_for_a_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let writer = Connection::open(&path).unwrap();
        let mode: String = writer.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        writer
            .execute_batch("PRAGMA synchronous = NORMAL; CREATE TABLE t (n); INSERT INTO t VALUES (1)")
            .unwrap();
        let all = |conn: &Connection| passive(conn, &path).unwrap().map(|moved| moved.all);
        assert_eq!(all(&writer), Some(true));

        let reader = Connection::open(&path).unwrap();
        let snapshot = reader.unchecked_transaction().unwrap();
        let count = "SELECT count(*) FROM t";
        assert_eq!(snapshot.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
        writer.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        // The first may move what the reader has seen; the second has nothing that it may move.
        assert_eq!((all(&writer), all(&writer)), (Some(false), Some(false)));
        drop(snapshot);
        assert_eq!(all(&writer), Some(true));
    }
}
