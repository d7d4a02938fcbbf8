//! A consistent copy of a store while it is in use.

use std::{
    fs::{self, File},
    path::Path,
};

use mainstay_core::{Error, ErrorKind};
use rusqlite::Connection;

use crate::{fault::read_error, lock::beside};

/// Writes a compact copy of the store to `to`, which must not be there; it opens as a store of its own, in an epoch of
/// its own: it needs no journal, and none that happens to lie beside it is taken for its. Blocks.
pub(crate) fn copy(conn: &Connection, from: &Path, to: &Path) -> Result<(), Error> {
    let unwritable = |e: std::io::Error| {
        let message = format!("cannot write the backup {}: {e}", to.display());
        Error::new(ErrorKind::Unavailable, message).because(e)
    };
    if fs::exists(to).map_err(unwritable)? {
        let message = format!("{} exists: a backup never overwrites anything", to.display());
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let partial = beside(to, "-partial");
    let Some(partial_text) = partial.to_str() else {
        return Err(Error::new(ErrorKind::Invalid, format!("the path {} is not UTF-8", to.display())));
    };
    // Left by a backup that was cut short.
    match fs::remove_file(&partial) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(unwritable(e)),
        _ => {}
    }
    let written = conn
        .execute("VACUUM INTO ?1", [partial_text])
        .and_then(|_| Connection::open(&partial)?.execute("UPDATE meta SET epoch = random(), clean = 1", []))
        .map_err(|e| read_error(from, e))
        // SQLite does not sync such a copy, and a name is worth giving only to a whole one.
        .and_then(|_| File::open(&partial).and_then(|file| file.sync_all()).map_err(unwritable))
        .and_then(|()| fs::rename(&partial, to).map_err(unwritable))
        .and_then(|()| sync_folder(to).map_err(unwritable));
    if written.is_err() {
        // The complaint about the copy is what matters.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn sync_folder(of: &Path) -> std::io::Result<()> {
    let folder = match of.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}
