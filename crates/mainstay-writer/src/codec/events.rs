//! Changes of topics, events and groups as bytes, and back. The rules of [`super::encode`] hold.

use std::sync::Arc;

use mainstay_core::{
    StoreTime,
    engine::change::{
        DeadLetter, DeadRef, DeliveryLease, DeliveryState, EventChange, EventMeta, GroupId, GroupPlace,
        GroupRow, TopicId, Unsettled,
    },
    event::{DedupKey, Event, EventData},
    text::Text,
};

use super::{
    decode::{Bytes, Result},
    encode::{json, lease_id, number_opt, opt, text, text_opt, time, u32, u64},
};
use crate::numbers::{REASONS, VERBS, reason_number, verb_number};

/// What stands before a change.
mod tag {
    pub(super) const TOPIC: u8 = 50;
    pub(super) const TOPIC_REMOVED: u8 = 51;
    pub(super) const PUBLISHED: u8 = 52;
    pub(super) const EVENTS_REMOVED: u8 = 53;
    pub(super) const DEDUP_FORGOTTEN: u8 = 54;
    pub(super) const GROUP: u8 = 55;
    pub(super) const GROUP_MOVED: u8 = 56;
    pub(super) const GROUP_REMOVED: u8 = 57;
    pub(super) const DELIVERY: u8 = 58;
    pub(super) const DELIVERY_REMOVED: u8 = 59;
    pub(super) const SETTLED: u8 = 60;
    pub(super) const DIED: u8 = 61;
    pub(super) const DEAD_REVIVED: u8 = 62;
    pub(super) const DEAD_RETURNED: u8 = 63;
    pub(super) const DEAD_REMOVED: u8 = 64;
}

const WAITING: u8 = 0;
const PARKED: u8 = 1;
const LEASED: u8 = 2;

const NO_DATA: u8 = 0;
const JSON: u8 = 1;
const BINARY: u8 = 2;

/// Appends one change.
pub(super) fn put(out: &mut Vec<u8>, change: &EventChange) {
    match change {
        EventChange::Published { meta, event, dedup, topic } => {
            out.push(tag::PUBLISHED);
            put_meta(out, meta);
            put_event(out, event);
            opt(out, dedup.as_ref(), |out, key| out.extend(key.0));
            text(out, topic.as_str());
        }
        EventChange::Delivery { group, seq, row, new } => {
            out.push(tag::DELIVERY);
            u32(out, group.0);
            u64(out, *seq);
            put_unsettled(out, row);
            out.push(u8::from(*new));
        }
        EventChange::DeliveryRemoved { group, seq } => {
            out.push(tag::DELIVERY_REMOVED);
            u32(out, group.0);
            u64(out, *seq);
        }
        EventChange::Settled { group, n, lease, verb } => {
            out.push(tag::SETTLED);
            u32(out, group.0);
            u64(out, *n);
            lease_id(out, lease);
            out.push(verb_number(*verb) as u8);
        }
        EventChange::GroupMoved { id, place } => {
            out.push(tag::GROUP_MOVED);
            u32(out, id.0);
            put_place(out, place);
        }
        other => put_rare(out, other),
    }
}

fn put_rare(out: &mut Vec<u8>, change: &EventChange) {
    match change {
        EventChange::Topic { id, name, config, dropped } => {
            out.push(tag::TOPIC);
            u32(out, id.0);
            text(out, name.as_str());
            json(out, config);
            out.push(u8::from(*dropped));
        }
        EventChange::TopicRemoved(id) => {
            out.push(tag::TOPIC_REMOVED);
            u32(out, id.0);
        }
        EventChange::EventsRemoved { topic, up_to } => {
            out.push(tag::EVENTS_REMOVED);
            u32(out, topic.0);
            u64(out, *up_to);
        }
        EventChange::DedupForgotten { up_to } => {
            out.push(tag::DEDUP_FORGOTTEN);
            u64(out, *up_to);
        }
        EventChange::Group(GroupRow { id, name, config, place }) => {
            out.push(tag::GROUP);
            u32(out, id.0);
            text(out, name.as_str());
            json(out, &**config);
            put_place(out, place);
        }
        EventChange::GroupRemoved(id) => {
            out.push(tag::GROUP_REMOVED);
            u32(out, id.0);
        }
        EventChange::Died { letter, from } => {
            out.push(tag::DIED);
            let DeadLetter { place, attempts, reason, error } = &**letter;
            put_dead(out, place);
            u32(out, *attempts);
            out.push(reason_number(*reason) as u8);
            opt(out, error.as_ref(), |out, error| json(out, &**error));
            number_opt(out, *from);
        }
        EventChange::DeadRevived { number } => {
            out.push(tag::DEAD_REVIVED);
            u64(out, *number);
        }
        EventChange::DeadReturned { number } => {
            out.push(tag::DEAD_RETURNED);
            u64(out, *number);
        }
        EventChange::DeadRemoved { number } => {
            out.push(tag::DEAD_REMOVED);
            u64(out, *number);
        }
        // Written by the caller.
        EventChange::Published { .. }
        | EventChange::Delivery { .. }
        | EventChange::DeliveryRemoved { .. }
        | EventChange::Settled { .. }
        | EventChange::GroupMoved { .. } => {}
    }
}

