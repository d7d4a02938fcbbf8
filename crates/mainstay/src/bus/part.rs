//! A bus in the life cycle of a service.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{Bus, Subscribe, Subscription};
use crate::{
    Boot, Error, Result,
    app::{Overstayer, Part},
    shutdown::Shutdown,
    tasks::{Task, TaskSet},
};

/// Delivers from the start, finishes what is queued in the drain, and takes nothing any more at the end, when whoever
/// was registered after it has stopped.
pub(crate) struct BusPart {
    bus: Bus,
    shutdown: Shutdown,
    stop_limit: Duration,
    running: Mutex<Option<Running>>,
}

struct Running {
    /// Ended with the part.
    _subscriptions: Vec<Subscription>,
    stop: Task<()>,
}

impl<C> Boot<C> {
    /// Makes a bus part of the service's life: its events are handled in the drain, and it is closed after everything
    /// that is registered later. [`Boot::subscribe`] does this by itself. Handlers reach the store that was opened
    /// before, and the service's policies.
    pub fn bus(&self, bus: &Bus) {
        if bus.0.in_service.swap(true, Ordering::SeqCst) {
            return;
        }
        let _ = bus.0.policies.set(self.policies());
        if let Some(store) = self.core.last_store() {
            let _ = bus.0.store.set(store);
        }
        let _ = bus.0.cues.set(self.core.stage.cues());
        self.core.stage.offer(bus.clone());
        let part = BusPart {
            bus: bus.clone(),
            shutdown: self.shutdown(),
            stop_limit: self.core.budget.stop / 4,
            running: Mutex::default(),
        };
        self.register(Arc::new(part));
    }

    /// Subscribes a handler for the life of the service: to a [`Bus`] or as a durable group. It takes events from now
    /// on and handles them once the service has started. A mistake in it ends the start.
    pub fn subscribe(&self, subscribe: impl Joins) {
        if let Err(error) = subscribe.join(self) {
            self.on_ready(std::future::ready(Err(error)));
        }
    }
}

/// What [`Boot::subscribe`] takes: a subscription of a bus, or of a group.
pub trait Joins: sealed::Sealed {
    #[doc(hidden)]
    fn join<C>(self, boot: &Boot<C>) -> Result<()>;
}

pub(crate) mod sealed {
    /// Nobody else's.
    pub trait Sealed {}
}

impl sealed::Sealed for Subscribe {}

impl Joins for Subscribe {
    fn join<C>(self, boot: &Boot<C>) -> Result<()> {
        let bus = self.bus.clone();
        boot.bus(&bus);
        let opened = self.open()?;
        bus.kept().push(opened);
        Ok(())
    }
}

impl BusPart {
    fn begin(&self) -> Result<()> {
        let tasks = TaskSet::current().ok_or_else(|| Error::from("a bus starts inside of a runtime"))?;
        let kept = std::mem::take(&mut *self.bus.kept());
        let subscriptions = kept.into_iter().map(|opened| opened.start(&self.bus));
        let subscriptions = subscriptions.collect::<Result<_>>()?;
        let (shutdown, bus) = (self.shutdown.clone(), self.bus.clone());
        let stop = tasks.spawn("cancel event handlers", async move {
            shutdown.cancelled().await;
            bus.0.stop.send_replace(true);
        });
        *self.running() = Some(Running { _subscriptions: subscriptions, stop });
        Ok(())
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part for BusPart {
    fn name(&self) -> String {
        "event bus".to_owned()
    }

    fn start(self: Arc<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { self.begin() })
    }

    fn drained(self: Arc<Self>) -> BoxFuture<'static, ()> {
        // Not closed yet: requests and jobs that finish meanwhile still have something to say.
        Box::pin(async move { self.bus.idle().await })
    }

    fn in_flight(&self) -> Vec<Overstayer> {
        let now = Instant::now();
        let mut all = Vec::new();
        for outlet in self.bus.0.routes.outlets() {
            let whence = format!("subscriber {}", outlet.name);
            for hand in outlet.in_hand() {
                let what = format!("event {} {}", hand.envelope.topic(), hand.envelope.id());
                let span = crate::log::describe(hand.envelope.context(), &tracing::Span::none());
                all.push(Overstayer::new(what, whence.clone(), now.duration_since(hand.since)).in_span(span));
            }
            let waiting = outlet.queue.depth();
            if waiting > 0 && !outlet.hands.is_empty() {
                all.push(Overstayer::new(format!("{waiting} events that wait"), whence, Duration::ZERO));
            }
        }
        all
    }

    fn abort(&self) {
        if let Some(tasks) = self.bus.0.tasks.get() {
            tasks.abort();
        }
    }

    fn stop(self: Arc<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let drained = self.bus.drain_by(Instant::now() + self.stop_limit).await;
            let running = self.running().take();
            if let Some(running) = running {
                running.stop.abort();
            }
            self.bus.kept().clear();
            self.abort();
            if drained.is_complete() {
                Ok(())
            } else {
                Err(Error::from(format!("events were lost: {drained}")))
            }
        })
    }
}
