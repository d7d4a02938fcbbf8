//! The threads of a store, from the first to the last.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use mainstay_core::{Error, ErrorKind, engine::change::Counters};
use mainstay_writer::writer::{Setup, Writer};
use rusqlite::Connection;

use crate::{
    aftermath, apply,
    archive::recent,
    checkpoint, connection,
    fault::{self, Fault, Severity},
    ground::Disk,
    journal::{self, Journal, files::Files, spare::Spare},
    lock::Lock,
    options::{Durability, Options},
    read::{self, Jobs, READERS},
    shared::Shared,
};

/// The threads beside the writer, and the lock that all of them need.
pub(super) struct Crew {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    applier: Option<JoinHandle<(Connection, fault::Result<()>)>>,
    spare: Arc<Spare>,
    files: Arc<dyn Files>,
    lock: Lock,
}

impl Crew {
    pub(super) fn new(shared: Arc<Shared>, lock: Lock, files: Arc<dyn Files>, spare: Arc<Spare>) -> Crew {
        Crew { shared, helpers: Vec::new(), applier: None, spare, files, lock }
    }

    pub(super) fn start(&mut self, options: &Options, conn: Connection, epoch: u64) -> Result<(), Error> {
        for i in 0..READERS {
            let conn = connection::open_reader(options)?;
            let shared = self.shared.clone();
            self.helpers.push(spawn(&format!("mainstay-read-{i}"), move || {
                if let Err(error) = read::run(&conn, &shared, &shared.reads) {
                    tracing::error!(%error, "a reading thread of the store could not start");
                }
            })?);
        }
        let conn_of_checkpoints = connection::open_checkpointer(options)?;
        let shared = self.shared.clone();
        let checkpoint = move || checkpoint::run(&conn_of_checkpoints, &shared);
        self.helpers.push(spawn("mainstay-checkpoint", checkpoint)?);
        let spare = self.spare.clone();
        self.helpers.push(spawn("mainstay-journal", move || spare.run())?);
        let shared = self.shared.clone();
        self.applier = Some(spawn("mainstay-tables", move || apply::run(conn, &shared, epoch))?);
        Ok(())
    }

    /// Ends the other threads. With the counters of a store that ends in good order, the tables get everything first,
    /// and no journal is left.
    fn end(mut self, counters: Option<Counters>) -> (Result<(), Error>, Lock) {
        match &counters {
            Some(counters) => self.shared.behind.close(*counters),
            None => self.shared.behind.abandon(),
        }
        let ended = self.applier.take().and_then(|applier| applier.join().ok());
        self.shared.stop_all();
        self.spare.stop();
        for thread in self.helpers.drain(..) {
            // A panic in one of them was shown; there is nothing more to do about it.
            let _ = thread.join();
        }
        let path = &self.shared.path;
        if let (Some(error), Some(_)) = (self.shared.failed.get(), &counters) {
            // Too late for the writer to hear of it. The journal stays.
            return (Err(error.clone()), self.lock);
        }
        let ending = match (ended, counters) {
            (Some((conn, Ok(()))), Some(_)) => checkpoint::full(&conn, path)
                .inspect_err(|e| aftermath::mark_if_disk_failed(path, e))
                .and_then(|()| journal::remove(&*self.files, path, self.spare.made()))
                .map(|()| connection::close_tidily(conn)),
            (Some((_, Err(Fault { severity: Severity::Clean, error }))), Some(_)) => Err(left_behind(error)),
            (Some((_, Err(Fault { error, .. }))), Some(_)) => Err(error),
            _ => Ok(()),
        };
        (ending, self.lock)
    }
}

impl Shared {
    /// The readers answer what they were given; the others stop.
    pub(super) fn stop_all(&self) {
        self.reads.close();
        self.checkpoints.stop();
        self.behind.abandon();
    }
}

pub(super) fn start_writer(
    crew: Crew,
    setup: Setup,
    journal: (Journal, Durability),
    conn: Connection,
) -> Result<JoinHandle<()>, Error> {
    let (ready, is_ready) = sync_channel(1);
    // A clock on a runtime's timers needs that runtime.
    let runtime = tokio::runtime::Handle::try_current().ok();
    let thread = spawn("mainstay-write", move || {
        let _runtime = runtime.as_ref().map(|runtime| runtime.enter());
        write(crew, conn, setup, journal, &ready);
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

/// The life of the writing thread, from the first group to the last.
fn write(
    crew: Crew,
    mut conn: Connection,
    setup: Setup,
    journal: (Journal, Durability),
    ready: &SyncSender<Result<(), Error>>,
) {
    let shared = crew.shared.clone();
    let path = &shared.path;
    let worked = catch_unwind(AssertUnwindSafe(|| {
        let prepared = recent(&conn, path).and_then(|archive| Ok((archive, Jobs::new(&conn, path)?)));
        let (archive, jobs) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let _ = ready.send(Err(error));
                return Ok(None);
            }
        };
        let ground = Disk::new(shared.clone(), journal, archive, jobs);
        let mut writer = Writer::new(shared.desk.clone(), ground, setup);
        let _ = ready.send(Ok(()));
        writer.run()?;
        Ok(Some(writer.counters()))
    }));
    let worked = worked.unwrap_or_else(|_| {
        let message = format!("the writer of the store {} has a bug: it panicked", path.display());
        Err(Error::unknown(ErrorKind::Untrusted, message))
    });
    let (ended, counters) = match worked {
        Ok(counters) => (Ok(()), counters),
        Err(error) => (Err(fail(&shared, error, Some(&mut conn))), None),
    };
    // The tables' connection closes last: only the last one takes SQLite's log along, and only if it may write.
    drop(conn);
    let (ending, lock) = crew.end(counters);
    let ending = ending.map_err(|error| match error.kind() {
        ErrorKind::Untrusted => fail(&shared, error, None),
        _ => error,
    });
    // Only now may another process have it; and only then may anybody hear that it is over.
    drop(lock);
    shared.ended.send_replace(Some(ended.and(ending)));
}

/// The journal stays, and with it all that was answered.
fn left_behind(cause: Error) -> Error {
    let message = format!(
        "the tables could not be brought up to date before the end ({cause}); what was answered is in the journal beside \
         the file and is brought there by the next start: leave both where they are"
    );
    Error::new(cause.kind(), message)
}

/// Nothing is acknowledged from here on. Answers the error with what is found out about it with `conn`.
fn fail(shared: &Shared, error: Error, conn: Option<&mut Connection>) -> Error {
    let _ = shared.failed.set(error.clone());
    // Dropped messages close their callers' channels; they learn the cause from `failed`.
    drop(shared.inbox.close_and_empty());
    drop(shared.reads.close_and_empty());
    aftermath::mark(&shared.path, &error);
    let error = match conn {
        Some(conn) => connection::located(conn, error),
        None => error,
    };
    tracing::error!(%error, "the store can no longer be trusted; nothing more is acknowledged");
    if let Some(hook) = &shared.on_fatal {
        hook(&error);
    }
    error
}

fn spawn<T: Send + 'static>(
    name: &str,
    life: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Error> {
    thread::Builder::new().name(name.to_owned()).spawn(life).map_err(|e| {
        let message = format!("cannot start the thread {name}: {e}");
        Error::new(ErrorKind::Unavailable, message).because(e)
    })
}
