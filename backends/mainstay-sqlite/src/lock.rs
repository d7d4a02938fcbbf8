//! One process, one store: the lock file beside the database.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use mainstay_core::{Error, ErrorKind};

/// The exclusive right to write a store, until dropped. The system takes it back when the process dies.
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the store at `path`, or says who has it. Never waits.
    pub(crate) fn take(path: &Path) -> Result<Lock, Error> {
        let lock_path = beside(path, "-lock");
        let unusable = |doing: &str, e: std::io::Error| {
            Error::new(ErrorKind::Unavailable, format!("cannot {doing} {}: {e}", lock_path.display()))
                .because(e)
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|e| unusable("open the lock file", e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(path, &mut file)),
            Err(TryLockError::Error(e)) => return Err(unusable("lock", e)),
        }
        // Only for people who ask who has it; the lock itself is what counts.
        let pid = format!("{}\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all(pid.as_bytes())).map_err(|e| unusable("write", e))?;
        Ok(Lock { file })
    }
}

impl Drop for Lock {
    /// Gives the lock back, and not only the descriptor: a child that another thread is just starting has a copy of that
    /// until it is another program, and would keep the store in use for as long.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

fn held(path: &Path, file: &mut File) -> Error {
    let mut text = String::new();
    let _ = file.take(32).read_to_string(&mut text);
    let holder = match text.trim().parse::<u32>() {
        Ok(pid) => format!("process {pid}"),
        Err(_) => "another process".to_owned(),
    };
    let message =
        format!("the store {} is in use by {holder}; a store has one process at a time", path.display());
    Error::new(ErrorKind::Unavailable, message)
}

/// The file that lies beside `path` under the same name with an ending.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_descriptor_does_not_keep_the_store_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let lock = Lock::take(&path).unwrap();
        // As a child has one between its fork and its exec.
        let copy = lock.file.try_clone().unwrap();
        assert!(Lock::take(&path).is_err());
        drop(lock);
        assert!(Lock::take(&path).is_ok());
        drop(copy);
    }
}
