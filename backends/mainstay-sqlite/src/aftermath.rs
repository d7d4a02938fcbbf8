//! What is left of a sync that failed, and what the next open does about it.
//!
//! After a failed sync, the system takes what it could not write for written: it shows it to whoever reads, and no
//! later sync brings it to the disk. For the file itself, the full checkpoint at open heals this: it writes every page
//! once more. For the journal, nothing in SQLite does: a checkpoint from a journal that only the system's memory holds
//! would leave pages behind that are half written when the power fails, and no journal to mend them.

use std::{
    error::Error as _,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind as Io, Read, Seek, SeekFrom, Write},
    path::Path,
};

use mainstay_core::{Error, ErrorKind};
use rusqlite::ErrorCode;

use crate::lock::beside;

/// The ending of the name of the file that says that the disk failed under the store, or that it could not be
/// trusted. It lies in the system's memory like the journal it is about: both are lost together.
const MARK: &str = "-failed";

/// Whether the store ended badly.
pub(crate) fn is_marked(path: &Path) -> bool {
    fs::exists(beside(path, MARK)).unwrap_or(false)
}

/// The next open looks closer. If this cannot be written either, nothing is lost but that.
pub(crate) fn mark(path: &Path, error: &Error) {
    let _ = fs::write(beside(path, MARK), format!("{error}\n"));
}

/// The same, if it was the disk that failed.
pub(crate) fn mark_if_disk_failed(path: &Path, error: &Error) {
    let sqlite = error.source().and_then(|source| source.downcast_ref::<rusqlite::Error>());
    if sqlite.and_then(rusqlite::Error::sqlite_error_code) == Some(ErrorCode::SystemIoFailure) {
        mark(path, error);
    }
}

/// Checkpointed, checked and loaded: the store is sound again.
pub(crate) fn unmark(path: &Path) {
    let _ = fs::remove_file(beside(path, MARK));
}

/// Writes the journal as the system shows it once more, in place, and syncs it. Nobody may have it open.
pub(crate) fn write_journal_again(path: &Path) -> Result<(), Error> {
    let journal = beside(path, "-wal");
    let written = match OpenOptions::new().read(true).write(true).open(&journal) {
        Ok(mut file) => write_again(&mut file),
        Err(e) if e.kind() == Io::NotFound => Ok(()),
        Err(e) => Err(e),
    };
    written.map_err(|e| {
        let message = format!("the journal {} could not be written once more: {e}", journal.display());
        Error::new(ErrorKind::Unavailable, message).because(e)
    })
}

fn write_again(file: &mut File) -> io::Result<()> {
    let mut piece = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            return file.sync_all();
        }
        file.seek(SeekFrom::Current(-(length as i64)))?;
        file.write_all(&piece[..length])?;
    }
}
