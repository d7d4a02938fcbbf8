//! Workers: typed handlers that run a queue's jobs.
//!
//! Workers fetch only for free slots (and what [`Workers::prefetch`] allows), settle what has ended and claim what comes next in one durable step, renew every
//! lease from one timer, isolate panics, keep each job's time limit, and hand back what they could not finish without
//! spending an attempt. `docs/jobs.md` has the whole life of a job.
//!
//! A job of a kind that nobody here handles is given back at once, for 15 s and without spending an attempt, so that
//! other workers of the queue can have it; it is logged and counted (`mainstay.workers.unknown_kinds`).

mod ahead;
mod attempt;
mod context;
mod desk;
mod handler;
mod limit;
mod outbox;
mod part;
mod renew;
mod run;
mod running;
mod turns;

use std::{collections::HashMap, sync::Arc, time::Duration};

pub use crate::pool::Count as Concurrency;
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
    pool::Count,
    scale::Rules,
    secs,
    time::human,
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
    rules: Rules,
    prefetch: usize,
    weights: HashMap<String, u32>,
    lease: Duration,
    limit: Option<Duration>,
    grace: Duration,
    drain: Option<Duration>,
    /// The time limits that kinds bring along.
    limits: Vec<(&'static str, Duration)>,
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
            rules: Rules::between(16..=16),
            prefetch: 0,
            weights: HashMap::new(),
            lease: secs(30),
            limit: None,
            grace: secs(5),
            drain: None,
            limits: Vec::new(),
            name: None,
            guards: HashMap::new(),
            layers: None,
            steps: Steps::default(),
        }
    }

    /// One more queue, served when those before it are empty, unless [`weight`](Self::weight) says otherwise.
    pub fn and_queue(mut self, queue: impl Into<String>) -> Self {
        self.queues.push(queue.into());
        self
    }

    /// Serves the queues by weight instead of in order: of the slots that become free, `queue` gets `weight` where one
    /// without a weight gets 1. A share that a queue cannot use goes to the others, in their order.
    pub fn weight(mut self, queue: impl Into<String>, weight: u32) -> Self {
        self.weights.insert(queue.into(), weight);
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
        self.limits.extend(J::policy().timeout_ms.map(|limit| (J::KIND, Duration::from_millis(limit))));
        self
    }

    /// How many jobs run at once: a number, or a range between which [`scale`](crate::scale) decides by what waits and how
    /// long handlers take. Defaults to 16.
    pub fn concurrency(mut self, jobs: impl Into<Count>) -> Self {
        let Count(jobs) = jobs.into();
        let bounds = Rules::between(jobs);
        self.rules = Rules { floor: bounds.floor, ceiling: bounds.ceiling, ..self.rules };
        self
    }

    /// How many jobs may be claimed ahead, beyond those that run: for handlers that take less time than a write of the
    /// store, of which each round then settles and claims more. As many as have ended lately are, so that slow handlers
    /// keep nothing from other workers; what has waited here for a third of the lease goes back without spending an
    /// attempt, and so does all of it when the drain begins. Where a job's own time limit is longer than the lease, what it
    /// waits here counts. Defaults to 0; at most 10,000.
    pub fn prefetch(mut self, jobs: usize) -> Self {
        self.prefetch = jobs.min(10_000);
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

    /// How long a handler whose job was cancelled has until it is cut at its next await point; and one that should have
    /// been cut, until it counts as stuck: then another job gets its slot, and it is counted and named. Defaults to 5 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long jobs in flight may need in the drain. Makes the service's drain that long, if it is not set and its
    /// grace has room for it; else the start is refused, and says what to set. A time limit that is longer than the
    /// drain is warned of at the start: such a job is interrupted, and given back without spending an attempt.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.drain = Some(drain);
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
        let mut weights = self.weights;
        let by_weight = !weights.is_empty();
        let each = self.queues.iter().map(|queue| weights.remove(queue).unwrap_or(1).max(1)).collect();
        if let Some(queue) = weights.keys().next() {
            return Err(Error::config(format!(
                "weight of queue `{queue}`, which these workers do not serve"
            )));
        }
        if let Some(drain) = self.drain {
            boot.core.want_drain(drain).map_err(|mistake| {
                Error::config(format!("workers of {queues:?} ask for a drain of {}: {mistake}", human(drain)))
            })?;
        }
        let drain = boot.core.drain();
        let general = self.limit.map(|limit| ("any", limit));
        for (kind, limit) in self.limits.into_iter().chain(general).filter(|(_, limit)| *limit > drain) {
            let (limit_ms, drain_ms) = (limit.as_millis() as u64, drain.as_millis() as u64);
            tracing::warn!(
                kind,
                limit_ms,
                drain_ms,
                "jobs may take longer than the drain: those that do are interrupted by a stop and given back; \
                 `Workers::drain` asks for more"
            );
        }
        boot.core.stage.works_on(&queues);
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
            rules: self.rules,
            prefetch: self.prefetch,
            weights: by_weight.then_some(each),
            lease: self.lease,
            limit: self.limit,
            grace: self.grace,
            outbox: outbox::Outbox::default(),
            tally: run::Tally::default(),
            shutdown: boot.shutdown(),
            running: running::RunningJobs::default(),
            health: boot.health(),
        }))
    }
}
