//! Workers: typed handlers that run a queue's jobs.
//!
//! A worker fetches only for free slots, renews every lease from one timer, isolates panics, keeps each job's time
//! limit, and hands back what it could not finish without spending an attempt.

mod attempt;
mod context;
mod handler;
mod part;
mod renew;
mod run;
mod running;

use std::{
    collections::HashMap,
    ops::{RangeInclusive, RangeToInclusive},
    sync::Arc,
    time::Duration,
};

use attempt::Layers;
pub use attempt::{Attempt, AttemptResult};
pub use context::JobContext;
use handler::Handler;
use mainstay_core::name::{QueueName, WorkerName};
pub(crate) use part::WorkersPart;
pub(crate) use run::guard;
use serde::Serialize;
use tower::{Layer, Service, util::BoxCloneSyncService};

use crate::{
    Boot, Error, Result,
    client::Client,
    job::{Job, JobError},
    pipeline::{Pipeline, Steps},
    secs,
};

/// Runs the jobs of a queue with typed handlers; `S` is the state that every handler gets.
///
/// ```no_run
/// # use mainstay::{Client, Job, JobContext, JobError, Workers};
/// # #[derive(serde::Serialize, serde::Deserialize)] struct SendEmail { to: String }
/// # impl Job for SendEmail { const KIND: &'static str = "send_email"; const QUEUE: &'static str = "mail"; }
/// # #[derive(Clone)] struct Shop;
/// async fn send_email(job: SendEmail, cx: JobContext<Shop>) -> Result<(), JobError> {
///     println!("attempt {} to {}", cx.attempt(), job.to);
///     Ok(())
/// }
/// let workers = Workers::new("mail", Shop).on(send_email).concurrency(1..=64);
/// ```
#[must_use = "workers run once they are given to `Boot::workers`"]
pub struct Workers<S> {
    queues: Vec<String>,
    state: S,
    handlers: HashMap<String, Arc<dyn Handler<S>>>,
    client: Option<Client>,
    concurrency: usize,
    lease: Duration,
    limit: Option<Duration>,
    name: Option<String>,
    guards: HashMap<String, String>,
    layers: Option<Layers>,
    steps: Steps,
}

