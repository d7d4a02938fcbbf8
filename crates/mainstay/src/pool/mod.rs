//! A pool of workers inside the process: jobs in, results out, no store needed.
//!
//! ```
//! use mainstay::pool::{PoolContext, WorkerPool};
//! use mainstay::{JobError, secs};
//!
//! #[derive(Clone)]
//! struct Image { path: String }
//!
//! async fn resize(image: Image, cx: PoolContext) -> Result<usize, JobError> {
//!     Ok(image.path.len())
//! }
//! # async fn example(image: Image, banner: Image) -> Result<(), Box<dyn std::error::Error>> {
//! let pool = WorkerPool::build("resize", resize).workers(1..=8).queue(1_000).time_limit(secs(10)).open()?;
//! let job = pool.submit(image).await?; // waits while a thousand are waiting
//! let urgent = pool.job(banner).priority(0).time_limit(secs(1)).submit().await?;
//! let size = job.await?; // what the handler gave
//! urgent.cancel();
//! pool.idle().await; // nothing waits, nothing runs
//! for letter in pool.dead() {
//!     pool.resubmit(letter.id).await;
//! }
//! println!("{}", pool.drain().await); // or `stop(secs(5))`
//! # Ok(())
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
//! #     .block_on(example(Image { path: "a".into() }, Image { path: "b".into() })).unwrap();
//! ```
//!
//! The handler has the shape of every handler here: `async fn(job, context) -> Result<_, JobError>`, so one that needs
//! no more than this context can run durable jobs ([`Workers`](crate::Workers)) tomorrow. Jobs that bring their own
//! code go into a pool of [`Work`].
//!
//! # What it is for
//! - **Bounded**: what waits is in a [`queue`](crate::queue) with priorities; [`Overflow`] says what happens
//!   when it is full. What is given up by that is told to whoever holds the handle.
//! - **Ends**: a job ends once, and its [`PoolJob`] says how. One that failed, panicked, ran into its time limit or
//!   expired is a [`DeadLetter`]: bounded, readable, and it can be submitted again.
//! - **Isolation**: a panic ends its job, not its worker. A handler that holds its thread past its time limit, or past a
//!   cancellation, loses its slot: another worker takes its place, and it is counted and named.
//! - **Size**: workers come and go between a floor and a ceiling by the rule of [`scale`](crate::scale); every step is
//!   a log line, a metric and in [`WorkerPool::status`].
//! - **The end**: [`drain`](WorkerPool::drain) waits for everything, [`stop`](WorkerPool::stop) has a deadline and
//!   hands back what was not begun. [`Boot::worker_pool`](crate::Boot::worker_pool) makes it a part of a service.
//!
//! # Context
//! A job runs in the [`Context`](crate::Context) it was submitted in, as every task does. One whose context's deadline
//! has passed when its turn comes has expired: nobody waits for it any more.
//!
//! # Handles
//! Dropping a [`PoolJob`] changes nothing: the job goes on, and if it fails it is a dead letter. [`PoolJob::cancel`] ends
//! it. Dropping the last [`WorkerPool`] closes the pool: what was submitted is still done.
//!
//! # Retries
//! [`PoolBuilder::policy`] runs every job under a [`Policy`](crate::Policy), with its retries, breaker and budget; the
//! worker waits between short attempts. [`JobError::snooze`](crate::JobError::snooze) puts a job off and frees its worker meanwhile. Without a
//! policy a failure is final.
//!
//! # Metrics
//! By `pool`: `mainstay.pool.jobs` with an `outcome`, `.duration` (of every sixteenth job), `.workers`, `.busy`,
//! `.scaled` with a `reason`, `.slots_lost`, `.dead` (dead letters kept); and those of its queue.

mod attempt;
mod boot;
mod context;
mod dead;
mod end;
mod later;
mod meter;
mod report;
mod shared;
mod slot;
mod submit;
mod supervise;
mod tally;
mod ticket;
#[cfg(test)]
mod ticket_model;
mod work;
mod worker;

use std::ops::{RangeInclusive, RangeToInclusive};
use std::sync::Arc;
use std::time::Duration;

pub use context::PoolContext;
pub use dead::DeadLetter;
pub use end::PoolError;
pub use report::{PoolReport, Status};
use shared::{Shared, Spawn};
pub use submit::Submission;
pub use ticket::PoolJob;
pub use work::Work;

use crate::job::JobError;
use crate::policy::Target;
use crate::queue::{Bounded, Overflow, SendError, Sender};
use crate::scale::Rules;
use crate::tasks::TaskSet;
use crate::{Error, Result, secs, sync};

