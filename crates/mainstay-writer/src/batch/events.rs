//! What many groups together do to the tables of events.

use std::{collections::BTreeMap, sync::Arc};

use hashbrown::HashMap;
use mainstay_core::{
    LeaseId, TopicName,
    engine::change::{DeadLetter, EventChange, EventMeta, GroupId, GroupPlace, GroupRow, TopicId, Unsettled},
    event::{Event, SETTLED_KEPT, TopicConfig},
    job::Verb,
};

use crate::block::KnownId;

/// Rows to be written, each by its primary key.
#[derive(Clone, Default)]
pub struct EventBatch {
    /// The last number given, if any was.
    pub last_seq: Option<u64>,
    pub topics: BTreeMap<TopicId, Option<TopicRow>>,
    /// Up to which number a topic's events go.
    pub removed: BTreeMap<TopicId, u64>,
    /// In order; those that go again among them.
    pub events: Vec<(EventMeta, Arc<Event>)>,
    /// Ids that publishers chose, in order.
    pub ids: Vec<KnownId>,
    pub ids_forgotten: Option<u64>,
    pub groups: BTreeMap<GroupId, Group>,
    pub deliveries: BTreeMap<(GroupId, u64), Delivery>,
    /// The newest settled leases of a group, by `n`.
    pub settled: HashMap<GroupId, BTreeMap<u64, (LeaseId, Verb)>>,
    pub dead: BTreeMap<u64, Dead>,
}

#[derive(Clone)]
pub struct TopicRow {
    pub name: TopicName,
    pub config: TopicConfig,
    pub dropped: bool,
}

#[derive(Clone)]
pub enum Group {
    Whole(GroupRow),
    /// The columns that change, of one that is there.
    Moved(GroupPlace),
    Removed,
}

/// A delivery's row before and after.
#[derive(Clone)]
pub struct Delivery {
    /// It may be in the tables.
    pub was: bool,
    /// `None`: it goes.
    pub now: Option<Unsettled>,
}

#[derive(Clone)]
pub enum Dead {
    New {
        letter: Box<DeadLetter>,
        body: Body,
        revived: bool,
    },
    /// Of one that is there, whether it is delivered again.
    Revived(bool),
    Removed,
}

/// Where the event of a new dead letter is.
#[derive(Clone)]
pub enum Body {
    Here(Arc<Event>),
    /// In a block of the log.
    Log,
    /// In the row of the dead letter that it was.
    Dead(u64),
}

impl EventBatch {
    pub(super) fn change(&mut self, change: EventChange) {
        match change {
            EventChange::Published { meta, event, dedup, topic: _ } => {
                self.last_seq = Some(meta.seq);
                if let Some(key) = dedup {
                    self.ids.push((meta.seq, meta.topic, meta.at, key));
                }
                self.events.push((meta, event));
            }
            EventChange::EventsRemoved { topic, up_to } => drop(self.removed.insert(topic, up_to)),
            EventChange::DedupForgotten { up_to } => {
                let gone = self.ids.partition_point(|(seq, ..)| *seq <= up_to);
                self.ids.drain(..gone);
                self.ids_forgotten = Some(up_to);
            }
            EventChange::Delivery { group, seq, row, new } => {
                let delivery = self.deliveries.entry((group, seq));
                delivery.or_insert(Delivery { was: !new, now: None }).now = Some(row);
            }
            EventChange::DeliveryRemoved { group, seq } => match self.deliveries.entry((group, seq)) {
                std::collections::btree_map::Entry::Occupied(row) if !row.get().was => drop(row.remove()),
                entry => entry.or_insert(Delivery { was: true, now: None }).now = None,
            },
            EventChange::Settled { group, n, lease, verb } => {
                let ring = self.settled.entry(group).or_default();
                ring.insert(n, (lease, verb));
                if ring.len() > SETTLED_KEPT {
                    ring.pop_first();
                }
            }
            EventChange::GroupMoved { id, place } => match self.groups.get_mut(&id) {
                Some(Group::Whole(row)) => row.place = place,
                _ => drop(self.groups.insert(id, Group::Moved(place))),
            },
            other => self.rare_change(other),
        }
    }

    fn rare_change(&mut self, change: EventChange) {
        match change {
            EventChange::Topic { id, name, config, dropped } => {
                self.topics.insert(id, Some(TopicRow { name, config, dropped }));
            }
            EventChange::TopicRemoved(id) => drop(self.topics.insert(id, None)),
            EventChange::Group(row) => drop(self.groups.insert(row.id, Group::Whole(row))),
            EventChange::GroupRemoved(id) => {
                self.groups.insert(id, Group::Removed);
                self.deliveries.retain(|(group, _), _| *group != id);
                self.settled.remove(&id);
                // Those of the tables go with the group.
                self.dead
                    .retain(|_, dead| !matches!(dead, Dead::New { letter, .. } if letter.place.group == id));
            }
            EventChange::Died { letter, from } => self.died(letter, from),
            EventChange::DeadRevived { number } => self.revive(number, true),
            EventChange::DeadReturned { number } => self.revive(number, false),
            EventChange::DeadRemoved { number } => self.dead_goes(number),
            // Seen to by the caller.
            EventChange::Published { .. }
            | EventChange::EventsRemoved { .. }
            | EventChange::DedupForgotten { .. }
            | EventChange::Delivery { .. }
            | EventChange::DeliveryRemoved { .. }
            | EventChange::Settled { .. }
            | EventChange::GroupMoved { .. } => {}
        }
    }

    fn died(&mut self, letter: Box<DeadLetter>, from: Option<u64>) {
        let body = match from {
            Some(number) => {
                let body = match self.dead.get(&number) {
                    Some(Dead::New { body, .. }) => body.clone(),
                    _ => Body::Dead(number),
                };
                self.dead_goes(number);
                body
            }
            None => match self.event(letter.place.seq) {
                Some(event) => Body::Here(event.clone()),
                None => Body::Log,
            },
        };
        self.dead.insert(letter.place.number, Dead::New { letter, body, revived: false });
    }

    fn revive(&mut self, number: u64, now: bool) {
        match self.dead.get_mut(&number) {
            Some(Dead::New { revived, .. }) => *revived = now,
            _ => drop(self.dead.insert(number, Dead::Revived(now))),
        }
    }

    fn dead_goes(&mut self, number: u64) {
        match self.dead.get(&number) {
            Some(Dead::New { .. }) => drop(self.dead.remove(&number)),
            _ => drop(self.dead.insert(number, Dead::Removed)),
        }
    }

    /// An event of the log that the tables lack.
    pub fn event(&self, seq: u64) -> Option<&Arc<Event>> {
        let at = self.events.binary_search_by_key(&seq, |(meta, _)| meta.seq).ok()?;
        self.events.get(at).map(|(_, event)| event)
    }

    /// Those that stay.
    pub fn living(&self) -> impl Iterator<Item = (&EventMeta, &Event)> {
        let gone = |meta: &EventMeta| self.removed.get(&meta.topic).is_some_and(|up_to| meta.seq <= *up_to);
        // Most batches remove nothing.
        let none_gone = self.removed.is_empty();
        let living = self.events.iter().filter(move |(meta, _)| none_gone || !gone(meta));
        living.map(|(meta, event)| (meta, &**event))
    }

    /// A dead letter that the tables lack, and where its event is.
    pub fn new_dead(&self, number: u64) -> Option<(&DeadLetter, &Body)> {
        match self.dead.get(&number)? {
            Dead::New { letter, body, .. } => Some((letter, body)),
            _ => None,
        }
    }
}
