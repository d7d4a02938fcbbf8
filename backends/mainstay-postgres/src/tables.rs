//! The tables follow the journal, on a session and a thread of their own: what comes and goes within a moment touches none
//! of them. Their transaction says from which group to which it brings them, so whatever became of one that nobody
//! answered, it happens once; and it proves that its process leads, after it has got the lock for which a new leader waits.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstay_core::{Error, ErrorKind, engine::change::Counters};
use mainstay_writer::{
    batch::{Batch, Handed},
    behind::{Behind, Reached, Stuck, Task},
    desk::Desk,
    message::Message,
};
use tokio::{runtime::Handle, time::timeout};

use crate::{
    fault::Trouble,
    journal::{self, Turns},
    link::{Again, Link, Proof, Target},
    rows::Cells,
    step::{Param, Step},
    things::Forgotten,
    write,
};

/// The tables, as whoever leads brings them further.
pub(crate) struct Tables {
    link: Again,
    runtime: Handle,
    epoch: Arc<AtomicU64>,
    /// Where they are.
    lsn: u64,
    last_seq: u64,
    forgotten: Forgotten,
    /// What was sent last may have happened.
    uncertain: bool,
}

/// Why the tables could not be brought further.
enum Halt {
    /// Another process leads, or the database is another one by now.
    Moved,
    /// They are not as the engine knows them.
    Wrong(Error),
    /// Not now.
    Later(Error),
}

/// When the journal's other table cannot be emptied, this is deleted row by row beyond so many times the limit.
const DELETE_FROM: u64 = 4;
/// A transaction of the tables may take so many times longer than a group's.
const PATIENCE: u32 = 3;

impl Tables {
    /// Brings the tables to the end of the journal. Whoever led before can write them no more.
    pub(crate) fn catch_up(target: &Target, epoch: Arc<AtomicU64>) -> Result<Tables, Error> {
        let (mut options, runtime) = (target.options.clone(), target.runtime.clone());
        options.timeout *= PATIENCE;
        let link = Again::new(Arc::new(Target::new(options, runtime.clone())?));
        let mut tables = Tables {
            link,
            runtime: runtime.clone(),
            epoch,
            lsn: 0,
            last_seq: 0,
            forgotten: Forgotten::default(),
            uncertain: false,
        };
        runtime.block_on(tables.follow_all())?;
        Ok(tables)
    }

    async fn follow_all(&mut self) -> Result<(), Error> {
        let link = self.link.get().await.map_err(Trouble::error)?;
        // Waits for a transaction of the one that led before.
        let sql = "select lsn, last_seq, token, n, f, k, audit, clock from {s}.reached for update";
        let rows = link.query(sql, vec![]).await.map_err(Trouble::error)?;
        let Some(row) = rows.first() else {
            return Err(crate::fault::damaged("table reached", "its row is not there"));
        };
        let cells = Cells { table: "reached", row };
        (self.lsn, self.last_seq) = (cells.u64(0)?, cells.u64(1)?);
        self.forgotten = Forgotten::look(&link).await.map_err(Trouble::error)?;
        let (from, mut counters) = (self.lsn, journal::counters(cells, 2)?);
        loop {
            let groups = journal::behind(&link, self.lsn).await?;
            let mut batch = Batch { lsn: self.lsn, counters, ..Batch::default() };
            let last = groups.is_empty();
            groups.into_iter().for_each(|group| batch.add(group));
            counters = batch.counters;
            // Also with nothing: from here on, nobody else has them as they were left.
            match self.attempt(&link, &batch).await {
                Ok(()) if last => break,
                Ok(()) => {}
                Err(Halt::Moved) => return Err(moved()),
                Err(Halt::Wrong(error) | Halt::Later(error)) => return Err(error),
            }
        }
        if self.lsn > from {
            tracing::info!(groups = self.lsn - from, "the tables caught up with the journal");
        }
        Ok(())
    }

    /// Brings a batch into the tables, on a thread of its own.
    fn write(&mut self, batch: &Batch) -> Result<(), Halt> {
        let runtime = self.runtime.clone();
        runtime.block_on(async {
            let link = self.link.get().await.map_err(|trouble| Halt::Later(trouble.error()))?;
            if self.uncertain && self.have(&link, batch.lsn).await? {
                self.arrived(batch);
                return Ok(());
            }
            self.attempt(&link, batch).await
        })
    }

