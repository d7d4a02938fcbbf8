//! What a run works in: a folder, and schemas of a database if it measures one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Error, Result,
    report::note,
    site::{Database, Site},
};

/// Removed with everything in it when it is dropped, unless it is to be kept.
pub(super) struct Scratch {
    path: PathBuf,
    database: Option<Database>,
    keep: bool,
}

impl Scratch {
    /// In a folder, and in the database of this URL.
    pub(super) fn new(dir: &Path, keep: bool, store: Option<&str>) -> Result<Scratch> {
        let database = store.map(Database::new).transpose()?;
        if let Some(database) = &database {
            // One that cannot be reached is known before anything is made.
            database.about()?;
        }
        let path = dir.join(format!("mainstay-bench-{}", std::process::id()));
        fs::create_dir(&path).map_err(Error::doing(format!("cannot make the folder {}", path.display())))?;
        Ok(Scratch { path, database, keep })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn database(&self) -> Option<&Database> {
        self.database.as_ref()
    }

    /// The store of this name.
    pub(super) fn site(&self, name: &str) -> Site {
        match &self.database {
            Some(database) => database.site(name),
            None => Site::File(self.path.join(format!("{name}.db"))),
        }
    }

    /// The store with this many jobs waiting, which have this many keys.
    pub(super) fn store(&self, backlog: u64, keys: u64) -> Site {
        self.site(&store_name(backlog, keys))
    }

    /// Removes that store.
    pub(super) fn remove(&self, backlog: u64, keys: u64) -> Result<()> {
        let name = store_name(backlog, keys);
        if let Some(database) = &self.database {
            return database.drop_site(&name);
        }
        let name = format!("{name}.db");
        let beside = fs::read_dir(&self.path).map_err(Error::doing("the folder of the stores"))?;
        for file in beside.flatten() {
            // The store, its lock, its journal: whatever is called after it.
            let is_its = file
                .file_name()
                .to_string_lossy()
                .strip_prefix(&name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
            if is_its {
                fs::remove_file(file.path()).map_err(Error::doing("cannot remove half a store"))?;
            }
        }
        Ok(())
    }
}

fn store_name(backlog: u64, keys: u64) -> String {
    let kind = if keys == 0 { "" } else { "keys-" };
    format!("{kind}waiting-{backlog}")
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is left for whoever looks into the folder.
            let _ = fs::remove_dir_all(&self.path);
            if let Some(Err(error)) = self.database.as_ref().map(Database::drop_all) {
                note(&format!("the stores of this run are still in the database: {error}"));
            }
        }
    }
}
