//! Deliveries end or are prolonged.

use super::{
    EventUndo,
    change::{DeliveryLease, DeliveryState, EventChange, GroupId},
    said,
};
use crate::{
    engine::{Engine, Undo, change::Change},
    event::{EventReply, Nack, Prolong, SettleDeliveries, Settled},
    job::{DeadReason, Retry, Verb},
    lease::LeaseId,
    name::GroupName,
    op::{Reason, Reply},
    rules,
    time::StoreTime,
};

impl Engine {
    /// Each item alone; none of them can refuse the op.
    pub(super) fn settle_deliveries(
        &mut self,
        settle: &SettleDeliveries,
        entropy: u64,
    ) -> Result<Reply, Reason> {
        let id = self.group_id(&settle.group)?;
        let mut settled = Vec::with_capacity(settle.ack.len() + settle.nack.len() + settle.extend.len());
        for lease in &settle.ack {
            settled.push(match self.live_in(id, *lease) {
                Some(seq) => {
                    self.ack(id, seq, *lease);
                    Settled::Acked
                }
                None => self.repeated_settle_of(id, *lease, Verb::Complete, Settled::Acked),
            });
        }
        for nack in &settle.nack {
            settled.push(match self.live_in(id, nack.lease) {
                Some(seq) => self.nack(id, seq, nack, entropy),
                None => {
                    let due = self.now.wall;
                    self.repeated_settle_of(id, nack.lease, Verb::Fail, Settled::Nacked { due })
                }
            });
        }
        for prolong in &settle.extend {
            settled.push(match self.live_in(id, prolong.lease) {
                Some(seq) => self.prolong(id, seq, *prolong),
                None => Settled::LeaseLost,
            });
        }
        Ok(Reply::Event(EventReply::Settled(settled)))
    }

    /// In a commit whose other ops must not happen twice, a repeat is refused.
    pub(super) fn ack_in_commit(&mut self, group: &GroupName, lease: LeaseId) -> Result<Reply, Reason> {
        let id = self.group_id(group)?;
        match self.live_in(id, lease) {
            Some(seq) => {
                self.ack(id, seq, lease);
                Ok(Reply::Done)
            }
            None if self.events.group(id).how_settled(lease).is_some() => Err(Reason::AlreadySettled),
            None => Err(Reason::LeaseLost),
        }
    }

    /// The number of the event, if the lease lives and is of this group.
    fn live_in(&self, id: GroupId, lease: LeaseId) -> Option<u64> {
        self.live_delivery(lease).filter(|(group, _)| *group == id).map(|(_, seq)| seq)
    }

    /// A lease that is not live: the repeat of a settle that is remembered, or too late.
    fn repeated_settle_of(&self, id: GroupId, lease: LeaseId, verb: Verb, answer: Settled) -> Settled {
        if self.events.group(id).how_settled(lease) == Some(verb) { answer } else { Settled::LeaseLost }
    }

    fn remember_settled(&mut self, id: GroupId, lease: LeaseId, verb: Verb) {
        let group = self.events.group_mut(id);
        let forgotten = group.push_settled(lease, verb);
        let n = group.settled_n;
        self.undo.push(Undo::Event(EventUndo::Settled(id, forgotten)));
        self.changes.push(Change::Event(EventChange::Settled { group: id, n, lease, verb }));
    }

    fn ack(&mut self, id: GroupId, seq: u64, lease: LeaseId) {
        let Some(event) = self.events.group(id).unsettled.get(&seq) else { return };
        let (key, dead) = (event.key, event.dead.clone());
        self.set_delivery(id, seq, None);
        if let Some(dead) = dead {
            self.changes.push(Change::Event(EventChange::DeadRemoved { number: dead.number }));
        }
        self.remember_settled(id, lease, Verb::Complete);
        self.go_on(id, key);
    }

