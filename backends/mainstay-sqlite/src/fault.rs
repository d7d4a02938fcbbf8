//! What an error of SQLite means for the store.

use std::path::Path;

use mainstay_core::{Error, ErrorKind};
pub(crate) use mainstay_writer::fault::{Fault, Result, Severity};
use rusqlite::{ErrorCode, ffi};

/// Of a statement inside a transaction: a rollback undoes it.
pub(crate) fn of_statement(path: &Path, source: rusqlite::Error) -> Fault {
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Fault::fatal(damaged(path, source)),
        // Trying again would write the same.
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => {
            let row = damaged_row(path, &source.to_string(), "journal and tables disagree");
            Fault::fatal(row.because(source))
        }
        // A sync happens inside a statement only when a checkpoint or a spill needs one; a failed one has
        // possibly thrown away what the page cache held.
        _ if is_sync(&source) => Fault::fatal(uncertain(path, source)),
        _ => Fault::clean(unavailable(path, source)),
    }
}

/// Of a `COMMIT`. Only a full disk and a busy file are known to have left the journal without a valid end.
pub(crate) fn of_commit(path: &Path, source: rusqlite::Error) -> Fault {
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy) => Fault::clean(unavailable(path, source)),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Fault::fatal(damaged(path, source)),
        _ => Fault::fatal(uncertain(path, source)),
    }
}

/// Of a checkpoint: it can be repeated from the journal, unless a sync failed or the file is damaged.
pub(crate) fn of_checkpoint(path: &Path, source: rusqlite::Error) -> Fault {
    of_statement(path, source)
}

/// Of a read, which changes nothing.
pub(crate) fn read_error(path: &Path, source: rusqlite::Error) -> Error {
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(path, source),
        Some(ErrorCode::OperationInterrupted) => {
            Error::new(ErrorKind::Closed, "the store is closing; the read was interrupted")
        }
        _ => {
            let message = format!("the store {} could not be read: {source}", path.display());
            Error::new(ErrorKind::Unavailable, message).because(source)
        }
    }
}

/// The same, of one table: with damage, it is half of the place.
pub(crate) fn read_error_in(path: &Path, table: &str, source: rusqlite::Error) -> Error {
    if is_of_pages(&source) {
        return damaged_row(path, &format!("table {table}"), &source.to_string()).because(source);
    }
    read_error(path, source)
}

/// SQLite came upon a page that makes no sense. It does not say which; a check of the file does.
pub(crate) fn is_of_pages(source: &rusqlite::Error) -> bool {
    matches!(source.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Of a row whose content makes no sense.
pub(crate) fn damaged_row(path: &Path, place: &str, what: &str) -> Error {
    let message = format!("the store {} is damaged: {place}: {what}; {}", path.display(), what_to_do(path));
    Error::new(ErrorKind::Untrusted, message)
}

/// Someone else has written the file.
pub(crate) fn foreign_writer(path: &Path) -> Error {
    let message = format!(
        "another program has written (or checkpointed) the store {} while it was open; what is in memory may not \
         be what is in the file; open the store again, and use other programs only to read it",
        path.display()
    );
    Error::new(ErrorKind::Untrusted, message)
}

fn damaged(path: &Path, source: rusqlite::Error) -> Error {
    let message = format!("the store {} is damaged: {source}; {}", path.display(), what_to_do(path));
    Error::new(ErrorKind::Untrusted, message).because(source)
}

fn uncertain(path: &Path, source: rusqlite::Error) -> Error {
    let message = format!(
        "nobody can say what of the last writes to {} has reached the disk: {source}; open the store again once \
         the disk is sound",
        path.display()
    );
    Error::unknown(ErrorKind::Untrusted, message).because(source)
}

fn unavailable(path: &Path, source: rusqlite::Error) -> Error {
    let message = format!("the store {} could not be written: {source}", path.display());
    Error::new(ErrorKind::Unavailable, message).because(source)
}

/// What a person does about a damaged file.
pub(crate) fn what_to_do(path: &Path) -> String {
    format!(
        "stop everything that uses it, keep a copy of {0}, {0}-wal, {0}-shm and {0}-log*, and restore a backup (without \
         these beside it), or rescue \
         what is readable with `sqlite3 {0} .recover`",
        path.display()
    )
}

fn is_sync(error: &rusqlite::Error) -> bool {
    let extended = error.sqlite_error().map(|e| e.extended_code);
    matches!(extended, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC))
}
