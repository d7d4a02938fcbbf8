//! What the callers, the writer, the readers and the checkpointer share.

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use mainstay_core::{Error, ErrorKind, StoreTime, Timestamp, hub::Hub, time::Now};
use tokio::sync::watch;

use crate::{
    apply::Batch,
    behind::{Behind, Over},
    checkpoint::Checkpoints,
    clock::StoreClock,
    inbox::Inbox,
    inbox::Refused,
    options::FatalHook,
    read::Reads,
    tail::Tail,
    writer::Message,
};

pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    pub(crate) clock: StoreClock,
    /// To the writer.
    pub(crate) inbox: Arc<Inbox<Message>>,
    /// To the readers.
    pub(crate) reads: Reads,
    /// To the tables.
    pub(crate) behind: Behind,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) hub: Arc<Hub>,
    pub(crate) tail: Tail,
    pub(crate) stats: Stats,
    pub(crate) due: Due,
    pub(crate) max_file_bytes: Option<u64>,
    pub(crate) on_fatal: Option<FatalHook>,
    /// Set once, when the store can no longer be trusted.
    pub(crate) failed: OnceLock<Error>,
    /// The time to close is over: what has not begun is refused.
    pub(crate) abandon: AtomicBool,
    /// How the store ended, once it has.
    pub(crate) ended: watch::Sender<Option<Result<(), Error>>>,
}

/// When the tables will next say something that is not true any more: a lease that ran out, a job that expired. A
/// read from then on has the writer tidy up first.
pub(crate) struct Due {
    lease_end: AtomicU64,
    expiry: AtomicI64,
}

impl Default for Due {
    fn default() -> Due {
        Due { lease_end: AtomicU64::new(u64::MAX), expiry: AtomicI64::new(i64::MAX) }
    }
}

impl Due {
    /// Said by the writer before it answers anybody.
    pub(crate) fn set(&self, lease_end: Option<StoreTime>, expiry: Option<Timestamp>) {
        self.lease_end.store(lease_end.map_or(u64::MAX, |at| at.0), Ordering::Release);
        self.expiry.store(expiry.map_or(i64::MAX, |at| at.0), Ordering::Release);
    }

    pub(crate) fn has_come(&self, now: Now) -> bool {
        self.lease_end.load(Ordering::Acquire) <= now.store.0
            || self.expiry.load(Ordering::Acquire) <= now.wall.0
    }
}

/// Figures that only grow, and a few that say how things are now.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) groups: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) write_micros: AtomicU64,
    pub(crate) write_micros_max: AtomicU64,
    pub(crate) failed_groups: AtomicU64,
    /// Batches of groups that were brought into the tables, and those that could not be.
    pub(crate) batches: AtomicU64,
    pub(crate) failed_batches: AtomicU64,
    /// Bytes of the file that hold something, if it has a bound.
    pub(crate) used_bytes: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) failed_checkpoints: AtomicU64,
    pub(crate) wal_frames: AtomicU64,
    pub(crate) bodies_read: AtomicU64,
    pub(crate) given_back: AtomicU64,
    pub(crate) cache_bytes: AtomicU64,
    pub(crate) unfinished: AtomicU64,
}

impl Shared {
    /// Why the store does not answer any more.
    pub(crate) fn gone(&self) -> Error {
        match self.failed.get() {
            Some(cause) => {
                let message = format!("the store can no longer be trusted: {cause}");
                Error::new(ErrorKind::Untrusted, message).because(cause.clone())
            }
            None => Error::new(ErrorKind::Closed, "the store is closed"),
        }
    }

    /// Waits until the tables have the bodies up to this number. If they cannot be written now, answers what they
    /// lack; an error if the store has ended before they had them.
    pub(crate) fn wait_for_bodies(&self, newest: u64) -> Result<Option<Arc<Batch>>, Error> {
        if newest <= self.behind.n() {
            return Ok(None);
        }
        let lacking = self.behind.wait_for_or_lack(self.behind.handed());
        lacking.map(|stuck| stuck.map(|stuck| stuck.overlay)).map_err(|Over| self.gone())
    }

    /// Hands a message to the writer.
    pub(crate) fn tell(&self, message: Message, weight: usize) -> Result<(), Error> {
        self.inbox.push(message, weight).map_err(|(refused, _)| match refused {
            Refused::Closed => self.gone(),
            Refused::Full => Error::new(
                ErrorKind::Overloaded,
                format!("{} bytes are waiting to be written; try again later", self.inbox.weight()),
            ),
        })
    }

    pub(crate) fn stats(&self) -> Vec<(&'static str, f64)> {
        let s = &self.stats;
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed) as f64;
        vec![
            ("groups_total", read(&s.groups)),
            ("commits_total", read(&s.commits)),
            ("syncs_total", read(&s.syncs)),
            ("group_write_seconds_total", read(&s.write_micros) / 1e6),
            ("group_write_seconds_max", s.write_micros_max.swap(0, Ordering::Relaxed) as f64 / 1e6),
            ("failed_groups_total", read(&s.failed_groups)),
            ("table_batches_total", read(&s.batches)),
            ("failed_table_batches_total", read(&s.failed_batches)),
            ("behind_bytes", self.behind.bytes() as f64),
            ("checkpoints_total", read(&s.checkpoints)),
            ("failed_checkpoints_total", read(&s.failed_checkpoints)),
            ("wal_bytes", read(&s.wal_frames) * f64::from(crate::connection::PAGE_BYTES + 24)),
            ("queue_bytes", self.inbox.weight() as f64),
            ("waiting_reads", self.reads.weight() as f64),
            ("bodies_read_total", read(&s.bodies_read)),
            ("given_back_total", read(&s.given_back)),
            ("body_cache_bytes", read(&s.cache_bytes)),
            ("unfinished_jobs", read(&s.unfinished)),
            ("waiting_callers", self.hub.waiting() as f64),
        ]
    }
}
