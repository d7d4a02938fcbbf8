//! Opening: from a path to a store whose threads run.

mod crew;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use mainstay_core::{
    Error, ErrorKind,
    engine::{
        Engine,
        change::{Change, Counters},
    },
    rules,
};
use mainstay_writer::{desk::Desk, writer::Setup};

use crate::{
    aftermath,
    apply::Batch,
    behind::{Behind, Handed},
    checkpoint,
    clock::StoreClock,
    connection,
    inbox::Inbox,
    journal::{Journal, files::SystemFiles, recover, segment::Segment, spare::Spare},
    load::{load, mark},
    lock::Lock,
    options::Options,
    places::Places,
    progress::Progress,
    read::{ReadAhead, WAITING_READS},
    schema::migrate,
    shared::Shared,
    tables::{Mark, Tables},
    tail::Tail,
};
use crew::{Crew, start_writer};

/// Opens the file, rebuilds the engine and starts the threads. The handle is the writer's, which ends the others.
pub(crate) fn open(options: &Options) -> Result<(Arc<Shared>, JoinHandle<()>), Error> {
    let lock = Lock::take(&options.path)?;
    let failed_before = aftermath::is_marked(&options.path);
    if failed_before {
        aftermath::write_journal_again(&options.path)?;
    }
    open_locked(options, lock, failed_before)
        .inspect_err(|error| aftermath::mark_if_disk_failed(&options.path, error))
}

fn open_locked(
    options: &Options,
    lock: Lock,
    failed_before: bool,
) -> Result<(Arc<Shared>, JoinHandle<()>), Error> {
    let path = options.path.as_path();
    let files = options.files.clone().unwrap_or_else(|| Arc::new(SystemFiles));
    let progress = Progress::new(path.to_owned(), options.on_progress.clone());
    let mut conn = connection::open_writer(options)?;
    progress.follow(&mut conn)?;
    progress.begin("bringing it to the format of this build");
    migrate(&conn, path)?;
    progress.begin("moving what SQLite's log holds into the file");
    // Whatever the last process left in SQLite's log is in the file, and synced, before anything is served.
    checkpoint::full(&conn, path)?;
    if options.check || failed_before {
        progress.begin("reading and checking the whole file");
        connection::check(&conn, path)?;
    }
    let checked = |e: Error| match e.kind() {
        // Damage: say all that SQLite can find out about it.
        ErrorKind::Untrusted => connection::check(&conn, path).err().unwrap_or(e),
        _ => e,
    };
    let left = mark(&conn, path).map_err(checked)?;
    let segments = recover::segments(&*files, path)?;
    // The format before the journal has no epoch.
    if !left.clean && left.epoch != 0 {
        recover::belongs(&*files, path, &segments, left.epoch)?;
    }
    let mut tables = Tables::new(&conn, path).map_err(checked)?;
    progress.begin("replaying the journal");
    let lsn = catch_up(&mut tables, path, &segments, left, &progress)?;
    if !left.clean {
        let (path, groups) = (path.display(), lsn - left.lsn);
        tracing::info!(%path, groups, "the store was not closed in good order; what was answered and is in its journal was replayed");
    }
    progress.begin("reading what is kept in memory");
    let loaded = load(&conn, options, &progress).map_err(checked)?;

    let clock = StoreClock::new(options.clock.clone(), loaded.clock);
    let mut engine = loaded.engine;
    // Another epoch than that of any record there is, also of a copy that went its own way.
    let epoch = rules::mix(left.epoch.wrapping_add(1), clock.entropy());
    let spare = Arc::new(Spare::new(files.clone(), path.to_owned(), segments.len().max(1) as u32 + 1));
    // Its first record is on the disk before the tables say that there is one.
    let journal = Journal::new(spare.clone(), &*files, path, segments, (epoch, lsn), options.segment_bytes)?;
    begin_epoch(&mut tables, &mut engine, &clock, Mark { epoch, lsn, clean: false })?;
    let used = tables.used_bytes().unwrap_or_default();
    drop(tables);
    progress.let_go(&mut conn)?;

    let tail = Tail::new(engine.last_seq(), engine.topic_directory());
    let shared = Arc::new(Shared {
        desk: Arc::new(Desk::new(clock, options.queue_bytes, tail)),
        path: path.to_owned(),
        reads: Arc::new(Inbox::new(WAITING_READS)),
        read_ahead: ReadAhead::default(),
        behind: Behind::new(
            options.behind_bytes,
            Places::bound(options.behind_bytes, options.segment_bytes),
            (lsn, engine.counters().n, engine.last_seq()),
        ),
        checkpoints: Default::default(),
        stats: Default::default(),
        max_file_bytes: options.max_file_bytes,
        on_fatal: options.on_fatal.clone(),
    });
    shared.stats.used_bytes.store(used, std::sync::atomic::Ordering::Relaxed);
    // Not later: the writer may have reason to mark it anew.
    if failed_before {
        aftermath::unmark(path);
    }
    let setup = Setup { engine, housekeeping: options.housekeeping, cache_bytes: options.body_cache_bytes };
    let mut crew = Crew::new(shared.clone(), lock, files, spare.clone());
    let started = crew.start(options, conn, epoch);
    let started = started.and_then(|()| {
        start_writer(crew, setup, (journal, options.durability), connection::open_reader(options)?)
    });
    let writer = started.inspect_err(|_| {
        shared.stop_all();
        spare.stop();
    })?;
    Ok((shared, writer))
}

