//! Where a bus puts events: a subscription's queue, and what happens when it is full.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstay_core::topic::TopicFilter;
use metrics::Counter;
use tokio::time::Instant;

use super::ask::Receipt;
use crate::{
    event::{Answer, Envelope},
    queue::{self, Bounded, Receiver, Refused, Sender},
    secs,
};

/// What happens to an event for which a subscription has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The publisher waits for room, this long at most, and is told if there was none. The default, with 5 s: nothing is
    /// lost unseen, and handlers that publish to each other cannot wait for each other for ever.
    Wait(Duration),
    /// The oldest events of the queue go. They are counted, and the next delivery knows how many it missed.
    DropOldest,
    /// The subscription ends: what it has is still handled, and nothing comes after it.
    Disconnect,
}

impl Default for Overflow {
    fn default() -> Self {
        Self::Wait(secs(5))
    }
}

/// One subscription, seen from the publishers' side.
pub(super) struct Outlet {
    pub id: u64,
    pub name: Arc<str>,
    pub filter: TopicFilter,
    pub queue: Sender<Item>,
    pub overflow: Overflow,
    pub dropped: Counter,
    /// Dropped since the last delivery began.
    pub missed: AtomicU64,
    /// What is being handled, a place for each handler at a time.
    pub hands: Vec<Mutex<Option<InHand>>>,
}

/// An event in a queue.
pub(super) struct Item {
    pub envelope: Envelope,
    pub ticket: Option<Ticket>,
}

/// An event that is being handled.
#[derive(Clone)]
pub(super) struct InHand {
    pub envelope: Envelope,
    pub since: Instant,
}

/// What became of an event that was put before an outlet.
pub(super) enum Offer {
    Taken { dropped: u64 },
    Full(Item),
    Gone,
}

impl Item {
    pub fn of(envelope: Envelope) -> Self {
        Self { envelope, ticket: None }
    }
}

impl Outlet {
    pub fn open(
        id: u64,
        name: Arc<str>,
        filter: TopicFilter,
        capacity: usize,
        overflow: Overflow,
        hands: usize,
    ) -> (Arc<Self>, Receiver<Item>) {
        let rule = match overflow {
            Overflow::Wait(_) => queue::Overflow::Wait,
            Overflow::DropOldest => queue::Overflow::DropOldest,
            Overflow::Disconnect => queue::Overflow::Reject,
        };
        let (queue, rx) = Bounded::new(format!("bus.{name}"), capacity).overflow(rule).open();
        let dropped = metrics::counter!("mainstay.bus.dropped", "subscriber" => name.clone());
        let hands = (0..hands).map(|_| Mutex::default()).collect();
        let missed = AtomicU64::new(0);
        (Arc::new(Self { id, name, filter, queue, overflow, dropped, missed, hands }), rx)
    }

    /// Puts an event in if that is possible at once.
    pub fn offer(&self, item: Item) -> Offer {
        match self.queue.try_send(item) {
            Ok(sent) => {
                let dropped = sent.evicted().len() as u64;
                if dropped > 0 {
                    self.missed.fetch_add(dropped, Ordering::Relaxed);
                    self.dropped.increment(dropped);
                }
                Offer::Taken { dropped }
            }
            Err(error) if error.reason() == Refused::Full => Offer::Full(error.into_item()),
            Err(_) => Offer::Gone,
        }
    }

    /// Puts an event in if there is room for it: never in the place of another, whatever the policy.
    pub fn put(&self, item: Item) -> bool {
        self.queue.try_reserve(0).is_ok_and(|place| place.send(item).is_ok())
    }

    /// Waits for room, as long from `began` on as its policy says.
    pub async fn wait(&self, item: Item, began: Instant) -> Offer {
        let Overflow::Wait(limit) = self.overflow else { return Offer::Full(item) };
        let until = began.checked_add(limit);
        let sent = match until {
            Some(until) => self.queue.send_by(item, until).await,
            None => self.queue.send(item).await,
        };
        match sent {
            Ok(_) => Offer::Taken { dropped: 0 },
            Err(error) if error.reason() == Refused::TimedOut => Offer::Full(error.into_item()),
            Err(_) => Offer::Gone,
        }
    }

    /// What is being handled.
    pub fn in_hand(&self) -> Vec<InHand> {
        let look = |hand: &Mutex<Option<InHand>>| hand.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.hands.iter().filter_map(look).collect()
    }
}

/// Somebody wants to know what becomes of an event. Dropped, it tells that nothing did.
pub(super) struct Ticket {
    receipt: Arc<Receipt>,
    at: usize,
}

impl Ticket {
    pub fn new(receipt: Arc<Receipt>, at: usize) -> Self {
        Self { receipt, at }
    }

    pub fn settle(self, answer: &Answer) {
        self.receipt.settle(self.at, answer);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.receipt.dropped(self.at);
    }
}
