//! Events are appended to the log.

use super::{
    EventUndo, WINDOW,
    change::{EventChange, EventMeta},
    dedup::Known,
};
use crate::{
    engine::{Engine, Refusal, Undo, change::Change},
    event::{EventReply, Publish},
    op::{Reason, Reply},
    rules,
};

impl Engine {
    pub(super) fn publish(&mut self, publish: &Publish) -> Result<Reply, Refusal> {
        let Publish { topic: name, event, dedup } = publish;
        for (field, text) in [("id", &event.id), ("source", &event.source), ("type", &event.kind)] {
            if text.is_empty() {
                return Err(Reason::Invalid { field, detail: "has at least one character".into() }.into());
            }
        }
        let topic = self.topic_or_create(name);
        if let Some(key) = dedup
            && let Some(seq) = self.events.dedup.find(key, topic, self.now.wall)
        {
            return Ok(Reply::Event(EventReply::Published { seq, deduplicated: true }));
        }
        let size = u32::try_from(event.size()).unwrap_or(u32::MAX);
        let seq = self.events.last_seq + 1;
        let known = self.events.topic_mut(topic);
        let meta = EventMeta {
            seq,
            topic,
            size,
            ord: known.ord + 1,
            total: known.total.wrapping_add(u64::from(size)),
            at: self.now.wall,
            key: event.partition_key.as_deref().map_or(0, hash_key),
        };
        let last_seq = known.last_seq;
        self.append(meta);
        let dedup_before =
            dedup.map(|key| self.events.dedup.push(Known { seq: meta.seq, topic, at: meta.at, key }));
        self.undo.push(Undo::Event(EventUndo::Published { meta, last_seq, dedup: dedup_before }));
        self.changes.push(Change::Event(EventChange::Published {
            meta,
            event: event.clone(),
            dedup: *dedup,
            topic: name.clone(),
        }));
        Ok(Reply::Event(EventReply::Published { seq: meta.seq, deduplicated: false }))
    }

    fn append(&mut self, meta: EventMeta) {
        let events = &mut self.events;
        events.last_seq = meta.seq;
        events.window.push_back(meta);
        if events.window.len() > WINDOW {
            // It is known to the archive by now: a commit is shorter than the window.
            events.window.pop_front();
        }
        let topic = events.topic_mut(meta.topic);
        topic.count += 1;
        topic.bytes += u64::from(meta.size);
        (topic.ord, topic.total, topic.last_seq) = (meta.ord, meta.total, meta.seq);
        if !topic.dirty {
            topic.dirty = true;
            events.dirty_topics.push(meta.topic);
        }
        self.expect_events_trim(meta.topic, meta.at);
        self.count_pending(meta, 1);
    }

    /// The groups that match have one more, or one less, to hand out.
    fn count_pending(&mut self, meta: EventMeta, by: i64) {
        for id in self.matching_groups(meta.topic).iter().copied() {
            let group = self.events.group_mut(id);
            if meta.seq >= group.place.cursor {
                group.pending = group.pending.wrapping_add_signed(by);
                self.events.touch_group(id);
            }
        }
    }

    /// Takes the last [`Engine::append`] back. The number will be given again: the log has no gaps.
    pub(super) fn unappend(&mut self, meta: EventMeta, last_seq: u64) {
        self.count_pending(meta, -1);
        let events = &mut self.events;
        events.last_seq = meta.seq - 1;
        events.window.pop_back();
        let topic = events.topic_mut(meta.topic);
        topic.count -= 1;
        topic.bytes -= u64::from(meta.size);
        topic.ord = meta.ord - 1;
        topic.total = meta.total.wrapping_sub(u64::from(meta.size));
        topic.last_seq = last_seq;
    }
}

/// Equal keys have equal hashes; different ones that share a hash merely wait for each other. FNV-1a, mixed; never 0,
/// which means none.
pub(super) fn hash_key(key: &str) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    rules::mix(key.bytes().fold(0xcbf2_9ce4_8422_2325, fnv), 0).max(1)
}
