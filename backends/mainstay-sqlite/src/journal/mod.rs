//! The journal: what makes a commit durable. One record a group, written in place into blocks that are on the disk
//! already, and one sync.
//!
//! The tables follow ([`crate::apply`]). A segment whose groups are all in the tables, and durable there, is written
//! over. Opening a store brings the tables up to date from what is left here ([`recover`]); closing it in good order
//! leaves no journal.

pub(crate) mod files;
pub(crate) mod record;
pub(crate) mod recover;
pub(crate) mod segment;
pub(crate) mod spare;
#[cfg(test)]
mod spare_model;
#[cfg(test)]
mod spare_tests;

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    path::Path,
    sync::Arc,
};

use mainstay_core::{
    Error, ErrorKind,
    engine::change::{Change, Counters},
};

use mainstay_writer::codec::encode;
pub(crate) use mainstay_writer::codec::locks::{mode_numbers, mode_of};

use crate::{
    fault::{Fault, Result},
    sync,
};
use files::Files;
use segment::Segment;
use spare::Spare;

/// The writer's end of the journal.
pub(crate) struct Journal {
    spare: Arc<Spare>,
    epoch: u64,
    /// The last group that was written, and the last that is known to be on the disk.
    lsn: u64,
    synced: u64,
    active: Segment,
    /// Where the next record goes.
    at: u64,
    /// Filled, with the last group of each; oldest first.
    full: VecDeque<(u64, Segment)>,
    free: VecDeque<Segment>,
    most: u64,
    /// The record of the group under way.
    record: Vec<u8>,
}

/// A record grown larger than this gives its memory back.
const KEPT_BYTES: usize = 4 << 20;

impl Journal {
    /// Goes on behind `lsn`, over whatever the segments hold. An empty record begins the epoch, durably: by it the next
    /// open can tell the store's own journal from one that was lost or mixed up.
    pub(crate) fn new(
        spare: Arc<Spare>,
        files: &dyn Files,
        store: &Path,
        found: Vec<Segment>,
        (epoch, lsn): (u64, u64),
        most: u64,
    ) -> std::result::Result<Journal, Error> {
        let mut free: VecDeque<_> = found.into();
        let active = match free.pop_front() {
            Some(segment) => segment,
            None => Segment::make(files, &segment::path(store, 1), segment::next_bytes(0, most))
                .map_err(|e| no_segment(store, e))?,
        };
        let mut journal = Journal {
            spare,
            epoch,
            lsn,
            synced: lsn,
            active,
            at: 0,
            full: VecDeque::new(),
            free,
            most,
            record: Vec::new(),
        };
        journal.begin_epoch(files, store).map_err(|e| unbegun(store, e))?;
        journal.begin();
        Ok(journal)
    }

    /// The record has the number of a group that is in the tables, so nobody replays it.
    fn begin_epoch(&mut self, files: &dyn Files, store: &Path) -> io::Result<()> {
        record::begin(&mut self.record);
        record::end(&mut self.record, self.epoch, self.lsn, self.synced, self.active.bytes);
        self.active.file.write_at(&self.record, 0)?;
        self.active.file.sync()?;
        // One that a killed process was making may be longer than the disk knows; its records will say how long it is.
        self.free.iter().try_for_each(|segment| segment.file.sync())?;
        // A process that was killed may have made the file and not have come to this.
        files.sync_folder(store)?;
        self.at = self.record.len() as u64;
        // What a process that was killed has begun to make may be shorter.
        self.active.bytes = self.active.bytes.max(self.at);
        Ok(())
    }

    /// Forgets what was noted since the last record.
    pub(crate) fn begin(&mut self) {
        if self.record.capacity() > KEPT_BYTES {
            self.record = Vec::new();
        }
        record::begin(&mut self.record);
        // The counters come first, and are known last.
        self.record.resize(record::HEADER + COUNTERS, 0);
    }

    /// The number of the group under way.
    pub(crate) fn next(&self) -> u64 {
        self.lsn + 1
    }

    /// Notes a change of the group under way.
    pub(crate) fn note(&mut self, change: &Change) {
        encode::change(&mut self.record, change);
    }

    /// How much was noted.
    pub(crate) fn noted(&self) -> usize {
        self.record.len() - record::HEADER - COUNTERS
    }

    /// How long the next segment is, unless a record needs a longer one.
    pub(crate) fn ordinary(&self) -> u64 {
        segment::next_bytes(self.active.bytes, self.most)
    }

