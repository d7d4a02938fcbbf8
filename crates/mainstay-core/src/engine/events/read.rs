//! Groups and the log as they are seen from outside.

use super::{
    change::{GroupId, TopicId},
    topics::Topic,
};
use crate::{
    engine::{Engine, change::Archive},
    error::Error,
    event::{GroupRecord, Position},
    name::GroupName,
    time::Now,
    topic::{TopicFilter, TopicName},
};

impl Engine {
    /// One group as it is now.
    ///
    /// # Errors
    /// The archive's.
    pub fn group(
        &mut self,
        name: &str,
        now: Now,
        archive: &mut dyn Archive,
    ) -> Result<Option<GroupRecord>, Error> {
        self.set_now(now);
        match self.events.group_names.get(name) {
            Some(id) => self.group_record(*id, archive).map(Some),
            None => Ok(None),
        }
    }

    /// The number of a group.
    pub fn group_number(&self, name: &str) -> Option<GroupId> {
        self.events.group_names.get(name).copied()
    }

    /// Up to `limit` groups after `after`, by name.
    ///
    /// # Errors
    /// The archive's.
    pub fn groups(
        &mut self,
        after: Option<&str>,
        limit: usize,
        now: Now,
        archive: &mut dyn Archive,
    ) -> Result<Vec<GroupRecord>, Error> {
        self.set_now(now);
        let later = |name: &&GroupName| after.is_none_or(|after| name.as_str() > after);
        let mut names: Vec<_> = self.events.group_names.iter().filter(|(name, _)| later(name)).collect();
        names.sort_unstable();
        let ids: Vec<GroupId> = names.into_iter().take(limit).map(|(_, id)| *id).collect();
        ids.into_iter().map(|id| self.group_record(id, archive)).collect()
    }

    fn group_record(&mut self, id: GroupId, archive: &mut dyn Archive) -> Result<GroupRecord, Error> {
        let group = self.events.group(id);
        let (cursor, pending) = (group.place.cursor, group.pending);
        let taken_up = group.unsettled.values().map(|event| event.at).next();
        let mut oldest = taken_up;
        if pending > 0 {
            let next = self.group_events(id, cursor, 1, archive)?.events;
            oldest = next.iter().map(|meta| meta.at).chain(oldest).min();
        }
        let group = self.events.group(id);
        let first = group.unsettled.keys().next().copied().unwrap_or(cursor);
        Ok(GroupRecord {
            name: group.name.clone(),
            config: (*group.config).clone(),
            cursor,
            floor: first.min(cursor),
            lag: pending + group.waiting(),
            waiting: group.waiting(),
            in_flight: group.in_flight,
            oldest_unacked_age_ms: oldest.map(|at| self.now.wall.ms_since(at)),
            dead: group.dead,
            skipped: group.place.skipped,
            redelivered: group.place.redelivered,
            stalled: group.is_stalled(),
        })
    }
}

/// The log, for those who read it.
impl Engine {
    /// The last number given.
    pub fn last_seq(&self) -> u64 {
        self.events.last_seq
    }

    /// The number a position stands for.
    ///
    /// # Errors
    /// The archive's.
    pub fn log_position(&mut self, position: Position, archive: &mut dyn Archive) -> Result<u64, Error> {
        self.resolve(position, archive)
    }

    /// The topics that match (no filter: all) of which retention has removed something at or behind `from`, with the
    /// last number removed.
    pub fn removed(&self, filters: &[TopicFilter], from: u64) -> Vec<(TopicName, u64)> {
        let matches = |topic: &&Topic| {
            topic.removed_up_to >= from.max(1)
                && (filters.is_empty() || filters.iter().any(|filter| filter.matches(&topic.name)))
        };
        let live = self.events.topics.iter().flatten().filter(|topic| !topic.dropped);
        live.filter(matches).map(|topic| (topic.name.clone(), topic.removed_up_to)).collect()
    }

    /// All topics that were not deleted, with the last number that retention removed of each.
    pub fn topic_directory(&self) -> impl Iterator<Item = (TopicId, &TopicName, u64)> {
        let live = self.events.topics.iter().flatten().filter(|topic| !topic.dropped);
        live.map(|topic| (topic.id, &topic.name, topic.removed_up_to))
    }

    /// Whether an event that was published is still in the log.
    pub fn is_in_log(&self, topic: TopicId, seq: u64) -> bool {
        !self.events.is_gone(topic, seq)
    }
}