/// Compiles and runs what the page for users shows.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/workers.md")]
struct Page;

/// A pool of workers. Cheap to clone; all clones are one pool, which closes when the last is dropped.
pub struct WorkerPool<J, R = ()>(Arc<Owner<J, R>>);

struct Owner<J, R> {
    queue: Sender<Item<J, R>>,
    shared: Arc<Shared<J, R>>,
}

/// A job on its way to a worker.
type Item<J, R> = Arc<ticket::Ticket<J, R>>;

/// What a pool goes by.
struct Plan {
    name: Arc<str>,
    capacity: usize,
    overflow: Overflow,
    rules: Rules,
    limit: Option<Duration>,
    grace: Duration,
    dead: usize,
    policy: Option<Target>,
}

/// A pool to be opened.
#[must_use = "a pool exists once it is opened"]
pub struct PoolBuilder<J, R> {
    plan: Plan,
    spawn: Spawn<J, R>,
}

impl<J: Clone + Send + 'static, R: Send + 'static> WorkerPool<J, R> {
    /// A pool of this name (a label of its metrics, and of its log lines) that runs jobs with `handler`: one worker, and
    /// room for 1,000 that wait, unless it is said otherwise.
    pub fn build<F, Fut>(name: impl Into<Arc<str>>, handler: F) -> PoolBuilder<J, R>
    where
        F: Fn(J, PoolContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = std::result::Result<R, JobError>> + Send + 'static,
    {
        let plan = Plan {
            name: name.into(),
            capacity: 1_000,
            overflow: Overflow::Wait,
            rules: Rules::between(1..=1),
            limit: None,
            grace: secs(1),
            dead: 100,
            policy: None,
        };
        PoolBuilder { plan, spawn: worker::spawner(handler) }
    }

    /// Submits a job with every default. Waits for room, is refused, or makes something give way: as
    /// [`PoolBuilder::overflow`] says. See [`job`](Self::job) for more.
    ///
    /// # Errors
    /// The job with the reason: [`queue::Refused`](crate::queue::Refused).
    ///
    /// # Cancel safety
    /// Dropped before it is done, it has submitted nothing.
    pub async fn submit(&self, job: J) -> std::result::Result<PoolJob<R>, SendError<J>> {
        self.job(job).submit().await
    }

    /// Submits a job if that is possible at once.
    ///
    /// # Errors
    /// The job with the reason.
    pub fn try_submit(&self, job: J) -> std::result::Result<PoolJob<R>, SendError<J>> {
        self.job(job).try_submit()
    }

    /// A job with options.
    pub fn job(&self, job: J) -> Submission<'_, J, R> {
        Submission::new(self, job)
    }

    /// Waits until nothing waits and nothing runs; jobs that were put off count. Cancel safe.
    pub async fn idle(&self) {
        self.0.shared.idle().await;
    }

    /// How it is doing now.
    pub fn status(&self) -> Status {
        self.0.shared.status(self.0.queue.depth())
    }

    /// The dead letters, oldest first.
    pub fn dead(&self) -> Vec<DeadLetter<J>> {
        self.0.shared.dead.list()
    }

    /// Takes the dead letters out.
    pub fn take_dead(&self) -> Vec<DeadLetter<J>> {
        self.0.shared.dead.take()
    }

    /// Submits a dead letter again, as a job of its old priority and time limit. `None`: there is none of this id (any
    /// more). If the queue does not take it, it stays a dead letter.
    pub async fn resubmit(&self, id: u64) -> Option<std::result::Result<PoolJob<R>, SendError<J>>> {
        let letter = self.0.shared.dead.remove(id)?;
        // Not lost if this future is dropped while it waits.
        let mut kept = dead::Kept::new(&self.0.shared.dead, letter.clone());
        let mut submission = self.job(letter.job.clone()).priority(letter.priority);
        submission.limit = letter.limit;
        let submitted = submission.submit().await;
        if submitted.is_ok() {
            kept.gone();
        }
        Some(submitted)
    }

    /// Takes no more jobs. What was submitted is done.
    pub fn close(&self) {
        self.0.close();
    }

    /// Takes no more jobs, and waits until all that were submitted have ended. Cancel safe: dropped, the pool stays
    /// closed.
    pub async fn drain(&self) -> PoolReport<J> {
        self.0.shared.drain(&self.0, None).await
    }

