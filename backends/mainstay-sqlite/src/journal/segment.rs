//! Segments: files of a fixed size whose every block is on the disk already, so that a sync of what is written into
//! them moves data alone and no file system's journal.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::files::{Files, JournalFile};
use crate::lock::beside;

/// The first segment of a store is this large at most; each next one is [`GROWTH`] times the one before, up to the
/// bound of the options: a store that does little takes little room and starts at once.
pub(crate) const FIRST_BYTES: u64 = 256 << 10;
const GROWTH: u64 = 4;
const ZEROS: usize = 256 << 10;

pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn JournalFile>,
    pub(crate) bytes: u64,
}

/// The file of a segment. They are numbered from 1 without gaps.
pub(crate) fn path(store: &Path, number: u32) -> PathBuf {
    beside(store, &format!("-log{number}"))
}

/// How large the segment after one of `last` bytes is.
pub(crate) fn next_bytes(last: u64, most: u64) -> u64 {
    if last == 0 { FIRST_BYTES.min(most) } else { (last * GROWTH).min(most) }
}

impl Segment {
    /// Opens one that is there. `None`: it is not.
    pub(crate) fn open(files: &dyn Files, path: &Path) -> io::Result<Option<Segment>> {
        let file = match files.open(path, false) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let bytes = file.bytes()?;
        Ok(Some(Segment { path: path.to_owned(), file, bytes }))
    }

    /// Makes one full of zeros that are on the disk. What was begun and failed is taken away again.
    pub(crate) fn make(files: &dyn Files, path: &Path, bytes: u64) -> io::Result<Segment> {
        let make = || {
            let file = files.open(path, true)?;
            let zeros = vec![0; ZEROS.min(bytes as usize)];
            let mut at = 0;
            while at < bytes {
                let piece = zeros.len().min((bytes - at) as usize);
                file.write_at(&zeros[..piece], at)?;
                at += piece as u64;
            }
            file.sync()?;
            files.sync_folder(path)?;
            Ok(Segment { path: path.to_owned(), file, bytes })
        };
        make().inspect_err(|_| {
            // Nothing was ever in it; what is left of it would only take the room that was lacking.
            let _ = files.delete(path);
        })
    }
}