pub(super) fn put_meta(out: &mut Vec<u8>, meta: &EventMeta) {
    let EventMeta { seq, topic, size, ord, total, at, key } = *meta;
    u64(out, seq);
    u32(out, topic.0);
    u32(out, size);
    u64(out, ord);
    u64(out, total);
    time(out, at);
    u64(out, key);
}

/// Appends what happened. Blocks of the tables have it in the same form.
pub(super) fn put_event(out: &mut Vec<u8>, event: &Event) {
    for attribute in [&event.id, &event.source, &event.kind] {
        text(out, attribute);
    }
    for attribute in
        [&event.subject, &event.time, &event.partition_key, &event.content_type, &event.data_schema]
    {
        text_opt(out, attribute.as_ref());
    }
    u32(out, event.extensions.len() as u32);
    for (name, value) in &event.extensions {
        text(out, name);
        text(out, value);
    }
    match &event.data {
        EventData::None => out.push(NO_DATA),
        EventData::Json(data) => {
            out.push(JSON);
            text(out, data);
        }
        EventData::Binary(data) => {
            out.push(BINARY);
            u32(out, data.len() as u32);
            out.extend(&**data);
        }
    }
}

fn put_place(out: &mut Vec<u8>, place: &GroupPlace) {
    let GroupPlace { cursor, skipped, redelivered } = *place;
    for number in [cursor, skipped, redelivered] {
        u64(out, number);
    }
}

fn put_unsettled(out: &mut Vec<u8>, row: &Unsettled) {
    let Unsettled { topic, size, attempt, key, at, dead, error, state } = row;
    for number in [topic.0, *size, *attempt] {
        u32(out, number);
    }
    u64(out, *key);
    time(out, *at);
    opt(out, dead.as_deref(), put_dead);
    opt(out, error.as_ref(), |out, error| json(out, &**error));
    match state {
        DeliveryState::Waiting { due } => {
            out.push(WAITING);
            u64(out, due.0);
        }
        DeliveryState::Parked => out.push(PARKED),
        DeliveryState::Leased(DeliveryLease { id, until, ms, consumer }) => {
            out.push(LEASED);
            lease_id(out, id);
            u64(out, until.0);
            u64(out, *ms);
            opt(out, consumer.as_ref(), |out, consumer| text(out, consumer.as_str()));
        }
    }
}

fn put_dead(out: &mut Vec<u8>, dead: &DeadRef) {
    let DeadRef { number, group, seq, topic, size, key, at, died_at } = dead;
    u64(out, *number);
    u32(out, group.0);
    u64(out, *seq);
    text(out, topic.as_str());
    u32(out, *size);
    u64(out, *key);
    time(out, *at);
    time(out, *died_at);
}

