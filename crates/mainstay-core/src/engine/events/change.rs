//! What a commit changed of topics, events and groups.
//!
//! The tables they speak of are `topic`, `event` (by `seq`), `event_dedup` (likewise), `event_group`, `delivery` (by
//! group and `seq`), `settled_delivery` (a ring a group) and `dead_event` (by number).

use std::sync::Arc;

use crate::{
    event::{DedupKey, Event, GroupConfig, TopicConfig},
    job::{DeadReason, JobFailure, Verb},
    lease::LeaseId,
    name::{GroupName, WorkerName},
    time::{StoreTime, Timestamp},
    topic::TopicName,
};

/// The store's own number of a topic. A topic that is deleted and made again gets another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u32);

/// The store's own number of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// What the engine needs to know of an event: all but what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventMeta {
    /// Its number in the log.
    pub seq: u64,
    /// Its topic.
    pub topic: TopicId,
    /// Bytes, by [`Event::size`].
    pub size: u32,
    /// Its number in its topic: without gaps, so that two of them tell how many lie between.
    pub ord: u64,
    /// Bytes of its topic up to and with it, counted from some event on; two of them tell how many lie between.
    pub total: u64,
    /// When it was published.
    pub at: Timestamp,
    /// Its partition key, hashed; 0: it has none.
    pub key: u64,
}

/// A group as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupRow {
    /// Key.
    pub id: GroupId,
    /// Its name.
    pub name: GroupName,
    /// Its configuration.
    pub config: Arc<GroupConfig>,
    /// Where it is.
    pub place: GroupPlace,
}

/// How far a group is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupPlace {
    /// The next number it looks at.
    pub cursor: u64,
    /// Events that were removed before it had settled them.
    pub skipped: u64,
    /// Deliveries of events that had been delivered before.
    pub redelivered: u64,
}

/// An event that a group has taken up and not settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsettled {
    /// Its topic.
    pub topic: TopicId,
    /// Bytes.
    pub size: u32,
    /// Deliveries so far, less those that were given back.
    pub attempt: u32,
    /// Its partition key, hashed; 0: it has none.
    pub key: u64,
    /// When it was published.
    pub at: Timestamp,
    /// The dead letter it comes from.
    pub dead: Option<Arc<DeadRef>>,
    /// What was said at the last nack, cut to its beginning.
    pub error: Option<Arc<JobFailure>>,
    /// What it does.
    pub state: DeliveryState,
}

/// What an unsettled event of a group does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is handed out.
    Leased(DeliveryLease),
    /// It waits to be delivered (again).
    Waiting {
        /// Not before.
        due: StoreTime,
    },
    /// It waits for an earlier event of its key.
    Parked,
}

/// The lease of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryLease {
    /// Token and nonce.
    pub id: LeaseId,
    /// When it runs out.
    pub until: StoreTime,
    /// The last granted duration in milliseconds: what a live lease gets again after a restart.
    pub ms: u64,
    /// Who has it.
    pub consumer: Option<WorkerName>,
}

/// What is needed to deliver a dead letter again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadRef {
    /// Key.
    pub number: u64,
    /// Its group.
    pub group: GroupId,
    /// Its event's number in the log.
    pub seq: u64,
    /// Its topic, by name: the topic may be gone.
    pub topic: TopicName,
    /// Bytes.
    pub size: u32,
    /// The partition key, hashed; 0: it has none.
    pub key: u64,
    /// When it was published.
    pub at: Timestamp,
    /// Since when it is dead.
    pub died_at: Timestamp,
}

/// A dead letter, without the event.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Where it is.
    pub place: DeadRef,
    /// Deliveries.
    pub attempts: u32,
    /// Why.
    pub reason: DeadReason,
    /// What was said at the last nack.
    pub error: Option<Arc<JobFailure>>,
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum EventChange {
    /// Upsert of a topic; what retention removed of it is not part of it. A `dropped` one is gone for everybody, but its
    /// events are still being removed.
    Topic {
        /// Key.
        id: TopicId,
        /// Its name.
        name: TopicName,
        /// Its configuration.
        config: TopicConfig,
        /// Nobody sees it any more.
        dropped: bool,
    },
    /// A dropped topic is empty and gone.
    TopicRemoved(TopicId),
    /// A new event. Its number is the highest so far.
    Published {
        /// The row.
        meta: EventMeta,
        /// And what happened.
        event: Arc<Event>,
        /// What recognises a repeat.
        dedup: Option<DedupKey>,
        /// Its topic's name.
        topic: TopicName,
    },
    /// Events of the topic up to and with this number are gone.
    EventsRemoved {
        /// The topic.
        topic: TopicId,
        /// The last to go.
        up_to: u64,
    },
    /// Dedup keys of events up to and with this number are forgotten.
    DedupForgotten {
        /// The last to go.
        up_to: u64,
    },
    /// Upsert of a group.
    Group(GroupRow),
    /// Update of a group's place.
    GroupMoved {
        /// Key.
        id: GroupId,
        /// The columns.
        place: GroupPlace,
    },
    /// A group is gone with its deliveries, settled leases and dead letters.
    GroupRemoved(GroupId),
    /// Upsert.
    Delivery {
        /// Key, first part.
        group: GroupId,
        /// Key, second part.
        seq: u64,
        /// The row.
        row: Unsettled,
        /// There was none.
        new: bool,
    },
    /// The group has settled the event, or let go of it.
    DeliveryRemoved {
        /// Key, first part.
        group: GroupId,
        /// Key, second part.
        seq: u64,
    },
    /// A lease was settled: upsert at `(group, n % SETTLED_KEPT)`, a ring of the newest.
    Settled {
        /// Key, first part.
        group: GroupId,
        /// Grows by one with each settled lease of the group.
        n: u64,
        /// Token and nonce.
        lease: LeaseId,
        /// How.
        verb: Verb,
    },
    /// A new dead letter. Its event is that of the dead letter `from`, which is gone with this, or the log's.
    Died {
        /// The row.
        letter: Box<DeadLetter>,
        /// The dead letter that was delivered again and died again.
        from: Option<u64>,
    },
    /// A dead letter is delivered again: it is in no list, but its event is kept.
    DeadRevived {
        /// Key.
        number: u64,
    },
    /// It was not delivered after all: it is in the lists again.
    DeadReturned {
        /// Key.
        number: u64,
    },
    /// A dead letter is gone with its event.
    DeadRemoved {
        /// Key.
        number: u64,
    },
}
