//! Durable subscriptions: handlers of events from the log of a store.
//!
//! ```no_run
//! # use mainstay::{Boot, Client, Event, EventContext, JobError, Result, bus::Bus};
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Clone)] struct Shop;
//! # #[derive(Clone, Serialize, Deserialize)] struct OrderPlaced { order: String }
//! # impl Event for OrderPlaced { const TOPIC: &'static str = "orders.placed"; }
//! async fn reserve(event: OrderPlaced, cx: EventContext<Shop>) -> Result<(), JobError> {
//! #   let _ = (event, cx);
//!     Ok(())
//! }
//! # fn boot(b: &mut Boot<()>, store: Client, bus: Bus, shop: Shop) {
//! let stock = store.group("stock");
//! b.subscribe(stock.with(shop.clone()).subscribe("orders.*", reserve)); // from the log, at least once
//! b.subscribe(bus.with(shop).subscribe("orders.*", reserve)); // the same in this process, while it lives
//! # }
//! ```
//!
//! # What holds
//! - Every event that a commit has published is delivered at least once to every group whose filter matches it, or is
//!   among the group's dead letters. Two processes with the same group share its events.
//! - A delivery is a lease, renewed until it has ended. Whoever loses it is cut, and its settling changes nothing; so is
//!   whoever must have lost it by the clock of the process, where the store does not answer.
//! - A handler's error is a nack: the event comes again after the group's back-off, five times at most, then it is a
//!   dead letter. So do crashes and time-outs. `JobError::snooze` gives it back for that time and spends no delivery, as
//!   does a queue that is full; `JobError::cancel` is an ack. A stopping service gives back what it has, and what its
//!   handlers give up once they are told, without spending a delivery.
//! - Order: events are handed out in the order of the log, but several at once, and failed ones again later. With
//!   [`Subscribe::ordered_by_key`], events of one key are handled one after the other, and a failing one holds up only
//!   its key.
//! - [`EventContext::commit`](crate::EventContext::commit) makes what a handler does to the store and the end of its
//!   delivery one change: then they happen exactly once.

mod hands;
mod part;
mod renew;
mod run;
mod settle;
mod subscribe;

use std::sync::Arc;

pub use subscribe::{OnGroup, Subscribe};

use crate::client::Client;

/// A consumer group of a store, to be subscribed. Made by [`Client::group`].
#[derive(Clone, Debug)]
pub struct Group {
    client: Client,
    name: String,
}

impl Client {
    /// The consumer group of this name. It comes to be when a subscription to it starts.
    pub fn group(&self, name: impl Into<String>) -> Group {
        Group { client: self.clone(), name: name.into() }
    }
}

impl Group {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A handler subscribed through this gets `state`: its [`EventContext`](crate::EventContext) dereferences to it.
    pub fn with<S: Send + Sync + 'static>(&self, state: S) -> OnGroup<S> {
        OnGroup::new(self.clone(), Arc::new(state))
    }
}
