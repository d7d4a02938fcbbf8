//! The event bus of a process: typed events to any number of handlers, each behind a queue of its own.
//!
//! ```
//! use mainstay::{Event, JobError, bus::{Bus, Overflow}, event::{Envelope, EventContext}};
//! # use serde::{Deserialize, Serialize};
//! #[derive(Clone, Serialize, Deserialize)]
//! struct OrderPlaced { order: String }
//! impl Event for OrderPlaced {
//!     const TOPIC: &'static str = "orders.placed";
//! }
//! # #[derive(Clone)] struct Shop;
//!
//! async fn reserve(event: OrderPlaced, cx: EventContext<Shop>) -> Result<(), JobError> {
//!     println!("attempt {} at {}", cx.attempt(), event.order); // an error or a panic is tried again, then a dead letter
//!     Ok(())
//! }
//! async fn audit(event: Envelope, _cx: EventContext<Shop>) -> Result<(), JobError> {
//!     println!("{} {}", event.topic(), event.json()?);
//!     Ok(())
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = Bus::new();
//! let shop = bus.with(Shop);
//! let _reserve = shop.on(reserve).concurrency(4).start()?; // ends when it is dropped
//! let _audit = shop.subscribe("orders.>", audit).overflow(Overflow::DropOldest).start()?;
//! bus.publish(&OrderPlaced { order: "order_99".into() }).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A service gives its bus to [`Boot::subscribe`](crate::Boot::subscribe), which makes it part of the life cycle.
//!
//! # What holds
//! - An event is for whoever is subscribed when it is published, and gone with the process. What must outlive it is
//!   published in a commit and handled by a group: the same handler, another word (`docs/events.md`).
//! - **Order**: a subscription of one handler at a time (the default) handles events in the order in which they were
//!   published. With more at a time they are begun in that order. Retries keep their place.
//! - **Isolation**: each subscription has its own queue, its own retries and its own panics. A slow or failing one is
//!   nobody else's business.
//! - **A full queue** is dealt with by the subscription's [`Overflow`]: the publisher waits (the default, 5 s at most),
//!   the oldest event is dropped and counted, or the subscription ends. Nobody waits for any other reason.
//! - **Failures** are tried again (5 attempts, 100 ms to 10 s apart), then kept as [dead letters](Bus::dead), the newest
//!   1,000, to be looked at and [requeued](Bus::requeue).
//! - **Context**: a delivery runs with the request id, the trace and the fields of whoever published, without the
//!   deadline.
//!
//! # Metrics
//! `mainstay.bus.published` by `topic`; `mainstay.bus.dropped` (of a listener: when it reads on, or leaves)
//! and `mainstay.bus.dead` by `subscriber`; `mainstay.event.duration` by `subscriber` and `outcome`. Depth and waiting time are those of the queue of a
//! subscription with a handler ([queue](crate::queue#metrics)), called `bus.NAME`.

mod announce;
mod ask;
mod dead;
mod drain;
mod error;
mod lane;
mod listen;
mod outlet;
mod part;
mod ring;
#[cfg(test)]
mod ring_model;
#[cfg(test)]
mod ring_tests;
mod routes;
mod subscribe;
mod subscription;

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

pub use announce::Announce;
use ask::Receipt;
pub use ask::{Gather, Reply, Request};
use dead::DeadLetters;
pub use dead::{DeadLetter, Requeued};
pub use drain::{Drained, SubscriberDrained};
pub use error::{AskError, ListenError, PublishError};
use futures_util::future::join_all;
pub use listen::Listener;
use mainstay_core::topic::TopicFilter;
pub use outlet::Overflow;
use outlet::{Item, Offer, Outlet};
pub use part::Joins;
pub(crate) use part::sealed;
use routes::{Route, Routes};
use serde::de::DeserializeOwned;
pub use subscribe::{OnBus, Subscribe};
pub use subscription::Subscription;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    client::Client,
    event::{Envelope, Payload},
    policy::Policies,
    stage::Cues,
    sync,
    tasks::TaskSet,
};

/// An event bus. Cheap to clone; all clones are one bus.
#[derive(Clone, Default)]
pub struct Bus(Arc<Inner>);

struct Inner {
    routes: Routes,
    dead: Arc<DeadLetters>,
    closed: AtomicBool,
    /// Publishes that have begun, and those that have ended: what quiet is told by.
    begun: AtomicU64,
    ended: AtomicU64,
    /// Tells handlers to give up.
    stop: watch::Sender<bool>,
    /// Notified when a publish has ended and somebody waits for quiet.
    quiet: Notify,
    waiting_for_quiet: AtomicUsize,
    tasks: OnceLock<TaskSet>,
    policies: OnceLock<Policies>,
    /// Those of the test that it plays in.
    cues: Arc<OnceLock<Cues>>,
    store: OnceLock<Client>,
    /// Subscriptions of `boot`, until the service starts; then until it stops.
    kept: Mutex<Vec<subscribe::Opened>>,
    in_service: AtomicBool,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            routes: Routes::default(),
            dead: Arc::default(),
            closed: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            stop: watch::Sender::new(false),
            quiet: Notify::new(),
            waiting_for_quiet: AtomicUsize::new(0),
            tasks: OnceLock::new(),
            policies: OnceLock::new(),
            cues: Arc::default(),
            store: OnceLock::new(),
            kept: Mutex::default(),
            in_service: AtomicBool::new(false),
        }
    }
}

