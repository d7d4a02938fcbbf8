//! What has happened to the disk, in order.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// A file, by its place in [`Log::names`].
pub(super) type FileId = usize;

/// Everything that happened since the disk was made.
#[derive(Clone, Default)]
pub(super) struct Log {
    pub(super) names: Vec<String>,
    pub(super) events: Vec<Event>,
    ids: BTreeMap<String, FileId>,
    files: Vec<Known>,
}

#[derive(Clone, Default)]
struct Known {
    path: PathBuf,
    there: bool,
    /// How many have it open.
    open: usize,
}

#[derive(Clone)]
pub(super) enum Event {
    /// A file was there, was made, or was written by others while nobody here had it open: with this content,
    /// durable.
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
    /// The folder: deletions are durable from here on.
    SyncFolder,
    Delete {
        file: FileId,
        durable: bool,
    },
    Mark,
}

impl Event {
    /// Which file it is about.
    pub(super) fn file(&self) -> Option<FileId> {
        match self {
            Event::Found { file, .. }
            | Event::Write { file, .. }
            | Event::Truncate { file, .. }
            | Event::Sync { file }
            | Event::SyncFailed { file }
            | Event::Delete { file, .. } => Some(*file),
            Event::SyncFolder | Event::Mark => None,
        }
    }

    /// Whether the power failing before it differs from the power failing after it.
    pub(super) fn is_write_point(&self) -> bool {
        !matches!(self, Event::Found { .. } | Event::SyncFolder | Event::Mark)
    }
}

impl Log {
    pub(super) fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    /// A file is about to be opened.
    pub(super) fn opened(&mut self, path: &Path) -> FileId {
        let file = self.id(path);
        let known = &mut self.files[file];
        known.open += 1;
        // As long as nobody has it open, reading it here takes no lock away.
        if !known.there || known.open == 1 && was_touched(path) {
            known.there = true;
            let data = std::fs::read(path).unwrap_or_default().into();
            self.push(Event::Found { file, data });
        }
        file
    }

    /// The file could not be opened, or was closed.
    pub(super) fn closed(&mut self, file: FileId) {
        // None: the disk was dropped meanwhile.
        let Some(known) = self.files.get_mut(file) else { return };
        known.open -= 1;
        if known.open == 0 {
            set_untouched(&known.path);
        }
    }

    /// A file was deleted; `durable`: with its entry in the folder.
    pub(super) fn deleted(&mut self, path: &Path, durable: bool) {
        let file = self.id(path);
        self.files[file].there = false;
        self.push(Event::Delete { file, durable });
    }

    fn id(&mut self, path: &Path) -> FileId {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        *self.ids.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            self.files.push(Known { path: path.to_owned(), ..Known::default() });
            self.names.len() - 1
        })
    }
}

/// The age of a file that was closed here and not written since.
const UNTOUCHED: SystemTime = SystemTime::UNIX_EPOCH;

fn was_touched(path: &Path) -> bool {
    std::fs::metadata(path).and_then(|meta| meta.modified()).is_ok_and(|modified| modified != UNTOUCHED)
}

fn set_untouched(path: &Path) {
    // It may have been deleted.
    let _ = File::options().write(true).open(path).and_then(|file| file.set_modified(UNTOUCHED));
}
