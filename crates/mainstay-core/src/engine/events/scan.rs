//! Looking for events in the log: in the window, and before it in the archive.

use super::change::{EventMeta, GroupId, TopicId};
use crate::{
    engine::{Engine, change::Archive},
    error::Error,
    time::Timestamp,
};

/// A scan looks at no more events than this at once; the next goes on.
pub(super) const SCAN: usize = 10_000;
/// A group that matches no more topics than this is looked up topic by topic.
const FEW_TOPICS: usize = 8;
/// Among more topics than this, nobody looks for the few that match.
const MANY_TOPICS: usize = 10_000;
/// A scan of the archive begins with so many times what is wanted, but with so many rows at least: each costs a read of
/// the table, and most of them fit.
const PER_WANTED: usize = 4;
const ROWS_AT_LEAST: usize = 256;

/// What a scan found.
pub(super) struct Found {
    pub events: Vec<EventMeta>,
    /// Everything before this number was looked at.
    pub next: u64,
}

impl Engine {
    /// The first `limit` events of the topic at or behind `from`, in order. Removed ones may be among them.
    pub(super) fn topic_events(
        &mut self,
        topic: TopicId,
        from: u64,
        limit: usize,
        archive: &mut dyn Archive,
    ) -> Result<Vec<EventMeta>, Error> {
        let start = self.events.window_start();
        let mut found = Vec::new();
        if from < start {
            found = archive.events(Some(topic), from, limit)?;
            found.retain(|meta| meta.seq < start);
        }
        let from = from.max(start);
        let rest = self.events.window.iter().skip((from - start) as usize);
        let rest = rest.filter(|meta| meta.topic == topic).take(limit - found.len());
        found.extend(rest);
        Ok(found)
    }

    /// Events at or behind `from` that are in the log and match the group, up to `limit`.
    pub(super) fn group_events(
        &mut self,
        group: GroupId,
        from: u64,
        limit: usize,
        archive: &mut dyn Archive,
    ) -> Result<Found, Error> {
        let start = self.events.window_start();
        if from >= start {
            return Ok(self.in_window(group, from, limit));
        }
        if let Some(topics) = self.few_topics(group) {
            return self.by_topic(&topics, from, limit, archive);
        }
        let mut events = Vec::new();
        let (mut next, mut left) = (from, SCAN);
        let mut rows = limit.saturating_mul(PER_WANTED).clamp(ROWS_AT_LEAST, SCAN);
        while left > 0 && events.len() < limit {
            let asked = rows.min(left);
            let metas = archive.events(None, next, asked)?;
            // Behind the last there may be others; without any, the window goes on.
            next = match metas.last() {
                Some(last) if metas.len() == asked && last.seq < start => last.seq + 1,
                _ => start,
            };
            for meta in metas.into_iter().filter(|meta| meta.seq < start) {
                if events.len() == limit {
                    return Ok(Found { events, next: meta.seq });
                }
                if !self.events.is_gone(meta.topic, meta.seq) && self.does_match(group, meta.topic) {
                    events.push(meta);
                }
            }
            if next == start {
                break;
            }
            left -= asked;
            rows = rows.saturating_mul(PER_WANTED);
        }
        Ok(Found { events, next })
    }

    fn in_window(&mut self, group: GroupId, from: u64, limit: usize) -> Found {
        let (start, end) = (self.events.window_start(), self.events.last_seq + 1);
        let mut events = Vec::new();
        // Most events in a row are of few topics.
        let mut last: Option<(TopicId, bool)> = None;
        for seq in from..end {
            let Some(&meta) = self.events.window.get((seq - start) as usize) else { break };
            let matches = match last {
                Some((topic, matches)) if topic == meta.topic => matches,
                _ => self.does_match(group, meta.topic),
            };
            last = Some((meta.topic, matches));
            if !matches || self.events.is_gone(meta.topic, seq) {
                continue;
            }
            if events.len() == limit {
                return Found { events, next: seq };
            }
            events.push(meta);
        }
        Found { events, next: end.max(from) }
    }

    /// The few topics of a group, if they are few.
    fn few_topics(&self, group: GroupId) -> Option<Vec<TopicId>> {
        let filters = &self.events.group(group).config.topics;
        let literal = filters.iter().all(|filter| filter.literal().is_some());
        if !literal && self.events.topic_names.len() > MANY_TOPICS {
            return None;
        }
        let topics = self.matching_topics(filters);
        (topics.len() <= FEW_TOPICS).then_some(topics)
    }

    fn by_topic(
        &mut self,
        topics: &[TopicId],
        from: u64,
        limit: usize,
        archive: &mut dyn Archive,
    ) -> Result<Found, Error> {
        let mut events = Vec::new();
        let mut next = self.events.last_seq + 1;
        for topic in topics {
            let removed = self.events.topic(*topic).map_or(0, |topic| topic.removed_up_to);
            let found = self.topic_events(*topic, from.max(removed + 1), limit + 1, archive)?;
            if let Some(more) = found.get(limit) {
                next = next.min(more.seq);
            }
            events.extend(found);
        }
        events.sort_unstable_by_key(|meta| meta.seq);
        if let Some(more) = events.get(limit) {
            next = next.min(more.seq);
        }
        events.retain(|meta| meta.seq < next);
        Ok(Found { events, next: next.max(from) })
    }

    fn does_match(&mut self, group: GroupId, topic: TopicId) -> bool {
        self.matching_groups(topic).binary_search(&group).is_ok()
    }

    /// The number of the first event published at this wall time or later; behind the last if there is none. Events
    /// of all topics count. (Where the wall clock was set back, several numbers may do; this is one of them.)
    pub(super) fn seq_at(&mut self, time: Timestamp, archive: &mut dyn Archive) -> Result<u64, Error> {
        let end = self.events.last_seq + 1;
        let (mut low, mut high) = (1, end);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_event(middle, archive)? {
                Some(meta) if meta.seq < high && meta.at < time => low = meta.seq + 1,
                // Nothing is there between `middle` and `high`, or it is late enough.
                _ => high = middle,
            }
        }
        // What stands there may be gone, and known only until the store is opened again: the next that is there counts.
        while let Some(meta) = self.first_event(low, archive)? {
            if !self.events.is_gone(meta.topic, meta.seq) {
                return Ok(meta.seq);
            }
            low = meta.seq + 1;
        }
        Ok(end)
    }

    /// The first event there is at or behind `from`.
    fn first_event(&mut self, from: u64, archive: &mut dyn Archive) -> Result<Option<EventMeta>, Error> {
        let start = self.events.window_start();
        if from < start
            && let Some(found) = archive.events(None, from, 1)?.into_iter().next()
        {
            return Ok(Some(found));
        }
        Ok(self.events.window.get((from.max(start) - start) as usize).copied())
    }
}
