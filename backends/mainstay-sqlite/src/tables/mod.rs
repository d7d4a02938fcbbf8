//! The tables: where the journal's groups end up, a batch in a transaction.

mod blocks;
mod events;
mod gone;
mod limits;
mod locks;
mod many;
mod schedules;
mod statements;
mod write;

use std::path::Path;

use mainstay_core::{Error, engine::change::Counters};
use rusqlite::{Connection, params};

use crate::{
    apply::Batch,
    behind::Behind,
    fault::{self, Fault, Result, damaged_row, foreign_writer, read_error},
    pace::Pace,
    row::bits,
};
pub(crate) use blocks::Sheets;
pub(crate) use limits::{LIMIT, limit};
pub(crate) use schedules::{SCHEDULE, record as schedule_record};
use statements::Statements;

/// The writing connection.
pub(crate) struct Tables<'c> {
    pub(crate) conn: &'c Connection,
    path: &'c Path,
    /// What `PRAGMA data_version` says as long as nobody else writes.
    data_version: i64,
    s: Statements<'c>,
}

/// Where the tables stand in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) epoch: u64,
    pub(crate) lsn: u64,
    /// Nothing is in the journal alone: closed in good order, or about to be opened. Otherwise the journal holds a
    /// record of this epoch.
    pub(crate) clean: bool,
}

impl<'c> Tables<'c> {
    pub(crate) fn new(conn: &'c Connection, path: &'c Path) -> std::result::Result<Tables<'c>, Error> {
        let mut s = Statements::prepare(conn, path).map_err(|e| read_error(path, e))?;
        let data_version = s.data_version.query_row([], |row| row.get(0)).map_err(|e| read_error(path, e))?;
        Ok(Tables { conn, path, data_version, s })
    }

    /// Lets others go first, as long as nobody waits for the tables.
    pub(crate) fn paced(mut self, behind: &'c Behind) -> Tables<'c> {
        self.s.pace = Pace::beside(behind);
        self
    }

    /// Writes a batch and where it ends, in one transaction. After a clean fault, nothing of it is there.
    pub(crate) fn apply(&mut self, batch: &Batch, counters: &Counters, mark: Mark) -> Result<()> {
        self.s.begin.execute([]).map_err(|e| fault::of_statement(self.path, e))?;
        let written = self.nobody_else_wrote().and_then(|()| self.write_and_commit(batch, counters, mark));
        if written.is_err() {
            self.rollback()?;
        }
        written
    }

    fn write_and_commit(&mut self, batch: &Batch, counters: &Counters, mark: Mark) -> Result<()> {
        let of_statement = |e| fault::of_statement(self.path, e);
        if let Some(missing) = self.s.write(batch).map_err(of_statement)? {
            let place = format!("a row to be changed is not there: {missing}");
            return Err(Fault::fatal(damaged_row(self.path, &place, "journal and tables disagree")));
        }
        let Counters { token, n, f, k, audit, clock } = *counters;
        let Mark { epoch, lsn, clean } = mark;
        let numbers = params![
            bits(token),
            bits(n),
            bits(f),
            bits(k),
            bits(audit),
            bits(clock.0),
            clean,
            bits(lsn),
            bits(epoch)
        ];
        self.s.meta.execute(numbers).map_err(of_statement)?;
        self.s.commit.execute([]).map_err(|e| fault::of_commit(self.path, e))?;
        Ok(())
    }

    /// Makes sure that nobody else has written since the last transaction.
    fn nobody_else_wrote(&mut self) -> Result<()> {
        let seen = self.s.data_version.query_row([], |row| row.get::<_, i64>(0));
        let seen = seen.map_err(|e| fault::of_statement(self.path, e))?;
        if seen != self.data_version {
            return Err(Fault::fatal(foreign_writer(self.path)));
        }
        Ok(())
    }

    /// Says that everything is here, as after closing in good order.
    pub(crate) fn needs_no_journal(&mut self) -> Result<()> {
        self.conn.execute_batch("UPDATE meta SET clean = 1").map_err(|e| fault::of_commit(self.path, e))
    }

    /// From the next transaction on, a commit is synced, or only what comes after it is ordered.
    pub(crate) fn sync_commits(&mut self, sync: bool) -> Result<()> {
        let sql = if sync { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
        self.conn.execute_batch(sql).map_err(|e| fault::of_statement(self.path, e))
    }

    /// Bytes of the file that hold something.
    pub(crate) fn used_bytes(&self) -> rusqlite::Result<u64> {
        let read = |pragma| self.conn.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let pages = read("PRAGMA page_count")? - read("PRAGMA freelist_count")?;
        Ok((pages * read("PRAGMA page_size")?).max(0) as u64)
    }

    fn rollback(&mut self) -> Result<()> {
        // Some errors have rolled back already.
        if !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK").map_err(|e| fault::of_commit(self.path, e))?;
        }
        // After an error SQLite may drop its cache, which counts as if another had written.
        let seen = self.s.data_version.query_row([], |row| row.get(0));
        self.data_version = seen.map_err(|e| fault::of_statement(self.path, e))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mainstay_core::{ErrorKind, Timestamp, access::AuditRecord, engine::change::Change};

    use super::*;
    use crate::{behind::Handed, fault::Severity, schema::migrate};

    #[test]
    fn a_constraint_that_is_broken_is_no_reason_to_try_again() {
        let (conn, path) = (Connection::open_in_memory().unwrap(), Path::new("a test"));
        migrate(&conn, path).unwrap();
        let mut tables = Tables::new(&conn, path).unwrap();
        let counters = Counters::default();
        let line = || String::from("x");
        let record =
            AuditRecord { at: Timestamp(1), actor: line(), action: line(), subject: line(), detail: line() };
        let changes = vec![Change::Audit { number: 1, record }];
        let mut batch = Batch::default();
        batch.add(Handed { lsn: 1, counters, changes, bytes: 0, growth: 0 });
        let mut apply = |lsn| tables.apply(&batch, &counters, Mark { epoch: 1, lsn, clean: false });
        apply(1).unwrap();
        let fault = apply(2).unwrap_err();
        assert_eq!((fault.severity, fault.error.kind()), (Severity::Fatal, ErrorKind::Untrusted));
        assert!(fault.error.to_string().contains("audit.number"), "{}", fault.error);
    }
}
