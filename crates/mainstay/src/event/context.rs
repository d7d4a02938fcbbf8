//! What a handler gets beside the event.

use std::{ops::Deref, sync::Arc};

use tokio::sync::watch;

use super::Envelope;
use crate::{
    client::Client,
    job::JobError,
    policy::{Policies, Target},
};

/// A delivery's surroundings. Dereferences to the state that the subscription was made with. Cheap to clone.
pub struct EventContext<S = ()> {
    state: Arc<S>,
    delivery: Given,
}

/// What is the same whatever the state.
#[derive(Clone)]
pub(crate) struct Given {
    pub envelope: Envelope,
    pub around: Arc<Around>,
    /// From 1.
    pub attempt: u32,
    pub missed: u64,
}

/// What all deliveries of a subscription share.
pub(crate) struct Around {
    pub subscriber: Arc<str>,
    pub policies: Policies,
    pub store: Option<Client>,
    /// Says that handlers should give up.
    pub stop: watch::Receiver<bool>,
}

impl<S> EventContext<S> {
    pub(super) fn new(state: Arc<S>, delivery: Given) -> Self {
        Self { state, delivery }
    }

    /// The event with its attributes.
    pub fn envelope(&self) -> &Envelope {
        &self.delivery.envelope
    }

    /// Where it was announced.
    pub fn topic(&self) -> &str {
        self.envelope().topic()
    }

    /// Its id, the same on every delivery: what an idempotent handler remembers.
    pub fn id(&self) -> &str {
        self.envelope().id()
    }

    /// Its place in the log; `None` on a bus.
    pub fn seq(&self) -> Option<u64> {
        self.envelope().seq()
    }

    /// Which attempt at this delivery it is, from 1.
    pub fn attempt(&self) -> u32 {
        self.delivery.attempt
    }

    /// The subscription's name.
    pub fn subscriber(&self) -> &str {
        &self.delivery.around.subscriber
    }

    /// How many events the subscription lost to [`Overflow::DropOldest`](crate::bus::Overflow::DropOldest) since the
    /// delivery before this one.
    pub fn missed(&self) -> u64 {
        self.delivery.missed
    }

    /// The store the event came from; on a bus, the service's.
    ///
    /// # Errors
    /// A service without a store; the delivery becomes a dead letter.
    pub fn store(&self) -> Result<&Client, JobError> {
        self.delivery.around.store.as_ref().ok_or_else(|| {
            JobError::permanent(
                "this subscription has no store: open one with `b.store(…)` before it, or keep one in the state",
            )
        })
    }

    /// Something that the handler calls, under the service's policy for it: the setting `policies.NAME`, or the
    /// default.
    pub fn policy(&self, name: &str) -> Target {
        self.delivery.around.policies.target(name)
    }

    /// Whether the handler should stop: the process is on its way out, and its time is up.
    pub fn is_cancelled(&self) -> bool {
        *self.delivery.around.stop.borrow()
    }

    /// Resolves when the handler should stop. Cancel safe.
    pub async fn cancelled(&self) {
        let mut stop = self.delivery.around.stop.clone();
        if stop.wait_for(|stop| *stop).await.is_err() {
            // Nobody can tell any more: the subscription has ended, and this handler with it.
            std::future::pending::<()>().await;
        }
    }
}

impl<S> Clone for EventContext<S> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), delivery: self.delivery.clone() }
    }
}

impl<S> Deref for EventContext<S> {
    type Target = S;
    fn deref(&self) -> &S {
        &self.state
    }
}

impl<S> std::fmt::Debug for EventContext<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("EventContext");
        fields.field("subscriber", &self.subscriber()).field("attempt", &self.attempt());
        fields.field("event", self.envelope()).finish_non_exhaustive()
    }
}
