//! Topics, the log of events, and the groups that consume it.
//!
//! The log is one sequence of numbers without gaps. In RAM is what the newest numbers are about (not what happened); of
//! older ones the engine asks its archive. A group is a cursor, the events it has taken up and not settled, and a few
//! counts. Everything else is on the disk.

pub mod change;

mod count;
mod dead;
mod dedup;
mod fetch;
mod group;
mod groups;
mod load;
mod publish;
mod read;
mod said;
mod scan;
mod settle;
#[cfg(test)]
mod tests;
mod topics;
mod trim;
mod undo;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use hashbrown::HashMap;

use super::{
    Engine, Refusal,
    change::{Archive, Change},
};
use crate::{
    event::{EventOp, EventReply},
    lease::LeaseId,
    name::GroupName,
    op::{Reason, Reply},
    time::{StoreTime, Timestamp},
    topic::{FilterSet, TopicName},
};
use change::{DeliveryState, EventChange, EventMeta, GroupId, GroupPlace, TopicId, Unsettled};
use dedup::Dedup;
use group::Group;
use topics::Topic;
pub(super) use undo::EventUndo;

/// So many of the newest events are known in RAM, at 56 bytes each.
const WINDOW: usize = 262_144;

/// Everything the engine knows of events.
#[derive(Default)]
pub(super) struct Events {
    /// By `TopicId`.
    topics: Vec<Option<Topic>>,
    topic_names: HashMap<TopicName, TopicId>,
    /// Topics that are gone for everybody, whose events are still being removed.
    dropped: Vec<TopicId>,
    /// By `GroupId`.
    groups: Vec<Option<Group>>,
    group_names: HashMap<GroupName, GroupId>,
    filters: FilterSet<GroupId>,
    /// Changes with the filters.
    generation: u64,
    /// The groups that matched the topic that was looked at last.
    last_matched: Arc<[GroupId]>,
    /// The last number given.
    last_seq: u64,
    /// The newest events; their numbers have no gaps, removed ones are among them.
    window: VecDeque<EventMeta>,
    dedup: Dedup,
    /// Whose delivery has the live or run-out lease with this token.
    leases: HashMap<u64, (GroupId, u64)>,
    lease_ends: BTreeSet<(StoreTime, GroupId, u64)>,
    /// When deliveries that wait become due.
    retries: BTreeSet<(StoreTime, GroupId, u64)>,
    /// When topics that have too much are trimmed, and those in which something becomes too old.
    over_trims: BTreeSet<(StoreTime, TopicId)>,
    age_trims: BTreeSet<(Timestamp, TopicId)>,
    /// When a group's dead letters may be too old.
    dead_trims: BTreeSet<(Timestamp, GroupId)>,
    dirty_groups: Vec<GroupId>,
    /// Groups that were deleted since a waker was told last; some may be there again.
    gone_groups: Vec<GroupName>,
    dirty_topics: Vec<TopicId>,
}

impl Events {
    fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(id.0 as usize)?.as_ref()
    }

    fn group(&self, id: GroupId) -> &Group {
        self.groups[id.0 as usize].as_ref().expect("a group outlives what refers to it")
    }

    fn group_mut(&mut self, id: GroupId) -> &mut Group {
        self.groups[id.0 as usize].as_mut().expect("a group outlives what refers to it")
    }

    fn topic_mut(&mut self, id: TopicId) -> &mut Topic {
        self.topics[id.0 as usize].as_mut().expect("a topic outlives its events")
    }

    /// Whether an event is not in the log any more.
    fn is_gone(&self, topic: TopicId, seq: u64) -> bool {
        self.topic(topic).is_none_or(|topic| topic.dropped || seq <= topic.removed_up_to)
    }

    /// The first number that the window knows.
    fn window_start(&self) -> u64 {
        self.last_seq + 1 - self.window.len() as u64
    }

    fn touch_group(&mut self, id: GroupId) {
        let group = self.group_mut(id);
        if !group.dirty {
            group.dirty = true;
            self.dirty_groups.push(id);
        }
    }
}

impl Engine {
    pub(super) fn event(
        &mut self,
        op: &EventOp,
        entropy: u64,
        archive: &mut dyn Archive,
    ) -> Result<Reply, Refusal> {
        match op {
            EventOp::Publish(publish) => self.publish(publish),
            EventOp::PutTopic { topic, config } => Ok(self.put_topic(topic, config)),
            EventOp::DeleteTopic { topic } => self.delete_topic(topic, archive),
            EventOp::PutGroup { group, config, start } => self.put_group(group, config, *start, archive),
            EventOp::DeleteGroup { group } => Ok(self.delete_group(group)?),
            EventOp::Fetch(fetch) => self.fetch(fetch, entropy, archive),
            EventOp::Settle(settle) => Ok(self.settle_deliveries(settle, entropy)?),
            EventOp::Ack { group, lease } => Ok(self.ack_in_commit(group, *lease)?),
            EventOp::Release { leases, delay_ms } => Ok(self.release_deliveries(leases, *delay_ms)),
            EventOp::Seek { group, to } => self.seek(group, *to, archive),
            EventOp::RequeueDead { group, numbers } => self.requeue_dead_events(group, numbers, archive),
            EventOp::DeleteDead { group, numbers } => self.delete_dead_events(group, numbers, archive),
        }
    }

    fn group_id(&self, name: &GroupName) -> Result<GroupId, Reason> {
        self.events.group_names.get(name).copied().ok_or(Reason::NotFound("group"))
    }