impl Bytes<'_> {
    /// The change behind a tag.
    pub(super) fn event_change(&mut self, tag: u8) -> Result<EventChange> {
        Ok(match tag {
            tag::TOPIC => {
                let (id, name, config) = (TopicId(self.u32()?), self.parse()?, self.json()?);
                EventChange::Topic { id, name, config, dropped: self.flag()? }
            }
            tag::TOPIC_REMOVED => EventChange::TopicRemoved(TopicId(self.u32()?)),
            tag::PUBLISHED => {
                let (meta, event) = (self.meta()?, Arc::new(self.an_event(None)?));
                let dedup = self.opt(|bytes| bytes.array().map(DedupKey))?;
                EventChange::Published { meta, event, dedup, topic: self.parse()? }
            }
            tag::EVENTS_REMOVED => {
                EventChange::EventsRemoved { topic: TopicId(self.u32()?), up_to: self.u64()? }
            }
            tag::DEDUP_FORGOTTEN => EventChange::DedupForgotten { up_to: self.u64()? },
            tag::GROUP => {
                let (id, name, config) = (GroupId(self.u32()?), self.parse()?, Arc::new(self.json()?));
                EventChange::Group(GroupRow { id, name, config, place: self.place()? })
            }
            tag::GROUP_MOVED => EventChange::GroupMoved { id: GroupId(self.u32()?), place: self.place()? },
            tag::GROUP_REMOVED => EventChange::GroupRemoved(GroupId(self.u32()?)),
            tag::DELIVERY => {
                let (group, seq, row) = (GroupId(self.u32()?), self.u64()?, self.unsettled()?);
                EventChange::Delivery { group, seq, row, new: self.flag()? }
            }
            tag::DELIVERY_REMOVED => {
                EventChange::DeliveryRemoved { group: GroupId(self.u32()?), seq: self.u64()? }
            }
            tag::SETTLED => {
                let (group, n, lease) = (GroupId(self.u32()?), self.u64()?, self.lease_id()?);
                EventChange::Settled { group, n, lease, verb: self.one_of(&VERBS)? }
            }
            tag::DIED => {
                let (place, attempts, reason) = (self.dead()?, self.u32()?, self.one_of(&REASONS)?);
                let error = self.opt(Self::json)?.map(Arc::new);
                let letter = Box::new(DeadLetter { place, attempts, reason, error });
                EventChange::Died { letter, from: self.opt(Self::u64)? }
            }
            tag::DEAD_REVIVED => EventChange::DeadRevived { number: self.u64()? },
            tag::DEAD_RETURNED => EventChange::DeadReturned { number: self.u64()? },
            tag::DEAD_REMOVED => EventChange::DeadRemoved { number: self.u64()? },
            _ => return Err("an unknown kind of change"),
        })
    }

    fn flag(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err("neither yes nor no"),
        }
    }

    pub(super) fn meta(&mut self) -> Result<EventMeta> {
        let (seq, topic, size) = (self.u64()?, TopicId(self.u32()?), self.u32()?);
        let (ord, total, at, key) = (self.u64()?, self.u64()?, self.time()?, self.u64()?);
        Ok(EventMeta { seq, topic, size, ord, total, at, key })
    }

    pub(super) fn an_event(&mut self, like: Option<&Event>) -> Result<Event> {
        let (id, source) = (self.text()?.into(), self.text_like(like.map(|like| &like.source))?);
        let kind = self.text_like(like.map(|like| &like.kind))?;
        let (subject, time) = (self.opt(Self::shared)?, self.opt(Self::shared)?);
        let (partition_key, content_type) = (self.opt(Self::shared)?, self.opt(Self::shared)?);
        let data_schema = self.opt(Self::shared)?;
        let extensions =
            (0..self.u32()?).map(|_| Ok((self.shared()?, self.shared()?))).collect::<Result<_>>()?;
        let data = match self.u8()? {
            NO_DATA => EventData::None,
            JSON => EventData::Json(self.shared()?),
            BINARY => {
                let length = self.u32()? as usize;
                EventData::Binary(self.take(length)?.into())
            }
            _ => return Err("an unknown kind of data"),
        };
        Ok(Event {
            id,
            source,
            kind,
            subject,
            time,
            partition_key,
            content_type,
            data_schema,
            extensions,
            data,
        })
    }

    fn text_like(&mut self, like: Option<&Text>) -> Result<Text> {
        let text = self.text()?;
        Ok(like.filter(|like| ***like == *text).cloned().unwrap_or_else(|| text.into()))
    }

    fn place(&mut self) -> Result<GroupPlace> {
        Ok(GroupPlace { cursor: self.u64()?, skipped: self.u64()?, redelivered: self.u64()? })
    }

    fn unsettled(&mut self) -> Result<Unsettled> {
        let (topic, size, attempt) = (TopicId(self.u32()?), self.u32()?, self.u32()?);
        let (key, at) = (self.u64()?, self.time()?);
        let dead = self.opt(Self::dead)?.map(Arc::new);
        let error = self.opt(Self::json)?.map(Arc::new);
        let state = match self.u8()? {
            WAITING => DeliveryState::Waiting { due: StoreTime(self.u64()?) },
            PARKED => DeliveryState::Parked,
            LEASED => {
                let (id, until, ms) = (self.lease_id()?, StoreTime(self.u64()?), self.u64()?);
                DeliveryState::Leased(DeliveryLease { id, until, ms, consumer: self.opt(Self::parse)? })
            }
            _ => return Err("an unknown state of a delivery"),
        };
        Ok(Unsettled { topic, size, attempt, key, at, dead, error, state })
    }

    fn dead(&mut self) -> Result<DeadRef> {
        let (number, group, seq) = (self.u64()?, GroupId(self.u32()?), self.u64()?);
        let (topic, size, key) = (self.parse()?, self.u32()?, self.u64()?);
        Ok(DeadRef { number, group, seq, topic, size, key, at: self.time()?, died_at: self.time()? })
    }
}
