//! Events as the wire has them, and back.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_api::{RawJson, types as wire};
use mainstay_core::{
    Error, Timestamp,
    event::{DeadEvent, Delivery, Event, EventData, LoggedEvent},
    job::{DeadReason, JobFailure},
    topic::TopicName,
};

use super::convert;

/// An event on its way. Without its id the server makes one.
pub(super) fn written(event: &Event, with_id: bool) -> RawJson {
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    let extensions = event.extensions.iter().map(|(name, value)| (name.to_string(), convert::raw(value)));
    let event = wire::CloudEvent {
        id: with_id.then(|| event.id.to_string()),
        source: Some(event.source.to_string()),
        kind: Some(event.kind.to_string()),
        subject: text(&event.subject),
        time: text(&event.time),
        partition_key: text(&event.partition_key),
        content_type: text(&event.content_type),
        data_schema: text(&event.data_schema),
        extensions: extensions.collect(),
        data: match &event.data {
            EventData::None => wire::EventData::None,
            EventData::Json(json) => wire::EventData::Json(convert::raw(json)),
            EventData::Binary(bytes) => wire::EventData::Binary(Bytes::copy_from_slice(bytes)),
        },
    };
    event.to_json()
}

fn read(topic: &TopicName, json: &RawJson) -> Result<Arc<Event>, Error> {
    let event = wire::CloudEvent::from_json(json).map_err(|problem| convert::senseless("event", problem))?;
    let text = |text: Option<String>| text.map(Arc::from);
    Ok(Arc::new(Event {
        id: event.id.ok_or_else(|| convert::senseless("event", "one without an id"))?.into(),
        source: event.source.map_or_else(Event::default_source, Into::into),
        kind: event.kind.map_or_else(|| topic.to_text(), Into::into),
        subject: text(event.subject),
        time: text(event.time),
        partition_key: text(event.partition_key),
        content_type: text(event.content_type),
        data_schema: text(event.data_schema),
        extensions: event
            .extensions
            .iter()
            .map(|(name, value)| (Arc::from(name.as_str()), convert::json(value)))
            .collect(),
        data: match event.data {
            wire::EventData::None => EventData::None,
            wire::EventData::Json(json) => EventData::Json(convert::json(&json)),
            wire::EventData::Binary(bytes) => EventData::Binary(Arc::from(&*bytes)),
        },
    }))
}

pub(super) fn topic(text: &str) -> Result<TopicName, Error> {
    TopicName::new(text).map_err(|_| convert::senseless("topic", text))
}

/// A server that does not say when it was published is an older one.
fn time(at: Option<mainstay_api::Timestamp>) -> Timestamp {
    at.map_or_else(Timestamp::default, |at| Timestamp(at.0))
}

pub(super) fn delivery(event: &wire::DeliveredEvent) -> Result<Delivery, Error> {
    let topic = topic(&event.envelope.topic)?;
    Ok(Delivery {
        event: Some(read(&topic, &event.envelope.event)?),
        topic,
        seq: event.envelope.seq,
        attempt: event.attempt,
        lease: convert::lease(&event.lease)?,
        expires_at: Timestamp(event.expires_at.0),
        published_at: time(event.published_at),
        dead: None,
    })
}

pub(super) fn logged(event: &wire::LoggedEvent) -> Result<Arc<LoggedEvent>, Error> {
    let topic = topic(&event.topic)?;
    let read = read(&topic, &event.event)?;
    let published_at = Timestamp(event.published_at.0);
    Ok(Arc::new(LoggedEvent { topic, seq: event.seq, published_at, event: read }))
}

pub(super) fn dead(letter: &wire::DeadEvent) -> Result<DeadEvent, Error> {
    let topic = topic(&letter.envelope.topic)?;
    let error = letter.error.as_ref().map(|error| JobFailure {
        kind: error.kind.as_deref().map(Into::into),
        message: error.message.as_str().into(),
        backtrace: error.backtrace.as_deref().map(Into::into),
    });
    Ok(DeadEvent {
        number: letter.number.ok_or_else(|| convert::senseless("dead letter", "one without its number"))?,
        event: read(&topic, &letter.envelope.event)?,
        topic,
        seq: letter.envelope.seq,
        published_at: time(letter.published_at),
        attempts: letter.attempts,
        reason: match letter.reason {
            wire::DeadReason::Exhausted => DeadReason::Exhausted,
            wire::DeadReason::Permanent => DeadReason::Permanent,
            wire::DeadReason::Crashed => DeadReason::Crashed,
            wire::DeadReason::Expired => DeadReason::Expired,
        },
        error,
        died_at: Timestamp(letter.died_at.0),
    })
}