    /// Whether what was sent last has happened. The row it would have locked is free when its session has ended.
    async fn have(&mut self, link: &Link, lsn: u64) -> Result<bool, Halt> {
        let rows = link.query("select lsn from {s}.reached for update", vec![]).await;
        let rows = rows.map_err(|trouble| Halt::Later(trouble.error()))?;
        match rows.first().map(|row| row.get::<_, i64>(0) as u64) {
            Some(found) if found == lsn => Ok(true),
            Some(found) if found == self.lsn => Ok(false),
            _ => Err(Halt::Moved),
        }
    }

    async fn attempt(&mut self, link: &Link, batch: &Batch) -> Result<(), Halt> {
        let last_seq = batch.events.last_seq.unwrap_or(self.last_seq);
        let mut steps = write::steps(batch, self.forgotten);
        steps.push(reach(batch.lsn, &batch.counters, last_seq));
        match self.transaction(link, &steps).await? {
            None => {
                self.arrived(batch);
                Ok(())
            }
            Some(wrong) => {
                let message = format!(
                    "the tables are not as this process knows them: {wrong}; did something else write them?"
                );
                Err(Halt::Wrong(Error::unknown(ErrorKind::Untrusted, message)))
            }
        }
    }

    async fn transaction(&mut self, link: &Link, steps: &[Step]) -> Result<Option<String>, Halt> {
        let epoch = self.epoch.load(Ordering::Acquire);
        self.uncertain = false;
        let done = link.transaction(Proof::Tables { epoch, left_at: self.lsn }, steps).await;
        done.map_err(|trouble| {
            // Its own writer has made that epoch invalid, to be sure of a commit.
            let changed = self.epoch.load(Ordering::Acquire) != epoch;
            // Something that was sent before has arrived since: then it has happened, or another leads.
            self.uncertain = matches!(trouble, Trouble::Lost(_)) || trouble.is_elsewhere();
            match trouble {
                trouble if trouble.is_deposed() && !changed => Halt::Moved,
                trouble if trouble.is_damage() => Halt::Wrong(trouble.error()),
                trouble => Halt::Later(trouble.error()),
            }
        })
    }

    fn arrived(&mut self, batch: &Batch) {
        self.uncertain = false;
        self.lsn = batch.lsn;
        self.last_seq = batch.events.last_seq.unwrap_or(self.last_seq);
        self.forgotten = self.forgotten.after(batch);
    }

    /// Empties the journal's other table when much is in this one, and has it written next.
    fn rotate(&mut self, turns: &Turns) -> Result<(), Halt> {
        let (times, other) = (turns.times(), 1 - turns.table());
        if times == 0 {
            return Ok(());
        }
        let runtime = self.runtime.clone();
        let cleared = runtime.block_on(async {
            let link = self.link.get().await.map_err(|trouble| Halt::Later(trouble.error()))?;
            match self.transaction(&link, &[journal::clear(other)]).await {
                Err(Halt::Later(_)) if times >= DELETE_FROM && !self.uncertain => {
                    self.transaction(&link, &[journal::delete(other)]).await
                }
                cleared => cleared,
            }
        });
        // Whatever became of it: where the tables are has not changed.
        self.uncertain = false;
        if cleared?.is_none() {
            turns.turn();
        }
        Ok(())
    }
}

/// The tables are here now.
fn reach(lsn: u64, counters: &Counters, last_seq: u64) -> Step {
    let Counters { token, n, f, k, audit, clock } = *counters;
    let sql = "update {s}.reached set lsn = $1, token = $2, n = $3, f = $4, k = $5, audit = $6, clock = $7, last_seq = $8 \
               where {p}";
    let numbers = [lsn, token, n, f, k, audit, clock.0, last_seq];
    Step { sql: sql.to_owned(), params: numbers.into_iter().map(Param::i64).collect(), rows: Some(1) }
}

fn moved() -> Error {
    Error::new(ErrorKind::Unavailable, "another process leads the store now; this one follows: try again")
}

/// Figures that only grow.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) batches: AtomicU64,
    pub(crate) failed_batches: AtomicU64,
}

/// What brings the tables further while a process leads.
pub(crate) struct Follower {
    pub(crate) tables: Tables,
    pub(crate) desk: Arc<Desk>,
    pub(crate) behind: Arc<Behind>,
    pub(crate) turns: Arc<Turns>,
    pub(crate) figures: Arc<Figures>,
}

