//! Events: what is published, how groups consume it, and what a store answers.
//!
//! An event belongs to a topic and gets a number, its `seq`: one log for the whole store, without gaps, in the order of
//! commits, from 1. A group has a cursor in that log and hands each matching event to one of its consumers, under a
//! lease, until it is settled.

mod attributes;
mod group;
mod record;

pub use attributes::{DedupKey, Event, EventData, Problem};
pub use group::{Delivery, Fetch, GroupConfig, Nack, Prolong, SettleDeliveries, Settled};
pub use record::{
    DeadEvent, DeadEventFilter, EventItem, EventKey, EventQuery, GroupRecord, LogBudget, LogSlice,
    LoggedEvent, TopicRecord,
};

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    job::Json,
    lease::LeaseId,
    name::GroupName,
    time::Timestamp,
    topic::{TopicFilter, TopicName},
};

/// How long a publisher's own id is remembered, in milliseconds: the same topic, source and id within it is not stored
/// again.
pub const DEDUP_MS: u64 = 120_000;
/// At most this many of a store's newest ids are remembered. Only ids that publishers choose count.
pub const DEDUP_KEPT: usize = 1_000_000;
/// Events of a group that wait for another try or for their key, at most. At that bound the group takes nothing new:
/// it shows as [`GroupRecord::stalled`].
pub const GROUP_WAITING: usize = 10_000;
/// The last so many settled leases of a group are remembered, to recognise a repeat.
pub const SETTLED_KEPT: usize = 1_000;
/// Dead letters of a group are kept this long, in milliseconds: 30 days.
pub const DEAD_KEPT_MS: u64 = 30 * 86_400_000;

/// One change of topics, events or groups.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum EventOp {
    /// Appends an event to the log, and creates its topic if need be. → [`EventReply::Published`]
    Publish(Box<Publish>),
    /// Creates a topic or replaces its configuration. → [`crate::op::Reply::Done`]
    PutTopic {
        /// The topic.
        topic: TopicName,
        /// All of its configuration.
        config: TopicConfig,
    },
    /// Forgets a topic with all of its events. → [`crate::op::Reply::Done`]
    DeleteTopic {
        /// The topic.
        topic: TopicName,
    },
    /// Creates a group or replaces its configuration. → [`crate::op::Reply::Done`]
    PutGroup {
        /// The group.
        group: GroupName,
        /// All of its configuration.
        config: Box<GroupConfig>,
        /// Where a new group begins. An existing one stays where it is.
        start: Position,
    },
    /// Forgets a group with its dead letters. → [`crate::op::Reply::Done`]
    DeleteGroup {
        /// The group.
        group: GroupName,
    },
    /// Takes events. → [`EventReply::Fetched`], empty when there are none: waiting is [`crate::Store::wait`] and
    /// trying again.
    Fetch(Fetch),
    /// Settles deliveries, each alone. → [`EventReply::Settled`]
    Settle(Box<SettleDeliveries>),
    /// Acknowledges a delivery; refused with the whole commit if the lease is not live. → [`crate::op::Reply::Done`]
    Ack {
        /// The group.
        group: GroupName,
        /// The proof.
        lease: LeaseId,
    },
    /// Gives deliveries back as if they had not been fetched: no attempt is spent. Those whose lease is not live are
    /// passed over. → [`crate::op::Reply::Count`]
    Release {
        /// The proofs, of whatever groups.
        leases: Vec<LeaseId>,
        /// They are not handed out again before so many milliseconds have passed; an ordered key waits with them.
        #[serde(default)]
        delay_ms: u64,
    },
    /// Moves the cursor; open leases are void, and whatever waited for another try is forgotten unless it lies ahead of
    /// the new cursor. → [`EventReply::Sought`]
    Seek {
        /// The group.
        group: GroupName,
        /// Where to.
        to: Position,
    },
    /// Delivers those dead letters again, attempts reset; the cursor stays. → [`crate::op::Reply::Count`]
    RequeueDead {
        /// The group.
        group: GroupName,
        /// By [`DeadEvent::number`], at most 1,000.
        numbers: Vec<u64>,
    },
    /// Forgets those dead letters. → [`crate::op::Reply::Count`]
    DeleteDead {
        /// The group.
        group: GroupName,
        /// By [`DeadEvent::number`], at most 1,000.
        numbers: Vec<u64>,
    },
}

/// An event on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Where to.
    pub topic: TopicName,
    /// What.
    pub event: Arc<Event>,
    /// Recognises a repeat; `None` if the id was made for this call and cannot come again.
    pub dedup: Option<DedupKey>,
}

impl Publish {
    /// An event whose id its publisher chose: within [`DEDUP_MS`], the same topic, source and id is the same event.
    pub fn new(topic: TopicName, event: Event) -> Publish {
        let dedup = Some(DedupKey::of(&topic, &event.source, &event.id));
        Publish { topic, event: Arc::new(event), dedup }
    }

    /// An event whose id was made for it and cannot come again.
    pub fn with_fresh_id(topic: TopicName, event: Event) -> Publish {
        Publish { topic, event: Arc::new(event), dedup: None }
    }
}

/// The answer to an [`EventOp`] that has more to say than [`crate::op::Reply::Done`] or a count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventReply {
    /// To [`EventOp::Publish`].
    Published {
        /// The event's number, or that of the first if this is a duplicate.
        seq: u64,
        /// Nothing was stored: the same event is there already.
        deduplicated: bool,
    },
    /// To [`EventOp::Fetch`].
    Fetched(Vec<Delivery>),
    /// To [`EventOp::Settle`], in the order ack, nack, extend.
    Settled(Vec<Settled>),
    /// To [`EventOp::Seek`].
    Sought {
        /// The next number the group will look at.
        cursor: u64,
    },
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Position {
    /// Behind the last event: only what comes from now on.
    Latest,
    /// The oldest event there is.
    Earliest,
    /// This number, inclusive. It may lie ahead of the log.
    Seq(u64),
    /// The first event that was published at this wall time or later.
    Time(Timestamp),
}

/// The configuration of a topic. `PUT` replaces the whole of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicConfig {
    /// How long events stay.
    pub retention: TopicRetention,
    /// A JSON Schema, as text. A store keeps it; whoever takes publishes from outside checks them against it.
    pub schema: Option<Json>,
}

/// How long the events of a topic stay: whatever is given bounds them, the oldest go first. Nothing given: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRetention {
    /// At most this old, in milliseconds.
    pub age_ms: Option<u64>,
    /// At most the newest this many.
    pub count: Option<u64>,
    /// At most the newest that have this many bytes together, by [`Event::size`].
    pub bytes: Option<u64>,
}

/// What a caller waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventInterest {
    /// The log has an event of one of these topics (none: of any) at or behind `from`. Any number of waiters is woken.
    Log {
        /// Which topics.
        filters: Arc<[TopicFilter]>,
        /// [`LogSlice::next`] of the last reading.
        from: u64,
    },
    /// The group can hand out an event. At most as many waiters are woken as there are events.
    Group(GroupName),
}
