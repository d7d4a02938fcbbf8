//! `POST /v1/topics/{topic}/events`, in the three modes of CloudEvents.

use std::sync::Arc;

use http::{HeaderMap, StatusCode, header};
use mainstay::core::access::ScopeKind;
use mainstay::core::event::{EventOp, EventReply, LogBudget, Position};
use mainstay::core::op::{Commit, Committed, IdempotencyKey, Op, Reply};
use mainstay::core::text::Text;
use mainstay::core::topic::{TopicFilter, TopicName};
use mainstay_api::types::{
    CLOUDEVENT_BATCH_JSON, CLOUDEVENT_JSON, CloudEvent, CloudEventBatch, Headers, Published, PublishedBatch,
};
use mainstay_api::{Code, Problem};

use super::convert;
use super::read::read;
use crate::api::call::{Answer, Call};
use crate::api::error::Shape;
use crate::api::key::{Keyed, fingerprint_of_event};
use crate::api::{Input, error, json};

pub(crate) async fn publish(call: Call) -> Answer {
    let mut input = call.input();
    let topic = input.topic();
    input.keyed();
    let mode = Mode::of(call.headers())?;
    let events = mode.read(&call, &mut input)?;
    let ((topic, events), keyed) = input.finish(topic.zip(events))?;
    call.caller.must(ScopeKind::EventsPublish, topic.as_str())?;
    let judged = call.api.schemas.check(&call.api.store, &topic, &events, mode.place()).await;
    let results = commit(&call, &topic, events, judged, keyed).await?;
    let status =
        if results.iter().all(|one| one.deduplicated) { StatusCode::OK } else { StatusCode::CREATED };
    match mode {
        Mode::Batched => json(status, &PublishedBatch { results }),
        Mode::Structured | Mode::Binary => {
            let one = results.into_iter().next();
            json(status, &one.ok_or_else(|| error::internal("a publish without an event"))?)
        }
    }
}

async fn commit(
    call: &Call,
    topic: &TopicName,
    events: Vec<CloudEvent>,
    judged: Result<(), Problem>,
    keyed: Option<Keyed>,
) -> Result<Vec<Published>, Problem> {
    let trace = call.traceparent().map(Arc::from);
    let op = |(index, mut event): (usize, CloudEvent)| {
        event.id = event.id.or_else(|| keyed.map(|keyed| keyed.event_id(index)));
        let publish = convert::publish(&call.api.store, topic.clone(), event, trace.as_ref());
        Op::Event(EventOp::Publish(Box::new(publish)))
    };
    let ops: Vec<_> = events.into_iter().enumerate().map(op).collect();
    let named: Vec<_> = ops.iter().filter_map(named).collect();
    let key = keyed.map(|keyed| keyed.whole());
    let committed = match judged {
        Ok(()) => {
            let commit = Commit { key, ops, entropy: call.api.store.entropy(), ..Commit::default() };
            call.commit(commit, Shape::Single).await?
        }
        Err(wrong) => answered_before(call, key, wrong).await?,
    };
    let mut results = Vec::with_capacity(named.len());
    for (named, reply) in named.into_iter().zip(&committed.replies) {
        let Reply::Event(reply) = reply else { return Err(no_answer()) };
        let mut result = published(call, named, reply, committed.repeated).await?;
        // A repeat under a key stores nothing, whatever it did the first time.
        result.deduplicated |= committed.repeated;
        results.push(result);
    }
    Ok(results)
}

/// What does not fit the schema of its topic any more may have fitted when it was sent first: the first answer under its
/// key, or what is wrong.
pub(crate) async fn answered_before(
    call: &Call,
    key: Option<IdempotencyKey>,
    wrong: Problem,
) -> Result<Committed, Problem> {
    match key {
        Some(key) => call.repeat(key).await?.ok_or(wrong),
        None => Err(wrong),
    }
}

/// Topic and id of what an op publishes.
pub(crate) fn named(op: &Op) -> Option<(TopicName, Text)> {
    match op {
        Op::Event(EventOp::Publish(publish)) => Some((publish.topic.clone(), publish.event.id.clone())),
        _ => None,
    }
}

/// The answer to one publish. One that was answered before, under a key, has the id that was made for it then; ids
/// that are made under a key follow from it.
pub(crate) async fn published(
    call: &Call,
    (topic, id): (TopicName, Text),
    reply: &EventReply,
    repeated: bool,
) -> Result<Published, Problem> {
    let EventReply::Published { seq, deduplicated } = reply else { return Err(no_answer()) };
    let id = if repeated { first_id(call, &topic, *seq).await?.unwrap_or(id) } else { id };
    let topic = topic.to_string();
    Ok(Published { id: id.to_string(), seq: Some(*seq), topic, deduplicated: *deduplicated })
}

/// `None` if retention has removed the event.
async fn first_id(call: &Call, topic: &TopicName, seq: u64) -> Result<Option<Text>, Problem> {
    let Ok(filter) = TopicFilter::new(topic.as_str()) else { return Ok(None) };
    let one = LogBudget { events: 1, bytes: 0 };
    let slice = read(call, &[filter], Position::Seq(seq), one).await?;
    Ok(slice.events.first().filter(|logged| logged.seq == seq).map(|logged| logged.event.id.clone()))
}

fn no_answer() -> Problem {
    error::internal("the store answered a publish with something else")
}

/// How the request says its events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Binary,
    Structured,
    Batched,
}

impl Mode {
    fn of(headers: &HeaderMap) -> Result<Mode, Problem> {
        let declared =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            CLOUDEVENT_JSON => Ok(Mode::Structured),
            CLOUDEVENT_BATCH_JSON => Ok(Mode::Batched),
            // An event in a format that is not known here is no event's data.
            _ if essence.starts_with("application/cloudevents") => Err(Problem::new(
                Code::UnsupportedMediaType,
                format!(
                    "`{essence}` is not understood: send {CLOUDEVENT_JSON}, {CLOUDEVENT_BATCH_JSON}, or binary mode"
                ),
            )),
            _ => Ok(Mode::Binary),
        }
    }

    fn read(self, call: &Call, input: &mut Input<'_>) -> Result<Option<Vec<CloudEvent>>, Problem> {
        match self {
            Mode::Structured => Ok(input.document::<CloudEvent>()?.map(|event| vec![event])),
            Mode::Batched => Ok(input.document::<CloudEventBatch>()?.map(|batch| batch.events)),
            Mode::Binary => {
                let headers = call.headers();
                let attributes = headers.iter().filter(|(name, _)| name.as_str().starts_with("ce-"));
                let read = Headers {
                    content_type: headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes()),
                    attributes: attributes.map(|(name, value)| (name.as_str(), value.as_bytes())).collect(),
                };
                let declared = read.content_type.unwrap_or_default();
                let fingerprint = fingerprint_of_event(&read.attributes, declared, &call.body);
                let event = CloudEvent::from_binary(&read, call.body.clone(), &call.api.limits);
                input.elsewhere(event.map(|event| vec![event]), fingerprint)
            }
        }
    }

    /// Where the data of event `index` stands in the request.
    fn place(self) -> fn(usize) -> String {
        match self {
            Mode::Binary => |_| String::new(),
            Mode::Structured => |_| "/data".to_owned(),
            Mode::Batched => |index| format!("/{index}/data"),
        }
    }
}