    /// The log has grown by these topics' events, up to this number. Call after each group.
    pub fn take_published(&mut self, mut tell: impl FnMut(&TopicName)) -> u64 {
        for id in std::mem::take(&mut self.events.dirty_topics) {
            // One that was never made in the end is told to nobody.
            if let Some(Some(topic)) = self.events.topics.get_mut(id.0 as usize) {
                topic.dirty = false;
                tell(&topic.name);
            }
        }
        self.events.last_seq
    }

    /// Groups whose number of events to hand out may have changed, with that number; `None`: the group is gone. Call
    /// after each group.
    pub fn take_dirty_groups(&mut self, mut tell: impl FnMut(&GroupName, Option<u64>)) {
        for name in std::mem::take(&mut self.events.gone_groups) {
            if !self.events.group_names.contains_key(&name) {
                tell(&name, None);
            }
        }
        for id in std::mem::take(&mut self.events.dirty_groups) {
            if let Some(Some(group)) = self.events.groups.get_mut(id.0 as usize) {
                group.dirty = false;
                tell(&group.name, Some(group.deliverable()));
            }
        }
    }

    /// When the next delivery that waits becomes due, on the store's clock.
    pub fn next_retry(&self) -> Option<StoreTime> {
        self.events.retries.first().map(|(at, ..)| *at)
    }

    /// Lets time pass for deliveries that wait.
    pub(super) fn tick_events(&mut self) {
        let now = self.now.store;
        while let Some((at, group, seq)) = self.events.retries.first().copied().filter(|(at, ..)| *at <= now)
        {
            self.events.retries.remove(&(at, group, seq));
            self.events.group_mut(group).ready.insert(seq);
            self.events.touch_group(group);
        }
    }
}

// The few places that touch state, its indexes and the undo journal together.
impl Engine {
    fn set_place(&mut self, id: GroupId, place: GroupPlace, pending: u64) {
        let group = self.events.group_mut(id);
        let before =
            (std::mem::replace(&mut group.place, place), std::mem::replace(&mut group.pending, pending));
        self.events.touch_group(id);
        self.undo.push(super::Undo::Event(EventUndo::Place(id, before.0, before.1)));
        if before.0 != place {
            self.changes.push(Change::Event(EventChange::GroupMoved { id, place }));
        }
    }

    /// Puts or removes an unsettled event, with every index of it. The caller keeps the before-image.
    fn swap_delivery(&mut self, id: GroupId, seq: u64, new: Option<Unsettled>) -> Option<Unsettled> {
        let Events { groups, leases, lease_ends, retries, .. } = &mut self.events;
        let group = groups[id.0 as usize].as_mut().expect("a group outlives what refers to it");
        let before = group.unsettled.remove(&seq);
        if let Some(old) = &before {
            match &old.state {
                DeliveryState::Leased(lease) => {
                    leases.remove(&lease.id.token.0);
                    lease_ends.remove(&(lease.until, id, seq));
                    group.in_flight -= 1;
                }
                DeliveryState::Waiting { due } => {
                    retries.remove(&(*due, id, seq));
                    group.ready.remove(&seq);
                }
                DeliveryState::Parked => {}
            }
            group.leave_key(old, seq);
        }
        if let Some(new) = new {
            match &new.state {
                DeliveryState::Leased(lease) => {
                    leases.insert(lease.id.token.0, (id, seq));
                    lease_ends.insert((lease.until, id, seq));
                    group.in_flight += 1;
                }
                DeliveryState::Waiting { due } => {
                    if *due <= self.now.store {
                        group.ready.insert(seq);
                    } else {
                        retries.insert((*due, id, seq));
                    }
                }
                DeliveryState::Parked => {}
            }
            group.join_key(&new, seq);
            group.unsettled.insert(seq, new);
        }
        self.events.touch_group(id);
        before
    }

    fn set_delivery(&mut self, id: GroupId, seq: u64, new: Option<Unsettled>) {
        let row = new.clone();
        let before = self.swap_delivery(id, seq, new);
        let change = match row {
            Some(row) => EventChange::Delivery { group: id, seq, row, new: before.is_none() },
            None => EventChange::DeliveryRemoved { group: id, seq },
        };
        self.undo.push(super::Undo::Event(EventUndo::Delivery(id, seq, before)));
        self.changes.push(Change::Event(change));
    }

    /// The unsettled event that this lease proves, if the lease lives.
    fn live_delivery(&self, lease: LeaseId) -> Option<(GroupId, u64)> {
        let (group, seq) = *self.events.leases.get(&lease.token.0)?;
        match &self.events.group(group).unsettled.get(&seq)?.state {
            DeliveryState::Leased(live) if live.id == lease && live.until > self.now.store => {
                Some((group, seq))
            }
            _ => None,
        }
    }

    /// An old fetch as it is answered again: what still lives.
    pub(super) fn repeated_fetch(&self, reply: &EventReply) -> EventReply {
        let EventReply::Fetched(deliveries) = reply else { return reply.clone() };
        let live = deliveries.iter().filter_map(|delivery| {
            let (group, seq) = self.live_delivery(delivery.lease)?;
            match &self.events.group(group).unsettled.get(&seq)?.state {
                DeliveryState::Leased(lease) => {
                    let expires_at = self.now.wall_at(lease.until);
                    Some(crate::event::Delivery { expires_at, ..delivery.clone() })
                }
                _ => None,
            }
        });
        EventReply::Fetched(live.collect())
    }
}
