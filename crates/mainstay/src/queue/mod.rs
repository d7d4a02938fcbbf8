//! One bounded queue: between tasks of a process, with a rule for when it is full.
//!
//! ```
//! use mainstay::queue::{Bounded, Overflow};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let (orders, mut rx) = Bounded::new("orders", 100).open();
//! orders.send(7).await?; // waits while a hundred are inside
//!
//! let (ticks, _rx) = Bounded::new("ticks", 10).overflow(Overflow::DropOldest).open();
//! let sent = ticks.send("now").await?; // never waits
//! assert!(sent.evicted().is_empty());
//!
//! while let Some(order) = rx.recv().await {
//!     println!("order {order}");
//! #   break;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What it is for
//! - Bounded by count, and by bytes if [`Bounded::max_bytes`] says how heavy an item is.
//! - When it is full a sender waits (until its deadline), is refused, or something is dropped: [`Overflow`].
//! - [`Sender::reserve`] takes a place before there is anything to put into it.
//! - Items may have a priority (lower first, first in first out within each) and an end, after which nobody gets them.
//! - [`Sender::drain_by`] closes it, waits for the consumers, and says what was done and what is left.
//! - Closes by itself: when the last [`Sender`] is gone receivers get `None` after the last item, when the last
//!   [`Receiver`] is gone senders are refused. Nobody waits for somebody who cannot come.
//!
//! # Cancel safety
//! Every future of this module may be dropped at any await point. A dropped `send` has sent nothing; a dropped
//! `reserve` holds no place; a dropped `recv` has taken nothing; in each case whoever waits next is woken instead.
//!
//! # Fairness
//! Senders get room in the order they asked, heavy items are not overtaken by light ones, and both ends take part in
//! tokio's cooperative scheduling: draining a full queue does not starve other tasks.
//!
//! Whoever finds no room, or nothing to receive, first lets every task that is ready have its turn and looks again,
//! before it waits to be woken: where everybody is busy nobody has to wake anybody.
//!
//! # Metrics
//! `mainstay.queue.depth`, `.capacity`, `.bytes` and `.waiting` (gauges, set by [`observe`]), `.wait` (seconds inside, of
//! every sixteenth item), `.waits` (sends and reservations that had to wait for longer than one turn of the other tasks),
//! `.refused` and `.dropped` with a `reason`; all by `queue`. They are registered when a queue is opened.

mod blocks;
mod core;
mod drain;
mod error;
mod front;
mod lanes;
mod line;
mod meter;
#[cfg(test)]
mod model;
mod patience;
mod permit;
mod receiver;
mod room;
mod sender;
mod shared;
mod state;
mod sync;
mod wait;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use drain::Drained;
pub use error::{Refused, SendError, TryRecvError};
pub use meter::observe;
pub use permit::Permit;
pub use receiver::Receiver;
pub use sender::{Sender, Sent};
use shared::Shared;

/// What happens to an item for which there is no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The sender waits, until its deadline if it has one. The default.
    #[default]
    Wait,
    /// The sender is refused at once ([`Refused::Full`]) and keeps the item.
    Reject,
    /// The oldest items of the least urgent priority make room, but none that is more urgent than the new one; if that
    /// is not enough the new one is dropped itself.
    DropOldest,
    /// The new item is dropped.
    DropNewest,
}

/// A queue to be opened.
#[must_use = "a queue exists once it is opened"]
pub struct Bounded<T> {
    name: String,
    plan: Plan<T>,
}

/// What an item is asked for.
type Ask<T, R> = Box<dyn Fn(&T) -> R + Send + Sync>;

/// The rules of a queue.
struct Plan<T> {
    capacity: usize,
    max_bytes: u64,
    overflow: Overflow,
    weigh: Option<Ask<T, u64>>,
    priority: Option<Ask<T, u8>>,
    expires: Option<Ask<T, Option<Instant>>>,
    time_to_live: Option<Duration>,
    service_time: Duration,
    on_expired: Option<Box<dyn Fn(T) + Send + Sync>>,
}

impl<T> Bounded<T> {
    /// A queue of this name (a label of its metrics) for so many items, at least 1.
    pub fn new(name: impl Into<String>, capacity: usize) -> Self {
        let plan = Plan {
            capacity: capacity.max(1),
            max_bytes: u64::MAX,
            overflow: Overflow::Wait,
            weigh: None,
            priority: None,
            expires: None,
            time_to_live: None,
            service_time: Duration::ZERO,
            on_expired: None,
        };
        Self { name: name.into(), plan }
    }

    /// What happens to an item for which there is no room. Defaults to [`Overflow::Wait`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.plan.overflow = overflow;
        self
    }

    /// Bounds the queue by bytes too, or by whatever `weigh` counts. An item heavier than all of it is refused
    /// ([`Refused::TooLarge`]). By default only the count is bounded.
    pub fn max_bytes(mut self, bytes: u64, weigh: impl Fn(&T) -> u64 + Send + Sync + 'static) -> Self {
        self.plan.max_bytes = bytes;
        self.plan.weigh = Some(Box::new(weigh));
        self
    }

    /// How urgent an item is: 0…9, lower first; more counts as 9. By default all are equal.
    pub fn priority(mut self, priority: impl Fn(&T) -> u8 + Send + Sync + 'static) -> Self {
        self.plan.priority = Some(Box::new(priority));
        self
    }

    /// When an item is of no use any more: a receiver never gets it after that. By default never.
    pub fn expires(mut self, at: impl Fn(&T) -> Option<Instant> + Send + Sync + 'static) -> Self {
        self.plan.expires = Some(Box::new(at));
        self
    }

    /// The longest an item may be inside; then it has expired. By default there is no limit.
    pub fn time_to_live(mut self, limit: Duration) -> Self {
        self.plan.time_to_live = Some(limit);
        self
    }

    /// How long work on an item usually takes: it counts as expired when less than that is left, because nobody would
    /// be there any more for the result. Defaults to zero.
    pub fn service_time(mut self, estimate: Duration) -> Self {
        self.plan.service_time = estimate;
        self
    }

    /// Gets what expired inside, outside of any lock, on the task of a receiver. By default it is dropped; it is
    /// counted in any case.
    pub fn on_expired(mut self, hook: impl Fn(T) + Send + Sync + 'static) -> Self {
        self.plan.on_expired = Some(Box::new(hook));
        self
    }

    /// Opens it. Both ends can be cloned: many may send, and many receive (each item goes to one of them).
    pub fn open(self) -> (Sender<T>, Receiver<T>)
    where
        T: Send + 'static,
    {
        let shared = Arc::new(Shared::new(self.name, self.plan));
        meter::watch(&shared);
        (Sender::new(shared.clone()), Receiver::new(shared))
    }
}

impl<T> std::fmt::Debug for Bounded<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Plan { capacity, overflow, .. } = &self.plan;
        f.debug_struct("Bounded")
            .field("name", &self.name)
            .field("capacity", capacity)
            .field("overflow", overflow)
            .finish_non_exhaustive()
    }
}
