//! Events and dead letters as the engine asks for them: those that the tables lack from RAM, the others from the tables.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;
use mainstay_core::engine::change::{DeadRef, EventChange, EventMeta, GroupId, TopicId};

/// A group forgets this many at least of what the tables have.
const FORGET_AT_ONCE: usize = 1_024;

#[derive(Default)]
pub(super) struct RecentEvents {
    /// The group under way.
    lsn: u64,
    /// Events that the tables may lack, in order.
    events: VecDeque<(u64, EventMeta)>,
    /// Dead letters that differ from the tables, with the group that says so.
    dead: HashMap<u64, (u64, Dead)>,
    order: VecDeque<(u64, u64)>,
    undo: Vec<(u64, Option<(u64, Dead)>)>,
}

/// What is known here of a dead letter.
pub(super) enum Known {
    Is(DeadRef),
    IsNot,
    /// The tables know.
    Of {
        revived_too: bool,
    },
}

#[derive(Clone)]
enum Dead {
    /// It is one, and new.
    New(DeadRef),
    /// It is one again; the tables know the rest.
    Again,
    /// It is none (any more, or for now); what it was, if it was new.
    Not(Option<DeadRef>),
}

impl RecentEvents {
    /// A group begins; the tables have everything up to `applied`.
    pub(super) fn begin(&mut self, lsn: u64, applied: u64) {
        self.lsn = lsn;
        // Events come in large numbers and cost nothing to forget.
        let known = self.events.partition_point(|(since, _)| *since <= applied);
        self.events.drain(..known);
        for _ in 0..FORGET_AT_ONCE {
            let Some((since, number)) = self.order.front().copied().filter(|(since, _)| *since <= applied)
            else {
                break;
            };
            self.order.pop_front();
            if self.dead.get(&number).is_some_and(|(at, _)| *at == since) {
                self.dead.remove(&number);
            }
        }
    }

    pub(super) fn note(&mut self, change: &EventChange) {
        match change {
            EventChange::Published { meta, .. } => self.events.push_back((self.lsn, *meta)),
            EventChange::Died { letter, from } => {
                if let Some(number) = from {
                    self.set_dead(*number, Dead::Not(None));
                }
                self.set_dead(letter.place.number, Dead::New(letter.place.clone()));
            }
            EventChange::DeadRevived { number } => {
                let before = match self.dead.get(number) {
                    Some((_, Dead::New(dead))) => Some(dead.clone()),
                    _ => None,
                };
                self.set_dead(*number, Dead::Not(before));
            }
            EventChange::DeadReturned { number } => {
                let now = match self.dead.get(number) {
                    Some((_, Dead::Not(Some(dead)))) => Dead::New(dead.clone()),
                    _ => Dead::Again,
                };
                self.set_dead(*number, now);
            }
            EventChange::DeadRemoved { number } => self.set_dead(*number, Dead::Not(None)),
            _ => {}
        }
    }

    fn set_dead(&mut self, number: u64, now: Dead) {
        let before = self.dead.insert(number, (self.lsn, now));
        self.undo.push((number, before));
        self.order.push_back((self.lsn, number));
    }

    pub(super) fn commit(&mut self) {
        self.undo.clear();
    }

    pub(super) fn roll_back(&mut self) {
        while let Some((number, before)) = self.undo.pop() {
            match before {
                Some(before) => drop(self.dead.insert(number, before)),
                None => drop(self.dead.remove(&number)),
            }
        }
        while self.order.back().is_some_and(|(since, _)| *since == self.lsn) {
            self.order.pop_back();
        }
        while self.events.back().is_some_and(|(since, _)| *since == self.lsn) {
            self.events.pop_back();
        }
    }

    /// What the tables have found, with what they lack.
    pub(super) fn events(
        &self,
        mut found: Vec<EventMeta>,
        topic: Option<TopicId>,
        from: u64,
        limit: usize,
    ) -> Vec<EventMeta> {
        // The tables may have got further meanwhile.
        let from = found.last().map_or(from, |last| last.seq + 1);
        let recent = self.events.partition_point(|(_, meta)| meta.seq < from);
        let recent = self.events.range(recent..).map(|(_, meta)| *meta);
        let recent = recent.filter(|meta| topic.is_none_or(|topic| meta.topic == topic));
        found.extend(recent.take(limit - found.len()));
        found
    }

    pub(super) fn dead_event(&self, number: u64) -> Known {
        match self.dead.get(&number) {
            Some((_, Dead::New(dead))) => Known::Is(dead.clone()),
            Some((_, Dead::Not(_))) => Known::IsNot,
            Some((_, Dead::Again)) => Known::Of { revived_too: true },
            None => Known::Of { revived_too: false },
        }
    }

    /// Of how many dead letters something is known.
    pub(super) fn of_dead(&self) -> usize {
        self.dead.len()
    }

    /// The first `most` that the tables have, with what they lack.
    pub(super) fn dead_events(
        &self,
        found: Vec<DeadRef>,
        most: usize,
        group: GroupId,
        limit: usize,
    ) -> Vec<DeadRef> {
        let full = found.len() == most;
        let last = found.last().map(|dead| dead.number);
        let mut all: BTreeMap<u64, DeadRef> = found.into_iter().map(|dead| (dead.number, dead)).collect();
        for (number, (_, recent)) in &self.dead {
            match recent {
                Dead::Not(_) => drop(all.remove(number)),
                // Behind the last row there may be others.
                Dead::New(dead) if dead.group == group && !(full && Some(*number) > last) => {
                    all.insert(*number, dead.clone());
                }
                // One that is there again has a row that says it is not yet; its turn comes later.
                Dead::New(_) | Dead::Again => {}
            }
        }
        all.into_values().take(limit).collect()
    }
}
