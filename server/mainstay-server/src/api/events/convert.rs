//! Between the words of the wire and those of a store, for events.

use std::sync::Arc;

use mainstay::Client;
use mainstay::core::event::{self, Event, EventData, GroupRecord, Position, TopicRecord};
use mainstay::core::job::Backoff;
use mainstay::core::time::Timestamp;
use mainstay::core::topic::{TopicFilter, TopicName};
use mainstay_api::Problem;
use mainstay_api::types as wire;

use crate::api::{convert, error};

/// What a publish does to the log.
pub(crate) fn publish(
    store: &Client,
    topic: TopicName,
    new: wire::CloudEvent,
    trace: Option<&Arc<str>>,
) -> event::Publish {
    let chosen = new.id.is_some();
    let text = |text: Option<String>| text.map(Arc::from);
    let mut extensions: Vec<_> =
        new.extensions.iter().map(|(name, value)| (Arc::from(name.as_str()), convert::json(value))).collect();
    // The distributed tracing extension of CloudEvents: what consumes the event goes on in the publisher's trace.
    if let Some(trace) = trace.filter(|_| !extensions.iter().any(|(name, _)| &**name == "traceparent")) {
        extensions.push(("traceparent".into(), format!("\"{trace}\"").as_str().into()));
    }
    let event = Event {
        id: new.id.unwrap_or_else(|| new_id(store)).into(),
        source: new.source.map_or_else(Event::default_source, Into::into),
        kind: new.kind.map_or_else(|| topic.to_text(), Into::into),
        subject: text(new.subject),
        time: text(new.time),
        partition_key: text(new.partition_key),
        content_type: text(new.content_type),
        data_schema: text(new.data_schema),
        extensions,
        data: match new.data {
            wire::EventData::None => EventData::None,
            wire::EventData::Json(json) => EventData::Json(convert::json(&json)),
            wire::EventData::Binary(bytes) => EventData::Binary(Arc::from(&*bytes)),
        },
    };
    if chosen { event::Publish::new(topic, event) } else { event::Publish::with_fresh_id(topic, event) }
}

/// A UUID of version 7 (RFC 9562, section 5.7).
fn new_id(store: &Client) -> String {
    let ms = u128::from(store.now().wall.0.max(0).unsigned_abs()) & 0xffff_ffff_ffff;
    let (high, low) = (u128::from(store.entropy()) & 0xfff, u128::from(store.entropy()) & (u128::MAX >> 66));
    mainstay_api::JobId::from_bytes((ms << 80 | 7 << 76 | high << 64 | 2 << 62 | low).to_be_bytes())
        .to_string()
}

pub(super) fn position(start: wire::Start) -> Position {
    match start {
        wire::Start::Latest => Position::Latest,
        wire::Start::Earliest => Position::Earliest,
        wire::Start::Seq(seq) => Position::Seq(seq),
        wire::Start::Time(at) => Position::Time(Timestamp(at.0)),
    }
}

/// Filters that were checked when they were read.
pub(crate) fn filters(texts: &[String]) -> Result<Vec<TopicFilter>, Problem> {
    let filter =
        |text: &String| TopicFilter::new(text).map_err(|_| error::internal("a filter that was read is none"));
    texts.iter().map(filter).collect()
}

pub(super) fn group_config(config: &wire::GroupConfig) -> Result<event::GroupConfig, Problem> {
    Ok(event::GroupConfig {
        topics: filters(&config.topics)?,
        ack_wait_ms: config.ack_wait_ms,
        max_deliver: config.max_deliver,
        max_in_flight: config.max_in_flight,
        backoff: config.backoff.as_ref().map_or_else(Backoff::default, convert::backoff),
        ordered_by_key: config.ordered_by_key,
    })
}

pub(super) fn group_view(group: &GroupRecord) -> wire::GroupView {
    let config = &group.config;
    wire::GroupView {
        name: group.name.to_string(),
        cursor: group.cursor,
        floor: group.floor,
        lag: group.lag,
        waiting: group.waiting,
        in_flight: group.in_flight,
        oldest_unacked_age_ms: group.oldest_unacked_age_ms,
        dead: group.dead,
        skipped: group.skipped,
        redelivered: group.redelivered,
        stalled: group.stalled,
        config: wire::GroupConfig {
            topics: config.topics.iter().map(|filter| filter.as_str().to_owned()).collect(),
            start: None,
            ack_wait_ms: config.ack_wait_ms,
            max_deliver: config.max_deliver,
            max_in_flight: config.max_in_flight,
            backoff: Some(convert::wire_backoff(&config.backoff)),
            ordered_by_key: config.ordered_by_key,
        },
    }
}

pub(super) fn topic_config(config: &wire::TopicConfig) -> event::TopicConfig {
    let retention = config.retention.unwrap_or_default();
    event::TopicConfig {
        retention: event::TopicRetention {
            age_ms: retention.age_ms,
            count: retention.count,
            bytes: retention.bytes,
        },
        schema: config.schema.as_ref().map(convert::json),
    }
}

pub(super) fn topic_view(topic: &TopicRecord) -> wire::TopicView {
    let event::TopicRetention { age_ms, count, bytes } = topic.config.retention;
    let bounded = age_ms.is_some() || count.is_some() || bytes.is_some();
    wire::TopicView {
        name: topic.name.to_string(),
        count: topic.count,
        bytes: topic.bytes,
        last_seq: topic.last_seq,
        removed_up_to: topic.removed_up_to,
        config: wire::TopicConfig {
            retention: bounded.then_some(wire::TopicRetention { age_ms, count, bytes }),
            schema: topic.config.schema.as_ref().map(convert::raw),
        },
    }
}
