//! The face of a store in a program: the same over every store.
//!
//! ```
//! # use mainstay::{Client, Job, secs};
//! # use serde::{Deserialize, Serialize};
//! #[derive(Serialize, Deserialize)]
//! struct SendEmail { to: String }
//! impl Job for SendEmail {
//!     const KIND: &'static str = "send_email";
//!     const QUEUE: &'static str = "mail";
//! }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let store = Client::memory();
//! let job = store.enqueue(SendEmail { to: "ada@example.org".into() }.with().delay(secs(5))).await?;
//! assert_eq!(job.state.as_str(), "scheduled");
//! # Ok::<_, mainstay::StoreError>(())
//! # }).unwrap();
//! ```

mod batch;
mod bridge;
mod commit;
mod deadline;
mod error;
mod events;
mod locks;
mod own_end;
mod pace;
mod schedules;
mod waiting;

use std::sync::{Arc, Mutex, PoisonError};

pub use batch::{BatchBuilder, BatchProgress, JobBatch};
pub use bridge::Bridged;
pub use commit::CommitBuilder;
use deadline::Deadline;
pub(crate) use error::Full;
pub use error::StoreError;
pub use events::Logged;
pub use locks::Acquisition;
use mainstay_core::{
    MemoryStore,
    clock::Clock,
    id::{JobId, JobIds},
    job::JobRecord,
    name::QueueName,
    op::{Commit, Committed, Enqueued, Failure, Op, Reply},
    queue::{QueueConfig, QueueRecord},
    store::{Batch, Capabilities, DeadFilter, JobFilter, Key, Page, Query, Record, Slice, Store},
    time::Now,
};
pub(crate) use own_end::OwnEnd;
pub use pace::Pace;
pub use schedules::PutSchedule;

use crate::{clock, job::IntoNewJob, lock::Keeper};

type Result<T> = std::result::Result<T, StoreError>;

/// A handle to a store. Cheap to clone; all clones share the store.
///
/// Every method is cancel safe in this sense: dropped before it answers, a write may or may not have happened, and
/// never by halves. Repeat a write under the same [`CommitBuilder::idempotency_key`] to be sure.
///
/// Every method ends with the deadline of the [`Context`](crate::Context) it is called in, with
/// [`mainstay_core::ErrorKind::DeadlineExceeded`]. A write whose deadline has passed before the store has begun with it
/// is not applied; after that, [`StoreError::may_have_happened`] is true. Without a deadline, the store's own time
/// limits hold.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    pace: Option<Pace>,
}

struct Inner {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    ids: Mutex<JobIds>,
    /// Renews the locks that were taken through this client, and gives them back.
    keeper: Arc<Keeper>,
}

impl Client {
    /// A client of this store, on the machine's clock.
    pub fn new(store: Arc<dyn Store>) -> Client {
        Client::on(store, clock::current())
    }

