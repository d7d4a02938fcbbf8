//! Topics come, are configured, and go.

use std::sync::Arc;

use super::{
    EventUndo,
    change::{EventChange, GroupId, TopicId},
};
use crate::{
    engine::{
        Engine, Refusal, Undo,
        change::{Archive, Change},
    },
    event::{TopicConfig, TopicRecord},
    op::{Reason, Reply},
    time::{StoreTime, Timestamp},
    topic::TopicName,
};

#[derive(Clone)]
pub(in crate::engine) struct Topic {
    pub id: TopicId,
    pub name: TopicName,
    pub config: TopicConfig,
    /// Deleted; its events are still being removed.
    pub dropped: bool,
    /// Events in the log, and their bytes.
    pub count: u64,
    pub bytes: u64,
    /// The last number in the topic that was given, and all bytes up to it.
    pub ord: u64,
    pub total: u64,
    pub last_seq: u64,
    pub removed_up_to: u64,
    /// When it is next trimmed: because it has too much, because something becomes too old.
    pub over_trim: Option<StoreTime>,
    pub age_trim: Option<Timestamp>,
    /// What a waker has not been told yet.
    pub dirty: bool,
    /// Groups that match, in order, and since which generation that is so.
    matched: (u64, Arc<[GroupId]>),
}

impl Topic {
    pub(super) fn new(id: TopicId, name: TopicName, config: TopicConfig) -> Topic {
        Topic {
            id,
            name,
            config,
            dropped: false,
            count: 0,
            bytes: 0,
            ord: 0,
            total: 0,
            last_seq: 0,
            removed_up_to: 0,
            over_trim: None,
            age_trim: None,
            dirty: false,
            matched: (u64::MAX, Arc::default()),
        }
    }

    fn record(&self) -> TopicRecord {
        TopicRecord {
            name: self.name.clone(),
            config: self.config.clone(),
            count: self.count,
            bytes: self.bytes,
            last_seq: self.last_seq,
            removed_up_to: self.removed_up_to,
        }
    }

    /// How many events are above its retention's count or bytes, roughly.
    pub(super) fn excess(&self) -> u64 {
        let retention = &self.config.retention;
        let count = retention.count.map_or(0, |most| self.count.saturating_sub(most));
        let bytes = retention.bytes.map_or(0, |most| self.bytes.saturating_sub(most));
        let each = (self.bytes / self.count.max(1)).max(1);
        if bytes > 0 { count.max(bytes.div_ceil(each)) } else { count }
    }
}

impl Engine {
    /// The topic with this name, created if need be.
    pub(super) fn topic_or_create(&mut self, name: &TopicName) -> TopicId {
        if let Some(id) = self.events.topic_names.get(name) {
            return *id;
        }
        self.create_topic(name, TopicConfig::default())
    }

    fn create_topic(&mut self, name: &TopicName, config: TopicConfig) -> TopicId {
        let id = TopicId(self.events.topics.len() as u32);
        self.events.topics.push(Some(Topic::new(id, name.clone(), config)));
        self.events.topic_names.insert(name.clone(), id);
        self.undo.push(Undo::Event(EventUndo::TopicCreated(id)));
        self.changed_topic(id);
        id
    }

    fn changed_topic(&mut self, id: TopicId) {
        let Some(topic) = self.events.topic(id) else { return };
        let (name, config, dropped) = (topic.name.clone(), topic.config.clone(), topic.dropped);
        self.changes.push(Change::Event(EventChange::Topic { id, name, config, dropped }));
    }

    pub(super) fn put_topic(&mut self, name: &TopicName, config: &TopicConfig) -> Reply {
        let Some(&id) = self.events.topic_names.get(name) else {
            self.create_topic(name, config.clone());
            return Reply::Done;
        };
        let topic = self.events.topic_mut(id);
        let before = std::mem::replace(&mut topic.config, config.clone());
        self.undo.push(Undo::Event(EventUndo::TopicConfig(id, before)));
        self.changed_topic(id);
        self.expect_trim_of(id);
        Reply::Done
    }

    pub(super) fn delete_topic(
        &mut self,
        name: &TopicName,
        archive: &mut dyn Archive,
    ) -> Result<Reply, Refusal> {
        let Some(&id) = self.events.topic_names.get(name) else {
            return Err(Reason::NotFound("topic").into());
        };
        // What the groups have not seen of it, they will not see.
        for group in self.matching_groups(id).iter().copied() {
            let from = self.events.group(group).place.cursor;
            let lost = self.count_from(id, from, archive)?;
            self.skip(group, lost);
        }
        self.drop_topic(id);
        Ok(Reply::Done)
    }

    fn drop_topic(&mut self, id: TopicId) {
        let topic = self.events.topic_mut(id);
        topic.dropped = true;
        let name = topic.name.clone();
        self.events.topic_names.remove(&name);
        self.events.dropped.push(id);
        self.undo.push(Undo::Event(EventUndo::TopicDropped(id)));
        self.changed_topic(id);
    }

    /// The groups that match a topic, in order. Found once, and again when groups have changed.
    pub(super) fn matching_groups(&mut self, id: TopicId) -> Arc<[GroupId]> {
        let generation = self.events.generation;
        let Some(topic) = self.events.topic(id) else { return Arc::default() };
        if topic.matched.0 == generation {
            return topic.matched.1.clone();
        }
        let mut groups = Vec::new();
        self.events.filters.matches(&topic.name, |group| groups.push(*group));
        groups.sort_unstable();
        groups.dedup();
        // Most topics share it with the one before.
        if *self.events.last_matched != *groups {
            self.events.last_matched = groups.into();
        }
        let groups = self.events.last_matched.clone();
        self.events.topic_mut(id).matched = (generation, groups.clone());
        groups
    }

    /// One topic as it is now.
    pub fn topic(&self, name: &str) -> Option<TopicRecord> {
        let id = *self.events.topic_names.get(name)?;
        self.events.topic(id).map(Topic::record)
    }

    /// Up to `limit` topics after `after`, by name.
    pub fn topics(&self, after: Option<&str>, limit: usize) -> Vec<TopicRecord> {
        let later = |name: &&TopicName| after.is_none_or(|after| name.as_str() > after);
        let mut names: Vec<&TopicName> = self.events.topic_names.keys().filter(later).collect();
        names.sort_unstable();
        names.truncate(limit);
        names.into_iter().filter_map(|name| self.topic(name.as_str())).collect()
    }
}
