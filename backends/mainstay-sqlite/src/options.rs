//! How a store is opened.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use mainstay_core::{Error, clock::Clock};

use crate::journal::files::Files;

/// How [`crate::SqliteStore::open`] opens a store.
#[derive(Clone)]
pub struct Options {
    /// The file. It is made if it is not there; its folder must exist. Beside it lie, while it is open or after a
    /// crash, the journal (`PATH-log1` and so on), `PATH-wal` and `PATH-shm`, and always `PATH-lock`: they belong to it,
    /// and whoever moves or copies one without the others loses what they hold. After a crash, a store without its
    /// journal is refused. A symbolic link stands for the file it leads to: they lie beside that.
    pub path: PathBuf,
    /// Where time and chance come from.
    pub clock: Arc<dyn Clock>,
    /// When a write counts as done. Defaults to [`Durability::Strict`].
    pub durability: Durability,
    /// Bodies of the newest unfinished jobs are kept in RAM up to this many bytes, so that a claim soon after the
    /// enqueue reads nothing. An eighth of it is for those of old jobs that are read before they are claimed. Defaults
    /// to 64 MiB.
    pub body_cache_bytes: usize,
    /// What callers may have handed over without an answer, in bytes; more is refused as `Overloaded`. Defaults to
    /// 64 MiB.
    pub queue_bytes: usize,
    /// What may be in the journal and not yet in the tables, in bytes; beyond, writers wait for the tables, or are
    /// refused if those cannot be written. It is RAM, and what has come and gone meanwhile does not count. The journal
    /// on the disk is at most three times as long (or two segments), give or take what is being filled and prepared;
    /// opening after a crash catches up with at most that. Defaults to 128 MiB.
    pub behind_bytes: usize,
    /// Segments of the journal grow up to this many bytes; there are as many as it takes, two or three as a rule,
    /// some more at full speed (`behind_bytes` has the bound). Defaults to 64 MiB; a new store begins with 256 KiB.
    pub segment_bytes: u64,
    /// The store tidies up by itself: leases that ran out, jobs that expired, retention. Defaults to `true`; with
    /// `false`, somebody calls [`mainstay_core::Store::maintain`] about once a second.
    pub housekeeping: bool,
    /// How long a batch may wait for its turn when it does not say so itself. Defaults to 30 s.
    pub within: Duration,
    /// Writes that would make the file larger than this many bytes are refused as if the disk were full. What was
    /// answered before always gets in, at worst up to `behind_bytes` beyond.
    /// Defaults to `None`, the disk itself.
    pub max_file_bytes: Option<u64>,
    /// Read and check the whole file before serving (`PRAGMA quick_check`, and the checksums of events: about a second
    /// a gigabyte). It happens anyway after the store ended by a fatal error. Defaults to `false`.
    pub check: bool,
    /// The name of a registered SQLite VFS to do all input and output of the tables. Defaults to `None`, the system's.
    pub vfs: Option<String>,
    /// What does all input and output of the journal. Defaults to `None`, the system.
    pub files: Option<Arc<dyn Files>>,
    /// Called once, on the writer's thread, when the store can no longer be trusted (a failed sync, a damaged file,
    /// a foreign writer). Nothing is acknowledged from then on; a server ends its process here. Must not block.
    pub on_fatal: Option<FatalHook>,
    /// Called while the store is opened, on the thread that opens it, each time something has been done: opening may
    /// take minutes (a check after a fatal error, a new format of a large file) and does not resume where it was given
    /// up, so a time limit should count from the last call. About a hundred times a second; must not block.
    pub on_progress: Option<ProgressHook>,
}

/// What is called while a store that is being opened goes on.
pub type ProgressHook = Arc<dyn Fn() + Send + Sync>;

/// What is called when a store can no longer be trusted.
pub type FatalHook = Arc<dyn Fn(&Error) + Send + Sync>;

/// When a write counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Answered after it has been synced to the disk. The default.
    #[default]
    Strict,
    /// Answered when it is in the system's hands, and synced at least this often: a crash of the process loses
    /// nothing, a power cut at most this much. The store then says of itself that it is not durable.
    Interval(Duration),
}

impl Options {
    /// Every default, for the file `path`.
    pub fn new(path: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Options {
        Options {
            path: path.into(),
            clock,
            durability: Durability::Strict,
            body_cache_bytes: 64 << 20,
            queue_bytes: 64 << 20,
            behind_bytes: 128 << 20,
            segment_bytes: 64 << 20,
            housekeeping: true,
            within: Duration::from_secs(30),
            max_file_bytes: None,
            check: false,
            vfs: None,
            files: None,
            on_fatal: None,
            on_progress: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("path", &self.path)
            .field("durability", &self.durability)
            .field("body_cache_bytes", &self.body_cache_bytes)
            .field("queue_bytes", &self.queue_bytes)
            .field("behind_bytes", &self.behind_bytes)
            .field("segment_bytes", &self.segment_bytes)
            .field("housekeeping", &self.housekeeping)
            .field("within", &self.within)
            .field("max_file_bytes", &self.max_file_bytes)
            .field("check", &self.check)
            .field("vfs", &self.vfs)
            .finish_non_exhaustive()
    }
}
