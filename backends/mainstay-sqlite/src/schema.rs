//! The tables, and how a file of an older format is brought forward.

mod to_blocks;

use std::path::Path;

use mainstay_core::{Error, ErrorKind};
use rusqlite::Connection;

use crate::fault::read_error;

/// What marks a SQLite file as a mainstay store (`file(1)` and `PRAGMA application_id` show it): "MnSt".
pub(crate) const APPLICATION_ID: i32 = 0x4d6e_5374;

/// The format this build writes.
pub(crate) const VERSION: i32 = STEPS.len() as i32;

/// Step `n` brings a file from format `n` to `n + 1`. A step that was released never changes.
const STEPS: &[Step] = &[
    Step::sql(include_str!("schema/0001.sql")),
    Step::sql(include_str!("schema/0002.sql")),
    Step::sql(include_str!("schema/0003.sql")),
    Step::sql(include_str!("schema/0004.sql")),
    Step::sql(include_str!("schema/0005.sql")),
    Step::sql(include_str!("schema/0006.sql")),
    Step::sql(include_str!("schema/0007.sql")),
    Step::sql(include_str!("schema/0008.sql")),
    Step {
        sql: include_str!("schema/0009.sql"),
        rows: Some(to_blocks::move_rows),
        after: include_str!("schema/0009-after.sql"),
    },
];

/// What SQL cannot do.
type Rewrite = fn(&Connection, &Path) -> Result<(), Error>;

/// First the one, then what SQL cannot do, then the other.
struct Step {
    sql: &'static str,
    rows: Option<Rewrite>,
    after: &'static str,
}

impl Step {
    const fn sql(sql: &'static str) -> Step {
        Step { sql, rows: None, after: "" }
    }

    /// In one transaction. The marks lie in the first page: they change with the tables or not at all.
    fn take(&self, conn: &Connection, path: &Path, to: usize) -> Result<(), Error> {
        let run = |sql: &str| conn.execute_batch(sql).map_err(|e| read_error(path, e));
        run("BEGIN IMMEDIATE")?;
        run(self.sql)?;
        if let Some(rows) = self.rows {
            rows(conn, path)?;
        }
        run(self.after)?;
        run(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {to}; COMMIT"))
    }
}

/// Makes the tables of a new file, brings an older file forward, and refuses what is not ours or too new.
pub(crate) fn migrate(conn: &Connection, path: &Path) -> Result<(), Error> {
    let failed = |e| read_error(path, e);
    let pragma = |name| conn.query_row(name, [], |row| row.get::<_, i32>(0)).map_err(failed);
    let application = pragma("PRAGMA application_id")?;
    let version = pragma("PRAGMA user_version")?;
    if application != APPLICATION_ID {
        let tables = pragma("SELECT count(*) FROM sqlite_schema")?;
        if application != 0 || version != 0 || tables != 0 {
            let message =
                format!("{} is a SQLite file of another program, not a mainstay store", path.display());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
    }
    if version > VERSION {
        let message = format!(
            "the store {} has format {version}; this build of mainstay reads up to format {VERSION}: use the newer \
             mainstay that wrote it",
            path.display()
        );
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    for (from, step) in STEPS.iter().enumerate().skip(version.max(0) as usize) {
        let to = from + 1;
        if let Err(e) = step.take(conn, path, to) {
            let _ = conn.execute_batch("ROLLBACK");
            let message = format!("the store {} could not be brought to format {to}: {e}", path.display());
            return Err(Error::new(e.kind(), message).because(e));
        }
    }
    Ok(())
}
