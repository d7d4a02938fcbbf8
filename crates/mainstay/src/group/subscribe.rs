//! What is said about a group's subscription before it begins.

use std::{sync::Arc, time::Duration};

use mainstay_core::{
    GroupName, TopicFilter, WorkerName,
    event::{GroupConfig, Position},
    job::Backoff,
};
use serde::Serialize;
use tower::{Layer, Service, util::BoxCloneSyncService};

use super::{Group, hands::Hands, part::GroupPart, run::Pool, settle::Settler};
use crate::{
    Boot, Error, Result,
    bus::{Joins, sealed::Sealed},
    event::{Around, Delivery, Event, EventContext, Payload, Plan},
    job::{IntoNewJob, JobError, ms},
    pipeline::{Pipeline, Steps},
    secs,
    workers::Concurrency,
};

/// A group with the state that handlers get: made by [`Group::with`].
pub struct OnGroup<S> {
    group: Group,
    state: Arc<S>,
}

impl<S: Send + Sync + 'static> OnGroup<S> {
    pub(super) fn new(group: Group, state: Arc<S>) -> Self {
        Self { group, state }
    }

    /// A handler of one type of event.
    pub fn on<E, F, Fut, R>(&self, handler: F) -> Subscribe
    where
        E: Event,
        F: Fn(E, EventContext<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize + Send + 'static,
    {
        self.subscribe(E::TOPIC, handler)
    }

    /// A handler of all topics that `filter` matches: `*` is one word, a last `>` one or more. Its first argument is an
    /// [`Event`] or the [`Envelope`](crate::event::Envelope). What it answers is nobody's: there is nobody who waits.
    pub fn subscribe<E, F, Fut, R>(&self, filter: impl Into<String>, handler: F) -> Subscribe
    where
        E: Payload,
        F: Fn(E, EventContext<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize + Send + 'static,
    {
        let mut plan = Plan::new(filter.into(), self.state.clone(), handler);
        plan.name = self.group.name.as_str().into();
        plan.concurrency = 16;
        Subscribe {
            group: self.group.clone(),
            plan,
            start: Position::Latest,
            lease: secs(30),
            max_deliver: 5,
            max_in_flight: 1_000,
            backoff: Backoff::default(),
            ordered_by_key: false,
        }
    }

    /// Turns each event into a job, exactly once: the job is enqueued in the commit that ends the delivery. An event whose
    /// queue is full goes back without spending a delivery, and comes again when the queue may have room.
    pub fn enqueue<E, F, J>(&self, job: F) -> Subscribe
    where
        E: Event,
        F: Fn(E, &S) -> J + Send + Sync + 'static,
        J: IntoNewJob + Send + 'static,
    {
        self.on(move |event: E, cx: EventContext<S>| {
            let job = job(event, &cx);
            async move {
                cx.commit()?.enqueue(job).await?;
                Ok(())
            }
        })
    }
}

/// A durable subscription that has not begun; [`Boot::subscribe`](crate::Boot::subscribe) takes it.
///
/// Its service creates the group when it starts, and sets it up anew where it is set up otherwise: with the filter, and
/// with what is said here.
#[must_use = "a subscription begins with `Boot::subscribe`"]
pub struct Subscribe {
    group: Group,
    plan: Plan,
    start: Position,
    lease: Duration,
    max_deliver: u32,
    max_in_flight: u32,
    backoff: Backoff,
    ordered_by_key: bool,
}

impl Subscribe {
    /// How many events are handled at once: a number, or the end of a range. Defaults to 16.
    pub fn concurrency(mut self, events: impl Into<Concurrency>) -> Self {
        self.plan.concurrency = events.into().most();
        self
    }

    /// How long one attempt may take. Defaults to 30 s.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.plan.limit = Some(limit);
        self
    }

    /// Runs every attempt under the service's policy of this name: its rate, breaker, bulkhead and attempt time limit.
    /// Its retries are the group's own.
    pub fn policy(mut self, name: impl Into<String>) -> Self {
        self.plan.policy = Some(name.into());
        self
    }

    /// Runs every attempt through these layers, as [`bus::Subscribe::through`](crate::bus::Subscribe::through) does.
    pub fn through<L>(mut self, pipeline: Pipeline<L>) -> Self
    where
        L: Layer<BoxCloneSyncService<Delivery, Option<Arc<str>>, JobError>>,
        L::Service: Service<Delivery, Response = Option<Arc<str>>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Delivery>>::Error: Into<JobError>,
        <L::Service as Service<Delivery>>::Future: Send + 'static,
    {
        self.plan.through(pipeline);
        self
    }

    /// The layers of [`through`](Self::through), in their order, each with its reason.
    pub fn steps(&self) -> &Steps {
        &self.plan.steps
    }

    /// Where the group begins if it is new. Defaults to [`Position::Latest`]: with what is published from then on.
    pub fn start_at(mut self, position: Position) -> Self {
        self.start = position;
        self
    }

    /// How long a delivery lives without renewal; it is renewed at a third of that. Defaults to 30 s, at least 1 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(secs(1));
        self
    }

    /// So many deliveries without success, and the event is a dead letter. Defaults to 5.
    pub fn max_deliver(mut self, deliveries: u32) -> Self {
        self.max_deliver = deliveries;
        self
    }

    /// At most so many events of the group are in the hands of all its consumers. Defaults to 1,000.
    pub fn max_in_flight(mut self, events: u32) -> Self {
        self.max_in_flight = events;
        self
    }

    /// The wait before an event is delivered again. Defaults to that of jobs: 1 s × 2ⁿ up to 1 h, full jitter.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Events with the same [key](crate::Event::key) are handled one after the other, in the order of the log; a failing
    /// one holds up only its key. Defaults to no such order.
    pub fn ordered_by_key(mut self) -> Self {
        self.ordered_by_key = true;
        self
    }
}

