//! Events are handed out to the consumers of a group.

use super::{
    change::{DeliveryLease, DeliveryState, EventMeta, GroupId, Unsettled},
    scan::SCAN,
};
use crate::{
    engine::{Engine, Refusal, change::Archive},
    error::Error,
    event::{Delivery, EventReply, Fetch},
    lease::{LeaseId, Token},
    op::{Reason, Reply},
    rules,
};

/// What a fetch has taken so far.
struct Taken {
    deliveries: Vec<Delivery>,
    bytes: u64,
}

impl Taken {
    fn has_room_for(&self, fetch: &Fetch, size: u32) -> bool {
        let bytes = self.bytes + u64::from(size);
        (self.deliveries.len() as u64) < u64::from(fetch.max)
            && (self.deliveries.is_empty() || bytes <= fetch.max_bytes)
    }
}

impl Engine {
    pub(super) fn fetch(
        &mut self,
        fetch: &Fetch,
        entropy: u64,
        archive: &mut dyn Archive,
    ) -> Result<Reply, Refusal> {
        if fetch.max == 0 {
            return Err(Reason::Invalid { field: "max", detail: "is at least 1".into() }.into());
        }
        let id = self.group_id(&fetch.group)?;
        let mut taken = Taken { deliveries: Vec::new(), bytes: 0 };
        self.take_ready(id, fetch, entropy, &mut taken);
        self.take_new(id, fetch, entropy, &mut taken, archive)?;
        Ok(Reply::Event(EventReply::Fetched(taken.deliveries)))
    }

    /// What was taken up before and is due (again), the oldest first.
    fn take_ready(&mut self, id: GroupId, fetch: &Fetch, entropy: u64, taken: &mut Taken) {
        let mut from = 0;
        while self.events.group(id).room() > 0
            && let Some(seq) = self.events.group(id).ready.range(from..).next().copied()
            && let Some(event) = self.events.group(id).unsettled.get(&seq).cloned()
        {
            from = seq + 1;
            if event.dead.is_none() && self.events.is_gone(event.topic, seq) {
                self.lose(id, seq);
                continue;
            }
            if !taken.has_room_for(fetch, event.size) {
                return;
            }
            self.hand_out(id, seq, event, fetch, entropy, taken);
        }
    }

    /// What the group has not seen.
    fn take_new(
        &mut self,
        id: GroupId,
        fetch: &Fetch,
        entropy: u64,
        taken: &mut Taken,
        archive: &mut dyn Archive,
    ) -> Result<(), Error> {
        let mut budget = SCAN;
        while budget > 0 {
            let group = self.events.group(id);
            let wanted = (u64::from(fetch.max) - taken.deliveries.len() as u64).min(group.room());
            if wanted == 0 || group.pending == 0 || group.is_stalled() {
                break;
            }
            let from = group.place.cursor;
            let found = self.group_events(id, from, wanted as usize, archive)?;
            budget = budget.saturating_sub((found.next - from) as usize);
            for meta in found.events {
                if self.events.group(id).is_stalled() || !taken.has_room_for(fetch, meta.size) {
                    return Ok(());
                }
                self.take_up(id, meta, fetch, entropy, taken);
            }
            self.move_cursor(id, found.next);
            if found.next > self.events.last_seq {
                break;
            }
        }
        let group = self.events.group(id);
        if group.pending == 0 {
            // What lies between is of no concern to it.
            self.move_cursor(id, self.events.last_seq + 1);
        }
        Ok(())
    }

    fn move_cursor(&mut self, id: GroupId, to: u64) {
        let group = self.events.group(id);
        if to > group.place.cursor {
            let (mut place, pending) = (group.place, group.pending);
            place.cursor = to;
            self.set_place(id, place, pending);
        }
    }

    /// The cursor passes an event: it is handed out, or waits for another of its key.
    fn take_up(&mut self, id: GroupId, meta: EventMeta, fetch: &Fetch, entropy: u64, taken: &mut Taken) {
        let EventMeta { seq, topic, size, at, key, .. } = meta;
        let group = self.events.group(id);
        let (mut place, pending) = (group.place, group.pending.saturating_sub(1));
        place.cursor = seq + 1;
        // One that was requeued from the dead letters is under way already.
        let there = group.unsettled.contains_key(&seq);
        let busy = group.is_busy(key);
        self.set_place(id, place, pending);
        if there {
            return;
        }
        let state = DeliveryState::Parked;
        let event = Unsettled { topic, size, attempt: 0, key, at, dead: None, error: None, state };
        if busy {
            self.set_delivery(id, seq, Some(event));
        } else {
            self.hand_out(id, seq, event, fetch, entropy, taken);
        }
    }

    fn hand_out(
        &mut self,
        id: GroupId,
        seq: u64,
        mut event: Unsettled,
        fetch: &Fetch,
        entropy: u64,
        taken: &mut Taken,
    ) {
        self.counters.token += 1;
        let token = Token(self.counters.token);
        let group = self.events.group(id);
        let ms = group.config.ack_wait_ms;
        let lease = DeliveryLease {
            id: LeaseId { token, nonce: rules::mix(entropy, token.0) },
            until: self.now.store.plus_ms(ms),
            ms,
            consumer: fetch.consumer.clone(),
        };
        event.attempt += 1;
        let topic = match (&event.dead, self.events.topic(event.topic)) {
            (Some(dead), _) => dead.topic.clone(),
            (None, Some(topic)) => topic.name.clone(),
            // Seen to by the caller: such an event is gone.
            (None, None) => return self.lose(id, seq),
        };
        taken.bytes += u64::from(event.size);
        taken.deliveries.push(Delivery {
            topic,
            seq,
            attempt: event.attempt,
            lease: lease.id,
            expires_at: self.now.wall_at(lease.until),
            published_at: event.at,
            dead: event.dead.as_ref().map(|dead| dead.number),
            event: None,
        });
        if event.attempt > 1 {
            let (mut place, pending) = (group.place, group.pending);
            place.redelivered += 1;
            self.set_place(id, place, pending);
        }
        event.state = DeliveryState::Leased(lease);
        self.set_delivery(id, seq, Some(event));
    }

    /// An event was removed before the group had settled it.
    pub(super) fn lose(&mut self, id: GroupId, seq: u64) {
        let Some(event) = self.events.group(id).unsettled.get(&seq) else { return };
        let key = event.key;
        self.set_delivery(id, seq, None);
        self.go_on(id, key);
        let group = self.events.group(id);
        let (mut place, pending) = (group.place, group.pending);
        place.skipped += 1;
        self.set_place(id, place, pending);
    }
}