    /// Takes no more jobs and waits `limit` at most for what there is. After that what has not begun is handed back (its
    /// handles say [`PoolError::Stopped`]), and what runs is told to stop, cut after the pool's
    /// [`grace`](PoolBuilder::grace), and named in the report.
    pub async fn stop(&self, limit: Duration) -> PoolReport<J> {
        self.0.shared.drain(&self.0, Some(limit)).await
    }
}

impl<J, R> Owner<J, R> {
    fn close(&self) {
        self.shared.close();
        self.queue.close();
    }
}

impl<J, R> Drop for Owner<J, R> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl<J, R> Clone for WorkerPool<J, R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<J, R> std::fmt::Debug for WorkerPool<J, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = self.0.shared.status(self.0.queue.depth());
        f.debug_struct("WorkerPool").field("name", &self.0.shared.plan.name).field("status", &status).finish()
    }
}

impl<J: Clone + Send + 'static, R: Send + 'static> PoolBuilder<J, R> {
    /// How many workers: a number, or a range between which [`scale`](crate::scale) decides. Defaults to 1.
    pub fn workers(mut self, workers: impl Into<Count>) -> Self {
        let Count(workers) = workers.into();
        let bounds = Rules::between(workers);
        self.plan.rules = Rules { floor: bounds.floor, ceiling: bounds.ceiling, ..self.plan.rules };
        self
    }

    /// The rule that workers come and go by, with bounds of its own.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.plan.rules = rules;
        self
    }

    /// How many jobs may wait for a worker, at least 1. Defaults to 1,000.
    pub fn queue(mut self, capacity: usize) -> Self {
        self.plan.capacity = capacity.max(1);
        self
    }

    /// What happens to a job for which there is no room. Defaults to [`Overflow::Wait`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.plan.overflow = overflow;
        self
    }

    /// How long a job may run, unless it says so itself. Defaults to no limit.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.plan.limit = Some(limit);
        self
    }

    /// How long a job that was told to stop has until it is cut at its next await point; and one that should have been
    /// cut, until it counts as stuck and loses its slot. Defaults to 1 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.plan.grace = grace;
        self
    }

    /// How many dead letters are kept; the oldest give way. Defaults to 100.
    pub fn dead_letters(mut self, kept: usize) -> Self {
        self.plan.dead = kept;
        self
    }

    /// Runs every job under this target's policy: rate, retries, hedge, breaker, bulkhead and time limits, in its order.
    /// A job that the policy refuses for now is put off.
    pub fn policy(mut self, target: Target) -> Self {
        self.plan.policy = Some(target);
        self
    }

    /// Opens it on the runtime it is called in.
    ///
    /// # Errors
    /// Outside of a runtime.
    pub fn open(self) -> Result<WorkerPool<J, R>> {
        let outside = || Error::from("a worker pool is opened inside of a runtime");
        Ok(self.open_on(TaskSet::current().ok_or_else(outside)?))
    }

    fn open_on(self, tasks: TaskSet) -> WorkerPool<J, R> {
        let Self { plan, spawn } = self;
        let bounded = Bounded::new(plan.name.to_string(), plan.capacity).overflow(plan.overflow);
        let (queue, receiver) = bounded.priority(|item: &Item<J, R>| item.priority).open();
        let shared = Arc::new(Shared::new(plan, tasks.clone()));
        let supervisor = supervise::Supervisor::new(shared.clone(), spawn, receiver);
        tasks.spawn(format!("pool {}", shared.plan.name), supervisor.run());
        WorkerPool(Arc::new(Owner { queue, shared }))
    }
}

impl<J, R> std::fmt::Debug for PoolBuilder<J, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Plan { name, capacity, rules, .. } = &self.plan;
        let mut fields = f.debug_struct("PoolBuilder");
        fields.field("name", name).field("capacity", capacity).field("rules", rules).finish_non_exhaustive()
    }
}

/// How many workers: made from a number, `floor..=ceiling` or `..=ceiling`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count(pub(crate) RangeInclusive<usize>);

impl Count {
    /// At most so many, at least 1.
    pub(crate) fn most(self) -> usize {
        (*self.0.end()).max(1)
    }
}

impl From<usize> for Count {
    fn from(workers: usize) -> Self {
        Count(workers..=workers)
    }
}
impl From<RangeInclusive<usize>> for Count {
    fn from(workers: RangeInclusive<usize>) -> Self {
        Count(workers)
    }
}
impl From<RangeToInclusive<usize>> for Count {
    fn from(workers: RangeToInclusive<usize>) -> Self {
        Count(1..=workers.end)
    }
}
