//! What is said about a subscription before it begins.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use tower::{Layer, Service, util::BoxCloneSyncService};

use super::{
    Bus, Overflow,
    lane::Lanes,
    outlet::{Item, Outlet},
    subscription::Subscription,
};
use crate::{
    Error, Result,
    context::Context,
    event::{Around, Consumer, Delivery, Event, EventContext, Payload, Plan},
    job::JobError,
    pipeline::{Pipeline, Steps},
    policy::Retry,
    pool::Count,
    queue::Receiver,
};

/// A bus with the state that handlers get: made by [`Bus::with`].
pub struct OnBus<S> {
    bus: Bus,
    state: Arc<S>,
}

impl Bus {
    /// Handlers subscribed through this get `state`: their [`EventContext`] dereferences to it.
    pub fn with<S: Send + Sync + 'static>(&self, state: S) -> OnBus<S> {
        OnBus { bus: self.clone(), state: Arc::new(state) }
    }

    /// A handler of one type of event, without a state.
    pub fn on<E, F, Fut, R>(&self, handler: F) -> Subscribe
    where
        E: Event,
        F: Fn(E, EventContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize + Send + 'static,
    {
        self.with(()).on(handler)
    }

    /// A handler of all topics that `filter` matches, without a state.
    pub fn subscribe<E, F, Fut, R>(&self, filter: impl Into<String>, handler: F) -> Subscribe
    where
        E: Payload,
        F: Fn(E, EventContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize + Send + 'static,
    {
        self.with(()).subscribe(filter, handler)
    }
}

impl<S: Send + Sync + 'static> OnBus<S> {
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
    /// [`Event`] or the [`Envelope`](crate::event::Envelope).
    pub fn subscribe<E, F, Fut, R>(&self, filter: impl Into<String>, handler: F) -> Subscribe
    where
        E: Payload,
        F: Fn(E, EventContext<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize + Send + 'static,
    {
        Subscribe {
            bus: self.bus.clone(),
            plan: Plan::new(filter.into(), self.state.clone(), handler),
            capacity: 256,
            overflow: Overflow::default(),
            retry: Retry { max_attempts: 5, ..Retry::default() },
        }
    }
}

/// A subscription that has not begun. [`start`](Self::start) it, or give it to
/// [`Boot::subscribe`](crate::Boot::subscribe).
#[must_use = "a subscription begins with `start` or `Boot::subscribe`"]
pub struct Subscribe {
    pub(super) bus: Bus,
    plan: Plan,
    capacity: usize,
    overflow: Overflow,
    retry: Retry,
}

impl Subscribe {
    /// What metrics, logs and dead letters call it. Defaults to the name of the handler's function; a closure's is its
    /// filter. Names need not differ; figures of one name are added up.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.plan.name = name.into();
        self
    }

    /// How many events are handled at once: a number, or the end of a range. Defaults to 1, which keeps their order.
    pub fn concurrency(mut self, events: impl Into<Count>) -> Self {
        self.plan.concurrency = events.into().most();
        self
    }

    /// How long one attempt may take. Defaults to 30 s.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.plan.limit = Some(limit);
        self
    }

    /// Runs every attempt under the service's policy of this name: its rate, breaker, bulkhead and attempt time limit.
    /// Its retries are the subscription's own.
    pub fn policy(mut self, name: impl Into<String>) -> Self {
        self.plan.policy = Some(name.into());
        self
    }

    /// Runs every attempt through these layers: inside of the time limit and the panic guard, outside of
    /// [`policy`](Self::policy) and the handler. A middleware is an
    /// `async fn(Delivery, Next<Delivery, Option<Arc<str>>, JobError>) -> Result<Option<Arc<str>>, JobError>`. Called
    /// again, it replaces the layers.
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

    /// How many events may wait, at least 1. Defaults to 256.
    pub fn queue(mut self, capacity: usize) -> Self {
        self.capacity = capacity.max(1);
        self
    }

    /// What happens to an event for which there is no room. Defaults to [`Overflow::Wait`] for 5 s.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// How often and with which waits a failed event is tried again, in its place in the order. Defaults to 5 attempts,
    /// 100 ms to 10 s apart, full jitter.
    pub fn retry(mut self, rules: Retry) -> Self {
        self.retry = rules;
        self
    }

    /// Begins. The subscription ends when the handle is dropped, or the bus is closed.
    ///
    /// # Errors
    /// A filter that is none; a bus that is closed; a place outside of a runtime.
    pub fn start(self) -> Result<Subscription> {
        let bus = self.bus.clone();
        self.open()?.start(&bus)
    }

    /// Takes events from now on, and handles them when it is started.
    pub(super) fn open(self) -> Result<Opened> {
        let Self { bus, plan, capacity, overflow, retry } = self;
        let filter = Bus::filter(&plan.filter).map_err(|error| Error::config(error.to_string()))?;
        let policies = bus.0.policies.get().cloned().unwrap_or_default();
        let around = Around {
            subscriber: plan.name.clone(),
            store: bus.0.store.get().cloned(),
            stop: bus.0.stop.subscribe(),
            policies,
        };
        let lanes = plan.concurrency;
        let consumer: Consumer = plan.consumer(around);
        let open = |id| Outlet::open(id, consumer.name().clone(), filter.clone(), capacity, overflow, lanes);
        let (outlet, queue) = bus.0.routes.add(&filter, open).map_err(Error::from_any)?;
        let dead_meter = metrics::counter!("mainstay.bus.dead", "subscriber" => consumer.name().clone());
        let (dead, cues) = (bus.0.dead.clone(), bus.0.cues.clone());
        let lanes = Arc::new(Lanes { outlet: outlet.clone(), consumer, retry, dead, dead_meter, cues });
        let subscription = Subscription::new(&bus, outlet);
        Ok(Opened { lanes, queue, subscription })
    }
}

/// A subscription that has a queue, and nobody yet who takes anything out of it.
pub(super) struct Opened {
    lanes: Arc<Lanes>,
    queue: Receiver<Item>,
    subscription: Subscription,
}

impl Opened {
    pub fn start(mut self, bus: &Bus) -> Result<Subscription> {
        let tasks = bus.tasks().ok_or_else(|| Error::from("a subscription begins inside of a runtime"))?;
        // Each delivery brings a context of its own; whoever subscribes is not part of it.
        let _in = Context::default().enter();
        for lane in 0..self.lanes.outlet.hands.len() {
            let name = format!("subscriber {}", self.lanes.outlet.name);
            let work = self.lanes.clone().run(self.queue.clone(), lane);
            self.subscription.lanes.push(tasks.spawn(name, work));
        }
        Ok(self.subscription)
    }
}
