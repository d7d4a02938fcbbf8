//! A time of leading, from the first look at the tables to the last group: one thread, as long as it lasts.

use std::{
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::Duration,
};

use mainstay_core::{
    Error, ErrorKind,
    engine::change::{Change, Counters},
};
use mainstay_writer::{
    batch::Handed,
    behind::Behind,
    clock::StoreClock,
    desk::Desk,
    places::Places,
    tail::Tail,
    writer::{Setup, Writer},
};
use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    archive::Past,
    clock::DatabaseClock,
    fault::Trouble,
    ground::Transactions,
    journal::{self, Place, Turns},
    link::{Again, Proof, Target},
    load::{load, load_pending},
    tables::{Figures, Follower, Tables},
};

/// What a term needs.
pub(crate) struct Start {
    pub(crate) target: Arc<Target>,
    pub(crate) clock: Arc<DatabaseClock>,
    pub(crate) epoch: Arc<AtomicU64>,
    /// A clock on a runtime's timers needs that runtime.
    pub(crate) users: Option<Handle>,
}

/// What a process that leads has in this time of leading.
pub(crate) struct Leading {
    pub(crate) desk: Arc<Desk>,
    /// What the tables lack.
    pub(crate) behind: Arc<Behind>,
    pub(crate) figures: Arc<Figures>,
}

impl Leading {
    pub(crate) fn stats(&self) -> Vec<(&'static str, f64)> {
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed) as f64;
        let mut all = self.desk.stats();
        all.extend([
            ("leads", 1.0),
            ("behind_bytes", self.behind.journal_bytes() as f64),
            ("table_batches_total", read(&self.figures.batches)),
            ("failed_table_batches_total", read(&self.figures.failed_batches)),
        ]);
        all
    }
}

/// What callers see is the desk.
impl Deref for Leading {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.desk
    }
}

/// Where to hear of it.
pub(crate) struct Term {
    /// When the desk is open, or why it could not be.
    pub(crate) ready: oneshot::Receiver<Result<Arc<Leading>, Error>>,
    /// When the thread has done its last.
    pub(crate) done: oneshot::Receiver<()>,
}

pub(crate) fn start(start: Start) -> Result<Term, Error> {
    let (tell_ready, ready) = oneshot::channel();
    let (tell_done, done) = oneshot::channel();
    let life = move || {
        let users = start.users.clone();
        let _users = users.as_ref().map(Handle::enter);
        live(&start, tell_ready);
        let _ = tell_done.send(());
    };
    thread::Builder::new().name("mainstay-write".to_owned()).spawn(life).map_err(|e| {
        let message = format!("cannot start the thread mainstay-write: {e}");
        Error::new(ErrorKind::Unavailable, message).because(e)
    })?;
    Ok(Term { ready, done })
}

fn live(start: &Start, ready: oneshot::Sender<Result<Arc<Leading>, Error>>) {
    let opened = catch_unwind(AssertUnwindSafe(|| open(start)));
    let opened = opened.unwrap_or_else(|_| Err(panicked("the loading of the store")));
    let Opened { leading, mut writer, follows } = match opened {
        Ok(opened) => opened,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let (desk, behind) = (leading.desk.clone(), leading.behind.clone());
    let _ = ready.send(Ok(leading));
    let ended = catch_unwind(AssertUnwindSafe(|| writer.run()));
    let ended = ended.unwrap_or_else(|_| Err(panicked("the writer of the store")));
    match &ended {
        // The tables get all there is.
        Ok(()) => behind.close(writer.counters()),
        Err(_) => behind.abandon(),
    }
    if let Err(error) = &ended {
        let _ = desk.failed.set(error.clone());
        // Dropped messages close their callers' channels; they learn the cause from the desk.
        drop(desk.inbox.close_and_empty());
        if desk.moved.get().is_none() {
            tracing::error!(%error, "the store can no longer be trusted; nothing more is acknowledged");
            if let Some(hook) = &start.target.options.on_fatal {
                hook(error);
            }
        }
    }
    let at_most = if ended.is_ok() { start.target.options.timeout } else { start.target.options.lease / 2 };
    follows.end(at_most);
    desk.ended.send_replace(Some(ended));
}

fn panicked(what: &str) -> Error {
    Error::unknown(ErrorKind::Untrusted, format!("{what} has a bug: it panicked"))
}

struct Opened {
    leading: Arc<Leading>,
    writer: Writer<Transactions>,
    follows: Follows,
}

/// The thread that brings the tables further.
struct Follows {
    thread: thread::JoinHandle<()>,
    /// Closed when it has done its last.
    alive: Receiver<()>,
}

impl Follows {
    fn start(follower: Follower) -> Result<Follows, Error> {
        let (lives, alive) = sync_channel(1);
        let life = move || {
            follower.run();
            drop(lives);
        };
        let thread = thread::Builder::new().name("mainstay-tables".to_owned()).spawn(life);
        let thread = thread.map_err(|e| {
            let message = format!("cannot start the thread mainstay-tables: {e}");
            Error::new(ErrorKind::Unavailable, message).because(e)
        })?;
        Ok(Follows { thread, alive })
    }

    /// Waits for it, but not for a database that does not answer: nobody may lead meanwhile. What it does later is refused
    /// if another leads by then; the journal has everything.
    fn end(self, at_most: Duration) {
        match self.alive.recv_timeout(at_most) {
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!(
                    "the tables were not brought to the end of the journal in time; who leads next does it"
                );
            }
            // A panic in it was shown, and seen to.
            _ => drop(self.thread.join()),
        }
    }
}

