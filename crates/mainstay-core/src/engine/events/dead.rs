//! Dead letters of groups: events are put there, delivered again, and forgotten.

use std::sync::Arc;

use super::{
    EventUndo,
    change::{DeadLetter, DeadRef, DeliveryState, EventChange, GroupId, TopicId, Unsettled},
};
use crate::{
    engine::{
        Engine, Refusal, Undo,
        change::{Archive, Change},
    },
    error::Error,
    event::DEAD_KEPT_MS,
    job::DeadReason,
    name::GroupName,
    op::{Reason, Reply},
    time::{StoreTime, Timestamp},
};

impl Engine {
    /// An unsettled event becomes a dead letter; its key goes on.
    pub(super) fn die(&mut self, id: GroupId, seq: u64, event: Unsettled, reason: DeadReason) {
        let topic = match (&event.dead, self.events.topic(event.topic)) {
            (Some(dead), _) => dead.topic.clone(),
            (None, Some(topic)) => topic.name.clone(),
            (None, None) => return self.lose(id, seq),
        };
        self.counters.f += 1;
        let Unsettled { size, attempt, key, at, dead, error, .. } = event;
        let place =
            DeadRef { number: self.counters.f, group: id, seq, topic, size, key, at, died_at: self.now.wall };
        let letter = Box::new(DeadLetter { place, attempts: attempt, reason, error });
        self.set_delivery(id, seq, None);
        self.changes.push(Change::Event(EventChange::Died { letter, from: dead.map(|dead| dead.number) }));
        self.count_dead(id, 1);
        self.go_on(id, key);
    }

    fn count_dead(&mut self, id: GroupId, by: i64) {
        self.swap_dead_count(id, by);
        self.undo.push(Undo::Event(EventUndo::Dead(id, by)));
    }

    pub(super) fn swap_dead_count(&mut self, id: GroupId, by: i64) {
        let group = self.events.group_mut(id);
        group.dead = group.dead.wrapping_add_signed(by);
        if group.dead > 0 && group.dead_trim.is_none() {
            self.set_dead_trim(id, Some(self.now.wall.plus_ms(DEAD_KEPT_MS)));
        }
    }

    pub(super) fn set_dead_trim(&mut self, id: GroupId, at: Option<Timestamp>) {
        let before = std::mem::replace(&mut self.events.group_mut(id).dead_trim, at);
        if let Some(before) = before {
            self.events.dead_trims.remove(&(before, id));
        }
        if let Some(at) = at {
            self.events.dead_trims.insert((at, id));
        }
    }

    /// A dead letter of the group, as this commit sees it.
    fn dead_letter(
        &self,
        id: GroupId,
        number: u64,
        archive: &mut dyn Archive,
    ) -> Result<Option<DeadRef>, Error> {
        // What this commit itself changed is not in the archive yet.
        for change in self.changes.iter().rev() {
            let Change::Event(change) = change else { continue };
            match change {
                EventChange::Died { letter, .. } if letter.place.number == number => {
                    return Ok(Some(letter.place.clone()).filter(|dead| dead.group == id));
                }
                EventChange::Died { from: Some(gone), .. } if *gone == number => return Ok(None),
                EventChange::DeadRevived { number: gone } if *gone == number => return Ok(None),
                EventChange::DeadRemoved { number: gone } if *gone == number => return Ok(None),
                // It was one before it was delivered again.
                EventChange::DeadReturned { number: back } if *back == number => break,
                _ => {}
            }
        }
        Ok(archive.dead_event(number)?.filter(|dead| dead.group == id))
    }

    pub(super) fn requeue_dead_events(
        &mut self,
        group: &GroupName,
        numbers: &[u64],
        archive: &mut dyn Archive,
    ) -> Result<Reply, Refusal> {
        let id = self.group_id(group)?;
        let mut count = 0;
        for number in numbers {
            if self.events.group(id).is_stalled() {
                // What found room in this commit, here or in an op before, stays: the count tells how far it came.
                if count > 0 || self.has_revived() {
                    break;
                }
                let waiting = self.events.group(id).waiting();
                let detail =
                    format!("{waiting} events of group `{group}` wait already: settle some of them first");
                return Err(Reason::StateConflict(detail).into());
            }
            let Some(dead) = self.dead_letter(id, *number, archive)? else { continue };
            let known = self.events.group(id);
            // It is under way for another reason (the group was moved back): there is no need.
            if known.unsettled.contains_key(&dead.seq) {
                continue;
            }
            let busy = known.is_busy(dead.key);
            let state =
                if busy { DeliveryState::Parked } else { DeliveryState::Waiting { due: StoreTime(0) } };
            self.changes.push(Change::Event(EventChange::DeadRevived { number: *number }));
            self.count_dead(id, -1);
            let event = Unsettled {
                // Looked up by nobody: where it comes from says more.
                topic: TopicId(u32::MAX),
                size: dead.size,
                attempt: 0,
                key: dead.key,
                at: dead.at,
                error: None,
                state,
                dead: Some(Arc::new(dead)),
            };
            let seq = event.dead.as_ref().map_or(0, |dead| dead.seq);
            self.set_delivery(id, seq, Some(event));
            count += 1;
        }
        Ok(Reply::Count(count))
    }

    /// Whether this commit has dead letters delivered again.
    fn has_revived(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::Event(EventChange::DeadRevived { .. })))
    }

    pub(super) fn delete_dead_events(
        &mut self,
        group: &GroupName,
        numbers: &[u64],
        archive: &mut dyn Archive,
    ) -> Result<Reply, Refusal> {
        let id = self.group_id(group)?;
        let mut count = 0;
        for number in numbers {
            if self.dead_letter(id, *number, archive)?.is_some() {
                self.forget_dead(id, *number);
                count += 1;
            }
        }
        Ok(Reply::Count(count))
    }

    fn forget_dead(&mut self, id: GroupId, number: u64) {
        self.count_dead(id, -1);
        self.changes.push(Change::Event(EventChange::DeadRemoved { number }));
    }

    /// A dead letter that was delivered again, and is not settled, is one again: the group was moved.
    pub(super) fn return_dead(&mut self, id: GroupId, number: u64) {
        self.count_dead(id, 1);
        self.changes.push(Change::Event(EventChange::DeadReturned { number }));
    }

    /// Forgets up to `left` dead letters that are too old.
    pub(super) fn trim_dead(&mut self, mut left: u32, archive: &mut dyn Archive) -> Result<u32, Error> {
        let mut forgotten = 0;
        while left > 0
            && let Some((_, id)) =
                self.events.dead_trims.first().copied().filter(|(at, _)| *at <= self.now.wall)
        {
            let oldest = archive.dead_events(id, left as usize + 1)?;
            let too_old = |dead: &&DeadRef| dead.died_at.plus_ms(DEAD_KEPT_MS) <= self.now.wall;
            let go: Vec<u64> =
                oldest.iter().take_while(too_old).take(left as usize).map(|dead| dead.number).collect();
            let next = oldest.get(go.len()).map(|dead| dead.died_at.plus_ms(DEAD_KEPT_MS));
            for number in &go {
                self.forget_dead(id, *number);
            }
            left -= go.len() as u32;
            forgotten += go.len() as u32;
            // One that died since the archive was told is younger still.
            let left_over = self.events.group(id).dead > 0;
            let later = self.now.wall.plus_ms(DEAD_KEPT_MS);
            self.set_dead_trim(id, next.or(left_over.then_some(later)));
        }
        Ok(forgotten)
    }
}
