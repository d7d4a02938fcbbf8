//! Opening: from a path to a store whose threads run.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::AtomicBool,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use mainstay_core::{Error, ErrorKind, engine::Engine};
use rusqlite::Connection;
use tokio::sync::watch;

use crate::{
    aftermath, checkpoint,
    clock::StoreClock,
    connection,
    inbox::Inbox,
    load::{load, was_closed_cleanly},
    lock::Lock,
    options::Options,
    read::{self, Jobs, READERS, WAITING_READS},
    schema::migrate,
    shared::Shared,
    tables::Tables,
    writer::{Setup, Writer},
};

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
    let conn = connection::open_writer(options)?;
    migrate(&conn, &options.path)?;
    // Whatever the last process left in the journal is in the file, and synced, before anything is served.
    checkpoint::full(&conn, &options.path)?;
    if options.check || failed_before {
        connection::check(&conn, &options.path)?;
    }
    let clean = was_closed_cleanly(&conn, &options.path)?;
    let loaded = load(&conn, options).map_err(|e| match e.kind() {
        // Damage: say all that SQLite can find out about it.
        ErrorKind::Untrusted => connection::check(&conn, &options.path).err().unwrap_or(e),
        _ => e,
    })?;
    if !clean {
        tracing::info!(path = %options.path.display(), "the store was not closed in good order; nothing is lost");
    }

    let shared = Arc::new(Shared {
        path: options.path.clone(),
        clock: StoreClock::new(options.clock.clone(), loaded.clock),
        inbox: Arc::new(Inbox::new(options.queue_bytes)),
        reads: Arc::new(Inbox::new(WAITING_READS)),
        checkpoints: Default::default(),
        hub: Default::default(),
        stats: Default::default(),
        due: Default::default(),
        on_fatal: options.on_fatal.clone(),
        failed: OnceLock::new(),
        abandon: AtomicBool::new(false),
        ended: watch::Sender::new(None),
    });
    // Not later: the writer may have reason to mark it anew.
    if failed_before {
        aftermath::unmark(&options.path);
    }
    let mut crew = Crew { shared: shared.clone(), readers: Vec::new(), checkpointer: None, lock };
    let started = crew.start(options);
    let started = started.and_then(|()| start_writer(crew, conn, loaded.engine, options));
    let writer = started.inspect_err(|_| shared.stop_helpers())?;
    Ok((shared, writer))
}

/// The threads beside the writer, and the lock that all of them need.
struct Crew {
    shared: Arc<Shared>,
    readers: Vec<JoinHandle<()>>,
    checkpointer: Option<JoinHandle<()>>,
    lock: Lock,
}

impl Crew {
    fn start(&mut self, options: &Options) -> Result<(), Error> {
        for i in 0..READERS {
            let conn = connection::open_reader(options)?;
            let shared = self.shared.clone();
            self.readers.push(spawn(&format!("mainstay-read-{i}"), move || {
                if let Err(error) = read::run(&conn, &shared, &shared.reads) {
                    tracing::error!(%error, "a reading thread of the store could not start");
                }
            })?);
        }
        let conn = connection::open_checkpointer(options)?;
        let shared = self.shared.clone();
        self.checkpointer = Some(spawn("mainstay-checkpoint", move || checkpoint::run(&conn, &shared))?);
        Ok(())
    }

    /// Ends the other threads. What the readers were given is answered first.
    fn end(self) -> Lock {
        self.shared.stop_helpers();
        for thread in self.readers.into_iter().chain(self.checkpointer) {
            // A panic in one of them was shown; there is nothing more to do about it.
            let _ = thread.join();
        }
        self.lock
    }
}

impl Shared {
    fn stop_helpers(&self) {
        self.reads.close();
        self.checkpoints.stop();
    }
}

fn start_writer(
    crew: Crew,
    conn: Connection,
    engine: Engine,
    options: &Options,
) -> Result<JoinHandle<()>, Error> {
    let (ready, is_ready) = sync_channel(1);
    let setup = Setup {
        engine,
        durability: options.durability,
        housekeeping: options.housekeeping,
        cache_bytes: options.body_cache_bytes,
    };
    // A clock on a runtime's timers needs that runtime.
    let runtime = tokio::runtime::Handle::try_current().ok();
    let thread = spawn("mainstay-write", move || {
        let _runtime = runtime.as_ref().map(|runtime| runtime.enter());
        write(crew, conn, setup, &ready);
    })?;
    match is_ready.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => {
            let _ = thread.join();
            Err(error)
        }
        Err(_) => Err(Error::new(ErrorKind::Unavailable, "the writing thread of the store could not start")),
    }
}

/// The life of the writing thread, from the first write to the last.
fn write(crew: Crew, conn: Connection, setup: Setup, ready: &SyncSender<Result<(), Error>>) {
    let shared = crew.shared.clone();
    let path = &shared.path;
    let worked = catch_unwind(AssertUnwindSafe(|| {
        let started = Tables::new(&conn, path)
            .and_then(|tables| Ok((tables, Jobs::new(&conn, path)?)))
            .and_then(|(tables, jobs)| Writer::start(shared.clone(), tables, jobs, setup));
        let mut writer = match started {
            Ok(writer) => writer,
            Err(error) => {
                let _ = ready.send(Err(error));
                return Ok(false);
            }
        };
        let _ = ready.send(Ok(()));
        writer.run()?;
        writer.finish().map_err(|fault| fault.error)?;
        Ok(true)
    }));
    let worked = worked.unwrap_or_else(|_| {
        let message = format!("the writer of the store {} has a bug: it panicked", path.display());
        Err(Error::unknown(ErrorKind::Untrusted, message))
    });
    if let Err(error) = &worked {
        fail(&shared, error);
    }
    let lock = crew.end();
    let ending = match worked {
        Ok(true) => checkpoint::full(&conn, path).inspect_err(|e| aftermath::mark_if_disk_failed(path, e)),
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    drop(conn);
    // Only now may another process have it; and only then may anybody hear that it is over.
    drop(lock);
    shared.ended.send_replace(Some(ending));
}

/// Nothing is acknowledged from here on.
fn fail(shared: &Shared, error: &Error) {
    let _ = shared.failed.set(error.clone());
    tracing::error!(%error, "the store can no longer be trusted; nothing more is acknowledged");
    // Dropped messages close their callers' channels; they learn the cause from `failed`.
    drop(shared.inbox.close_and_empty());
    drop(shared.reads.close_and_empty());
    aftermath::mark(&shared.path, error);
    if let Some(hook) = &shared.on_fatal {
        hook(error);
    }
}

fn spawn(name: &str, life: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    thread::Builder::new().name(name.to_owned()).spawn(life).map_err(|e| {
        let message = format!("cannot start the thread {name}: {e}");
        Error::new(ErrorKind::Unavailable, message).because(e)
    })
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
