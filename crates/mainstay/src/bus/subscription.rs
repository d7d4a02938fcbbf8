//! The handle of a subscription.

use std::sync::{Arc, Weak};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::{
    Bus, Inner,
    drain::{SubscriberDrained, finish},
    outlet::Outlet,
};
use crate::tasks::Task;

/// A subscription that runs. Dropped, it takes no more events; what is in its queue is still handled.
#[must_use = "dropped, the subscription ends"]
pub struct Subscription {
    bus: Weak<Inner>,
    outlet: Arc<Outlet>,
    pub(super) lanes: Vec<Task<()>>,
}

impl Subscription {
    pub(super) fn new(bus: &Bus, outlet: Arc<Outlet>) -> Self {
        Self { bus: Arc::downgrade(&bus.0), outlet, lanes: Vec::new() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.outlet.name
    }

    /// Which topics it is for.
    pub fn filter(&self) -> &str {
        self.outlet.filter.as_str()
    }

    /// How many events wait.
    pub fn depth(&self) -> usize {
        self.outlet.queue.depth()
    }

    /// Whether it takes no more events: the bus was closed, or its queue was full and its policy is
    /// [`Overflow::Disconnect`](super::Overflow::Disconnect).
    pub fn is_ended(&self) -> bool {
        self.outlet.queue.is_closed()
    }

    /// Takes no more events and waits until its handlers have done what they have, until `deadline`; says what was left.
    /// A handler that is still running then is cut.
    pub async fn stop_by(mut self, deadline: Instant) -> SubscriberDrained {
        self.end();
        let drained = finish(&self.outlet, deadline).await;
        let mut lanes = std::mem::take(&mut self.lanes);
        if timeout_at(deadline, join_all(lanes.iter_mut())).await.is_err() {
            lanes.iter().for_each(Task::abort);
            join_all(lanes).await;
        }
        drained
    }

    fn end(&self) {
        if let Some(bus) = self.bus.upgrade() {
            bus.routes.remove(self.outlet.id);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("Subscription");
        fields.field("name", &self.name()).field("filter", &self.filter()).field("depth", &self.depth());
        fields.finish_non_exhaustive()
    }
}
