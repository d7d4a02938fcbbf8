//! Groups come, are configured, move, and go.

use std::sync::Arc;

use super::{
    EventUndo, Events,
    change::{DeliveryState, EventChange, GroupId, GroupPlace, GroupRow},
    group::Group,
};
use crate::{
    engine::{
        Engine, Refusal, Undo,
        change::{Archive, Change},
    },
    error::Error,
    event::{EventReply, GroupConfig, Position},
    name::GroupName,
    op::{Reason, Reply},
    time::StoreTime,
};

impl Engine {
    pub(super) fn put_group(
        &mut self,
        name: &GroupName,
        config: &GroupConfig,
        start: Position,
        archive: &mut dyn Archive,
    ) -> Result<Reply, Refusal> {
        check(config)?;
        let config = Arc::new(config.clone());
        match self.events.group_names.get(name).copied() {
            Some(id) => self.configure_group(id, config, archive)?,
            None => self.create_group(name, config, start, archive)?,
        }
        Ok(Reply::Done)
    }

    fn create_group(
        &mut self,
        name: &GroupName,
        config: Arc<GroupConfig>,
        start: Position,
        archive: &mut dyn Archive,
    ) -> Result<(), Error> {
        let cursor = self.resolve(start, archive)?;
        let pending = self.count_matching(&config.topics, cursor, archive)?;
        let id = GroupId(self.events.groups.len() as u32);
        let place = GroupPlace { cursor, ..GroupPlace::default() };
        let row = GroupRow { id, name: name.clone(), config, place };
        let mut group = Group::new(row.clone());
        group.pending = pending;
        self.events.groups.push(None);
        self.events.put_group(group);
        self.undo.push(Undo::Event(EventUndo::GroupCreated(id)));
        self.changes.push(Change::Event(EventChange::Group(row)));
        Ok(())
    }

    fn configure_group(
        &mut self,
        id: GroupId,
        config: Arc<GroupConfig>,
        archive: &mut dyn Archive,
    ) -> Result<(), Error> {
        let group = self.events.group(id);
        let (cursor, place, mut pending) = (group.place.cursor, group.place, group.pending);
        if group.config.topics != config.topics {
            pending = self.count_matching(&config.topics, cursor, archive)?;
        }
        let before = self.events.configure_group(id, config);
        self.undo.push(Undo::Event(EventUndo::GroupConfig(id, before)));
        self.changes.push(Change::Event(EventChange::Group(self.events.group(id).row())));
        self.set_place(id, place, pending);
        for seq in self.events.group(id).parked_in_vain() {
            let Some(mut event) = self.events.group(id).unsettled.get(&seq).cloned() else { continue };
            event.state = DeliveryState::Waiting { due: StoreTime(0) };
            self.set_delivery(id, seq, Some(event));
        }
        for seq in self.events.group(id).out_of_turn() {
            let Some(mut event) = self.events.group(id).unsettled.get(&seq).cloned() else { continue };
            event.state = DeliveryState::Parked;
            self.set_delivery(id, seq, Some(event));
        }
        Ok(())
    }

    pub(super) fn delete_group(&mut self, name: &GroupName) -> Result<Reply, Reason> {
        let id = self.group_id(name)?;
        if let Some(group) = self.events.take_group(id) {
            self.undo.push(Undo::Event(EventUndo::GroupRemoved(Box::new(group))));
            self.changes.push(Change::Event(EventChange::GroupRemoved(id)));
            self.events.gone_groups.push(name.clone());
        }
        Ok(Reply::Done)
    }

