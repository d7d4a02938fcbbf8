//! Retention: topics are trimmed to what is configured, exactly, in steps.

use std::collections::BTreeSet;

use super::{
    EventUndo,
    change::{DeliveryState, EventChange, EventMeta, TopicId},
};
use crate::{
    engine::{
        Engine, Undo,
        change::{Archive, Change},
    },
    error::Error,
    store::Maintained,
    time::{Now, StoreTime, Timestamp},
};

/// So many events too many are trimmed at once; fewer wait for others, this many milliseconds at most.
const WORTH_IT: u64 = 500;
const PATIENCE_MS: u64 = 1_000;
/// Removing an event costs a fraction of what forgetting a job does.
const EVENTS_PER_ROW: u32 = 10;

impl Engine {
    /// Whether something of events should not wait.
    pub(in crate::engine) fn events_are_due(&self, now: Now) -> bool {
        let events = &self.events;
        events.lease_ends.first().is_some_and(|(at, ..)| *at <= now.store)
            || events.over_trims.first().is_some_and(|(at, _)| *at <= now.store)
            || events.age_trims.first().is_some_and(|(at, _)| *at <= now.wall)
            || events.dead_trims.first().is_some_and(|(at, _)| *at <= now.wall)
            || !events.dropped.is_empty()
            || events.dedup.is_due(now.wall)
    }

    /// When the next delivery's lease runs out, or a topic has waited long enough to be trimmed.
    pub(in crate::engine) fn next_event_time(&self) -> Option<StoreTime> {
        let lease = self.events.lease_ends.first().map(|(at, ..)| *at);
        let trim = self.events.over_trims.first().map(|(at, _)| *at);
        [lease, trim].into_iter().flatten().min()
    }

    /// Housekeeping of events, `left` rows at most; answers how many are left then.
    pub(in crate::engine) fn maintain_events(
        &mut self,
        mut left: u32,
        archive: &mut dyn Archive,
        done: &mut Maintained,
    ) -> Result<u32, Error> {
        while left > 0
            && let Some((_, group, seq)) =
                self.events.lease_ends.first().copied().filter(|(at, ..)| *at <= self.now.store)
        {
            self.delivery_timed_out(group, seq);
            done.crashed += 1;
            left -= 1;
        }
        left -= self.forget_dedup(left);
        left -= self.trim_dead(left, archive)?;
        while left > 0
            && let Some(topic) = self.next_to_trim()
        {
            let removed = self.trim_topic(topic, left.saturating_mul(EVENTS_PER_ROW), archive)?;
            done.forgotten = done.forgotten.saturating_add(removed);
            left -= (removed / EVENTS_PER_ROW).clamp(1, left);
        }
        Ok(left)
    }

    fn next_to_trim(&self) -> Option<TopicId> {
        let events = &self.events;
        let over = || events.over_trims.first().filter(|(at, _)| *at <= self.now.store).map(|(_, id)| *id);
        let old = || events.age_trims.first().filter(|(at, _)| *at <= self.now.wall).map(|(_, id)| *id);
        over().or_else(old).or(events.dropped.first().copied())
    }

    /// Something was published; retention may have something to do, now or later.
    pub(super) fn expect_events_trim(&mut self, id: TopicId, at: Timestamp) {
        let Some(topic) = self.events.topic(id) else { return };
        let (mut over, mut age) = (topic.over_trim, topic.age_trim);
        let excess = topic.excess();
        if excess > 0 {
            let wait = if excess >= WORTH_IT { 0 } else { PATIENCE_MS };
            let due = self.now.store.plus_ms(wait);
            over = Some(over.map_or(due, |known| known.min(due)));
        }
        if let (None, Some(ms)) = (age, topic.config.retention.age_ms) {
            age = Some(at.plus_ms(ms));
        }
        self.set_trims(id, over, age);
    }

    /// The topic was configured anew: it is looked at at once.
    pub(super) fn expect_trim_of(&mut self, id: TopicId) {
        let Some(topic) = self.events.topic(id) else { return };
        let over = (topic.excess() > 0).then_some(self.now.store);
        let age = topic.config.retention.age_ms.filter(|_| topic.count > 0).map(|_| self.now.wall);
        self.set_trims(id, over, age);
    }

    /// Sets when a topic is next looked at. Only a hint: a look that finds nothing sets it anew.
    pub(super) fn set_trims(&mut self, id: TopicId, over: Option<StoreTime>, age: Option<Timestamp>) {
        let Some(topic) = self.events.topics.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        let before = (topic.over_trim, topic.age_trim);
        (topic.over_trim, topic.age_trim) = (over, age);
        move_timer(&mut self.events.over_trims, id, before.0, over);
        move_timer(&mut self.events.age_trims, id, before.1, age);
    }

