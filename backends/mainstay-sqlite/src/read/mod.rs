//! Reads: short SQL snapshots on a few threads of their own, each with a read-only connection.

mod ahead;
mod jobs;
mod list;
mod log;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use mainstay_core::{
    Error, ErrorKind,
    event::LogSlice,
    store::{Key, Page, Query, Record, Slice},
    time::Now,
};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    answer::{Sealed, not_shown},
    behind::Stuck,
    inbox::{Inbox, Taken},
    shared::Shared,
};
pub(crate) use ahead::ReadAhead;
pub(crate) use jobs::Jobs;
pub(crate) use log::LogQuery;

/// How many threads read.
pub(crate) const READERS: usize = 2;
/// Reads that may wait for a thread; more are refused.
pub(crate) const WAITING_READS: usize = 4_096;

/// What a reading thread is asked.
pub(crate) enum Read {
    Get {
        key: Key,
        /// What the tables lack.
        lacking: Option<Stuck>,
        answer: oneshot::Sender<Result<Option<Record>, Error>>,
    },
    List {
        query: Query,
        page: Page,
        answer: oneshot::Sender<Result<Slice, Error>>,
    },
    /// A piece of the log that is older than its tail.
    Log {
        query: LogQuery,
        answer: oneshot::Sender<Result<LogSlice, Error>>,
    },
    /// Answers of the writer whose bodies were not in its cache. Their group is durable.
    Fill(Vec<Sealed>),
    /// Bodies that claims will ask for, by number, in order.
    Ahead(Vec<u64>),
}

/// The life of a reading thread: until the inbox is closed and empty.
pub(crate) fn run(conn: &Connection, shared: &Shared, inbox: &Inbox<Read>) -> Result<(), Error> {
    let mut reader = Reader { conn, path: &shared.path, shared, jobs: Jobs::new(conn, &shared.path)? };
    let mut taken = Vec::with_capacity(1);
    loop {
        let mut room = 1;
        // One at a time, so that the other thread can take the next.
        let over = inbox.take(&mut taken, None, |_, _| std::mem::take(&mut room) == 1);
        for read in taken.drain(..) {
            // One that panics has shown it; its caller sees its channel close, the next gets its answer.
            let _ = catch_unwind(AssertUnwindSafe(|| reader.answer(read)));
        }
        if over == Taken::Over {
            return Ok(());
        }
    }
}

struct Reader<'c> {
    conn: &'c Connection,
    path: &'c Path,
    shared: &'c Shared,
    jobs: Jobs<'c>,
}

impl Reader<'_> {
    fn answer(&mut self, read: Read) {
        // A caller that is gone needs no answer; sends to it fail, and that is all.
        match read {
            Read::Get { answer, .. } if answer.is_closed() => {}
            Read::List { answer, .. } if answer.is_closed() => {}
            Read::Log { answer, .. } if answer.is_closed() => {}
            Read::Get { key, lacking, answer } => {
                let now = self.shared.clock.now();
                let found = self.in_snapshot(|reader| {
                    reader.jobs.lack(lacking)?;
                    reader.get(&key, now)
                });
                let _ = answer.send(found);
            }
            Read::List { query, page, answer } => {
                let now = self.shared.clock.now();
                let conn = self.conn;
                self.jobs.lacking = None;
                let slice = self.in_snapshot(|reader| list::list(conn, &mut reader.jobs, &query, &page, now));
                let _ = answer.send(slice);
            }
            Read::Log { query, answer } => {
                let conn = self.conn;
                let slice =
                    self.in_snapshot(|reader| log::read(conn, reader.path, &reader.shared.tail, &query));
                let _ = answer.send(slice);
            }
            Read::Fill(sealed) => self.fill(sealed),
            Read::Ahead(numbers) => self.read_ahead(&numbers),
        }
    }

    fn get(&mut self, key: &Key, now: Now) -> Result<Option<Record>, Error> {
        match key {
            Key::Job(id) => Ok(self.jobs.job(*id, now)?.map(|job| Record::Job(Box::new(job)))),
            Key::AccessToken(name) => {
                let lacking = self.jobs.lacking.as_ref().and_then(|batch| batch.access_token(name.as_str()));
                if let Some(token) = lacking {
                    return Ok(token.cloned().map(Record::AccessToken));
                }
                Ok(list::find_token(self.conn, self.path, name.as_str())?.map(Record::AccessToken))
            }
            Key::Queue(_) | Key::Lock(_) | Key::Event(_) | Key::Schedule(_) => {
                Err(Error::new(ErrorKind::Invalid, "what the engine has is read by the writer"))
            }
        }
    }

    fn fill(&mut self, sealed: Vec<Sealed>) {
        let mut filled = Vec::with_capacity(sealed.len());
        let newest = sealed.iter().map(|sealed| sealed.newest).max().unwrap_or_default();
        let (lacking, now) = (self.shared.wait_for_bodies(newest), self.shared.clock.now());
        let done = self.in_snapshot(|reader| {
            for Sealed { sender, mut answer, .. } in sealed {
                let bodies = lacking.clone().and_then(|lacking| reader.jobs.fill(&mut answer, lacking, now));
                filled.push((sender, reader.shared.read(bodies).map(|()| answer)));
            }
            Ok(())
        });
        self.shared.stats.bodies_read.fetch_add(filled.len() as u64, Ordering::Relaxed);
        for (sender, answer) in filled {
            let _ = sender.send(done.clone().and(answer).map_err(|e| not_shown(&e)));
        }
    }

    /// Runs `read` in one snapshot of the file, taken now. Damage that it comes upon ends the store.
    fn in_snapshot<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let snapshot = self.shared.read(self.jobs.snapshot())?;
        let result = read(self);
        drop(snapshot);
        self.shared.read(result)
    }
}

/// A read that found no room.
pub(crate) fn too_many_reads() -> Error {
    let message = format!("{WAITING_READS} reads are waiting already; try again later");
    Error::new(ErrorKind::Overloaded, message)
}

/// Where reads go.
pub(crate) type Reads = Arc<Inbox<Read>>;