/// So much of the journal goes into one transaction.
const PIECE_BYTES: usize = 32 << 20;

/// Brings the tables to the end of the journal, durably: what the system shows of it need not be on the disk. They say
/// then that no journal is needed, so that it may be written over.
fn catch_up(
    tables: &mut Tables<'_>,
    path: &Path,
    segments: &[Segment],
    left: Mark,
    progress: &Progress,
) -> Result<u64, Error> {
    tables.sync_commits(true).map_err(|fault| fault.error)?;
    let mut batch = Batch::default();
    let mut apply = |batch: &mut Batch| {
        let mark = Mark { lsn: batch.lsn, clean: false, ..left };
        let counters = batch.counters;
        tables.apply(&std::mem::take(batch), &counters, mark).map_err(|fault| fault.error)
    };
    let last = recover::replay(path, segments, (left.epoch, left.lsn), |lsn, counters, changes, bytes| {
        let bytes = bytes + changes.len() * size_of::<Change>();
        batch.add(Handed { lsn, counters, changes, bytes, growth: 0 });
        progress.goes_on();
        if batch.bytes >= PIECE_BYTES { apply(&mut batch) } else { Ok(()) }
    })?;
    if batch.lsn > left.lsn {
        apply(&mut batch)?;
    }
    if !left.clean {
        tables.needs_no_journal().map_err(|fault| fault.error)?;
    }
    Ok(last)
}

/// Writes what opening changed, so that a file that cannot be written is noticed before anything is served. From here
/// on, no record that is in the journal counts.
fn begin_epoch(
    tables: &mut Tables<'_>,
    engine: &mut Engine,
    clock: &StoreClock,
    mark: Mark,
) -> Result<(), Error> {
    engine.finish_load(clock.now());
    let mut changes = Vec::new();
    engine.take_changes(&mut changes);
    let counters: Counters = engine.counters();
    let mut batch = Batch::default();
    batch.add(Handed { lsn: mark.lsn, counters, changes, bytes: 0, growth: 0 });
    tables.apply(&batch, &counters, mark).map_err(|fault| fault.error)?;
    engine.commit_group();
    tables.sync_commits(false).map_err(|fault| fault.error)
}

/// As many links as the system follows.
const LINKS: usize = 40;

/// The file itself, also if it is not there yet. SQLite puts its log beside that and not beside a link to it; lock,
/// journal and marks lie there too, so that a store is one store by whatever name it is opened.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, Error> {
    let failed = |e: io::Error| {
        let message = format!("cannot find out where {} is: {e}", path.display());
        Error::new(ErrorKind::Unavailable, message).because(e)
    };
    let mut at = path.to_owned();
    for _ in 0..LINKS {
        let (folder, name) = (at.parent().unwrap_or(Path::new("")), at.file_name().unwrap_or_default());
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let folder = fs::canonicalize(folder).map_err(failed)?;
        at = folder.join(name);
        match fs::read_link(&at) {
            Ok(target) => at = folder.join(target),
            // No link, or nothing there; what else may be wrong with it shows when it is opened.
            Err(_) => return Ok(at),
        }
    }
    Err(failed(io::Error::other("too many symbolic links lead to it")))
}

/// Says early and clearly what is wrong with a path.
pub(crate) fn check_path(path: &Path) -> Result<(), Error> {
    let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, message));
    if path.as_os_str().is_empty() {
        return invalid("the store's path is empty".into());
    }
    if path.is_dir() {
        return invalid(format!("{} is a folder; name a file in it, such as mainstay.db", path.display()));
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            invalid(format!("the folder {} does not exist; create it first", folder.display()))
        }
        _ => Ok(()),
    }
}
