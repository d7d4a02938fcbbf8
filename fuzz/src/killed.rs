use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mainstay_core::{
    Error, ErrorKind, Store,
    event::{EventQuery, LogBudget, Position},
    schedule::ScheduleOrder,
    store::{Page, Query},
};
use mainstay_sqlite::{Options, SqliteStore};
use mainstay_testkit::{Harness, ManualClock, World, async_trait, run_with, world::locks::ask};
use tempfile::TempDir;

/// Nothing takes so long; what does, hangs.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// Edits of one input, at most.
const EDITS: usize = 16;
/// Where a record of the journal may begin, how long its header is, and where in it its checksum is.
const ALIGN: usize = 64;
const HEADER: usize = 40;

/// One byte of one file.
pub struct Edit {
    file: u8,
    at: u32,
    xor: u8,
}

impl Edit {
    pub fn all(input: &[u8]) -> Vec<Edit> {
        let edit = |bytes: &[u8]| Edit {
            file: bytes[0],
            at: u32::from_le_bytes([bytes[1], bytes[2], bytes[3], 0]),
            xor: bytes[4],
        };
        input.chunks_exact(5).take(EDITS).map(edit).collect()
    }
}

/// A store with something of everything, as it was on the disk while it ran: the journal has what the tables lack.
pub struct Killed {
    files: Vec<(String, Vec<u8>)>,
    place: TempDir,
}

struct OnDisk {
    folder: PathBuf,
    clock: Arc<ManualClock>,
    copied: Arc<Mutex<Vec<(String, Vec<u8>)>>>,
}

#[async_trait]
impl Harness for OnDisk {
    fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(options(&self.folder, self.clock.clone())).expect("open"))
    }
}

fn options(folder: &Path, clock: Arc<ManualClock>) -> Options {
    Options { housekeeping: false, ..Options::new(folder.join("jobs.db"), clock) }
}

fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("readable"))
        })
        .filter(|(name, _)| name.starts_with("jobs.db") && !name.ends_with("-shm"))
        .collect();
    files.sort();
    // A segment is mostly zeros: what is written of it is enough.
    for (name, bytes) in &mut files {
        if name.contains("-log") {
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
            bytes.truncate(used.next_multiple_of(4096));
        }
    }
    files
}

impl Killed {
    pub fn new() -> Killed {
        let (made, copied) = (folder(), Arc::new(Mutex::new(Vec::new())));
        let on_disk =
            OnDisk { folder: made.path().to_owned(), clock: ManualClock::new(), copied: copied.clone() };
        let copy = on_disk.copied.clone();
        run_with(on_disk, async |world: &mut World| {
            work(world).await;
            world.reopen().await;
            work(world).await;
            *copy.lock().unwrap_or_else(PoisonError::into_inner) = files(made.path());
        });
        let files = std::mem::take(&mut *copied.lock().unwrap_or_else(PoisonError::into_inner));
        assert!(files.iter().any(|(name, _)| name.contains("-log")), "it has a journal");
        Killed { files, place: folder() }
    }

    /// The records of its journal: seeds for what reads them.
    pub fn records(&self) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        for (name, bytes) in &self.files {
            if name.contains("-log") {
                each_record(bytes, |at, length| {
                    records.push(bytes[at + HEADER..at + HEADER + length].to_vec())
                });
            }
        }
        records
    }

    /// Opens a copy with these edits.
    pub fn open_with(&self, edits: &[Edit], repair: bool) {
        let folder = self.place.path();
        for entry in fs::read_dir(folder).expect("a folder") {
            fs::remove_file(entry.expect("an entry").path()).expect("removable");
        }
        for (number, (name, bytes)) in self.files.iter().enumerate() {
            let mut bytes = bytes.clone();
            for edit in edits.iter().filter(|edit| usize::from(edit.file) % self.files.len() == number) {
                if !bytes.is_empty() {
                    let at = edit.at as usize % bytes.len();
                    bytes[at] ^= edit.xor;
                }
            }
            if repair && name.contains("-log") {
                repair_checksums(&mut bytes);
            }
            fs::write(folder.join(name), bytes).expect("writable");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let looked = runtime.block_on(async { tokio::time::timeout(STUCK_AFTER, look(folder)).await });
        if let Err(error) = looked.expect("it does not hang") {
            let text = error.to_string();
            assert!(!text.contains("panick"), "{text}");
            let kinds = [ErrorKind::Untrusted, ErrorKind::Invalid, ErrorKind::Unavailable];
            assert!(kinds.contains(&error.kind()), "{error:?}");
        }
    }
}

/// Opens it, reads all there is, and closes it.
async fn look(folder: &Path) -> Result<(), Error> {
    let store = SqliteStore::open(options(folder, ManualClock::new()))?;
    let looked = read(&store).await;
    let closed = store.close(Duration::from_secs(20)).await;
    looked.and(closed)
}

async fn read(store: &SqliteStore) -> Result<(), Error> {
    let queries = [
        Query::Jobs(Default::default()),
        Query::Queues,
        Query::AccessTokens,
        Query::Audit,
        Query::Locks { prefix: None },
        Query::Event(EventQuery::Topics),
        Query::Event(EventQuery::Groups),
        Query::Schedules(ScheduleOrder::Name),
    ];
    for query in queries {
        store.list(&query, &Page { limit: 1_000, cursor: None }).await?;
    }
    store.read_log(&[], Position::Earliest, LogBudget::default()).await?;
    Ok(())
}

async fn work(world: &mut World) {
    world.group("readers", &[">"]).await;
    for number in 0..6 {
        let data = format!("{{\"n\":{number}}}");
        world.publish("orders.paid", &data).await;
        world.publish_keyed("orders.sent", "key", &data).await;
        world.enqueue(world.job("mail")).await;
        world.advance(10);
    }
    let grant = world.claim("mail").await;
    world.complete(&grant).await;
    let _held = world.claim("mail").await;
    let deliveries = world.fetch("readers", 3).await;
    if let Some(first) = deliveries.first() {
        world.ack("readers", first).await;
    }
    let _ = world.try_lock(ask("door", "ada")).await;
    let _ = world.try_lock(ask("gate", "bob")).await;
}

fn each_record(bytes: &[u8], mut with: impl FnMut(usize, usize)) {
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + HEADER) {
        let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        if &header[..4] == b"mnst" && length <= bytes.len() - at - HEADER {
            with(at, length);
            at = (at + HEADER + length).next_multiple_of(ALIGN);
        } else {
            at += ALIGN;
        }
    }
}

fn repair_checksums(bytes: &mut [u8]) {
    let mut all = Vec::new();
    each_record(bytes, |at, length| all.push((at, length)));
    for (at, length) in all {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[at..at + 12]);
        crc.update(&bytes[at + 16..at + HEADER + length]);
        bytes[at + 12..at + 16].copy_from_slice(&crc.finalize().to_le_bytes());
    }
}
