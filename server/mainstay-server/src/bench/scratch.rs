//! The folder that a run works in.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Error, Result};

/// Removed with everything in it when it is dropped, unless it is to be kept.
pub(super) struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    pub(super) fn new(dir: &Path, keep: bool) -> Result<Scratch> {
        let path = dir.join(format!("mainstay-bench-{}", std::process::id()));
        fs::create_dir(&path).map_err(Error::doing(format!("cannot make the folder {}", path.display())))?;
        Ok(Scratch { path, keep })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file of the store with this many jobs waiting, which have this many keys.
    pub(super) fn store(&self, backlog: u64, keys: u64) -> PathBuf {
        let kind = if keys == 0 { "" } else { "keys-" };
        self.path.join(format!("{kind}waiting-{backlog}.db"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is left for whoever looks into the folder.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
