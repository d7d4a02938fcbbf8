//! What the answers to a group say, kept without any reference: which of its events are handed out or wait for another
//! try. By it, the floor and the order of keys are judged.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mainstay_core::{
    LeaseId, Timestamp,
    event::{Delivery, EventOp, EventReply, Settled},
    op::{Op, Reply},
};

use super::play::Outcomes;

/// Of one group, since it was last told where to be.
#[derive(Default)]
pub(super) struct Book {
    open: BTreeMap<u64, Open>,
    seen: BTreeSet<u64>,
    /// The newest event of each key that was handed out for the first time.
    newest: BTreeMap<Arc<str>, u64>,
}

/// An event that was handed out and not settled.
struct Open {
    key: Option<Arc<str>>,
    /// The lease, and until when it lives; nothing: the event waits.
    lease: Option<(LeaseId, Timestamp)>,
}

/// What else a store shows at the same moment.
pub(super) struct Shown {
    pub(super) now: Timestamp,
    /// Numbers of all events.
    pub(super) log: BTreeSet<u64>,
    /// Numbers of the group's dead letters.
    pub(super) dead: BTreeSet<u64>,
}

impl Open {
    /// Whether it is certainly not settled: its lease lives, or it can be delivered again and is no dead letter.
    fn is_open(&self, seq: u64, shown: &Shown) -> bool {
        let lives = self.lease.is_some_and(|(_, until)| until > shown.now);
        lives || shown.log.contains(&seq) && !shown.dead.contains(&seq)
    }
}

impl Book {
    /// Events were handed out.
    pub(super) fn fetched(&mut self, deliveries: &[Delivery], ordered: bool, shown: &Shown) -> Outcomes {
        for delivery in deliveries {
            let seq = delivery.seq;
            let key = delivery.event.as_ref().and_then(|event| event.partition_key.clone());
            if let Some(key) = key.as_ref().filter(|_| ordered) {
                let blocks = |(other, open): &(&u64, &Open)| {
                    **other != seq && open.key.as_ref() == Some(key) && open.is_open(**other, shown)
                };
                if let Some((other, _)) = self.open.iter().find(blocks) {
                    return Err(format!("event {seq} came while {other} of its key {key} is not settled"));
                }
                if delivery.dead.is_none() && !self.seen.contains(&seq) {
                    let newest = self.newest.entry(key.clone()).or_default();
                    if *newest > seq {
                        return Err(format!("event {seq} came after {newest} of its key {key}"));
                    }
                    *newest = seq;
                }
            }
            self.seen.insert(seq);
            let lease = Some((delivery.lease, delivery.expires_at));
            self.open.insert(seq, Open { key, lease });
        }
        Ok(())
    }

    /// An op that was done, and its answer.
    pub(super) fn note(&mut self, op: &Op, reply: &Reply, now: Timestamp) {
        match (op, reply) {
            (Op::Event(EventOp::Settle(settle)), Reply::Event(EventReply::Settled(settled))) => {
                let nack = settle.nack.iter().map(|nack| nack.lease);
                let extend = settle.extend.iter().map(|prolong| prolong.lease);
                let leases = settle.ack.iter().copied().chain(nack).chain(extend);
                for (lease, settled) in leases.zip(settled) {
                    match settled {
                        Settled::Acked | Settled::Dead => self.settled(lease),
                        Settled::Nacked { .. } => self.set_lease(lease, None),
                        Settled::Extended { expires_at } => self.set_lease(lease, Some((lease, *expires_at))),
                        Settled::LeaseLost => {}
                    }
                }
            }
            (Op::Event(EventOp::Ack { lease, .. }), Reply::Done) => self.settled(*lease),
            (Op::Event(EventOp::Release { leases, .. }), Reply::Count(1..)) => {
                leases.iter().for_each(|lease| self.set_lease(*lease, None));
            }
            // Nobody says of which event it was; one that is delivered again stands behind others of its key.
            (Op::Event(EventOp::DeleteDead { .. } | EventOp::RequeueDead { .. }), Reply::Count(1..)) => {
                self.open.retain(|_, open| open.lease.is_some_and(|(_, until)| until > now));
            }
            _ => {}
        }
    }

    fn settled(&mut self, lease: LeaseId) {
        self.open.retain(|_, open| open.lease.is_none_or(|(live, _)| live != lease));
    }

    fn set_lease(&mut self, lease: LeaseId, now: Option<(LeaseId, Timestamp)>) {
        let of_lease = |open: &&mut Open| open.lease.is_some_and(|(live, _)| live == lease);
        if let Some(open) = self.open.values_mut().find(of_lease) {
            open.lease = now;
        }
    }

    /// Nothing below the floor is open.
    pub(super) fn judge_floor(&self, floor: u64, shown: &Shown) -> Outcomes {
        match self.open.iter().find(|(seq, open)| open.is_open(**seq, shown)) {
            Some((seq, _)) if *seq < floor => {
                Err(format!("the floor is {floor}, and event {seq} is not settled"))
            }
            _ => Ok(()),
        }
    }
}
