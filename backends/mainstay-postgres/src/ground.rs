//! What the writer stands on: a group is durable when its row of the journal has been committed. The transaction proves first
//! that this process still leads. The tables follow.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use mainstay_core::{
    Error, ErrorKind,
    engine::change::{Archive, Change, Counters},
};
use mainstay_writer::{
    answer::Sealed,
    batch::Handed,
    behind::{Behind, NoRoom},
    cache::BodyCache,
    desk::Desk,
    fault::{Fault, Result, Severity},
    stopwatch::Stopwatch,
    tail::Note,
    writer::{Ground, Group},
};

use crate::{
    archive::Past,
    fault::Trouble,
    fill::{Source, fill},
    journal::{self, Place, Turns},
    link::{Again, Proof, Target},
    step::Param,
    term::Leading,
};

pub(crate) struct Transactions {
    desk: Arc<Desk>,
    target: Arc<Target>,
    past: Past,
    /// A session of its own for what answers lack: on the writer's, a query of theirs that fails could fall between the
    /// last step of a transaction and its commit, which would then be a silent rollback.
    filler: Again,
    /// What this process leads by; another number whenever it has to be sure of something.
    epoch: Arc<AtomicU64>,
    /// The last group.
    last: Place,
    turns: Arc<Turns>,
    behind: Arc<Behind>,
}

impl Transactions {
    pub(crate) fn new(
        leading: &Leading,
        target: Arc<Target>,
        past: Past,
        epoch: Arc<AtomicU64>,
        (last, turns): (Place, Arc<Turns>),
    ) -> Transactions {
        let (desk, behind, filler) =
            (leading.desk.clone(), leading.behind.clone(), Again::new(target.clone()));
        Transactions { desk, target, past, filler, epoch, last, turns, behind }
    }

    /// Writes a group's row, and hands the group to the tables. An error says whether it may have happened all the same;
    /// then nobody can tell any more.
    fn append(
        &mut self,
        changes: Vec<Change>,
        counters: &Counters,
        last_seq: u64,
        notes: Vec<Note>,
    ) -> Result<()> {
        let data = journal::record(&changes).map_err(Fault::clean)?;
        let record = data.len();
        let place = Place { lsn: self.last.lsn + 1, table: self.turns.table() };
        self.attempt(place, counters, last_seq, data)?;
        self.last = place;
        self.turns.wrote(place.table, record);
        // Before the tables can follow: a reader who finds that they have lost something can see why.
        self.desk.tail.add(notes.into_iter());
        let bytes = record + changes.len() * size_of::<Change>();
        let handed = Handed { lsn: place.lsn, counters: *counters, changes, bytes, growth: 0 };
        self.behind.hand_over(handed, record);
        Ok(())
    }

