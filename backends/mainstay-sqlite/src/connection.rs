//! How connections to the file are opened.

use std::{
    error::Error as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mainstay_core::{Error, ErrorKind};
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::{
    fault::{damaged_row, is_of_pages, read_error},
    options::Options,
    row::{BLOCK, Cells},
    stopwatch::Stopwatch,
};

/// The size of a page of a new file.
pub(crate) const PAGE_BYTES: u32 = 4_096;

/// Another program may hold the file's lock this long before the call fails.
const BUSY: Duration = Duration::from_secs(2);

/// The writing connection. The file is made if it is not there.
pub(crate) fn open_writer(options: &Options) -> Result<Connection, Error> {
    let path = &options.path;
    let conn = open(options, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    let failed = |e| read_error(path, e);
    // Reading the header tells a file of another kind from a store.
    conn.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0)).map_err(failed)?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        let message = format!("the file system of {} cannot hold a write-ahead log", path.display());
        return Err(Error::new(ErrorKind::Unavailable, message));
    }
    conn.execute_batch(
        "PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = FULL; PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY;",
    )
    .map_err(failed)?;
    if let Some(bytes) = options.max_file_bytes {
        let page: i64 = conn.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(failed)?;
        // The writer refuses what will not fit; this is for what it has reckoned wrong.
        // What was answered must fit, also where its size was reckoned too small: the writer keeps to the bound.
        let bytes = bytes.saturating_add(options.behind_bytes as u64);
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
        conn.query_row(&format!("PRAGMA max_page_count = {}", pages.max(1)), [], |_| Ok(()))
            .map_err(failed)?;
    }
    Ok(conn)
}

/// A connection that only reads.
pub(crate) fn open_reader(options: &Options) -> Result<Connection, Error> {
    let conn = open(options, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    conn.execute_batch("PRAGMA query_only = 1; PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY;")
        .map_err(|e| read_error(&options.path, e))?;
    Ok(conn)
}

/// A connection that checkpoints.
pub(crate) fn open_checkpointer(options: &Options) -> Result<Connection, Error> {
    let conn = open(options, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = FULL; PRAGMA cache_size = -256;")
        .map_err(|e| read_error(&options.path, e))?;
    Ok(conn)
}

fn open(options: &Options, flags: OpenFlags) -> Result<Connection, Error> {
    let path = &options.path;
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = match &options.vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs.as_str()),
        None => Connection::open_with_flags(path, flags),
    };
    let failed = |e: rusqlite::Error| {
        let message = format!("cannot open the store {}: {e}", path.display());
        Error::new(ErrorKind::Unavailable, message).because(e)
    };
    let conn = conn.map_err(failed)?;
    conn.busy_timeout(BUSY).map_err(failed)?;
    // The last connection to close would checkpoint; after a failed sync that must not happen in passing.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    Ok(conn)
}

/// Closes the last connection of a store whose log has just been checkpointed whole, and with it removes the log. One
/// that stays for whatever reason is empty, and no harm.
pub(crate) fn close_tidily(conn: Connection) {
    let _ = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
    let _ = conn.close();
}

/// Reads and checks the whole file; the findings say where SQLite found them.
pub(crate) fn check(conn: &Connection, path: &Path) -> Result<(), Error> {
    match find_damage(conn) {
        found if found.is_empty() => check_blocks(conn, path),
        found => Err(damaged_row(path, "quick_check", &found.join("; "))),
    }
}

/// What SQLite finds to be wrong with the file, and where.
fn find_damage(conn: &Connection) -> Vec<String> {
    let (mut found, gave_up) = findings(conn, "PRAGMA quick_check(20)");
    found.retain(|finding| finding != "ok");
    if let Some(e) = gave_up {
        // At something worse than what it had found by then; table by table, the place shows.
        found.push(e.to_string());
        for (name, root) in trees(conn).unwrap_or_default() {
            if let (_, Some(e)) = findings(conn, &format!("SELECT count(*) FROM \"{name}\" NOT INDEXED")) {
                found.push(format!("table {name} with its root at page {root}: {e}"));
            }
        }
    }
    found
}

/// The error with what a whole check finds out about it, if that takes no longer than [`LOOK`]: of a page that makes no
/// sense, SQLite itself says neither where it is nor to what it belongs.
pub(crate) fn located(conn: &mut Connection, error: Error) -> Error {
    let source = error.source().and_then(|source| source.downcast_ref::<rusqlite::Error>());
    if !source.is_some_and(is_of_pages) {
        return error;
    }
    let since = Stopwatch::start();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = is_over.clone();
    let watch = move || {
        let is_over = since.elapsed() >= LOOK;
        over.fetch_or(is_over, Ordering::Relaxed);
        is_over
    };
    // Without it the check has no end that anybody could wait for.
    if conn.progress_handler(STEPS, Some(watch)).is_err() {
        return error;
    }
    let found = find_damage(conn);
    let _ = conn.progress_handler(0, None::<fn() -> bool>);
    // What was interrupted says that it was, and no more.
    if found.is_empty() || is_over.load(Ordering::Relaxed) {
        return error;
    }
    let message = format!("{error}; a check of the file finds: {}", found.join("; "));
    Error::new(ErrorKind::Untrusted, message)
}

/// A store that ends looks for the place of the damage for so long. The next open does for as long as it takes.
const LOOK: Duration = Duration::from_secs(3);
/// Steps of SQLite from one look at the clock to the next: far less than a millisecond's.
const STEPS: i32 = 1_000;

/// What SQLite cannot know: whether blocks are what was written. The first that is not says where it is.
fn check_blocks(conn: &Connection, path: &Path) -> Result<(), Error> {
    let each = |table: &'static str, sql: &str, check: &dyn Fn(Cells<'_>) -> Result<(), Error>| {
        let mut statement = conn.prepare(sql).map_err(|e| read_error(path, e))?;
        let mut rows = statement.query([]).map_err(|e| read_error(path, e))?;
        while let Some(row) = rows.next().map_err(|e| read_error(path, e))? {
            check(Cells { path, table, row })?;
        }
        Ok::<(), Error>(())
    };
    each("event_block", &format!("SELECT {BLOCK}, bodies FROM event_block ORDER BY first"), &|row| {
        row.block().map(drop)
    })?;
    each("event_ids", "SELECT first, ids FROM event_ids ORDER BY first", &|row| row.known_ids().map(drop))
}

/// All rows up to the error, if there is one.
fn findings(conn: &Connection, sql: &str) -> (Vec<String>, Option<rusqlite::Error>) {
    let mut found = Vec::new();
    let mut look = || {
        let mut statement = conn.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            found.push(row.get_ref(0)?.as_str().unwrap_or_default().to_owned());
        }
        Ok(())
    };
    let gave_up = look().err();
    (found, gave_up)
}

fn trees(conn: &Connection) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut statement = conn.prepare("SELECT name, rootpage FROM sqlite_schema WHERE type = 'table'")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}