impl<S: Clone + Send + Sync + 'static> Workers<S> {
    /// Workers of one queue.
    pub fn new(queue: impl Into<String>, state: S) -> Workers<S> {
        Workers {
            queues: vec![queue.into()],
            state,
            handlers: HashMap::new(),
            client: None,
            concurrency: 16,
            lease: secs(30),
            limit: None,
            name: None,
            guards: HashMap::new(),
            layers: None,
            steps: Steps::default(),
        }
    }

    /// One more queue, served when those before it are empty.
    pub fn and_queue(mut self, queue: impl Into<String>) -> Self {
        self.queues.push(queue.into());
        self
    }

    /// Runs jobs of kind `J` with this handler. Its value, unless `()`, is kept as the job's result.
    pub fn on<J, F, Fut, R>(mut self, handler: F) -> Self
    where
        J: Job,
        F: Fn(J, JobContext<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize + 'static,
    {
        self.handlers.insert(J::KIND.to_owned(), handler::erase(handler));
        self
    }

    /// How many jobs run at once: the end of the range, or the number in `..=n`. Defaults to 16. (The range's start
    /// is where scaling down will end; for now the number is fixed.)
    pub fn concurrency(mut self, jobs: impl Into<Concurrency>) -> Self {
        self.concurrency = jobs.into().0.max(1);
        self
    }

    /// How long a claim lives without renewal; it is renewed at a third of that. Defaults to 30 s, at least 1 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(secs(1));
        self
    }

    /// How long an attempt may take, for jobs that do not say so themselves. Defaults to no limit.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Runs attempts of this kind under the service's policy of this name: its rate, breaker, bulkhead and attempt time
    /// limit. Its retries are the job's own. A job that the policy refuses is put off without spending an attempt.
    ///
    /// Mind the policy's `attempt_ms`, which is 10 s unless said otherwise.
    pub fn policy(mut self, kind: impl Into<String>, name: impl Into<String>) -> Self {
        self.guards.insert(kind.into(), name.into());
        self
    }

    /// Runs every attempt through these layers: inside of the time limit, the panic guard and the watch for
    /// cancellation, outside of [`policy`](Self::policy) and the handler. A middleware is an
    /// `async fn(Attempt, Next<Attempt, Option<Arc<str>>, JobError>) -> AttemptResult`; an error that comes out settles
    /// the attempt as it says. Called again, it replaces the layers.
    pub fn through<L>(mut self, pipeline: Pipeline<L>) -> Self
    where
        L: Layer<BoxCloneSyncService<Attempt, Option<Arc<str>>, JobError>>,
        L::Service: Service<Attempt, Response = Option<Arc<str>>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Attempt>>::Error: Into<JobError>,
        <L::Service as Service<Attempt>>::Future: Send + 'static,
    {
        self.steps = pipeline.steps().clone();
        self.layers = Some(attempt::layers(pipeline));
        self
    }

    /// The layers of [`through`](Self::through), in their order, each with its reason.
    pub fn steps(&self) -> &Steps {
        &self.steps
    }

    /// What the store shows as the claimer. Defaults to the app's name with the process id.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Takes jobs from this store. Defaults to the last one that [`Boot::store`] opened.
    pub fn from(mut self, store: Client) -> Self {
        self.client = Some(store);
        self
    }

    pub(crate) fn build<C>(self, boot: &Boot<C>) -> Result<WorkersPart<S>> {
        let invalid = |what, name: &str, error| Error::config(format!("{what} `{name}`: {error}"));
        let mut queues = Vec::with_capacity(self.queues.len());
        for name in &self.queues {
            queues.push(QueueName::new(name).map_err(|error| invalid("queue", name, error))?);
        }
        let name = self.name.unwrap_or_else(|| format!("{}-{}", boot.core.name, std::process::id()));
        let worker = WorkerName::new(&name).map_err(|error| invalid("worker", &name, error))?;
        let client = self.client.or_else(|| boot.core.last_store()).ok_or_else(|| {
            Error::config(
                "workers need a store: open one with `b.store(…)` first, or name it with `Workers::from`",
            )
        })?;
        if self.handlers.is_empty() {
            return Err(Error::config(format!(
                "workers of {queues:?} have no handler: add one with `.on(handler)`"
            )));
        }
        let policies = boot.policies();
        let mut guards = HashMap::new();
        for (kind, target) in self.guards {
            if !self.handlers.contains_key(&kind) {
                return Err(Error::config(format!(
                    "policy `{target}` for kind `{kind}`, which has no handler"
                )));
            }
            guards.insert(kind, policies.target(&target));
        }
        Ok(WorkersPart::new(run::Pool {
            policies,
            guards,
            layers: self.layers,
            client,
            queues,
            worker,
            state: self.state,
            handlers: self.handlers,
            concurrency: self.concurrency,
            lease: self.lease,
            limit: self.limit,
            shutdown: boot.shutdown(),
            running: running::RunningJobs::default(),
            health: boot.health(),
        }))
    }
}

/// How many jobs run at once; made from a number or a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency(usize);

impl Concurrency {
    /// At most so many, at least 1.
    pub(crate) fn most(self) -> usize {
        self.0.max(1)
    }
}

impl From<usize> for Concurrency {
    fn from(jobs: usize) -> Self {
        Concurrency(jobs)
    }
}
impl From<RangeInclusive<usize>> for Concurrency {
    fn from(jobs: RangeInclusive<usize>) -> Self {
        Concurrency(*jobs.end())
    }
}
impl From<RangeToInclusive<usize>> for Concurrency {
    fn from(jobs: RangeToInclusive<usize>) -> Self {
        Concurrency(jobs.end)
    }
}