    pub(super) fn seek(
        &mut self,
        name: &GroupName,
        to: Position,
        archive: &mut dyn Archive,
    ) -> Result<Reply, Refusal> {
        let id = self.group_id(name)?;
        let cursor = self.resolve(to, archive)?;
        let config = self.events.group(id).config.clone();
        let pending = self.count_matching(&config.topics, cursor, archive)?;
        let unsettled: Vec<_> = self.events.group(id).unsettled.keys().copied().collect();
        for seq in unsettled {
            let dead = self.events.group(id).unsettled.get(&seq).and_then(|event| event.dead.clone());
            self.set_delivery(id, seq, None);
            if let Some(dead) = dead {
                self.return_dead(id, dead.number);
            }
        }
        let place = GroupPlace { cursor, ..self.events.group(id).place };
        self.set_place(id, place, pending);
        Ok(Reply::Event(EventReply::Sought { cursor }))
    }

    /// The number a position stands for.
    pub(super) fn resolve(&mut self, position: Position, archive: &mut dyn Archive) -> Result<u64, Error> {
        Ok(match position {
            Position::Latest => self.events.last_seq + 1,
            Position::Earliest => 1,
            Position::Seq(seq) => seq.max(1),
            Position::Time(time) => self.seq_at(time, archive)?,
        })
    }
}

// With every index.
impl Events {
    /// Puts a group at its place, which is empty.
    pub(super) fn put_group(&mut self, mut group: Group) {
        let id = group.id;
        group.config.topics.iter().for_each(|filter| self.filters.insert(filter, id));
        self.generation += 1;
        self.group_names.insert(group.name.clone(), id);
        for (seq, event) in &group.unsettled {
            match &event.state {
                DeliveryState::Leased(lease) => {
                    self.leases.insert(lease.id.token.0, (id, *seq));
                    self.lease_ends.insert((lease.until, id, *seq));
                }
                DeliveryState::Waiting { due } if !group.ready.contains(seq) => {
                    self.retries.insert((*due, id, *seq));
                }
                DeliveryState::Waiting { .. } | DeliveryState::Parked => {}
            }
        }
        if let Some(at) = group.dead_trim {
            self.dead_trims.insert((at, id));
        }
        group.dirty = false;
        self.groups[id.0 as usize] = Some(group);
        self.touch_group(id);
    }

    /// Takes a group from its place.
    pub(super) fn take_group(&mut self, id: GroupId) -> Option<Group> {
        let group = self.groups.get_mut(id.0 as usize)?.take()?;
        for filter in &group.config.topics {
            self.filters.remove(filter, &id);
        }
        self.generation += 1;
        self.group_names.remove(&group.name);
        for (seq, event) in &group.unsettled {
            match &event.state {
                DeliveryState::Leased(lease) => {
                    self.leases.remove(&lease.id.token.0);
                    self.lease_ends.remove(&(lease.until, id, *seq));
                }
                DeliveryState::Waiting { due } => {
                    self.retries.remove(&(*due, id, *seq));
                }
                DeliveryState::Parked => {}
            }
        }
        if let Some(at) = group.dead_trim {
            self.dead_trims.remove(&(at, id));
        }
        Some(group)
    }

    /// Replaces a group's configuration; answers the one before.
    pub(super) fn configure_group(&mut self, id: GroupId, config: Arc<GroupConfig>) -> Arc<GroupConfig> {
        let before = self.group_mut(id).set_config(config.clone());
        for filter in &before.topics {
            self.filters.remove(filter, &id);
        }
        config.topics.iter().for_each(|filter| self.filters.insert(filter, id));
        self.generation += 1;
        self.touch_group(id);
        before
    }
}

fn check(config: &GroupConfig) -> Result<(), Reason> {
    let wrong = if config.topics.is_empty() {
        "topics"
    } else if config.ack_wait_ms == 0 {
        "ack_wait_ms"
    } else if config.max_deliver == 0 {
        "max_deliver"
    } else if config.max_in_flight == 0 {
        "max_in_flight"
    } else {
        return Ok(());
    };
    let detail = if wrong == "topics" { "has at least one filter" } else { "is at least 1" };
    Err(Reason::Invalid { field: wrong, detail: detail.into() })
}