    fn nack(&mut self, id: GroupId, seq: u64, nack: &Nack, entropy: u64) -> Settled {
        self.remember_settled(id, nack.lease, Verb::Fail);
        if let Some(error) = &nack.error
            && let Some(event) = self.events.group_mut(id).unsettled.get(&seq).cloned()
        {
            let event = super::change::Unsettled { error: Some(said::bounded(error)), ..event };
            // Written with what follows.
            let before = self.swap_delivery(id, seq, Some(event));
            self.undo.push(Undo::Event(EventUndo::Delivery(id, seq, before)));
        }
        self.failed(id, seq, nack.retry, DeadReason::Exhausted, entropy)
    }

    /// The lease of a delivery has run out.
    pub(super) fn delivery_timed_out(&mut self, id: GroupId, seq: u64) {
        let Some(event) = self.events.group(id).unsettled.get(&seq) else { return };
        if !matches!(event.state, DeliveryState::Leased(_)) {
            return;
        }
        // Nobody is there to bring chance along; it need only spread those that run out together.
        let entropy = rules::mix(event.at.0 as u64, u64::from(event.attempt));
        self.failed(id, seq, Retry::Auto, DeadReason::Crashed, entropy);
    }

    /// A delivery did not lead to an ack: the event is delivered again, later, or dies.
    fn failed(&mut self, id: GroupId, seq: u64, retry: Retry, reason: DeadReason, entropy: u64) -> Settled {
        let group = self.events.group(id);
        let Some(mut event) = group.unsettled.get(&seq).cloned() else { return Settled::LeaseLost };
        if event.dead.is_none() && self.events.is_gone(event.topic, seq) {
            self.lose(id, seq);
            return Settled::Nacked { due: self.now.wall };
        }
        let delay = match retry {
            Retry::Never => {
                self.die(id, seq, event, DeadReason::Permanent);
                return Settled::Dead;
            }
            _ if event.attempt >= group.config.max_deliver => {
                self.die(id, seq, event, reason);
                return Settled::Dead;
            }
            Retry::After(ms) => ms,
            Retry::Auto => {
                let chance = rules::mix(entropy, seq);
                rules::backoff_delay(&group.config.backoff, event.attempt, chance)
            }
        };
        let due = self.now.store.plus_ms(delay);
        event.state = DeliveryState::Waiting { due };
        event.error = event.error.map(said::beginning);
        self.set_delivery(id, seq, Some(event));
        Settled::Nacked { due: self.now.wall_at(due) }
    }

    fn prolong(&mut self, id: GroupId, seq: u64, prolong: Prolong) -> Settled {
        let Some(mut event) = self.events.group(id).unsettled.get(&seq).cloned() else {
            return Settled::LeaseLost;
        };
        let until = self.now.store.plus_ms(prolong.extend_ms);
        let consumer = match &event.state {
            DeliveryState::Leased(lease) => lease.consumer.clone(),
            _ => None,
        };
        event.state = DeliveryState::Leased(DeliveryLease {
            id: prolong.lease,
            until,
            ms: prolong.extend_ms,
            consumer,
        });
        self.set_delivery(id, seq, Some(event));
        Settled::Extended { expires_at: self.now.wall_at(until) }
    }

    /// Deliveries go back as if they had not been fetched.
    pub(super) fn release_deliveries(&mut self, leases: &[LeaseId], delay_ms: u64) -> Reply {
        let due = if delay_ms == 0 { StoreTime(0) } else { self.now.store.plus_ms(delay_ms) };
        let mut count = 0;
        for lease in leases {
            let Some((id, seq)) = self.live_delivery(*lease) else { continue };
            let Some(mut event) = self.events.group(id).unsettled.get(&seq).cloned() else { continue };
            event.attempt = event.attempt.saturating_sub(1);
            event.state = DeliveryState::Waiting { due };
            self.set_delivery(id, seq, Some(event));
            self.remember_settled(id, *lease, Verb::Release);
            count += 1;
        }
        Reply::Count(count)
    }

    /// The next event of a key can go, if none is under way.
    pub(super) fn go_on(&mut self, id: GroupId, key: u64) {
        if key == 0 {
            return;
        }
        let group = self.events.group(id);
        if let Some(seq) = group.next_of_key(key)
            && let Some(mut event) = group.unsettled.get(&seq).cloned()
        {
            event.state = DeliveryState::Waiting { due: StoreTime(0) };
            self.set_delivery(id, seq, Some(event));
        }
    }
}
