//! The tables of events as maps.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    engine::{
        Engine,
        change::{DeadLetter, DeadRef, EventChange, EventMeta, GroupId, TopicId},
    },
    event::{DeadEvent, Event, LogBudget, LogSlice, LoggedEvent},
    topic::TopicFilter,
};

/// A piece of the log looks at no more events than this.
const SCAN_LIMIT: usize = 10_000;

#[derive(Default)]
pub(super) struct EventTables {
    log: BTreeMap<u64, (EventMeta, Arc<LoggedEvent>)>,
    by_topic: BTreeSet<(TopicId, u64)>,
    dead: BTreeMap<u64, Dead>,
    by_group: BTreeSet<(GroupId, u64)>,
}

struct Dead {
    letter: DeadLetter,
    event: Arc<Event>,
    /// It is delivered again.
    revived: bool,
}

impl EventTables {
    pub(super) fn apply(&mut self, change: EventChange) {
        match change {
            EventChange::Published { meta, event, topic, .. } => {
                self.by_topic.insert((meta.topic, meta.seq));
                let logged = LoggedEvent { topic, seq: meta.seq, published_at: meta.at, event };
                self.log.insert(meta.seq, (meta, Arc::new(logged)));
            }
            EventChange::EventsRemoved { topic, up_to } => {
                let gone: Vec<_> = self.by_topic.range((topic, 0)..=(topic, up_to)).copied().collect();
                for place in gone {
                    self.by_topic.remove(&place);
                    self.log.remove(&place.1);
                }
            }
            EventChange::Died { letter, from } => {
                let before = from.and_then(|number| self.forget(number)).map(|dead| dead.event);
                let logged = || self.log.get(&letter.place.seq).map(|(_, logged)| logged.event.clone());
                if let Some(event) = before.or_else(logged) {
                    let DeadRef { number, group, .. } = letter.place;
                    self.by_group.insert((group, number));
                    self.dead.insert(number, Dead { letter: *letter, event, revived: false });
                }
            }
            EventChange::DeadRevived { number } => self.revive(number, true),
            EventChange::DeadReturned { number } => self.revive(number, false),
            EventChange::DeadRemoved { number } => drop(self.forget(number)),
            EventChange::GroupRemoved(id) => {
                let gone: Vec<_> = self.by_group.range((id, 0)..=(id, u64::MAX)).copied().collect();
                gone.into_iter().for_each(|(_, number)| drop(self.forget(number)));
            }
            // The engine itself is the table of these.
            EventChange::Topic { .. }
            | EventChange::TopicRemoved(_)
            | EventChange::DedupForgotten { .. }
            | EventChange::Group(_)
            | EventChange::GroupMoved { .. }
            | EventChange::Delivery { .. }
            | EventChange::DeliveryRemoved { .. }
            | EventChange::Settled { .. } => {}
        }
    }

    fn revive(&mut self, number: u64, revived: bool) {
        if let Some(dead) = self.dead.get_mut(&number) {
            dead.revived = revived;
        }
    }

    fn forget(&mut self, number: u64) -> Option<Dead> {
        let dead = self.dead.remove(&number)?;
        self.by_group.remove(&(dead.letter.place.group, number));
        Some(dead)
    }

    pub(super) fn event(&self, seq: u64, dead: Option<u64>) -> Option<Arc<Event>> {
        match dead {
            Some(number) => self.dead.get(&number).map(|dead| dead.event.clone()),
            None => self.log.get(&seq).map(|(_, logged)| logged.event.clone()),
        }
    }

    pub(super) fn metas(&self, topic: Option<TopicId>, from: u64, limit: usize) -> Vec<EventMeta> {
        match topic {
            None => self.log.range(from..).take(limit).map(|(_, (meta, _))| *meta).collect(),
            Some(topic) => {
                let places = self.by_topic.range((topic, from)..=(topic, u64::MAX)).take(limit);
                places.filter_map(|(_, seq)| self.log.get(seq)).map(|(meta, _)| *meta).collect()
            }
        }
    }

    pub(super) fn dead_event(&self, number: u64) -> Option<DeadRef> {
        self.dead.get(&number).filter(|dead| !dead.revived).map(|dead| dead.letter.place.clone())
    }

    pub(super) fn dead_events(&self, group: GroupId, limit: usize) -> Vec<DeadRef> {
        let numbers = self.by_group.range((group, 0)..=(group, u64::MAX));
        numbers.filter_map(|(_, number)| self.dead_event(*number)).take(limit).collect()
    }

    /// Dead letters of a group with a number below `end`, newest first.
    pub(super) fn dead_before(
        &self,
        group: GroupId,
        end: u64,
    ) -> impl Iterator<Item = (u64, DeadEvent)> + '_ {
        let numbers = self.by_group.range((group, 0)..(group, end)).rev();
        numbers.filter_map(|(_, number)| {
            let dead = self.dead.get(number).filter(|dead| !dead.revived)?;
            let DeadLetter { place, attempts, reason, error } = &dead.letter;
            let event = DeadEvent {
                number: *number,
                topic: place.topic.clone(),
                seq: place.seq,
                event: dead.event.clone(),
                published_at: place.at,
                attempts: *attempts,
                reason: *reason,
                error: error.as_deref().cloned(),
                died_at: place.died_at,
            };
            Some((*number, event))
        })
    }

    pub(super) fn read_log(
        &self,
        engine: &Engine,
        filters: &[TopicFilter],
        from: u64,
        budget: LogBudget,
    ) -> LogSlice {
        let head = engine.last_seq();
        let removed = engine.removed(filters, from);
        let removed_up_to = removed.iter().map(|(_, up_to)| *up_to).max().unwrap_or_default();
        let mut slice = LogSlice { from, events: vec![], next: from, head, removed_up_to, removed };
        let mut bytes = 0;
        let mut matches: HashMap<TopicId, bool> = HashMap::new();
        for (looked, (seq, (meta, logged))) in self.log.range(from..).enumerate() {
            slice.next = *seq;
            if looked == SCAN_LIMIT {
                return slice;
            }
            let fits = *matches.entry(meta.topic).or_insert_with(|| {
                filters.is_empty() || filters.iter().any(|filter| filter.matches(&logged.topic))
            });
            if !fits || !engine.is_in_log(meta.topic, *seq) {
                continue;
            }
            bytes += u64::from(meta.size);
            let full = slice.events.len() as u64 >= u64::from(budget.events) || bytes > budget.bytes;
            if full && !slice.events.is_empty() {
                return slice;
            }
            slice.events.push(logged.clone());
        }
        slice.next = from.max(head + 1);
        slice
    }
}