impl Sealed for Subscribe {}

impl Joins for Subscribe {
    fn join<C>(self, boot: &Boot<C>) -> Result<()> {
        let invalid = |what: &str, name: &str, error: mainstay_core::name::InvalidName| {
            Error::config(format!("{what} `{name}`: {error}"))
        };
        let name = self.group.name.as_str();
        let group = GroupName::new(name).map_err(|error| invalid("group", name, error))?;
        let filter = self.plan.filter.as_str();
        let filter = TopicFilter::new(filter).map_err(|error| invalid("topic filter", filter, error))?;
        let me = format!("{}-{}", boot.core.name, std::process::id());
        let consumer_name = WorkerName::new(&me).map_err(|error| invalid("consumer", &me, error))?;
        if !boot.core.groups.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(name.to_owned())
        {
            return Err(Error::config(format!(
                "group `{name}` is subscribed twice: one of the two would take the other's events; give each handler a group of its own"
            )));
        }
        boot.core.stage.consumes(&group);
        let config = GroupConfig {
            topics: vec![filter],
            ack_wait_ms: ms(self.lease),
            max_deliver: self.max_deliver,
            max_in_flight: self.max_in_flight,
            backoff: self.backoff,
            ordered_by_key: self.ordered_by_key,
        };
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let client = self.group.client;
        let around = Around {
            subscriber: self.plan.name.clone(),
            policies: boot.policies(),
            store: Some(client.clone()),
            stop: stopped,
        };
        let concurrency = self.plan.concurrency;
        let pool = Pool {
            settler: Arc::new(Settler::new(&client, &group)),
            consumer: self.plan.consumer(around),
            client,
            group,
            config,
            start: self.start,
            me: consumer_name,
            concurrency,
            lease: self.lease,
            shutdown: boot.shutdown(),
            health: boot.health(),
            hands: Hands::default(),
            stop,
        };
        boot.register(Arc::new(GroupPart::new(pool)));
        Ok(())
    }
}
