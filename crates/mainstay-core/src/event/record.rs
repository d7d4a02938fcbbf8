//! What can be read of events, topics and groups.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Event, GroupConfig, TopicConfig};
use crate::{
    job::{DeadReason, JobFailure},
    name::GroupName,
    time::Timestamp,
    topic::TopicName,
};

/// What to read one of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKey {
    /// A topic.
    Topic(TopicName),
    /// A group.
    Group(GroupName),
}

/// What to read many of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventQuery {
    /// Topics by name.
    Topics,
    /// Groups by name.
    Groups,
    /// Dead letters of a group, newest first. Of an unknown group there are none.
    Dead(DeadEventFilter),
}

/// Which dead letters. Every part that is given must fit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeadEventFilter {
    /// Of this group.
    pub group: GroupName,
    /// Of this `type`.
    pub kind: Option<String>,
    /// Whose last failure was of this type.
    pub error_type: Option<String>,
}

impl DeadEventFilter {
    /// Whether a dead letter of the group fits the rest.
    pub fn fits(&self, dead: &DeadEvent) -> bool {
        let error_type = dead.error.as_ref().and_then(|error| error.kind.as_deref());
        self.kind.as_deref().is_none_or(|kind| *dead.event.kind == *kind)
            && self.error_type.as_deref().is_none_or(|wanted| error_type == Some(wanted))
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventItem {
    /// A topic.
    Topic(TopicRecord),
    /// A group.
    Group(GroupRecord),
    /// A dead letter.
    Dead(Box<DeadEvent>),
}

/// A topic as it is seen from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRecord {
    /// Its name.
    pub name: TopicName,
    /// Its configuration.
    pub config: TopicConfig,
    /// How many events it has.
    pub count: u64,
    /// Their bytes, by [`Event::size`].
    pub bytes: u64,
    /// The number of its newest event, gone or not; 0: it never had one.
    pub last_seq: u64,
    /// Retention has removed its events up to this number; 0: none yet.
    pub removed_up_to: u64,
}

/// A group as it is seen from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Its name.
    pub name: GroupName,
    /// Its configuration.
    pub config: GroupConfig,
    /// The next number it will look at.
    pub cursor: u64,
    /// Everything below this number is settled, dead or skipped: the ack floor.
    pub floor: u64,
    /// Events that it still has to hand out, again or for the first time; without what is in flight.
    pub lag: u64,
    /// Of those: waiting for another try, or for an event of the same key before them.
    pub waiting: u64,
    /// Events with a live lease.
    pub in_flight: u64,
    /// How long ago the oldest event that is not settled was published, in milliseconds.
    pub oldest_unacked_age_ms: Option<u64>,
    /// Dead letters.
    pub dead: u64,
    /// Events that retention removed before they were settled.
    pub skipped: u64,
    /// Deliveries of an event that had been delivered before.
    pub redelivered: u64,
    /// Too much waits (see [`super::GROUP_WAITING`]): nothing new is handed out until some of it is settled.
    pub stalled: bool,
}

/// A dead letter of a group. It outlives its event's place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadEvent {
    /// The store's number of it: newer ones have larger numbers.
    pub number: u64,
    /// The topic.
    pub topic: TopicName,
    /// The event's number in the log.
    pub seq: u64,
    /// What happened.
    pub event: Arc<Event>,
    /// When it was published.
    pub published_at: Timestamp,
    /// Deliveries.
    pub attempts: u32,
    /// `Exhausted`: the last delivery was refused. `Crashed`: its lease ran out. `Permanent`: it was given up.
    pub reason: DeadReason,
    /// What was said at the last nack.
    pub error: Option<JobFailure>,
    /// Since when it is dead.
    pub died_at: Timestamp,
}

/// An event in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedEvent {
    /// Its topic.
    pub topic: TopicName,
    /// Its number.
    pub seq: u64,
    /// When it was published.
    pub published_at: Timestamp,
    /// What happened.
    pub event: Arc<Event>,
}

/// How much of the log to read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBudget {
    /// At most this many events.
    pub events: u32,
    /// At most this many bytes by [`Event::size`], but at least one event.
    pub bytes: u64,
}

impl Default for LogBudget {
    /// 1,000 events, 4 MiB.
    fn default() -> LogBudget {
        LogBudget { events: 1_000, bytes: 4 << 20 }
    }
}

/// A piece of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSlice {
    /// Where it begins: the number that the asked-for position stood for.
    pub from: u64,
    /// The events, in order; shared, since many may read the same.
    pub events: Vec<Arc<LoggedEvent>>,
    /// Where to go on. A slice may be short, even empty, and not be the end.
    pub next: u64,
    /// The last number given so far, of whatever topic. At the end of the log, `next` is one more.
    pub head: u64,
    /// The highest number at or behind `from` that retention has removed of a topic that matches: something that was
    /// asked for is gone, and whoever begins at one more than this misses nothing. 0: nothing is gone.
    pub removed_up_to: u64,
    /// The same for each topic of which something at or behind `from` is gone, in no order: how a reader of several
    /// topics notices that one more has lost something.
    pub removed: Vec<(TopicName, u64)>,
}