/// With the last clone of a bus its subscriptions end.
impl Drop for Inner {
    fn drop(&mut self) {
        self.routes.close();
    }
}

/// An event that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// How many subscriptions have it in their queues, listeners included.
    pub subscribers: usize,
    /// How many older events were dropped for it, by [`Overflow::DropOldest`]. Listeners find out by themselves.
    pub dropped: u64,
}

impl Bus {
    /// A bus without subscriptions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Announces an event to whoever is subscribed now. Waits only for subscriptions that are full and whose policy is
    /// [`Overflow::Wait`], until the deadline of the current [`Context`](crate::Context) at most; all others have the
    /// event before it waits.
    ///
    /// # Errors
    /// [`PublishError::TimedOut`] names the first subscription that was full for too long; the others have the event.
    /// `Closed`, `Invalid`: nobody has it.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the event is with those that were not full, and perhaps with some that were.
    pub async fn publish(&self, event: impl Announce) -> Result<Published, PublishError> {
        let (route, envelope) = self.prepare(event)?;
        let running = self.begin(&route);
        let (published, full) = self.offer(&route, envelope, None);
        let published = if full.is_empty() { published } else { self.wait(published, full).await? };
        drop(running);
        if let Some(cues) = self.0.cues.get() {
            cues.inline(self.idle()).await;
        }
        Ok(published)
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// [`PublishError::Full`] names the first subscription that was full and does not drop; the others have the event.
    pub fn try_publish(&self, event: impl Announce) -> Result<Published, PublishError> {
        let (route, envelope) = self.prepare(event)?;
        let _running = self.begin(&route);
        let (published, full) = self.offer(&route, envelope, None);
        match full.into_iter().next() {
            Some((outlet, _)) => Err(PublishError::Full { subscriber: outlet.name.to_string() }),
            None => Ok(published),
        }
    }

    /// Announces an event and waits for the first answer: what a handler returns beside `()`, as JSON. Five seconds at
    /// most unless [`Request::within`] says otherwise, and never beyond the current context's deadline.
    ///
    /// ```
    /// # use mainstay::{Event, JobError, bus::Bus, event::EventContext};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Serialize, Deserialize)] struct Quote { item: String }
    /// # impl Event for Quote { const TOPIC: &'static str = "quote"; }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// async fn price(_: Quote, _: EventContext) -> Result<u32, JobError> { Ok(42) }
    /// let bus = Bus::new();
    /// let _prices = bus.on(price).start()?;
    /// let price: u32 = bus.request(&Quote { item: "book".into() }).await?;
    /// # assert_eq!(price, 42);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn request<R: DeserializeOwned>(&self, event: impl Announce) -> Request<R> {
        Request::new(self, self.prepare(event))
    }

    /// Announces an event and waits until every subscription with a handler has dealt with it; answers what each made of
    /// it, in the order of their subscribing. Five seconds at most unless [`Gather::within`] says otherwise.
    pub fn gather<R: DeserializeOwned>(&self, event: impl Announce) -> Gather<R> {
        Gather::new(self, self.prepare(event))
    }

    /// Subscribes to the topics that `filter` matches, as a stream: the newest `capacity` events, at least 1, which stay
    /// in memory while somebody listens. What came when it was full is told as [`ListenError::Lagged`].
    ///
    /// # Errors
    /// A filter that is none; a bus that is closed.
    pub fn listen<P: Payload>(&self, filter: &str, capacity: usize) -> Result<Listener<P>, PublishError> {
        Listener::open(self, filter, capacity)
    }

    /// What handlers gave up on, newest last: at most as many as [`keep_dead`](Self::keep_dead) says.
    pub fn dead(&self) -> Vec<DeadLetter> {
        self.0.dead.list()
    }

    /// How many dead letters are kept; older ones go. Defaults to 1,000.
    pub fn keep_dead(&self, letters: usize) {
        self.0.dead.keep(letters);
    }

    /// Delivers these dead letters again, each to the subscription that gave up on it, attempts reset. One whose
    /// subscription is full or gone stays.
    pub fn requeue(&self, which: impl FnMut(&DeadLetter) -> bool) -> Requeued {
        let _running = Running::begin(&self.0);
        self.0.dead.requeue(which, |outlet, envelope| {
            let outlet = self.0.routes.outlet(outlet);
            outlet.is_some_and(|outlet| outlet.put(Item::of(envelope.clone())))
        })
    }

    /// Forgets these dead letters; answers how many.
    pub fn delete_dead(&self, which: impl FnMut(&DeadLetter) -> bool) -> usize {
        self.0.dead.delete(which)
    }

