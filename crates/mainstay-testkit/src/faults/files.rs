//! Files that a store opens itself, on the same disk: in the same log, with the same troubles.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use super::{
    disk::{Call, State, Verdict, lock},
    log::{Event, FileId},
};

/// The files of a [`super::Disk`] for whoever does not go through SQLite.
#[derive(Clone)]
pub struct DiskFiles(pub(super) Arc<Mutex<State>>);

/// An open one.
pub struct DiskFile {
    file: File,
    id: FileId,
    state: Arc<Mutex<State>>,
}

/// `EIO` and `ENOSPC`.
const BROKEN: i32 = 5;
const FULL: i32 = 28;

impl DiskFiles {
    /// Opens a file for reading and writing; with `make`, makes it if it is not there.
    ///
    /// # Errors
    /// The system's.
    pub fn open(&self, path: &Path, make: bool) -> io::Result<DiskFile> {
        if !make && !path.exists() {
            return Err(io::ErrorKind::NotFound.into());
        }
        // Before the system makes it: the log reads what is there.
        let id = lock(&self.0).log.opened(path);
        let file = OpenOptions::new().read(true).write(true).create(make).truncate(false).open(path);
        let file = file.inspect_err(|_| lock(&self.0).log.closed(id))?;
        Ok(DiskFile { file, id, state: self.0.clone() })
    }

    /// Takes a file away; durable once the folder is synced.
    ///
    /// # Errors
    /// The system's.
    pub fn delete(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        let _ = state.verdict(Call::Delete, "");
        fs::remove_file(path)?;
        state.log.deleted(path, false);
        Ok(())
    }

    /// Deletions are durable from here on.
    pub fn sync_folder(&self) {
        lock(&self.0).log.push(Event::SyncFolder);
    }
}

impl DiskFile {
    /// Its length.
    ///
    /// # Errors
    /// The system's.
    pub fn bytes(&self) -> io::Result<u64> {
        self.file.metadata().map(|meta| meta.len())
    }

    /// Fills `into` from the place `at` on; answers how much there was.
    ///
    /// # Errors
    /// The system's.
    pub fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() {
            match self.file.read_at(&mut into[read..], at + read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        Ok(read)
    }

    /// Writes `data` at `at`. What is on the disk already has its room there, also when the disk is full.
    ///
    /// # Errors
    /// The planned ones; half of the sectors may be there then.
    pub fn write_at(&self, data: &[u8], at: u64) -> io::Result<()> {
        let extends = at + data.len() as u64 > self.bytes()?;
        let half = data.len() / 2 / 512 * 512;
        let mut state = self.unheld();
        let (landed, answer) = match self.verdict(&mut state, Call::Write) {
            Verdict::Fail => (half, Err(io::Error::from_raw_os_error(BROKEN))),
            Verdict::Full if extends => (half, Err(io::Error::from_raw_os_error(FULL))),
            Verdict::Go | Verdict::Full => (data.len(), Ok(())),
        };
        if landed > 0 {
            self.file.write_all_at(&data[..landed], at)?;
            let data = data[..landed].into();
            state.log.push(Event::Write { file: self.id, offset: at as usize, data });
        }
        answer
    }

    /// Makes everything durable that was written to it.
    ///
    /// # Errors
    /// The planned ones.
    pub fn sync(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        if self.verdict(&mut state, Call::Sync) != Verdict::Go {
            state.log.push(Event::SyncFailed { file: self.id });
            return Err(io::Error::from_raw_os_error(BROKEN));
        }
        state.log.push(Event::Sync { file: self.id });
        Ok(())
    }

    fn verdict(&self, state: &mut State, call: Call) -> Verdict {
        let name = state.log.names.get(self.id).cloned().unwrap_or_default();
        state.verdict(call, &name)
    }

    /// Waits while the disk is held.
    fn unheld(&self) -> MutexGuard<'_, State> {
        loop {
            let state = lock(&self.state);
            if !state.held {
                return state;
            }
            drop(state);
            std::thread::yield_now();
        }
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        lock(&self.state).log.closed(self.id);
    }
}
