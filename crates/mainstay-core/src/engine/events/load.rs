//! What is known of events is rebuilt from the tables. Call in this order: the last number, topics with the first and
//! the last of their events, dedup keys, groups, deliveries, settled leases, counts of dead letters; at the end
//! [`Engine::load_pending`], once the archive can be asked.

use super::{
    change::{DeliveryState, EventMeta, GroupId, GroupRow, TopicId, Unsettled},
    dedup::Known,
    group::Group,
    said,
    topics::Topic,
};
use crate::{
    engine::{Engine, change::Archive},
    error::Error,
    event::{DedupKey, TopicConfig},
    job::Verb,
    lease::LeaseId,
    time::Timestamp,
    topic::TopicName,
};

impl Engine {
    /// The last number given.
    pub fn load_last_seq(&mut self, seq: u64) {
        self.events.last_seq = seq;
    }

    /// A topic, dropped ones too; what retention has removed of it.
    pub fn load_topic(
        &mut self,
        id: TopicId,
        name: TopicName,
        config: TopicConfig,
        dropped: bool,
        removed: u64,
    ) {
        self.reserve_topic(id);
        let mut topic = Topic::new(id, name.clone(), config);
        (topic.dropped, topic.removed_up_to, topic.last_seq) = (dropped, removed, removed);
        self.events.topics[id.0 as usize] = Some(topic);
        if dropped {
            self.events.dropped.push(id);
        } else {
            self.events.topic_names.insert(name, id);
        }
    }

    /// The number of a topic is not given to another while something refers to it.
    fn reserve_topic(&mut self, id: TopicId) {
        let at = id.0 as usize;
        if self.events.topics.len() <= at && id.0 != u32::MAX {
            self.events.topics.resize_with(at + 1, || None);
        }
    }

    /// The first and the last event that a topic has. It is loaded.
    pub fn load_topic_events(&mut self, first: EventMeta, last: EventMeta) {
        let topic = self.events.topic_mut(first.topic);
        topic.count = last.ord + 1 - first.ord;
        topic.bytes = last.total.wrapping_sub(first.total).wrapping_add(u64::from(first.size));
        (topic.ord, topic.total, topic.last_seq) = (last.ord, last.total, last.seq);
    }

    /// What recognises an event, in the order of `seq`.
    pub fn load_dedup(&mut self, key: DedupKey, seq: u64, topic: TopicId, at: Timestamp) {
        self.reserve_topic(topic);
        self.events.dedup.push(Known { seq, topic, at, key });
    }

    /// A group.
    pub fn load_group(&mut self, row: GroupRow) {
        let at = row.id.0 as usize;
        if self.events.groups.len() <= at {
            self.events.groups.resize_with(at + 1, || None);
        }
        self.events.put_group(Group::new(row));
    }

    /// An unsettled event of a group, which is loaded.
    pub fn load_delivery(&mut self, group: GroupId, seq: u64, mut event: Unsettled) {
        event.error = event.error.map(said::beginning);
        self.reserve_topic(event.topic);
        self.swap_delivery(group, seq, Some(event));
    }

    /// A settled lease of a group, in the order of `n`.
    pub fn load_settled(&mut self, group: GroupId, n: u64, lease: LeaseId, verb: Verb) {
        let group = self.events.group_mut(group);
        group.push_settled(lease, verb);
        group.settled_n = n;
    }

    /// How many dead letters a group has.
    pub fn load_dead(&mut self, group: GroupId, count: u64) {
        self.events.group_mut(group).dead = count;
        // Looked at soon.
        let now = self.now.wall;
        self.set_dead_trim(group, Some(now));
    }

    /// Counts what the groups have before them.
    ///
    /// # Errors
    /// The archive's.
    pub fn load_pending(&mut self, archive: &mut dyn Archive) -> Result<(), Error> {
        let ids: Vec<GroupId> = self.events.group_names.values().copied().collect();
        for id in ids {
            let group = self.events.group(id);
            let (cursor, config) = (group.place.cursor, group.config.clone());
            let pending = self.count_matching(&config.topics, cursor, archive)?;
            self.events.group_mut(id).pending = pending;
        }
        Ok(())
    }

    /// All is loaded: leases that lived get their full time again, and retention looks at every topic.
    pub(in crate::engine) fn finish_load_events(&mut self) {
        let ids: Vec<GroupId> = self.events.group_names.values().copied().collect();
        for id in ids {
            let unsettled: Vec<u64> = self.events.group(id).unsettled.keys().copied().collect();
            for seq in unsettled {
                let Some(mut event) = self.events.group(id).unsettled.get(&seq).cloned() else { continue };
                if let DeliveryState::Leased(lease) = &mut event.state
                    && lease.until > self.now.store
                {
                    lease.until = self.now.store.plus_ms(lease.ms);
                    self.set_delivery(id, seq, Some(event));
                }
            }
        }
        let topics: Vec<TopicId> = self.events.topic_names.values().copied().collect();
        topics.into_iter().for_each(|id| self.expect_trim_of(id));
    }
}
