//! The seam: what every store does, whatever it is made of.

mod over;

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    access::{AccessToken, AuditRecord},
    error::Error,
    event::{EventInterest, EventItem, EventKey, EventQuery, LogBudget, LogSlice, Position},
    id::JobId,
    job::{JobRecord, JobState},
    lock::{LockInterest, LockRecord},
    name::{Name, QueueName},
    op::{Commit, Committed, Failure},
    queue::QueueRecord,
    schedule::{ScheduleOrder, ScheduleRecord},
    time::Now,
    topic::TopicFilter,
    worker::WorkerRecord,
};

pub use over::Over;

/// A store of jobs and events (and, later, of locks).
///
/// Dropping any of these futures is safe: a commit that was handed over may still happen, a wake-up is passed on.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What this store can promise. Never changes while it is open.
    fn capabilities(&self) -> &Capabilities;

    /// Applies the commits in order, each atomic and standing alone, with one durability point for all of them.
    ///
    /// Answers in order, one a commit, when all of them are durable and visible to reads. Never blocks on a claim
    /// that finds nothing. An `Err` is about the whole batch and says whether it was applied.
    ///
    /// "In order" means as if in order, for commits that touch the same names and for a claim after settles; a store
    /// may lock, group and split otherwise. A commit above [`Capabilities::max_commit_ops`] is refused, never cut.
    async fn submit(&self, batch: Batch) -> Result<Vec<Result<Committed, Failure>>, Error>;

    /// Reads one record. Sees every write that was answered before the call.
    async fn get(&self, key: &Key) -> Result<Option<Record>, Error>;

    /// Reads a page of records. Sees every write that was answered before the call. A page may be short, even
    /// empty, and still have a cursor.
    async fn list(&self, query: &Query, page: &Page) -> Result<Slice, Error>;

    /// Reads the log from a position on: events of the topics that match a filter (no filter: of all), in order. Sees
    /// every write that was answered before the call.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotSupported`] where the store keeps no log.
    async fn read_log(
        &self,
        _filters: &[TopicFilter],
        _from: Position,
        _budget: LogBudget,
    ) -> Result<LogSlice, Error> {
        let message = format!("a {} store keeps no log of events", self.capabilities().store);
        Err(Error::new(crate::ErrorKind::NotSupported, message))
    }

    /// Waits until looking again may be worth it, `at_most` this long. Only a hint for speed: looking again is
    /// the truth. Keep the [`Wake`] until you have looked: dropped, it passes an unused wake-up on.
    async fn wait(&self, on: &[Interest], at_most: Duration) -> Result<Wake, Error>;

    /// Does a bounded piece of housekeeping: expiry to dead letters, retention. Safety never depends on it.
    async fn maintain(&self, budget: Budget) -> Result<Maintained, Error>;

    /// Both clocks, as the store reads them.
    async fn now(&self) -> Result<Now, Error>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<(), Error>;

    /// Finishes what was handed over, within `at_most`, and lets go of everything. Later calls get `Closed`.
    async fn close(&self, at_most: Duration) -> Result<(), Error>;

    /// Writes a consistent copy of the store to `into`, a file that must not exist; it opens as a store of its own.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotSupported`] where the store has no file; the copy's own trouble.
    async fn backup(&self, _into: &Path) -> Result<(), Error> {
        let message =
            format!("a {} store has no file to copy; the sqlite: store has", self.capabilities().store);
        Err(Error::new(crate::ErrorKind::NotSupported, message))
    }

    /// Figures for metrics and dashboards; free-form, cheap, never blocks.
    fn stats(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }
}

/// What a store can promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// `memory`, `sqlite`, …
    pub store: &'static str,
    /// An answered write survives a crash.
    pub durable: bool,
    /// What one commit may span.
    pub commit_scope: CommitScope,
    /// What fencing tokens are ordered over.
    pub token_order: TokenOrder,
    /// Events have their number when the commit is answered.
    pub seq_at_commit: bool,
    /// Depths and counts are exact, not up to a second old.
    pub exact_depth: bool,
    /// In which order jobs that wait are handed out to concurrent claimers.
    pub claim_order: ClaimOrder,
    /// The most ops a commit may have.
    pub max_commit_ops: u32,
}

/// In which order jobs that wait are handed out to concurrent claimers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimOrder {
    /// Exactly that of the queue.
    Strict,
    /// That of the queue, but for what concurrent claimers hold at the moment.
    BestEffort,
}

/// What one commit may span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitScope {
    /// Everything in the store.
    Store,
    /// Names that share the part before the first `:`.
    Partition,
    /// One op.
    Single,
}

/// What fencing tokens are ordered over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenOrder {
    /// All grants of the store.
    Store,
    /// The grants of one lock, job or group.
    Name,
}

/// Commits that travel together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Applied in order, each alone.
    pub commits: Vec<Commit>,
    /// Give up unapplied when they could not begin within this time. Defaults to the store's own limit.
    pub within: Option<Duration>,
}

