//! Consumer groups: how they are set up, how they hand out events, how deliveries end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Event;
use crate::{
    job::{Backoff, JobFailure, Retry},
    lease::LeaseId,
    name::{GroupName, WorkerName},
    time::Timestamp,
    topic::{TopicFilter, TopicName},
};

/// The configuration of a group. `PUT` replaces the whole of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupConfig {
    /// Which topics; at least one filter.
    pub topics: Vec<TopicFilter>,
    /// How long a lease lives, in milliseconds. Defaults to 30 s.
    pub ack_wait_ms: u64,
    /// So many deliveries without an ack, and the event is a dead letter. Defaults to 5.
    pub max_deliver: u32,
    /// At most so many events have a live lease. Defaults to 1,000.
    pub max_in_flight: u32,
    /// The wait before an event is delivered again, after a nack without a delay and after a lease that ran out.
    /// Defaults to that of jobs.
    pub backoff: Backoff,
    /// At most one event of a partition key is unsettled; the others of that key wait behind it. Defaults to `false`.
    pub ordered_by_key: bool,
}

impl GroupConfig {
    /// The defaults, for these topics.
    pub fn new(topics: Vec<TopicFilter>) -> GroupConfig {
        GroupConfig {
            topics,
            ack_wait_ms: 30_000,
            max_deliver: 5,
            max_in_flight: 1_000,
            backoff: Backoff::default(),
            ordered_by_key: false,
        }
    }
}

/// How events are taken. Their leases live as long as the group's `ack_wait_ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The group.
    pub group: GroupName,
    /// At most this many events.
    pub max: u32,
    /// At most this many bytes by [`Event::size`], but at least one event.
    pub max_bytes: u64,
    /// Who asks.
    pub consumer: Option<WorkerName>,
}

/// An event that was handed out, with the lease that proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its topic.
    pub topic: TopicName,
    /// Its number.
    pub seq: u64,
    /// This delivery, from 1.
    pub attempt: u32,
    /// The proof. Its token fences this delivery off from earlier ones.
    pub lease: LeaseId,
    /// When the lease runs out, projected to the wall clock.
    pub expires_at: Timestamp,
    /// When it was published.
    pub published_at: Timestamp,
    /// The dead letter it comes from, if it was requeued: where a store finds the event once the log has lost it.
    pub dead: Option<u64>,
    /// What happened. Every store fills it in before the delivery leaves it, unless the same commit has deleted the
    /// group; it is not kept with the answer.
    #[serde(skip)]
    pub event: Option<Arc<Event>>,
}

/// Deliveries to settle, each alone: one that is refused does not touch the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettleDeliveries {
    /// The group.
    pub group: GroupName,
    /// Done.
    pub ack: Vec<LeaseId>,
    /// Not done.
    pub nack: Vec<Nack>,
    /// Not done yet.
    pub extend: Vec<Prolong>,
}

/// A delivery that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nack {
    /// The proof.
    pub lease: LeaseId,
    /// When it is delivered again, while deliveries are left. [`Retry::Never`] makes it a dead letter at once.
    pub retry: Retry,
    /// Why: up to 256 bytes of the class, 16 KiB of the message and 1 MiB of the backtrace; what is longer loses its end.
    /// A dead letter shows the words of its last nack, in full if it was that nack that killed the event; while an event
    /// is to be delivered again, the first 1,024 bytes of message and backtrace together are kept.
    pub error: Option<JobFailure>,
}

/// A delivery that takes longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prolong {
    /// The proof.
    pub lease: LeaseId,
    /// The lease runs this long from now, in milliseconds.
    pub extend_ms: u64,
}

/// What became of one item of [`SettleDeliveries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settled {
    /// It is acknowledged.
    Acked,
    /// It will be delivered again, not before this time.
    Nacked {
        /// Projected to the wall clock.
        due: Timestamp,
    },
    /// It is a dead letter now.
    Dead,
    /// Its lease lives until then.
    Extended {
        /// Projected to the wall clock.
        expires_at: Timestamp,
    },
    /// The lease ran out, was settled otherwise, or the group has moved: nothing was changed.
    LeaseLost,
}
