//! Before-images of what is known of events.

use std::sync::Arc;

use super::{
    change::{EventMeta, GroupId, GroupPlace, TopicId, Unsettled},
    dedup::Known,
    group::Group,
    topics::Topic,
};
use crate::{
    engine::Engine,
    event::{GroupConfig, TopicConfig},
    job::Verb,
    lease::LeaseId,
};

pub(in crate::engine) enum EventUndo {
    TopicCreated(TopicId),
    TopicConfig(TopicId, TopicConfig),
    TopicDropped(TopicId),
    TopicRemoved(Box<Topic>),
    Published {
        meta: EventMeta,
        /// The topic's last number before.
        last_seq: u64,
        /// It has a dedup key; the event that had it before.
        dedup: Option<Option<u64>>,
    },
    Removed {
        id: TopicId,
        /// Count, bytes and the last number removed.
        before: (u64, u64, u64),
    },
    DedupForgotten(Known),
    GroupCreated(GroupId),
    GroupConfig(GroupId, Arc<GroupConfig>),
    GroupRemoved(Box<Group>),
    Place(GroupId, GroupPlace, u64),
    Delivery(GroupId, u64, Option<Unsettled>),
    Settled(GroupId, Option<(LeaseId, Verb)>),
    Dead(GroupId, i64),
}

impl Engine {
    pub(in crate::engine) fn undo_event(&mut self, step: EventUndo) {
        match step {
            EventUndo::TopicCreated(id) => {
                self.set_trims(id, None, None);
                // Created last, it is the last.
                if let Some(Some(topic)) = self.events.topics.pop() {
                    self.events.topic_names.remove(&topic.name);
                }
            }
            EventUndo::TopicConfig(id, before) => {
                self.events.topic_mut(id).config = before;
                self.expect_trim_of(id);
            }
            EventUndo::TopicDropped(id) => {
                let topic = self.events.topic_mut(id);
                topic.dropped = false;
                let name = topic.name.clone();
                self.events.topic_names.insert(name, id);
                self.events.dropped.retain(|dropped| *dropped != id);
                self.expect_trim_of(id);
            }
            EventUndo::TopicRemoved(topic) => {
                let id = topic.id;
                self.events.dropped.push(id);
                self.events.topics[id.0 as usize] = Some(*topic);
            }
            EventUndo::Published { meta, last_seq, dedup } => {
                self.unappend(meta, last_seq);
                if let Some(before) = dedup {
                    self.events.dedup.pop(before);
                }
            }
            EventUndo::Removed { id, before } => {
                let topic = self.events.topic_mut(id);
                (topic.count, topic.bytes, topic.removed_up_to) = before;
                self.expect_trim_of(id);
            }
            EventUndo::DedupForgotten(known) => self.events.dedup.put_back(known),
            EventUndo::GroupCreated(id) => {
                self.events.take_group(id);
                self.events.groups.pop();
            }
            EventUndo::GroupConfig(id, before) => drop(self.events.configure_group(id, before)),
            EventUndo::GroupRemoved(group) => self.events.put_group(*group),
            EventUndo::Place(id, place, pending) => {
                let group = self.events.group_mut(id);
                (group.place, group.pending) = (place, pending);
                self.events.touch_group(id);
            }
            EventUndo::Delivery(id, seq, before) => drop(self.swap_delivery(id, seq, before)),
            EventUndo::Settled(id, forgotten) => self.events.group_mut(id).pop_settled(forgotten),
            EventUndo::Dead(id, by) => self.swap_dead_count(id, -by),
        }
    }
}
