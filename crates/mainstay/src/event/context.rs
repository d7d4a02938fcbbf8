//! What a handler gets beside the event.

use std::{ops::Deref, sync::Arc};

use mainstay_core::{GroupName, LeaseId, Token, event::EventOp, op::Op};
use tokio::sync::watch;

use super::Envelope;
use crate::{
    client::{Client, CommitBuilder, OwnEnd},
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
    /// What proves the delivery; `None` on a bus.
    pub proof: Option<Proof>,
}

/// What proves a delivery of a group.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    pub group: GroupName,
    pub lease: LeaseId,
    /// Whether the handler has ended its delivery in a commit of its own.
    pub own_end: OwnEnd,
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

    /// A commit that, in the log, also ends this delivery: what it changes, and that the event has been dealt with,
    /// happen together or not at all. So a crash in between cannot make it happen twice. What the handler does after it
    /// is not part of the delivery: it runs on within its time limit, and its outcome changes nothing.
    ///
    /// ```
    /// # use mainstay::{Event, EventContext, Job, JobError};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Serialize, Deserialize)] struct OrderPlaced { order: String }
    /// # impl Event for OrderPlaced { const TOPIC: &'static str = "orders.placed"; }
    /// # #[derive(Serialize, Deserialize)] struct Ship { order: String }
    /// # impl Job for Ship { const KIND: &'static str = "ship"; const QUEUE: &'static str = "lorries"; }
    /// async fn ship(event: OrderPlaced, cx: EventContext) -> Result<(), JobError> {
    ///     cx.commit()?.enqueue(Ship { order: event.order }).await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// On a bus it is an ordinary commit.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    pub fn commit(&self) -> Result<CommitBuilder, JobError> {
        let commit = self.store()?.commit();
        let Some(proof) = &self.delivery.proof else { return Ok(commit) };
        let (group, lease) = (proof.group.clone(), proof.lease);
        Ok(commit.ending(&proof.own_end, Op::Event(EventOp::Ack { group, lease })))
    }

    /// The fencing token of this delivery: larger than that of every earlier one. `None` on a bus.
    pub fn token(&self) -> Option<Token> {
        self.delivery.proof.as_ref().map(|proof| proof.lease.token)
    }

    /// Something that the handler calls, under the service's policy for it: the setting `policies.NAME`, or the
    /// default.
    ///
    /// In the log, a wait that is longer than the policy's `reschedule_above_ms` is no wait of the handler's: it ends
    /// the attempt with an error that puts the delivery off for that time. A bus keeps its events in line and would
    /// wait all the same, so there it is waited for here.
    pub fn policy(&self, name: &str) -> Target {
        let mut target = self.delivery.around.policies.target(name);
        target.in_job = self.delivery.proof.is_some();
        target
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
