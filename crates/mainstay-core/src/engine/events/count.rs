//! How many events of a topic lie behind a number: by their numbers within the topic, so that nothing is counted.

use super::change::{GroupId, TopicId};
use crate::{
    engine::{Engine, change::Archive},
    error::Error,
    topic::TopicFilter,
};

impl Engine {
    /// Events of the topic that are in the log at or behind `from`.
    pub(super) fn count_from(
        &mut self,
        topic: TopicId,
        from: u64,
        archive: &mut dyn Archive,
    ) -> Result<u64, Error> {
        let Some(known) = self.events.topic(topic).filter(|known| !known.dropped) else { return Ok(0) };
        if from > known.last_seq || known.count == 0 {
            return Ok(0);
        }
        if from <= known.removed_up_to + 1 {
            return Ok(known.count);
        }
        let last = known.ord;
        let first = self.topic_events(topic, from, 1, archive)?;
        Ok(first.first().map_or(0, |first| last + 1 - first.ord))
    }

    /// Events that match these filters, at or behind `from`.
    pub(super) fn count_matching(
        &mut self,
        filters: &[TopicFilter],
        from: u64,
        archive: &mut dyn Archive,
    ) -> Result<u64, Error> {
        let mut count = 0;
        for topic in self.matching_topics(filters) {
            count += self.count_from(topic, from, archive)?;
        }
        Ok(count)
    }

    /// The topics that match, dropped ones not.
    pub(super) fn matching_topics(&self, filters: &[TopicFilter]) -> Vec<TopicId> {
        let literal: Option<Vec<_>> = filters.iter().map(TopicFilter::literal).collect();
        let names = &self.events.topic_names;
        let mut found: Vec<TopicId> = match literal {
            Some(topics) => topics.iter().filter_map(|name| names.get(name).copied()).collect(),
            None => {
                let matches = |topic: &_| filters.iter().any(|filter| filter.matches(topic));
                names.iter().filter(|(name, _)| matches(name)).map(|(_, id)| *id).collect()
            }
        };
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Events that were removed before the group had seen them.
    pub(super) fn skip(&mut self, id: GroupId, lost: u64) {
        if lost > 0 {
            let group = self.events.group(id);
            let mut place = group.place;
            place.skipped += lost;
            let pending = group.pending.saturating_sub(lost);
            self.set_place(id, place, pending);
        }
    }
}