impl Follower {
    /// The life of the thread.
    pub(crate) fn run(mut self) {
        let (desk, behind) = (self.desk.clone(), self.behind.clone());
        let followed = catch_unwind(AssertUnwindSafe(|| self.follow()));
        let error = match followed {
            Ok(Ok(())) => return,
            // Where the tables could not follow to the end, the journal has it.
            Ok(Err(Halt::Later(error))) => {
                tracing::warn!(%error, "the tables lack the end of the journal; who leads next brings them there");
                return behind.abandon();
            }
            Ok(Err(Halt::Moved)) => {
                let error = moved();
                let _ = desk.moved.set(error.clone());
                error
            }
            Ok(Err(Halt::Wrong(error))) => error,
            Err(_) => Error::unknown(
                ErrorKind::Untrusted,
                "the tables of the store have a bug: it panicked".to_owned(),
            ),
        };
        // In this order: whoever is told that it is over hears why, and what comes after is not acknowledged.
        if desk.moved.get().is_none() {
            let _ = desk.failed.set(error.clone());
        }
        let _ = desk.inbox.force(Message::Failed(error));
        behind.abandon();
    }

    fn follow(&mut self) -> Result<(), Halt> {
        let mut batch = Batch::default();
        loop {
            match self.behind.next() {
                Task::Gather(groups) => self.gather(&mut batch, groups),
                Task::Apply(groups) => {
                    self.gather(&mut batch, groups);
                    while batch.lsn > 0 {
                        let Some(later) = self.apply(std::mem::take(&mut batch))? else { return Ok(()) };
                        self.gather(&mut batch, later);
                    }
                }
                Task::Finish(_) | Task::Stop => return Ok(()),
            }
        }
    }

    /// What came and went within the batch costs nothing from here on, not even memory.
    fn gather(&self, batch: &mut Batch, groups: Vec<Handed>) {
        groups.into_iter().for_each(|group| batch.add(group));
        self.behind.holds(batch.bytes);
    }

    /// Until it is done; answers what came while it could not be. `None`: the store has ended.
    ///
    /// Tried again, it is the same batch: one that may have happened must not grow.
    fn apply(&mut self, batch: Batch) -> Result<Option<Vec<Handed>>, Halt> {
        let mut later = Vec::new();
        loop {
            let error = match self.tables.write(&batch) {
                Ok(()) => break,
                Err(Halt::Later(error)) => error,
                Err(halt) => return Err(halt),
            };
            self.figures.failed_batches.fetch_add(1, Ordering::Relaxed);
            if self.behind.is_closing() {
                return Err(Halt::Later(error));
            }
            tracing::warn!(%error, "the tables cannot follow the journal; they are tried again");
            let stuck = Stuck { error, lsn: batch.lsn, overlay: Arc::default() };
            let Some(more) = self.behind.stuck(stuck) else { return Ok(None) };
            later.extend(more);
        }
        self.figures.batches.fetch_add(1, Ordering::Relaxed);
        self.behind.applied(&batch);
        self.behind.set_floor(self.behind.in_tables());
        drop(batch);
        self.desk.tail.trim(self.behind.seq());
        match self.tables.rotate(&self.turns) {
            // It is tried again behind the next batch.
            Err(Halt::Later(error)) => {
                tracing::debug!(%error, "a table of the journal is not emptied for now")
            }
            rotated => rotated?,
        }
        Ok(Some(later))
    }
}

/// How long somebody who reads waits for tables that could not be written.
const LATER: Duration = Duration::from_secs(1);

/// Waits until the tables have everything that was answered before.
///
/// # Errors
/// `Unavailable`: they cannot be written; `DeadlineExceeded`: they take longer than `within`.
pub(crate) async fn wait_for(desk: &Desk, behind: &Behind, within: Duration) -> Result<(), Error> {
    let target = behind.handed();
    if behind.lsn() >= target {
        return Ok(());
    }
    behind.want(target);
    let mut reached = behind.watch();
    let knows = |reached: &Reached| reached.lsn >= target || reached.over;
    let stops = |reached: &Reached| knows(reached) || reached.stuck.is_some();
    let waits = async {
        let stuck = reached.wait_for(stops).await.map(|reached| !knows(&reached)).unwrap_or_default();
        if stuck {
            // A session that broke is opened anew, say.
            let _ = timeout(LATER, reached.wait_for(knows)).await;
        }
        reached.borrow().clone()
    };
    let late = |_| {
        let message = "the tables of the store have not followed its journal in time; try again later";
        Error::new(ErrorKind::DeadlineExceeded, message)
    };
    match timeout(within, waits).await.map_err(late)? {
        Reached { lsn, .. } if lsn >= target => Ok(()),
        Reached { stuck: Some(Stuck { error, .. }), over: false, .. } => {
            let message = format!("the tables cannot follow the journal at the moment: {error}");
            Err(Error::new(ErrorKind::Unavailable, message).because(error))
        }
        _ => Err(desk.gone()),
    }
}
