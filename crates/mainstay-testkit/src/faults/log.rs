//! What has happened to the disk, in order.

use std::{collections::BTreeMap, path::Path, sync::Arc};

/// A file, by its place in [`Log::names`].
pub(super) type FileId = usize;

/// Everything that happened since the disk was made.
#[derive(Clone, Default)]
pub(super) struct Log {
    pub(super) names: Vec<String>,
    pub(super) events: Vec<Event>,
    ids: BTreeMap<String, FileId>,
    /// Those that are there now.
    there: Vec<bool>,
}

#[derive(Clone)]
pub(super) enum Event {
    /// A file was there, or was made: with this content, durable.
    Found {
        file: FileId,
        data: Arc<[u8]>,
    },
    Write {
        file: FileId,
        offset: usize,
        data: Arc<[u8]>,
    },
    Truncate {
        file: FileId,
        len: usize,
    },
    Sync {
        file: FileId,
    },
    SyncFailed {
        file: FileId,
    },
    Delete {
        file: FileId,
        durable: bool,
    },
    Mark,
}

impl Event {
    /// Whether the power failing before it differs from the power failing after it.
    pub(super) fn is_write_point(&self) -> bool {
        !matches!(self, Event::Found { .. } | Event::Mark)
    }
}

impl Log {
    pub(super) fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    /// A file was opened, before anything was done to it.
    pub(super) fn opened(&mut self, path: &Path) -> FileId {
        let file = self.id(&file_name(path));
        if !self.there[file] {
            self.there[file] = true;
            // Nobody has it open yet, so reading it here takes no lock away.
            let data = std::fs::read(path).unwrap_or_default().into();
            self.push(Event::Found { file, data });
        }
        file
    }

    /// A file was deleted; `durable`: with its entry in the folder.
    pub(super) fn deleted(&mut self, path: &Path, durable: bool) {
        let file = self.id(&file_name(path));
        self.there[file] = false;
        self.push(Event::Delete { file, durable });
    }

    fn id(&mut self, name: &str) -> FileId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = self.names.len();
        self.names.push(name.to_owned());
        self.there.push(false);
        self.ids.insert(name.to_owned(), id);
        id
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