/// Brings the tables to the end of the journal, rebuilds the engine, and writes what that changed: from here on, this
/// process has proved that it leads.
fn open(start: &Start) -> Result<Opened, Error> {
    let Start { target, clock, epoch, .. } = start;
    let options = &target.options;
    let runtime = target.runtime.clone();
    let tables = Tables::catch_up(target, epoch.clone())?;
    let mut link = Again::new(target.clone());
    let session = runtime.block_on(link.get()).map_err(Trouble::error)?;
    let loaded = runtime.block_on(load(&session))?;
    let mut engine = loaded.engine;
    let loaded_counters = engine.counters();
    let token = loaded_counters.token.max(target.given.load(Ordering::Acquire));
    engine.load_counters(Counters { token, ..loaded_counters });
    let mut past = Past::new(link, runtime.clone());
    load_pending(&mut engine, &mut past)?;

    // The tables alone are nothing to hold the next group against; the row of the last one is, if it is there.
    let last = runtime.block_on(journal::find(&session, loaded.lsn))?;
    let table = last.map_or(0, |place| place.table);
    let behind = Behind::new(
        options.behind_bytes,
        Places::bound(options.behind_bytes, options.journal_bytes as u64),
        (loaded.lsn, engine.counters().n, engine.last_seq()),
    );
    let clock = StoreClock::new(clock.clone(), loaded.clock);
    engine.finish_load(clock.now());
    let mut changes = Vec::new();
    engine.take_changes(&mut changes);
    let place = Place { lsn: loaded.lsn + 1, table };
    let (mine, counters) = (epoch.load(Ordering::Acquire), engine.counters());
    let data = journal::record(&changes)?;
    let record = data.len();
    let steps = [journal::append(place, mine, &counters, engine.last_seq(), data)];
    let proof = Proof::Group { epoch: mine, last };
    if let Some(wrong) = runtime.block_on(session.transaction(proof, &steps)).map_err(Trouble::error)? {
        return Err(Error::new(ErrorKind::Untrusted, format!("the journal contradicts itself: {wrong}")));
    }
    engine.commit_group();
    past.begin(place.lsn, loaded.lsn);
    changes.iter().for_each(|change| past.note(change));
    past.commit();
    let bytes = record + changes.len() * size_of::<Change>();
    behind.hand_over(Handed { lsn: place.lsn, counters, changes, bytes, growth: 0 }, record);

    let tail = Tail::new(engine.last_seq(), engine.topic_directory());
    let desk = Arc::new(Desk::new(clock, options.queue_bytes, tail));
    let (behind, figures) = (Arc::new(behind), Arc::new(Figures::default()));
    let turns = Arc::new(Turns::new(table, options.journal_bytes as u64));
    let leading = Leading { desk: desk.clone(), behind: behind.clone(), figures: figures.clone() };
    let ground = Transactions::new(&leading, target.clone(), past, epoch.clone(), (place, turns.clone()));
    let follower = Follower { tables, desk: desk.clone(), behind, turns, figures };
    let follows = Follows::start(follower)?;
    let setup = Setup { engine, housekeeping: options.housekeeping, cache_bytes: options.body_cache_bytes };
    let writer = Writer::new(desk, ground, setup);
    Ok(Opened { leading: Arc::new(leading), writer, follows })
}
