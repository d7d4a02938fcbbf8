//! What the callers, the writer, the readers and the checkpointer share.

use std::{
    ops::Deref,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use mainstay_core::{Error, ErrorKind};
use mainstay_writer::desk::Desk;

use crate::{
    behind::{Behind, Over, Stuck},
    checkpoint::Checkpoints,
    message::Message,
    options::FatalHook,
    read::{ReadAhead, Reads},
};

pub(crate) struct Shared {
    /// What every writer's store has.
    pub(crate) desk: Arc<Desk>,
    pub(crate) path: PathBuf,
    /// To the readers.
    pub(crate) reads: Reads,
    /// From the readers, for the writer.
    pub(crate) read_ahead: ReadAhead,
    /// To the tables.
    pub(crate) behind: Behind,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) stats: Stats,
    pub(crate) max_file_bytes: Option<u64>,
    pub(crate) on_fatal: Option<FatalHook>,
}

/// What is on the desk is shared too.
impl Deref for Shared {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.desk
    }
}

/// Figures that only grow, and a few that say how things are now; the writer's own are the desk's.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) syncs: AtomicU64,
    /// Batches of groups that were brought into the tables, and those that could not be.
    pub(crate) batches: AtomicU64,
    pub(crate) failed_batches: AtomicU64,
    /// Bytes of the file that hold something, if it has a bound.
    pub(crate) used_bytes: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) failed_checkpoints: AtomicU64,
    pub(crate) wal_frames: AtomicU64,
    pub(crate) bodies_read: AtomicU64,
    pub(crate) bodies_read_ahead: AtomicU64,
}

impl Shared {
    /// Ends the store, from another thread than the writer's: it can no longer be trusted.
    pub(crate) fn fail(&self, error: &Error) {
        // First, for a store that is closing takes no message any more. Whoever is not the first has nothing to add.
        if self.failed.set(error.clone()).is_ok() {
            let _ = self.inbox.force(Message::Failed(error.clone()));
        }
    }

    /// Passes on what was read. Damage is as bad here as where the writer comes upon it: it ends the store.
    pub(crate) fn read<T>(&self, read: Result<T, Error>) -> Result<T, Error> {
        read.inspect_err(|error| {
            if error.kind() == ErrorKind::Untrusted {
                self.fail(error);
            }
        })
    }

    /// Waits until the tables have the bodies up to this number. If they cannot be written now, answers what they
    /// lack; an error if the store has ended before they had them.
    pub(crate) fn wait_for_bodies(&self, newest: u64) -> Result<Option<Stuck>, Error> {
        if newest <= self.behind.n() {
            return Ok(None);
        }
        let lacking = self.behind.wait_for_or_lack(self.behind.handed());
        lacking.map_err(|Over| self.gone())
    }

    pub(crate) fn stats(&self) -> Vec<(&'static str, f64)> {
        let s = &self.stats;
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed) as f64;
        let mut all = self.desk.stats();
        all.extend([
            ("syncs_total", read(&s.syncs)),
            ("table_batches_total", read(&s.batches)),
            ("failed_table_batches_total", read(&s.failed_batches)),
            ("behind_bytes", self.behind.journal_bytes() as f64),
            ("checkpoints_total", read(&s.checkpoints)),
            ("failed_checkpoints_total", read(&s.failed_checkpoints)),
            ("wal_bytes", read(&s.wal_frames) * f64::from(crate::connection::PAGE_BYTES + 24)),
            ("waiting_reads", self.reads.weight() as f64),
            ("bodies_read_total", read(&s.bodies_read)),
            ("bodies_read_ahead_total", read(&s.bodies_read_ahead)),
        ]);
        all
    }
}
