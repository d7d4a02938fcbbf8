//! What the writer is told.

use mainstay_core::{
    Error, JobId, LeaseId, QueueName, StoreTime, Timestamp,
    event::{EventItem, EventKey, EventOp},
    job::Outcome,
    lock::{LockOp, LockRecord},
    name::Name,
    op::{Commit, Op},
    queue::QueueRecord,
    schedule::{ScheduleOp, ScheduleOrder, ScheduleRecord},
    store::{Batch, Budget, Interest, Maintained},
    worker::WorkerRecord,
};
use tokio::sync::oneshot;

use crate::answer::Sender;

/// A message to the writer.
pub enum Message {
    /// Commits to be applied.
    Submit(Submission),
    /// Grants that did not reach their callers.
    GiveBack(Vec<Lost>),
    /// Housekeeping on request.
    Maintain(Budget, oneshot::Sender<Result<Maintained, Error>>),
    /// A question that only the engine can answer exactly. It is answered after the group.
    Ask(Ask),
    /// Another thread has found that the store cannot be trusted any more.
    Failed(Error),
}

/// A grant that did not reach its caller.
#[derive(Clone)]
pub enum Lost {
    /// Of a job.
    Job(JobId, LeaseId),
    /// Of an event.
    Delivery(LeaseId),
    /// Of a lock.
    Lock(Name, LeaseId),
}

/// Commits with where their caller waits.
pub struct Submission {
    pub commits: Vec<Commit>,
    /// After this, they are not begun any more.
    pub deadline: StoreTime,
    pub sender: Sender,
    /// It was in a group that could not be written; this time it is a group of its own.
    pub alone: bool,
}

/// A question for the engine.
pub enum Ask {
    /// A queue.
    Queue(QueueName, oneshot::Sender<Option<QueueRecord>>),
    /// Up to so many queues after a name.
    Queues(Option<String>, usize, oneshot::Sender<Vec<QueueRecord>>),
    /// A lock.
    Lock(Name, oneshot::Sender<Option<LockRecord>>),
    /// Up to so many locks whose name begins so, after a name.
    Locks(String, Option<String>, usize, oneshot::Sender<Vec<LockRecord>>),
    /// A topic or a group.
    Event(EventKey, oneshot::Sender<Result<Option<EventItem>, Error>>),
    /// Up to so many topics after a name.
    Topics(Option<String>, usize, oneshot::Sender<Vec<EventItem>>),
    /// Up to so many groups after a name.
    Groups(Option<String>, usize, oneshot::Sender<Result<Vec<EventItem>, Error>>),
    /// The number of the first event published at this time or later.
    SeqAt(Timestamp, oneshot::Sender<Result<u64, Error>>),
    /// A schedule.
    Schedule(Name, oneshot::Sender<Option<ScheduleRecord>>),
    /// Up to so many schedules after a position.
    Schedules(ScheduleOrder, Option<String>, usize, oneshot::Sender<Result<Vec<ScheduleRecord>, Error>>),
    /// Up to so many workers after a name.
    Workers(Option<String>, usize, oneshot::Sender<Vec<WorkerRecord>>),
    /// Whether one of these has happened already.
    HasHappened(Vec<Interest>, oneshot::Sender<bool>),
    /// Nothing; only whether the writer is alive.
    Ping(oneshot::Sender<()>),
}

impl Submission {
    /// It takes something that nobody could be given.
    pub fn takes(&self) -> bool {
        let takes = |op: &Op| {
            matches!(op, Op::Claim(_) | Op::Event(EventOp::Fetch(_)) | Op::Lock(LockOp::Acquire(_)))
        };
        self.commits.iter().flat_map(|commit| &commit.ops).any(takes)
    }
}

impl Message {
    /// How many ops this brings into a group.
    pub fn ops(&self) -> usize {
        match self {
            Message::Submit(submission) => submission.commits.iter().map(|commit| commit.ops.len()).sum(),
            Message::GiveBack(lost) => lost.len(),
            _ => 1,
        }
    }
}

/// What a batch takes of the bound of the queue, in bytes, roughly.
pub fn weight(batch: &Batch) -> usize {
    let op = |op: &Op| {
        let bytes = match op {
            Op::Enqueue(job) => job.body.size() + size_of_val(&*job.after),
            Op::Settle(settle) => match &settle.outcome {
                Outcome::Complete { result: Some(result) } => result.len(),
                Outcome::Fail { error, .. } => {
                    error.message.len() + error.backtrace.as_ref().map_or(0, |b| b.len())
                }
                _ => 0,
            },
            Op::Extend { progress: Some(progress), .. } => progress.len(),
            Op::RequeueDead { ids, .. } | Op::DeleteDead { ids, .. } => ids.len() * 16,
            Op::Audit(record) => record.detail.len(),
            Op::Event(EventOp::Publish(publish)) => publish.event.size(),
            Op::Event(EventOp::Settle(settle)) => {
                let errors = settle.nack.iter().filter_map(|nack| nack.error.as_ref());
                let errors: usize = errors
                    .map(|error| {
                        error.message.len() + error.backtrace.as_ref().map_or(0, |trace| trace.len())
                    })
                    .sum();
                errors + (settle.ack.len() + settle.nack.len() + settle.extend.len()) * 64
            }
            Op::Event(EventOp::PutTopic { config, .. }) => {
                config.schema.as_ref().map_or(0, |schema| schema.len())
            }
            Op::Event(EventOp::RequeueDead { numbers, .. } | EventOp::DeleteDead { numbers, .. }) => {
                numbers.len() * 16
            }
            Op::Schedule(ScheduleOp::Put { schedule, .. }) => schedule.size(),
            Op::Schedule(ScheduleOp::Fire(fire)) => fire.job.as_ref().map_or(0, |job| job.body.size()),
            _ => 0,
        };
        bytes + OP_OVERHEAD
    };
    let ops: usize = batch.commits.iter().flat_map(|commit| &commit.ops).map(op).sum();
    ops + batch.commits.len() * COMMIT_OVERHEAD + COMMIT_OVERHEAD
}

const OP_OVERHEAD: usize = 160;
const COMMIT_OVERHEAD: usize = 128;
/// What a message without a body of its own weighs.
pub const SMALL: usize = 128;