    fn attempt(&mut self, place: Place, counters: &Counters, last_seq: u64, data: Vec<u8>) -> Result<()> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let proof = Proof::Group { epoch, last: Some(self.last) };
        let steps = [journal::append(place, epoch, counters, last_seq, data)];
        let runtime = self.target.runtime.clone();
        let link = self.past.link();
        let done = runtime.block_on(async {
            let link = link.get().await.map_err(|trouble| (false, trouble))?;
            link.transaction(proof, &steps).await.map_err(|trouble| (true, trouble))
        });
        let (begun, trouble) = match done {
            Ok(None) => return Ok(()),
            Ok(Some(wrong)) => return Err(Fault::fatal(disagree(&wrong))),
            Err(trouble) => trouble,
        };
        if trouble.is_deposed() {
            return Err(self.deposed());
        }
        if trouble.is_damage() {
            return Err(Fault::fatal(trouble.error()));
        }
        match trouble {
            Trouble::Lost(cause) if begun => match self.has_happened(place.lsn, cause)? {
                true => Ok(()),
                false => Err(Fault::clean(Error::new(
                    ErrorKind::Unavailable,
                    "the connection to the database broke before the commit; nothing of it is there: try again",
                ))),
            },
            trouble => Err(Fault::clean(trouble.error())),
        }
    }

    /// Waits until the tables have come near enough.
    fn has_room(&self, group: &mut Group) -> Result<()> {
        match self.behind.room() {
            Ok(()) => Ok(()),
            Err(NoRoom::Stuck(cause)) => {
                // Whatever is in the group: alone, none of it would fare better.
                group.no_room = true;
                let message = format!("the tables cannot follow the journal, which is full by now: {cause}");
                Err(Fault::clean(Error::new(ErrorKind::Unavailable, message).because(cause)))
            }
            Err(NoRoom::Over) => Err(Fault::fatal(self.desk.gone())),
        }
    }

    /// Finds out what became of a transaction whose connection broke. It may be under way still, or not even have
    /// arrived: so the epoch that it proves is made invalid first. The row it locks for that is free when it has ended.
    fn has_happened(&mut self, lsn: u64, cause: Error) -> Result<bool> {
        let watch = Stopwatch::start();
        let runtime = self.target.runtime.clone();
        let epoch = self.epoch.load(Ordering::Acquire);
        let mut last = cause;
        // As long as a transaction may take, and a lease on top: then another leads, and knows no more than we.
        while watch.elapsed() < self.target.options.timeout + self.target.options.lease {
            let link = self.past.link();
            link.drop_link();
            let looked = runtime.block_on(async {
                let link = link.get().await?;
                let sql = "update {s}.leader set epoch = epoch + 1, backend_pid = null where epoch = $1 returning epoch";
                let ours = link.query(sql, vec![Param::i64(epoch)]).await?;
                let next = ours.first().map(|row| row.get::<_, i64>(0) as u64);
                let sql = "select exists (select 1 from {s}.journal where lsn = $1 and epoch = $2), \
                     coalesce((select min(lsn) from {s}.journal), 0)";
                let found = link.query(sql, vec![Param::i64(lsn), Param::i64(epoch)]).await?;
                let (happened, oldest) = found.first().map_or((false, 0), |row| (row.get(0), row.get::<_, i64>(1)));
                Ok::<_, Trouble>((next, happened, oldest as u64))
            });
            match looked {
                // Another has led meanwhile, and has let go of that part of the journal.
                Ok((_, false, oldest)) if oldest > lsn => break,
                // If there is no next one, another leads: the next group finds out.
                Ok((next, happened, _)) => {
                    if let Some(next) = next {
                        self.epoch.store(next, Ordering::Release);
                    }
                    return Ok(happened);
                }
                Err(trouble) => last = trouble.error(),
            }
            runtime.block_on(tokio::time::sleep(LOOK_AGAIN));
        }
        let message = format!(
            "the database went away during the commit, and nobody can say whether it happened: {last}"
        );
        let moved = format!("this process does not lead the store any more: {last}; try again");
        let _ = self.desk.moved.set(Error::new(ErrorKind::Unavailable, moved));
        Err(Fault::fatal(Error::unknown(ErrorKind::Unavailable, message).because(last)))
    }

    fn deposed(&self) -> Fault {
        let message = "another process leads the store now; this one follows: try again";
        let error = Error::new(ErrorKind::Unavailable, message);
        let _ = self.desk.moved.set(error.clone());
        Fault::fatal(error)
    }
}

/// How soon to look again whether the database is there.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(50);

fn clean_is_nothing(fault: Fault) -> Result<()> {
    match fault.severity {
        Severity::Clean => Ok(()),
        Severity::Fatal => Err(fault),
    }
}

fn disagree(wrong: &str) -> Error {
    let message =
        format!("the tables are not as this process knows them: {wrong}; did something else write them?");
    Error::unknown(ErrorKind::Untrusted, message)
}

impl Ground for Transactions {
    fn begin(&mut self, cache: &mut BodyCache) {
        self.past.begin(self.last.lsn + 1, self.behind.lsn());
        cache.in_tables(self.behind.n());
    }

    fn archive(&mut self) -> &mut dyn Archive {
        &mut self.past
    }

    fn note(&mut self, change: &Change) {
        self.past.note(change);
    }

    fn write(&mut self, group: &mut Group, counters: &Counters, last_seq: u64) -> Result<bool> {
        if group.changes.is_empty() {
            // What it found is the truth if this process leads still; no transaction says so.
            return self.desk.is_current().map(|()| false).map_err(Fault::clean);
        }
        self.has_room(group)?;
        // The next group is about as large.
        let room = Vec::with_capacity(group.changes.len());
        let changes = std::mem::replace(&mut group.changes, room);
        let notes = std::mem::take(&mut group.notes);
        self.append(changes, counters, last_seq, notes)?;
        self.target.given.fetch_max(counters.token, Ordering::AcqRel);
        Ok(true)
    }

    fn commit(&mut self) {
        self.past.commit();
    }

    fn roll_back(&mut self) {
        self.past.roll_back();
    }

    /// Where the clock stopped. If it cannot be said, it stopped at the last group.
    fn end(&mut self, counters: &Counters, last_seq: u64) -> Result<()> {
        self.append(vec![], counters, last_seq, vec![]).or_else(clean_is_nothing)
    }

    fn fill(&mut self, cold: Vec<Sealed>) {
        let runtime = self.target.runtime.clone();
        let link = runtime.block_on(self.filler.get());
        match link {
            // Its own task: the next group need not wait for it. As many of them as there are callers who wait.
            Ok(link) => {
                let (desk, behind) = (self.desk.clone(), self.behind.clone());
                let source = Source { link, desk, behind, within: self.target.options.within };
                drop(runtime.spawn(fill(source, cold)));
            }
            Err(trouble) => {
                let error = trouble.error();
                for Sealed { sender, .. } in cold {
                    let _ = sender.send(Err(mainstay_writer::answer::not_shown(&error)));
                }
            }
        }
    }
}