    /// A client of this store that takes time and chance from `clock`.
    pub fn on(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Client {
        let keeper = Keeper::new(store.clone(), clock.clone());
        Client { inner: Arc::new(Inner { store, clock, ids: Mutex::default(), keeper }), pace: None }
    }

    /// A client of a new store in RAM, gone with its last client.
    pub fn memory() -> Client {
        let clock = clock::current();
        Client::on(Arc::new(MemoryStore::new(clock.clone())), clock)
    }

    /// The store itself.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// What the store can promise.
    pub fn capabilities(&self) -> &Capabilities {
        self.inner.store.capabilities()
    }

    /// A list of changes that happen together or not at all: add them, then `.await`.
    pub fn commit(&self) -> CommitBuilder {
        CommitBuilder::new(self.clone())
    }

    /// Adds one job.
    ///
    /// # Errors
    /// A full queue ([`StoreError::is_full`]; [`Client::paced`] waits for room), or the store's trouble.
    pub async fn enqueue(&self, job: impl IntoNewJob) -> Result<Enqueued> {
        let mut replies = self.commit().enqueue(job).await?;
        match replies.pop() {
            Some(Reply::Enqueued(enqueued)) => Ok(enqueued),
            other => Err(unexpected("enqueue", &other)),
        }
    }

    /// One job with all that is known of it.
    ///
    /// # Errors
    /// The store's.
    pub async fn job(&self, id: JobId) -> Result<Option<JobRecord>> {
        match self.get(&Key::Job(id)).await? {
            Some(Record::Job(job)) => Ok(Some(*job)),
            _ => Ok(None),
        }
    }

    /// A page of jobs, newest first.
    ///
    /// # Errors
    /// The store's; [`mainstay_core::ErrorKind::Invalid`] for a cursor of another query.
    pub async fn jobs(&self, filter: JobFilter, page: Page) -> Result<Slice> {
        self.list(&Query::Jobs(filter), &page).await
    }

    /// A page of a queue's dead letters, newest first.
    ///
    /// # Errors
    /// As [`Client::jobs`].
    pub async fn dead(&self, filter: DeadFilter, page: Page) -> Result<Slice> {
        self.list(&Query::Dead(filter), &page).await
    }

    /// One queue.
    ///
    /// # Errors
    /// The store's.
    pub async fn queue(&self, name: &QueueName) -> Result<Option<QueueRecord>> {
        match self.get(&Key::Queue(name.clone())).await? {
            Some(Record::Queue(queue)) => Ok(Some(queue)),
            _ => Ok(None),
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        Ok(Deadline::current()?.read(self.inner.store.get(key)).await?)
    }

    async fn list(&self, query: &Query, page: &Page) -> Result<Slice> {
        Ok(Deadline::current()?.read(self.inner.store.list(query, page)).await?)
    }

    /// Creates a queue or replaces its whole configuration.
    ///
    /// # Errors
    /// The store's.
    pub async fn put_queue(&self, queue: QueueName, config: QueueConfig) -> Result<()> {
        self.apply(Op::PutQueue { queue, config }).await.map(drop)
    }

    /// Stops a queue from handing out jobs. It still accepts them.
    ///
    /// # Errors
    /// The store's.
    pub async fn pause(&self, queue: QueueName) -> Result<()> {
        self.apply(Op::SetPaused { queue, paused: true }).await.map(drop)
    }

    /// Lets a paused queue hand out jobs again.
    ///
    /// # Errors
    /// Unknown queues; the store's.
    pub async fn resume(&self, queue: QueueName) -> Result<()> {
        self.apply(Op::SetPaused { queue, paused: false }).await.map(drop)
    }

    /// Asks for a job's end: at once if it waits, else its worker is told.
    ///
    /// # Errors
    /// Unknown and finished jobs; the store's.
    pub async fn cancel(&self, id: JobId) -> Result<Reply> {
        self.apply(Op::Cancel { id }).await
    }

    /// Makes a finished or delayed job available now, attempts reset.
    ///
    /// # Errors
    /// Unknown and running jobs; the store's.
    pub async fn retry(&self, id: JobId) -> Result<Reply> {
        self.apply(Op::Retry { id }).await
    }

    /// One op in a commit of its own.
    ///
    /// # Errors
    /// The store's answer or trouble.
    pub async fn apply(&self, op: Op) -> Result<Reply> {
        let mut committed = self.submit_one(Commit::of(op, self.entropy())).await?;
        committed.replies.pop().ok_or_else(|| unexpected("op", &None))
    }

    /// One commit as it is.
    ///
    /// # Errors
    /// The store's answer or trouble.
    pub async fn submit_one(&self, commit: Commit) -> Result<Committed> {
        let answers = self.submit(Batch::one(commit)).await?;
        let answer = answers.into_iter().next().ok_or_else(|| unexpected("commit", &None))?;
        Ok(answer?)
    }

    /// Commits that travel together, as they are: each stands alone, all share one durability point. How long the
    /// store took is measured. [`Batch::within`] is shortened to what the context's deadline leaves.
    ///
    /// # Errors
    /// Those of [`Store::submit`].
    pub async fn submit(
        &self,
        mut batch: Batch,
    ) -> std::result::Result<Vec<std::result::Result<Committed, Failure>>, mainstay_core::Error> {
        let deadline = Deadline::current()?;
        batch.within = deadline.limit(batch.within);
        let began = tokio::time::Instant::now();
        let answer = deadline.commit(self.inner.store.submit(batch)).await;
        let outcome = if answer.is_ok() { "ok" } else { "error" };
        metrics::histogram!("mainstay.store.commit.duration", "outcome" => outcome)
            .record(began.elapsed().as_secs_f64());
        answer
    }

    /// A new id for a job of this queue: ids of one client grow strictly.
    pub fn new_id(&self, queue: &QueueName) -> JobId {
        let (wall, random) = (self.inner.clock.now().wall.0, self.inner.clock.entropy());
        self.inner.ids.lock().unwrap_or_else(PoisonError::into_inner).next(wall, queue, random)
    }

    /// 64 random bits for a commit.
    pub fn entropy(&self) -> u64 {
        self.inner.clock.entropy()
    }

    /// Both clocks as this client reads them.
    pub fn now(&self) -> Now {
        self.inner.clock.now()
    }
}

/// A store answered something else than was asked: a bug of the store, told as such.
fn unexpected(asked: &str, got: &Option<Reply>) -> StoreError {
    let message = format!("the store answered {got:?} to {asked}; this is a bug of the store");
    mainstay_core::Error::unknown(mainstay_core::ErrorKind::Unavailable, message).into()
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.capabilities().store).finish()
    }
}
