//! Schedules: a job that is enqueued again and again, at the times that a cron expression names.
//!
//! A store keeps what is to be enqueued and when next, and never looks into the expression: whoever evaluates it says
//! with [`ScheduleOp::Fire`] which tick it has seen, which comes after it, and what to enqueue. The store compares and
//! sets, so that however many nodes see a tick, one of them fires it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{id::JobId, job::NewJob, name::Name, time::Timestamp};

/// What becomes of ticks that nobody was there to fire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// They are left out. The default. (A tick that is a minute late at most is still fired: a restart is no reason to
    /// lose one.)
    #[default]
    Skip,
    /// The latest of them is fired, however late.
    One,
    /// All of them are fired, in their order.
    All,
}

impl CatchUp {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            CatchUp::Skip => "skip",
            CatchUp::One => "one",
            CatchUp::All => "all",
        }
    }
}

/// What somebody wants to happen, and when. `PUT` replaces the whole of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// What it is called.
    pub name: Name,
    /// When: a cron expression, which the store does not read.
    pub cron: Arc<str>,
    /// Whose clock the expression speaks of: an IANA time zone, which the store does not read either.
    pub timezone: Arc<str>,
    /// What becomes of ticks that nobody fired in time.
    pub catch_up: CatchUp,
    /// What is enqueued. Every firing gives it an id of its own.
    pub job: NewJob,
}

impl Schedule {
    /// What it takes of [`SCHEDULES_BYTES`].
    pub fn size(&self) -> usize {
        SCHEDULE_OVERHEAD
            + self.name.as_str().len()
            + self.cron.len()
            + self.timezone.len()
            + self.job.body.size()
    }

    /// Whether both name the same times.
    pub fn same_times(&self, other: &Schedule) -> bool {
        self.cron == other.cron && self.timezone == other.timezone
    }
}

/// Schedules are kept in RAM with the jobs they enqueue; all of a store's together take at most this, 256 MiB.
pub const SCHEDULES_BYTES: usize = 256 << 20;
/// What a schedule takes beside its texts, roughly.
const SCHEDULE_OVERHEAD: usize = 640;

/// How far a schedule is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// Grows with every change of the configuration, with every pause and resume; never used twice by a store.
    pub revision: u64,
    /// It does not fire.
    pub paused: bool,
    /// The tick that is fired next. `None` while it is paused, or when there is none any more.
    pub next: Option<Timestamp>,
    /// The last tick that was fired.
    pub last: Option<Timestamp>,
    /// The job of the last tick.
    pub last_job: Option<JobId>,
    /// Ticks that were fired.
    pub fired: u64,
    /// Ticks that were left out, because nobody was there in time.
    pub missed: u64,
}

/// A schedule as a store has it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    /// What is wanted.
    pub schedule: Arc<Schedule>,
    /// How far it is.
    pub state: ScheduleState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When what is wanted, or the pause, was changed last.
    pub updated_at: Timestamp,
}

impl ScheduleRecord {
    /// Its name.
    pub fn name(&self) -> &Name {
        &self.schedule.name
    }
}

/// A change of schedules.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ScheduleOp {
    /// Makes a schedule or replaces what is wanted. → [`ScheduleReply::Put`]
    ///
    /// One whose expression and time zone stay as they are keeps its next tick, so that a service which puts its
    /// schedules at every start loses none; a paused one stays paused.
    Put {
        /// All of it.
        schedule: Arc<Schedule>,
        /// The first tick.
        next: Timestamp,
    },
    /// Forgets a schedule. Jobs it has enqueued stay. → [`crate::op::Reply::Done`]
    Delete {
        /// Which.
        name: Name,
    },
    /// Stops it from firing. Its ticks until it is resumed never happen. → [`crate::op::Reply::Done`]
    Pause {
        /// Which.
        name: Name,
    },
    /// Lets a paused one fire again. Changes nothing on one that is not paused. → [`crate::op::Reply::Done`]
    Resume {
        /// Which.
        name: Name,
        /// As it was when `next` was worked out.
        revision: u64,
        /// The first tick.
        next: Timestamp,
    },
    /// Fires a tick, or passes over it. → [`ScheduleReply::Fired`]
    Fire(Box<Fire>),
}

/// A tick has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fire {
    /// Whose.
    pub name: Name,
    /// The schedule as it was when this was worked out; `None`: whatever it is now.
    pub revision: Option<u64>,
    /// The tick that its next one must be. It must have come, by the store's clock.
    pub expected: Timestamp,
    /// The tick that is fired; `None`: all up to `next` are passed over. From `expected` on.
    pub tick: Option<Timestamp>,
    /// What is enqueued for it.
    pub job: Option<Box<NewJob>>,
    /// The tick that comes after. Later than `expected` and than `tick`.
    pub next: Option<Timestamp>,
    /// How many ticks are passed over.
    pub missed: u64,
}

/// The answer to a [`ScheduleOp`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleReply {
    /// To [`ScheduleOp::Put`].
    Put {
        /// Its next tick; `None` while it is paused.
        next: Option<Timestamp>,
        /// Nothing was changed: it was there, word for word.
        unchanged: bool,
    },
    /// To [`ScheduleOp::Fire`].
    Fired {
        /// The job of the tick.
        job: Option<JobId>,
        /// Its id or unique key says that it was there before: nothing was added.
        deduplicated: bool,
    },
}

/// What changed of the schedules.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleChange {
    /// Upsert of a whole row.
    Put(Box<ScheduleRecord>),
    /// Update of how far it is.
    Moved {
        /// Key.
        name: Name,
        /// The columns that change.
        state: ScheduleState,
    },
    /// Gone.
    Removed(Name),
}

/// In which order schedules are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleOrder {
    /// All of them, by name.
    Name,
    /// Those that have a next tick, by that tick.
    Next,
}

impl ScheduleOrder {
    /// Where a list goes on after this record.
    pub fn position(self, record: &ScheduleRecord) -> String {
        match (self, record.state.next) {
            (ScheduleOrder::Next, Some(next)) => format!("{}/{}", next.0, record.name()),
            _ => record.name().to_string(),
        }
    }
}
