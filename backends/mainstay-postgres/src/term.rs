//! A time of leading, from the first look at the tables to the last group: one thread, as long as it lasts.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use mainstay_core::{Error, ErrorKind, engine::change::Counters};
use mainstay_writer::{
    batch::{Batch, Handed},
    clock::StoreClock,
    desk::Desk,
    tail::Tail,
    writer::{Setup, Writer},
};
use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    archive::Past,
    clock::DatabaseClock,
    fault::Trouble,
    ground::Transactions,
    link::{Again, Target},
    load::{load, load_pending},
    recent::{self, Recent},
    things::Forgotten,
    write,
};

/// What a term needs.
pub(crate) struct Start {
    pub(crate) target: Arc<Target>,
    pub(crate) clock: Arc<DatabaseClock>,
    pub(crate) epoch: Arc<AtomicU64>,
    /// A clock on a runtime's timers needs that runtime.
    pub(crate) users: Option<Handle>,
}

/// Where to hear of it.
pub(crate) struct Term {
    /// When the desk is open, or why it could not be.
    pub(crate) ready: oneshot::Receiver<Result<Arc<Desk>, Error>>,
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

fn live(start: &Start, ready: oneshot::Sender<Result<Arc<Desk>, Error>>) {
    let opened = catch_unwind(AssertUnwindSafe(|| open(start)));
    let opened = opened.unwrap_or_else(|_| Err(panicked("the loading of the store")));
    let (desk, mut writer) = match opened {
        Ok(opened) => opened,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let _ = ready.send(Ok(desk.clone()));
    let ended = catch_unwind(AssertUnwindSafe(|| writer.run()));
    let ended = ended.unwrap_or_else(|_| Err(panicked("the writer of the store")));
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
    desk.ended.send_replace(Some(ended));
}

fn panicked(what: &str) -> Error {
    Error::unknown(ErrorKind::Untrusted, format!("{what} has a bug: it panicked"))
}

/// Rebuilds the engine, and writes what that changed: from here on, this process has proved that it leads.
fn open(start: &Start) -> Result<(Arc<Desk>, Writer<Transactions>), Error> {
    let Start { target, clock, epoch, .. } = start;
    let options = &target.options;
    let runtime = target.runtime.clone();
    let mut link = Again::new(target.clone());
    let session = runtime.block_on(link.get()).map_err(Trouble::error)?;
    let loaded = runtime.block_on(load(&session))?;
    let mut engine = loaded.engine;
    let loaded_counters = engine.counters();
    let token = loaded_counters.token.max(target.given.load(Ordering::Acquire));
    engine.load_counters(Counters { token, ..loaded_counters });
    let mut past = Past::new(link, runtime.clone());
    load_pending(&mut engine, &mut past)?;

    let clock = StoreClock::new(clock.clone(), loaded.clock);
    engine.finish_load(clock.now());
    let mut changes = loaded.recent;
    engine.take_changes(&mut changes);
    let lsn = loaded.lsn + 1;
    let mut batch = Batch::default();
    batch.add(Handed { lsn, counters: engine.counters(), changes, bytes: 0, growth: 0 });
    let mine = epoch.load(Ordering::Acquire);
    let mut recent = Recent::default();
    let plan = recent.plan(&batch);
    let mut steps = write::steps(&batch, mine, engine.last_seq(), Forgotten::default(), &plan);
    steps.push(recent::begin_anew(lsn));
    if let Some(wrong) =
        runtime.block_on(session.transaction(mine, loaded.lsn, &steps)).map_err(Trouble::error)?
    {
        return Err(Error::new(ErrorKind::Untrusted, format!("the tables contradict themselves: {wrong}")));
    }
    engine.commit_group();
    recent.done(plan);
    let forgotten = runtime.block_on(Forgotten::look(&session)).map_err(Trouble::error)?;

    let tail = Tail::new(engine.last_seq(), engine.topic_directory());
    let desk = Arc::new(Desk::new(clock, options.queue_bytes, tail));
    let ground =
        Transactions::new(desk.clone(), target.clone(), past, epoch.clone(), (lsn, forgotten, recent));
    let setup = Setup { engine, housekeeping: options.housekeeping, cache_bytes: options.body_cache_bytes };
    let writer = Writer::new(desk.clone(), ground, setup);
    Ok((desk, writer))
}