    /// Resolves when nothing is queued, handled or being published. Cancel safe.
    pub async fn idle(&self) {
        drain::idle(&self.0).await;
    }

    /// Waits until the bus is [idle](Self::idle), until `deadline`, then closes it and says what was left. From then on
    /// publishing is refused; a handler that is still running is not cut.
    pub async fn drain_by(&self, deadline: Instant) -> Drained {
        drain::drain(&self.0, deadline).await
    }

    /// Takes no more events. What is queued is still handled, then the subscriptions end.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.routes.close();
    }

    /// Whether it takes no more events.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::SeqCst)
    }

    /// The subscriptions of an event's topic, and the event as they get it.
    fn prepare(&self, event: impl Announce) -> Result<(Arc<Route>, Envelope), PublishError> {
        if self.is_closed() {
            return Err(PublishError::Closed);
        }
        let route = self.0.routes.route(event.topic())?;
        let envelope = event.envelope(&route.topic);
        Ok((route, envelope))
    }

    /// Counts a publish until it has ended, where somebody may be busy with it; who only listens is nobody's business.
    fn begin(&self, route: &Route) -> Option<Running<'_>> {
        (!route.outlets.is_empty()).then(|| Running::begin(&self.0))
    }

    /// Waits for room where there was none.
    async fn wait(
        &self,
        mut published: Published,
        full: Vec<(Arc<Outlet>, Item)>,
    ) -> Result<Published, PublishError> {
        // All limits begin now: however many are full, nobody waits longer than the longest of them.
        let now = Instant::now();
        let waits =
            full.into_iter().map(|(outlet, item)| async move { (outlet.wait(item, now).await, outlet) });
        let mut late = None;
        for (offer, outlet) in join_all(waits).await {
            match offer {
                Offer::Taken { .. } => published.subscribers += 1,
                Offer::Full(_) => late = late.or(Some(outlet)),
                Offer::Gone => {}
            }
        }
        match late {
            Some(outlet) => Err(PublishError::TimedOut { subscriber: outlet.name.to_string() }),
            None => Ok(published),
        }
    }

    /// Puts an event into every queue that takes it at once; answers those that do not, and whose policy is to wait.
    fn offer(
        &self,
        route: &Route,
        envelope: Envelope,
        receipt: Option<&Arc<Receipt>>,
    ) -> (Published, Vec<(Arc<Outlet>, Item)>) {
        route.published.increment(1);
        if let Some(cues) = self.0.cues.get() {
            cues.published(&envelope);
        }
        // The last one gets the event itself: where there is only one, nothing is counted.
        let mut events = std::iter::repeat_n(envelope, route.rings.len() + route.outlets.len());
        let listeners = route.rings.iter().zip(&mut events).map(|(ring, event)| ring.publish(event)).sum();
        let mut published = Published { subscribers: listeners, dropped: 0 };
        let mut full = Vec::new();
        for (outlet, envelope) in route.outlets.iter().zip(events) {
            let ticket = receipt.map(|receipt| receipt.ticket(&outlet.name));
            match outlet.offer(Item { envelope, ticket }) {
                Offer::Taken { dropped } => {
                    published.subscribers += 1;
                    published.dropped += dropped;
                }
                Offer::Full(item) if outlet.overflow == Overflow::Disconnect => {
                    drop(item);
                    self.disconnect(outlet);
                }
                Offer::Full(item) => full.push((outlet.clone(), item)),
                Offer::Gone => {}
            }
        }
        (published, full)
    }

    fn disconnect(&self, outlet: &Arc<Outlet>) {
        if self.0.routes.remove(outlet.id) {
            outlet.dropped.increment(1);
            tracing::warn!(
                subscriber = %outlet.name,
                capacity = outlet.queue.capacity(),
                "a subscription's queue is full: it is ended, as its overflow policy says"
            );
        }
    }

    fn filter(filter: &str) -> Result<TopicFilter, PublishError> {
        TopicFilter::new(filter).map_err(|error| PublishError::Invalid(format!("`{filter}`: {error}")))
    }

    /// What its subscriptions run on: the runtime of the first.
    fn tasks(&self) -> Option<&TaskSet> {
        match self.0.tasks.get() {
            Some(tasks) => Some(tasks),
            None => TaskSet::current().map(|tasks| self.0.tasks.get_or_init(|| tasks)),
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<subscribe::Opened>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("Bus");
        fields.field("subscriptions", &self.0.routes.len()).field("closed", &self.is_closed());
        fields.finish_non_exhaustive()
    }
}

/// A publish on its way.
struct Running<'b>(&'b Inner);

impl<'b> Running<'b> {
    fn begin(bus: &'b Inner) -> Self {
        bus.begun.fetch_add(1, Ordering::SeqCst);
        Self(bus)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
        if self.0.waiting_for_quiet.load(Ordering::SeqCst) > 0 {
            self.0.quiet.notify_waiters();
        }
    }
}