    /// Writes the record; with `sync`, it and all before it are on the disk. Segments of groups up to `floor` may be
    /// written over. Answers the number of the group.
    pub(crate) fn append(
        &mut self,
        counters: &Counters,
        sync: bool,
        floor: u64,
        store: &Path,
    ) -> Result<u64> {
        let mut head = Vec::with_capacity(COUNTERS);
        encode::counters(&mut head, counters);
        self.record[record::HEADER..][..COUNTERS].copy_from_slice(&head);
        let lsn = self.lsn + 1;
        let length = record::padded(self.record.len()) as u64;
        if self.at + length > self.active.bytes {
            self.next_segment(length, floor, store)?;
        } else if self.at > self.active.bytes / 2 && self.free.is_empty() {
            self.recycle(floor);
            if self.free.is_empty() {
                self.spare.ask(self.ordinary());
            }
        }
        // When it is known in which segment it will be.
        record::end(&mut self.record, self.epoch, lsn, self.synced, self.active.bytes);
        self.active.file.write_at(&self.record, self.at).map_err(|e| match e.kind() {
            // It is not whole, so it is not there.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::clean(no_segment(store, e)),
            _ => Fault::fatal(uncertain(&self.active.path, e)),
        })?;
        self.at += length;
        self.lsn = lsn;
        if sync {
            self.sync()?;
        }
        self.begin();
        Ok(lsn)
    }

    /// Everything that was written is on the disk, or nobody knows.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if self.synced < self.lsn {
            self.active.file.sync().map_err(|e| Fault::fatal(uncertain(&self.active.path, e)))?;
            self.synced = self.lsn;
        }
        Ok(())
    }

    fn next_segment(&mut self, length: u64, floor: u64, store: &Path) -> Result<()> {
        self.recycle(floor);
        let fits = self.free.iter().position(|segment| segment.bytes >= length);
        let segment = match fits.and_then(|at| self.free.remove(at)) {
            Some(segment) => segment,
            None => self.new_segment(length).map_err(|e| Fault::clean(no_segment(store, e)))?,
        };
        // A sync of the new one says nothing of the old one.
        self.sync()?;
        let filled = std::mem::replace(&mut self.active, segment);
        self.full.push_back((self.lsn, filled));
        self.at = 0;
        Ok(())
    }

    fn new_segment(&mut self, length: u64) -> io::Result<Segment> {
        let ordinary = self.ordinary();
        loop {
            let segment = self.spare.take(ordinary.max(length.next_multiple_of(4_096)))?;
            if segment.bytes >= length {
                return Ok(segment);
            }
            // It was asked for before anybody knew of this one.
            self.free.push_back(segment);
        }
    }

    /// Takes back the segments that nobody needs any more.
    fn recycle(&mut self, floor: u64) {
        while self.full.front().is_some_and(|(last, _)| *last <= floor) {
            self.free.extend(self.full.pop_front().map(|(_, segment)| segment));
        }
    }
}

/// Bytes of the counters.
const COUNTERS: usize = 48;

/// Takes the journal away: everything is in the tables, and durable there. The last one goes first, so that a journal
/// never has a gap.
pub(crate) fn remove(files: &dyn Files, store: &Path, segments: u32) -> std::result::Result<(), Error> {
    let failed = |e| {
        let message = format!("the journal of the store {} could not be taken away: {e}", store.display());
        Error::new(ErrorKind::Unavailable, message).because(e)
    };
    // Also what a segment that could not be made has left behind.
    let mut numbers: BTreeSet<_> = (1..=segments).collect();
    numbers.extend(recover::numbers(store).map_err(failed)?);
    for number in numbers.into_iter().rev() {
        match files.delete(&segment::path(store, number)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
    }
    files.sync_folder(store).map_err(failed)
}

fn no_segment(store: &Path, e: io::Error) -> Error {
    let message = format!("there is no room for the journal of the store {}: {e}", store.display());
    Error::new(ErrorKind::Unavailable, message).because(e)
}

fn unbegun(store: &Path, e: io::Error) -> Error {
    let message = format!("the journal of the store {} could not be begun: {e}", store.display());
    Error::new(ErrorKind::Unavailable, message).because(e)
}

fn uncertain(path: &Path, e: io::Error) -> Error {
    let message = format!(
        "nobody can say what of the last writes to {} has reached the disk: {e}; open the store again once the disk is \
         sound",
        path.display()
    );
    Error::unknown(ErrorKind::Untrusted, message).because(e)
}