impl Batch {
    /// A batch of one commit.
    pub fn one(commit: Commit) -> Batch {
        Batch { commits: vec![commit], within: None }
    }
}

/// What to read one of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Key {
    /// A job, finished or not.
    Job(JobId),
    /// A queue.
    Queue(QueueName),
    /// An access token.
    AccessToken(Name),
    /// A lock that is held; a free one is not there.
    Lock(Name),
    /// A topic or a group.
    Event(EventKey),
    /// A schedule.
    Schedule(Name),
}

/// What to read many of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// Jobs, newest first.
    Jobs(JobFilter),
    /// Dead letters of a queue, newest first.
    Dead(DeadFilter),
    /// Queues by name.
    Queues,
    /// Access tokens by name.
    AccessTokens,
    /// Audit records, newest first.
    Audit,
    /// Locks that are held, by name.
    Locks {
        /// Whose name begins so.
        prefix: Option<String>,
    },
    /// Topics, groups, dead letters of a group.
    Event(EventQuery),
    /// Schedules.
    Schedules(ScheduleOrder),
    /// Workers by name.
    Workers,
}

/// Which jobs. Every part that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobFilter {
    /// Of this queue.
    pub queue: Option<QueueName>,
    /// In this state at the time of the reading.
    pub state: Option<JobState>,
    /// Of this kind.
    pub kind: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
}

/// Which dead letters. Every part that is given must fit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeadFilter {
    /// Of this queue.
    pub queue: QueueName,
    /// Of this kind.
    pub kind: Option<String>,
    /// Whose last failure was of this type.
    pub error_type: Option<String>,
}

/// Which page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// At most this many records: 1…1,000.
    pub limit: u32,
    /// Where the last page ended. A cursor belongs to its query; another's is [`crate::ErrorKind::Invalid`].
    pub cursor: Option<String>,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A job.
    Job(Box<JobRecord>),
    /// A queue.
    Queue(QueueRecord),
    /// An access token.
    AccessToken(AccessToken),
    /// An audit record.
    Audit(AuditRecord),
    /// A lock that is held.
    Lock(Box<LockRecord>),
    /// A topic, a group or a dead letter of a group.
    Event(EventItem),
    /// A schedule.
    Schedule(ScheduleRecord),
    /// A worker.
    Worker(WorkerRecord),
}

/// Binds the position in a list to its query, so that a cursor cannot be used with another.
pub fn seal_cursor(query: &Query, position: &str) -> String {
    format!("{:016x}.{position}", query_hash(query))
}

/// The position in a cursor made by [`seal_cursor`] for the same query.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`] for anything else.
pub fn open_cursor<'a>(query: &Query, cursor: &'a str) -> Result<&'a str, Error> {
    let sealed = cursor.split_once('.').filter(|(hash, _)| *hash == format!("{:016x}", query_hash(query)));
    sealed.map(|(_, position)| position).ok_or_else(|| {
        Error::new(
            crate::ErrorKind::Invalid,
            "the cursor is not one of this query: start again without a cursor",
        )
    })
}

/// FNV-1a over the query's debug form: not secret, only a guard against mix-ups.
fn query_hash(query: &Query) -> u64 {
    let text = format!("{query:?}");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// A page of records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The records.
    pub items: Vec<Record>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

/// What a caller waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interest {
    /// A job of the queue can be claimed.
    Queue(QueueName),
    /// The job has finished, or there is none.
    Finished(JobId),
    /// The job's cancellation was asked for, or it has finished, or there is none.
    CancelRequested(JobId),
    /// Something about a lock.
    Lock(LockInterest),
    /// The log has grown, or a group can hand out events.
    Event(EventInterest),
    /// Something about schedules has changed: one was made, changed, resumed, or fired by another.
    Schedules,
}

/// Why a wait ended. Keep it until you have looked again.
#[must_use = "dropping a wake-up passes it on to the next waiter"]
pub struct Wake {
    woken: bool,
    _pass_on: Option<Box<dyn Send + Sync>>,
}

impl Wake {
    /// Something happened; `pass_on` is dropped with the wake-up and gives an unused one to the next waiter.
    pub fn woken(pass_on: Option<Box<dyn Send + Sync>>) -> Wake {
        Wake { woken: true, _pass_on: pass_on }
    }

    /// Time is up.
    pub fn timed_out() -> Wake {
        Wake { woken: false, _pass_on: None }
    }

    /// Whether something happened (as opposed to the time being up).
    pub fn is_woken(&self) -> bool {
        self.woken
    }
}

impl std::fmt::Debug for Wake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wake").field("woken", &self.woken).finish()
    }
}

/// How much housekeeping to do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// At most this many rows.
    pub rows: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { rows: 1_000 }
    }
}

/// What housekeeping did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintained {
    /// Leases that had run out and were counted as crashes.
    pub crashed: u32,
    /// Jobs that had expired and became dead letters.
    pub expired: u32,
    /// Finished jobs that were forgotten.
    pub forgotten: u32,
    /// There is more to do.
    pub more: bool,
}
