//! Where the stores of the tests live.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use mainstay_core::{
    Error, JobId, QueueName, Store,
    clock::Clock,
    id::JobIds,
    job::{Grant, JobBody, NewJob},
    op::{Claim, Commit, Committed, Failure, Op, Reply},
    store::{Batch, Key, Page, Query, Record},
};
use mainstay_sqlite::{Files, JournalFile, Options, SqliteStore};
use mainstay_testkit::{
    Harness, ManualClock, async_trait,
    faults::{Disk, DiskFile, DiskFiles},
};
use rusqlite::Connection;
use tempfile::TempDir;

/// A folder of its own, gone at the end, and the clock of what is in it.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) clock: Arc<ManualClock>,
}

impl Place {
    /// On a disk in RAM if there is one: what is judged is what is kept, and a process that ends loses neither.
    pub(crate) fn new() -> Place {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Place { folder: folder.expect("a folder for the test"), clock: ManualClock::new() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.file("jobs.db")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn file_bytes(&self, name: &str) -> u64 {
        std::fs::metadata(self.file(name)).map_or(0, |meta| meta.len())
    }

    /// The options of the suites: nothing happens by itself.
    pub(crate) fn options(&self) -> Options {
        Options { housekeeping: false, ..Options::new(self.path(), self.clock.clone()) }
    }

    pub(crate) fn try_open(&self, change: impl FnOnce(&mut Options)) -> Result<SqliteStore, Error> {
        let mut options = self.options();
        change(&mut options);
        SqliteStore::open(options)
    }

    pub(crate) fn open_store(&self) -> SqliteStore {
        self.try_open(|_| {}).expect("open")
    }

    /// The file as another program sees it.
    pub(crate) fn shell(&self) -> Connection {
        Connection::open(self.path()).expect("another connection")
    }
}

/// A journal on a disk of the test kit.
struct OnDisk(DiskFiles);

struct JournalOnDisk(DiskFile);

impl Files for OnDisk {
    fn open(&self, path: &Path, make: bool) -> io::Result<Arc<dyn JournalFile>> {
        Ok(Arc::new(JournalOnDisk(self.0.open(path, make)?)))
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        self.0.delete(path)
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.0.sync_folder();
        Ok(())
    }
}

impl JournalFile for JournalOnDisk {
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(into, at)
    }

    fn write_at(&self, data: &[u8], at: u64) -> io::Result<()> {
        self.0.write_at(data, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

/// Small segments, so that they are written over again and again.
pub(crate) const SMALL_SEGMENT: u64 = 8 << 10;

/// Everything of a store on this disk.
pub(crate) fn on(disk: &Disk, options: Options) -> Options {
    let (vfs, files) = (Some(disk.vfs().to_owned()), Some(Arc::new(OnDisk(disk.files())) as _));
    Options { vfs, files, segment_bytes: SMALL_SEGMENT, ..options }
}

/// The journal alone: a test can hold the writer up by holding its writes.
pub(crate) fn journal_on(disk: &Disk) -> impl FnOnce(&mut Options) {
    let files = Some(Arc::new(OnDisk(disk.files())) as _);
    move |options| options.files = files
}

#[async_trait]
impl Harness for Place {
    fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.open_store())
    }

    fn durable(&self) -> bool {
        true
    }
}

pub(crate) fn queue() -> QueueName {
    QueueName::new("q").expect("a name")
}

/// Makes jobs for [`queue`].
#[derive(Default)]
pub(crate) struct Jobs {
    ids: JobIds,
    made: u64,
}

impl Jobs {
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    pub(crate) fn next(&mut self, payload: &str) -> Op {
        self.made += 1;
        let id = self.ids.next(1_800_000_000_000, &queue(), self.made);
        Op::Enqueue(Box::new(NewJob::new(id, queue(), JobBody::new("work", payload))))
    }
}

pub(crate) fn claim(max: u32) -> Op {
    Op::Claim(Claim { queues: vec![queue()], max, max_bytes: 16 << 20, lease_ms: 30_000, worker: None })
}

pub(crate) fn batch(ops: impl IntoIterator<Item = Op>) -> Batch {
    Batch::one(Commit { ops: ops.into_iter().collect(), entropy: 7, ..Commit::default() })
}

/// What tests do to a store, without a word about errors.
pub(crate) trait Tell {
    async fn try_ops(&self, ops: impl IntoIterator<Item = Op>) -> Result<Result<Committed, Failure>, Error>;

    async fn ops(&self, ops: impl IntoIterator<Item = Op>) -> Vec<Reply> {
        self.try_ops(ops).await.expect("submit").expect("accepted").replies
    }

    async fn enqueue(&self, jobs: &mut Jobs, payload: &str) -> JobId {
        match self.ops([jobs.next(payload)]).await.remove(0) {
            Reply::Enqueued(done) => done.id,
            other => panic!("{other:?}"),
        }
    }

    async fn claim(&self, max: u32) -> Vec<Grant> {
        match self.ops([claim(max)]).await.remove(0) {
            Reply::Claimed(grants) => grants,
            other => panic!("{other:?}"),
        }
    }

    async fn available(&self) -> u64;

    /// Returns when everything that was answered is in the tables.
    async fn tables_follow(&self);
}

impl Tell for SqliteStore {
    async fn try_ops(&self, ops: impl IntoIterator<Item = Op>) -> Result<Result<Committed, Failure>, Error> {
        Ok(self.submit(batch(ops)).await?.remove(0))
    }

    async fn available(&self) -> u64 {
        match self.get(&Key::Queue(queue())).await.expect("get") {
            Some(Record::Queue(queue)) => queue.depth.available,
            None => 0,
            other => panic!("{other:?}"),
        }
    }

    async fn tables_follow(&self) {
        self.list(&Query::Audit, &Page { limit: 1, cursor: None }).await.expect("list");
    }
}

pub(crate) async fn close(store: &SqliteStore) {
    store.close(Duration::from_secs(60)).await.expect("close");
}

/// One of the figures of a store.
pub(crate) fn figure(store: &SqliteStore, name: &str) -> f64 {
    let found = store.stats().into_iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no figure {name}")).1
}

pub(crate) fn now(place: &Place) -> mainstay_core::Now {
    place.clock.now()
}