    /// Removes up to `limit` events that are too old or too many; answers how many.
    fn trim_topic(&mut self, id: TopicId, limit: u32, archive: &mut dyn Archive) -> Result<u32, Error> {
        let Some(topic) = self.events.topic(id) else { return Ok(0) };
        let (retention, dropped, from) = (topic.config.retention, topic.dropped, topic.removed_up_to + 1);
        let (mut count, mut bytes) = (topic.count, topic.bytes);
        let oldest =
            if count == 0 { Vec::new() } else { self.topic_events(id, from, limit as usize + 1, archive)? };
        let mut gone = 0;
        for meta in oldest.iter().take(limit as usize) {
            let goes = dropped
                || retention.count.is_some_and(|most| count > most)
                || retention.bytes.is_some_and(|most| bytes > most)
                || retention.age_ms.is_some_and(|ms| meta.at.plus_ms(ms) <= self.now.wall);
            if !goes {
                break;
            }
            count -= 1;
            bytes -= u64::from(meta.size);
            gone += 1;
        }
        let first_left = oldest.get(gone).copied();
        self.remove_events(id, &oldest[..gone]);
        if dropped {
            if first_left.is_none() {
                self.remove_topic(id);
            }
            return Ok(gone as u32);
        }
        let more = gone == limit as usize && first_left.is_some();
        let over =
            (more && self.events.topic(id).is_some_and(|topic| topic.excess() > 0)).then_some(self.now.store);
        // Not at once again: what comes of age in quick succession goes together.
        let soon = self.now.wall.plus_ms(if more { 0 } else { PATIENCE_MS });
        let age = first_left.and_then(|left| Some(left.at.plus_ms(retention.age_ms?).max(soon)));
        self.set_trims(id, over, age);
        Ok(gone as u32)
    }

    /// The oldest events of a topic go; groups that have not settled them skip them.
    fn remove_events(&mut self, id: TopicId, gone: &[EventMeta]) {
        let Some(last) = gone.last() else { return };
        let up_to = last.seq;
        let bytes: u64 = gone.iter().map(|meta| u64::from(meta.size)).sum();
        let topic = self.events.topic_mut(id);
        let before = (topic.count, topic.bytes, topic.removed_up_to);
        let dropped = topic.dropped;
        topic.count -= gone.len() as u64;
        topic.bytes -= bytes;
        topic.removed_up_to = up_to;
        self.undo.push(Undo::Event(EventUndo::Removed { id, before }));
        self.changes.push(Change::Event(EventChange::EventsRemoved { topic: id, up_to }));
        for group in self.matching_groups(id).iter().copied() {
            let known = self.events.group(group);
            let cursor = known.place.cursor;
            let seen = gone.partition_point(|meta| meta.seq < cursor);
            let waits = |seq: &u64| {
                let event = known.unsettled.get(seq);
                event.is_some_and(|e| e.dead.is_none() && !matches!(e.state, DeliveryState::Leased(_)))
            };
            let lost: Vec<u64> = if known.unsettled.is_empty() {
                Vec::new()
            } else {
                gone[..seen].iter().map(|meta| meta.seq).filter(waits).collect()
            };
            lost.into_iter().for_each(|seq| self.lose(group, seq));
            // Of a topic that was deleted, they were skipped when that happened.
            if !dropped {
                self.skip(group, (gone.len() - seen) as u64);
            }
        }
    }

    fn remove_topic(&mut self, id: TopicId) {
        self.set_trims(id, None, None);
        self.events.dropped.retain(|dropped| *dropped != id);
        if let Some(topic) = self.events.topics[id.0 as usize].take() {
            self.undo.push(Undo::Event(EventUndo::TopicRemoved(Box::new(topic))));
        }
        self.changes.push(Change::Event(EventChange::TopicRemoved(id)));
    }

    /// Forgets up to `left` ids of publishers that are too old or too many.
    fn forget_dedup(&mut self, left: u32) -> u32 {
        let mut last = None;
        let mut count = 0;
        if !self.events.dedup.is_due(self.now.wall) {
            return 0;
        }
        while count < left.saturating_mul(EVENTS_PER_ROW)
            && let Some(known) = self.events.dedup.forget_one(self.now.wall)
        {
            last = Some(known.seq);
            count += 1;
            self.undo.push(Undo::Event(EventUndo::DedupForgotten(known)));
        }
        if let Some(up_to) = last {
            self.changes.push(Change::Event(EventChange::DedupForgotten { up_to }));
        }
        (count / EVENTS_PER_ROW).min(left)
    }
}

fn move_timer<T: Ord>(timers: &mut BTreeSet<(T, TopicId)>, id: TopicId, from: Option<T>, to: Option<T>) {
    if from != to {
        if let Some(at) = from {
            timers.remove(&(at, id));
        }
        if let Some(at) = to {
            timers.insert((at, id));
        }
    }
}
