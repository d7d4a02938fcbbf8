//! The files of the journal, behind a seam so that a test can put them on a disk that fails.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

/// Where the store's journal keeps its files. [`crate::Options::files`] is the system's own; tests have others.
pub trait Files: Send + Sync {
    /// Opens a file for reading and writing; with `make`, makes it if it is not there.
    ///
    /// # Errors
    /// The system's; `NotFound` when it is not there and is not to be made.
    fn open(&self, path: &Path, make: bool) -> io::Result<Arc<dyn JournalFile>>;

    /// Takes a file away.
    ///
    /// # Errors
    /// The system's.
    fn delete(&self, path: &Path) -> io::Result<()>;

    /// Makes it durable which files are in the folder of `path`.
    ///
    /// # Errors
    /// The system's.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// An open file of the journal.
pub trait JournalFile: Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// The system's.
    fn bytes(&self) -> io::Result<u64>;

    /// Fills `into` from the place `at` on; answers how much there was.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes all of `data` at `at`. When it fails, a part of it may be there, never all of it.
    ///
    /// # Errors
    /// The system's.
    fn write_at(&self, data: &[u8], at: u64) -> io::Result<()>;

    /// Makes everything that was written durable, and the file's length.
    ///
    /// # Errors
    /// The system's. Nobody knows then what is on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// The system's files.
pub(crate) struct SystemFiles;

struct SystemFile(File);

impl Files for SystemFiles {
    fn open(&self, path: &Path, make: bool) -> io::Result<Arc<dyn JournalFile>> {
        let file = OpenOptions::new().read(true).write(true).create(make).truncate(false).open(path)?;
        Ok(Arc::new(SystemFile(file)))
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder)?.sync_all()
    }
}

impl JournalFile for SystemFile {
    fn bytes(&self) -> io::Result<u64> {
        self.0.metadata().map(|meta| meta.len())
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() {
            match self.0.read_at(&mut into[read..], at + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(read)
    }

    fn write_at(&self, data: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(data, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
