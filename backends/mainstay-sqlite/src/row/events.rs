//! Rows of topics, events and groups.

use std::sync::Arc;

use mainstay_core::{
    Error, LeaseId, StoreTime, Token,
    engine::change::{
        DeadRef, DeliveryLease, DeliveryState, GroupId, GroupPlace, GroupRow, TopicId, Unsettled,
    },
    event::{DeadEvent, Event, EventData},
    job::{JobFailure, Json},
    text::Text,
};
use rusqlite::types::ValueRef;
use serde_json::value::RawValue;

use super::{Cells, REASONS, VERBS};

/// The columns that [`Cells::event_body`] reads.
pub(crate) const EVENT_BODY: &str = "id, source, type, subject, time, partitionkey, datacontenttype, dataschema, extensions, \
     data";
/// The columns that [`Cells::dead_ref`] reads.
pub(crate) const DEAD_REF: &str = "number, grp, seq, topic, size, key, at, died_at";
/// The columns that [`Cells::delivery`] reads; behind them those of [`DEAD_REF`].
pub(crate) const DELIVERY: &str = "delivery.grp, delivery.seq, delivery.topic, delivery.size, attempt, delivery.key, \
     delivery.at, delivery.error, state, due, token, nonce, lease_until, lease_ms, consumer, dead";

impl Cells<'_> {
    /// A row of [`EVENT_BODY`] from column `i` on.
    pub(crate) fn event_body(&self, i: usize) -> Result<Event, Error> {
        let text = |at| self.text(i + at).map(Arc::from);
        let opt = |at| Ok::<_, Error>(self.text_opt(i + at)?.map(Arc::from));
        let short = |at| self.text(i + at).map(Text::from);
        Ok(Event {
            id: short(0)?,
            source: short(1)?,
            kind: short(2)?,
            subject: opt(3)?,
            time: opt(4)?,
            partition_key: opt(5)?,
            content_type: opt(6)?,
            data_schema: opt(7)?,
            extensions: self.extensions_of(i + 8)?,
            data: match self.get(i + 9)? {
                ValueRef::Null => EventData::None,
                ValueRef::Text(_) => EventData::Json(text(9)?),
                ValueRef::Blob(bytes) => EventData::Binary(bytes.into()),
                other => return Err(self.bad(i + 9, &format!("holds {}, not data", other.data_type()))),
            },
        })
    }

    fn extensions_of(&self, i: usize) -> Result<Vec<(Arc<str>, Json)>, Error> {
        if self.text_opt(i)?.is_none() {
            return Ok(Vec::new());
        }
        let pairs: Vec<(Arc<str>, Box<RawValue>)> = self.json(i)?;
        Ok(pairs.into_iter().map(|(name, value)| (name, Json::from(value.get()))).collect())
    }

    /// A row of [`DEAD_REF`] from column `i` on.
    pub(crate) fn dead_ref(&self, i: usize) -> Result<DeadRef, Error> {
        Ok(DeadRef {
            number: self.u64(i)?,
            group: GroupId(self.u32(i + 1)?),
            seq: self.u64(i + 2)?,
            topic: self.parse(i + 3)?,
            size: self.u32(i + 4)?,
            key: self.u64(i + 5)?,
            at: self.time(i + 6)?,
            died_at: self.time(i + 7)?,
        })
    }

    /// A row of [`DEAD_REF`], `attempts, reason, error` and [`EVENT_BODY`].
    pub(crate) fn dead_event(&self) -> Result<DeadEvent, Error> {
        let DeadRef { number, seq, topic, at, died_at, .. } = self.dead_ref(0)?;
        Ok(DeadEvent {
            number,
            topic,
            seq,
            event: Arc::new(self.event_body(11)?),
            published_at: at,
            attempts: self.u32(8)?,
            reason: self.one_of(9, &REASONS)?,
            error: self.failure_json(10)?,
            died_at,
        })
    }

    fn failure_json(&self, i: usize) -> Result<Option<JobFailure>, Error> {
        if self.text_opt(i)?.is_some() { self.json(i).map(Some) } else { Ok(None) }
    }

    /// A row of `id, name, config, cursor, skipped, redelivered`.
    pub(crate) fn group_row(&self) -> Result<GroupRow, Error> {
        let (id, name, config) = (GroupId(self.u32(0)?), self.parse(1)?, Arc::new(self.json(2)?));
        let place = GroupPlace { cursor: self.u64(3)?, skipped: self.u64(4)?, redelivered: self.u64(5)? };
        Ok(GroupRow { id, name, config, place })
    }

    /// A row of [`DELIVERY`] and [`DEAD_REF`].
    pub(crate) fn delivery(&self) -> Result<(GroupId, u64, Unsettled), Error> {
        let state = match self.int(8)? {
            0 => DeliveryState::Waiting { due: StoreTime(self.u64(9)?) },
            1 => DeliveryState::Parked,
            2 => DeliveryState::Leased(DeliveryLease {
                id: LeaseId { token: Token(self.u64(10)?), nonce: self.u64(11)? },
                until: StoreTime(self.u64(12)?),
                ms: self.u64(13)?,
                consumer: match self.text_opt(14)? {
                    None => None,
                    Some(_) => Some(self.parse(14)?),
                },
            }),
            _ => return Err(self.bad(8, "is an unknown state")),
        };
        let dead = match self.int_opt(15)? {
            None => None,
            Some(_) => Some(Arc::new(self.dead_ref(16)?)),
        };
        let event = Unsettled {
            topic: TopicId(self.u32(2)?),
            size: self.u32(3)?,
            attempt: self.u32(4)?,
            key: self.u64(5)?,
            at: self.time(6)?,
            dead,
            error: self.failure_json(7)?.map(Arc::new),
            state,
        };
        Ok((GroupId(self.u32(0)?), self.u64(1)?, event))
    }

    /// A row of `grp, n, token, nonce, verb`.
    pub(crate) fn settled_delivery(
        &self,
    ) -> Result<(GroupId, u64, LeaseId, mainstay_core::job::Verb), Error> {
        let lease = LeaseId { token: Token(self.u64(2)?), nonce: self.u64(3)? };
        Ok((GroupId(self.u32(0)?), self.u64(1)?, lease, self.one_of(4, &VERBS)?))
    }
}
