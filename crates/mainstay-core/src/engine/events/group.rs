//! A group in RAM.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use hashbrown::{HashMap, HashSet};

use super::change::{DeliveryState, GroupId, GroupPlace, GroupRow, Unsettled};
use crate::{
    event::{GROUP_WAITING, GroupConfig, SETTLED_KEPT},
    job::Verb,
    lease::LeaseId,
    name::GroupName,
    time::Timestamp,
};

#[derive(Clone)]
pub(in crate::engine) struct Group {
    pub id: GroupId,
    pub name: GroupName,
    pub config: Arc<GroupConfig>,
    pub place: GroupPlace,
    /// Events in the log at or behind the cursor that match.
    pub pending: u64,
    /// Taken up and not settled, by number.
    pub unsettled: BTreeMap<u64, Unsettled>,
    /// Of those: waiting, and due.
    pub ready: BTreeSet<u64>,
    /// Of those: handed out.
    pub in_flight: u64,
    /// Keys with unsettled events, if the group is ordered by key.
    keys: HashMap<u64, Line>,
    /// The newest settled leases, oldest first.
    settled: VecDeque<(LeaseId, Verb)>,
    /// How many there ever were.
    pub settled_n: u64,
    pub dead: u64,
    /// When a dead letter may be too old; `None`: there is none.
    pub dead_trim: Option<Timestamp>,
    /// What a waker has not been told yet.
    pub dirty: bool,
}

/// The unsettled events of one key.
#[derive(Clone, Default)]
struct Line {
    /// Handed out, or waiting for another try: the key is busy.
    busy: u32,
    parked: BTreeSet<u64>,
}

impl Group {
    pub(super) fn new(row: GroupRow) -> Group {
        let GroupRow { id, name, config, place } = row;
        Group {
            id,
            name,
            config,
            place,
            pending: 0,
            unsettled: BTreeMap::new(),
            ready: BTreeSet::new(),
            in_flight: 0,
            keys: HashMap::new(),
            settled: VecDeque::new(),
            settled_n: 0,
            dead: 0,
            dead_trim: None,
            dirty: false,
        }
    }

    pub(super) fn row(&self) -> GroupRow {
        GroupRow { id: self.id, name: self.name.clone(), config: self.config.clone(), place: self.place }
    }

    /// Unsettled, and not handed out.
    pub(super) fn waiting(&self) -> u64 {
        self.unsettled.len() as u64 - self.in_flight
    }

    /// Too much waits: nothing new is taken up.
    pub(super) fn is_stalled(&self) -> bool {
        self.waiting() >= GROUP_WAITING as u64
    }

    /// How many more leases there may be.
    pub(super) fn room(&self) -> u64 {
        u64::from(self.config.max_in_flight).saturating_sub(self.in_flight)
    }

    /// How many events can be handed out now, as far as is known without looking at them.
    pub(super) fn deliverable(&self) -> u64 {
        let new = if self.is_stalled() { 0 } else { self.pending };
        (self.ready.len() as u64 + new).min(self.room())
    }

    /// Whether an event of this key has to wait for another.
    pub(super) fn is_busy(&self, key: u64) -> bool {
        self.config.ordered_by_key
            && key != 0
            && self.keys.get(&key).is_some_and(|line| line.busy > 0 || !line.parked.is_empty())
    }

    /// The event of this key that is next, if none is under way.
    pub(super) fn next_of_key(&self, key: u64) -> Option<u64> {
        let line = self.keys.get(&key)?;
        if line.busy > 0 { None } else { line.parked.first().copied() }
    }

    pub(super) fn join_key(&mut self, event: &Unsettled, seq: u64) {
        if event.key == 0 || !self.config.ordered_by_key {
            return;
        }
        let line = self.keys.entry(event.key).or_default();
        match event.state {
            DeliveryState::Parked => {
                line.parked.insert(seq);
            }
            _ => line.busy += 1,
        }
    }

    pub(super) fn leave_key(&mut self, event: &Unsettled, seq: u64) {
        if event.key == 0 || !self.config.ordered_by_key {
            return;
        }
        let Some(line) = self.keys.get_mut(&event.key) else { return };
        match event.state {
            DeliveryState::Parked => {
                line.parked.remove(&seq);
            }
            _ => line.busy -= 1,
        }
        if line.busy == 0 && line.parked.is_empty() {
            self.keys.remove(&event.key);
        }
    }

    /// Replaces the configuration, and sorts the unsettled events by key anew.
    pub(super) fn set_config(&mut self, config: Arc<GroupConfig>) -> Arc<GroupConfig> {
        let before = std::mem::replace(&mut self.config, config);
        if before.ordered_by_key != self.config.ordered_by_key {
            self.keys.clear();
            let unsettled = std::mem::take(&mut self.unsettled);
            unsettled.iter().for_each(|(seq, event)| self.join_key(event, *seq));
            self.unsettled = unsettled;
        }
        before
    }

    /// Events that wait for others of their key, though the group is not ordered any more.
    pub(super) fn parked_in_vain(&self) -> Vec<u64> {
        if self.config.ordered_by_key {
            return Vec::new();
        }
        let parked = self.unsettled.iter().filter(|(_, event)| event.state == DeliveryState::Parked);
        parked.map(|(seq, _)| *seq).collect()
    }

    /// Events that wait for another try beside others of their key, in a group that has become ordered by key: all but
    /// the first of each key, or all if one of the key is handed out. Parked, they are due when their turn comes.
    pub(super) fn out_of_turn(&self) -> Vec<u64> {
        if !self.config.ordered_by_key {
            return Vec::new();
        }
        let keyed = || self.unsettled.iter().filter(|(_, event)| event.key != 0);
        let leased = keyed().filter(|(_, event)| matches!(event.state, DeliveryState::Leased(_)));
        let mut busy: HashSet<u64> = leased.map(|(_, event)| event.key).collect();
        let waiting = keyed().filter(|(_, event)| matches!(event.state, DeliveryState::Waiting { .. }));
        waiting.filter(|(_, event)| !busy.insert(event.key)).map(|(seq, _)| *seq).collect()
    }

    /// How a lease was settled, if that is remembered. Tokens grow, but leases are not settled in their order.
    pub(super) fn how_settled(&self, lease: LeaseId) -> Option<Verb> {
        self.settled.iter().rev().find(|(known, _)| *known == lease).map(|(_, verb)| *verb)
    }

    /// Remembers a settled lease; answers the one that is forgotten for it.
    pub(super) fn push_settled(&mut self, lease: LeaseId, verb: Verb) -> Option<(LeaseId, Verb)> {
        self.settled_n += 1;
        self.settled.push_back((lease, verb));
        if self.settled.len() > SETTLED_KEPT { self.settled.pop_front() } else { None }
    }

    /// Takes [`Group::push_settled`] back.
    pub(super) fn pop_settled(&mut self, forgotten: Option<(LeaseId, Verb)>) {
        self.settled_n -= 1;
        self.settled.pop_back();
        if let Some(forgotten) = forgotten {
            self.settled.push_front(forgotten);
        }
    }
}
