//! What the writer stands on: a group is durable when its record is in the journal; the tables follow.

use std::sync::{Arc, atomic::Ordering};

use mainstay_core::engine::change::{Archive, Change, Counters};
use mainstay_writer::{
    answer::{Sealed, not_shown},
    cache::BodyCache,
    writer::{Ground, Group},
};

use crate::{
    archive::Recent,
    behind::Handed,
    fault::Result,
    journal::Journal,
    options::Durability,
    read::{Jobs, Read},
    room::growth,
    shared::Shared,
    stopwatch::Stopwatch,
};

pub(crate) struct Disk<'c> {
    pub(crate) shared: Arc<Shared>,
    journal: Journal,
    archive: Recent<'c>,
    /// Fills answers itself when the readers cannot keep up.
    jobs: Jobs<'c>,
    durability: Durability,
    /// Since when something is answered but not synced (only with [`Durability::Interval`]).
    unsynced: Option<Stopwatch>,
    /// The group under way is the one that syncs (likewise).
    sync_is_due: bool,
    /// How much larger the group makes the file at most, roughly.
    pub(crate) growth: u64,
}

impl<'c> Disk<'c> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        (journal, durability): (Journal, Durability),
        archive: Recent<'c>,
        jobs: Jobs<'c>,
    ) -> Disk<'c> {
        Disk { shared, journal, archive, jobs, durability, unsynced: None, sync_is_due: false, growth: 0 }
    }

    fn synced(&mut self) {
        self.unsynced = None;
        self.shared.stats.syncs.fetch_add(1, Ordering::Relaxed);
    }
}

impl Ground for Disk<'_> {
    fn begin(&mut self, cache: &mut BodyCache) {
        self.archive.begin(self.journal.next(), self.shared.behind.lsn());
        cache.in_tables(self.shared.behind.n());
        for (n, body) in self.shared.read_ahead.take() {
            cache.came(n, body);
        }
        self.growth = 0;
        self.sync_is_due = match (self.durability, &self.unsynced) {
            (Durability::Interval(every), Some(since)) => since.elapsed() >= every,
            _ => false,
        };
    }

    fn archive(&mut self) -> &mut dyn Archive {
        &mut self.archive
    }

    fn note(&mut self, change: &Change) {
        self.journal.note(change);
        self.archive.note(change);
        if self.shared.max_file_bytes.is_some() {
            self.growth += growth(change);
        }
    }

    fn write(&mut self, group: &mut Group, counters: &Counters, _last_seq: u64) -> Result<bool> {
        if self.sync_is_due {
            // Whatever becomes of this group: those before it were answered.
            self.journal.sync()?;
            self.synced();
        }
        if group.changes.is_empty() {
            return Ok(self.sync_is_due);
        }
        self.has_room(group)?;
        let record = self.journal.noted();
        let bytes = record + group.changes.len() * size_of::<Change>();
        let sync = self.durability == Durability::Strict;
        let lsn = self.journal.append(counters, sync, self.shared.behind.floor(), &self.shared.path);
        // For one that is no longer than a segment the disk is full whatever is in it.
        let lsn = lsn.inspect_err(|_| group.no_room = record as u64 <= self.journal.ordinary())?;
        if sync {
            self.synced();
        } else {
            self.unsynced.get_or_insert_with(Stopwatch::start);
        }
        // Before the tables can follow: a reader who finds that they have lost something can see why.
        if !group.notes.is_empty() {
            self.shared.tail.add(group.notes.drain(..));
        }
        // The next group is about as large.
        let room = Vec::with_capacity(group.changes.len());
        let changes = std::mem::replace(&mut group.changes, room);
        let counters = *counters;
        let handed = Handed { lsn, counters, changes, bytes, growth: self.growth };
        self.shared.behind.hand_over(handed, record);
        Ok(true)
    }

    fn commit(&mut self) {
        self.archive.commit();
    }

    fn roll_back(&mut self) {
        self.archive.roll_back();
        self.journal.begin();
    }

    fn fill(&mut self, cold: Vec<Sealed>) {
        let weight = cold.len();
        if let Err((_, Read::Fill(cold))) = self.shared.reads.push(Read::Fill(cold), weight) {
            // The readers are behind: doing it here slows down what makes the work.
            for Sealed { sender, mut answer, newest } in cold {
                let lacking = self.shared.wait_for_bodies(newest);
                let now = self.shared.clock.now();
                let filled = lacking.and_then(|lacking| {
                    let _snapshot = self.jobs.snapshot()?;
                    self.jobs.fill(&mut answer, lacking, now)
                });
                let _ = sender.send(self.shared.read(filled).map(|()| answer).map_err(|e| not_shown(&e)));
            }
        }
    }

    fn reads_ahead(&self) -> bool {
        true
    }

    fn read_ahead(&mut self, numbers: Vec<u64>) {
        // Counts as one, lest others are refused for what nobody waits for.
        if let Err((_, Read::Ahead(numbers))) = self.shared.reads.push(Read::Ahead(numbers), 1) {
            // The readers are behind: each is read when it is asked for.
            self.shared.read_ahead.put(numbers.into_iter().map(|n| (n, None)));
        }
    }

    fn nap(&self) -> Option<std::time::Duration> {
        match (self.durability, &self.unsynced) {
            (Durability::Interval(every), Some(since)) => Some(every.saturating_sub(since.elapsed())),
            _ => None,
        }
    }

    /// The tables may not be able to take the rest.
    fn end(&mut self, _counters: &Counters, _last_seq: u64) -> Result<()> {
        self.journal.sync()
    }
}
