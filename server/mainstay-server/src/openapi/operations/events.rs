//! Events, topics, consumer groups.

use mainstay_api::types::{
    CLOUDEVENT_BATCH_JSON, CLOUDEVENT_JSON, DeadChanged, DeadEvent, DeadEventSelect, DeliveriesReleased,
    Envelope, Fetch, Fetched, GroupConfig, GroupView, LogPage, Published, PublishedBatch, ReleaseDeliveries,
    Scope, SettleDeliveries, SettledDeliveries, Sought, TopicConfig, TopicPut, TopicView,
};
use mainstay_api::{Code, MAX_SAFE_INTEGER};
use serde_json::{Value, json};

use super::Group;
use crate::openapi::operation::Operation;
use crate::openapi::schemas::{Schemas, either, one, page, reference};

pub(super) fn group() -> Group {
    Group {
        name: "Events",
        detail: "Events are CloudEvents. One log gives each a number, gap-free and in the order of commits; streams read \
                 it, consumer groups hand its events out under leases.",
        on_admin: false,
        operations: log().into_iter().chain(topics()).chain(groups()).chain(deliveries()).collect(),
    }
}

fn log() -> Vec<Operation> {
    vec![
        Operation::post("/v1/topics/{topic}/events", "publishEvent", "Publish events")
            .detail(
                "In the three modes of CloudEvents: binary (the body is the data, the attributes are `ce-…` headers, \
                 extensions among them; values percent-decoded), `application/cloudevents+json`, \
                 `application/cloudevents-batch+json` (atomic; answers `results`). What is left out is added. The same \
                 topic, source and id within two minutes is not stored again.",
            )
            .needs(Scope::EventsPublish)
            .keyed()
            .header("ce-specversion", "Binary mode: `1.0`, if it is there.")
            .header("ce-id", "Binary mode: unique for its source. Defaults to a UUIDv7.")
            .header("ce-source", "Binary mode: where it comes from, a URI reference. Defaults to `/mainstay`.")
            .header("ce-type", "Binary mode: what happened. Defaults to the topic.")
            .header("ce-subject", "Binary mode: what it happened to.")
            .header("ce-time", "Binary mode: when it happened, RFC 3339.")
            .header("ce-dataschema", "Binary mode: the schema of the data, a URI.")
            .header("ce-partitionkey", "Binary mode: groups that are ordered by key settle events of one key in order.")
            .optional_body(data)
            .or_as("*/*", data)
            .or_as(CLOUDEVENT_JSON, event)
            .or_as(CLOUDEVENT_BATCH_JSON, batch)
            .answer(201, "Where it is in the log; of a batch, for each event.", either::<Published, PublishedBatch>)
            .answer(200, "It is there already, or the whole batch is.", either::<Published, PublishedBatch>)
            .codes(&[Code::PayloadTooLarge]),
        Operation::get("/v1/topics/{topic}/events", "listEvents", "Read a topic")
            .needs(Scope::Read)
            .query("from", position(), "Where to begin: `earliest` (the default), `latest`, a number, an instant.")
            .paged()
            .answer(200, "Events in their order.", page::<Envelope>)
            .codes(&[Code::HistoryGone]),
        Operation::get("/v1/events", "readLog", "Read the log")
            .detail(
                "Events of many topics in their order. What retention has removed is no error: `removed_up_to` says how \
                 far that goes.",
            )
            .needs(Scope::EventsSubscribe)
            .query("topics", json!({ "type": "string" }), "Filters, joined by commas. Defaults to all topics.")
            .query("from", position(), "Where to begin: `earliest` (the default), `latest`, a number, an instant.")
            .query(
                "limit",
                json!({ "type": "integer", "minimum": 1, "maximum": 1_000, "default": 50 }),
                "At most so many events.",
            )
            .answer(200, "A piece of the log, and where to go on.", one::<LogPage>),
        Operation::get("/v1/events/stream", "streamEvents", "Follow events")
            .detail(
                "Server-sent events: `id:` is the number, `data:` the envelope. `Last-Event-ID` wins over `from`. \
                 `event: lagged` says that retention has removed what was not read yet, `event: drain` that the server \
                 is about to stop.",
            )
            .needs(Scope::EventsSubscribe)
            .query("topics", json!({ "type": "string" }), "Filters, joined by commas. Defaults to all topics.")
            .query("from", position(), "Where to begin: `latest` (the default), `earliest`, a number, an instant.")
            .header("Last-Event-ID", "The `id:` of the last event that was read: the stream goes on behind it.")
            .other_answer(200, "The stream.", "text/event-stream", json!({ "type": "string" }))
            .codes(&[Code::HistoryGone]),
    ]
}

fn topics() -> Vec<Operation> {
    vec![
        Operation::get("/v1/topics", "listTopics", "List topics").needs(Scope::Read).paged().answer(
            200,
            "Every topic the caller may see.",
            page::<TopicView>,
        ),
        Operation::get("/v1/topics/{topic}", "getTopic", "Look at a topic")
            .needs(Scope::Read)
            .answer(200, "The topic.", one::<TopicView>)
            .codes(&[Code::NotFound]),
        Operation::put("/v1/topics/{topic}", "putTopic", "Configure a topic")
            .detail("Replaces the whole configuration: what is left out has its default.")
            .needs(Scope::Admin)
            .optional_body(one::<TopicConfig>)
            .answer(200, "The topic as it is now.", one::<TopicPut>),
        Operation::delete("/v1/topics/{topic}", "deleteTopic", "Delete a topic with its events")
            .needs(Scope::Admin)
            .empty_answer(204, "It is gone.")
            .codes(&[Code::NotFound]),
    ]
}

fn groups() -> Vec<Operation> {
    vec![
        Operation::get("/v1/groups", "listGroups", "List consumer groups").needs(Scope::Read).paged().answer(
            200,
            "Every group the caller may see.",
            page::<GroupView>,
        ),
        Operation::get("/v1/groups/{group}", "getGroup", "Look at a consumer group")
            .needs(Scope::Read)
            .answer(200, "The group.", one::<GroupView>)
            .codes(&[Code::NotFound]),
        Operation::put("/v1/groups/{group}", "putGroup", "Make or configure a consumer group")
            .detail("Replaces the whole configuration. On an existing group `start` is ignored.")
            .needs(Scope::EventsSubscribe)
            .body(one::<GroupConfig>)
            .answer(200, "The group as it is now.", one::<GroupView>),
        Operation::delete("/v1/groups/{group}", "deleteGroup", "Delete a consumer group")
            .needs(Scope::EventsSubscribe)
            .empty_answer(204, "It is gone.")
            .codes(&[Code::NotFound]),
        Operation::post("/v1/groups/{group}/seek", "seekGroup", "Move a consumer group")
            .detail("Open leases are void.")
            .needs(Scope::EventsSubscribe)
            .keyed()
            .body(seek)
            .answer(200, "Where it goes on.", one::<Sought>)
            .codes(&[Code::NotFound]),
    ]
}

fn deliveries() -> Vec<Operation> {
    vec![
        Operation::post("/v1/groups/{group}/fetch", "fetchEvents", "Take events")
            .detail("Waits for the first if asked to.")
            .needs(Scope::EventsSubscribe)
            .keyed()
            .optional_body(one::<Fetch>)
            .answer(200, "Events with their leases; empty when nothing came in time.", one::<Fetched>)
            .codes(&[Code::NotFound]),
        Operation::post("/v1/groups/{group}/settle", "settleEvents", "Ack, nack, extend")
            .detail("Each item stands alone; results are in the order ack, nack, extend.")
            .needs(Scope::EventsSubscribe)
            .keyed()
            .optional_body(one::<SettleDeliveries>)
            .answer(200, "A result for each item.", one::<SettledDeliveries>)
            .codes(&[Code::NotFound]),
        Operation::post("/v1/events/release", "releaseEvents", "Give deliveries back")
            .detail("As if they had not been fetched: no attempt is spent. With `delay_ms` they are handed out again after that. \
                     Leases that are not live are passed over.")
            .needs(Scope::EventsSubscribe)
            .keyed()
            .body(one::<ReleaseDeliveries>)
            .answer(200, "How many went back.", one::<DeliveriesReleased>),
        Operation::get("/v1/groups/{group}/dead", "listDeadEvents", "List a group's dead letters")
            .needs(Scope::Read)
            .paged()
            .answer(200, "Newest first.", page::<DeadEvent>),
        Operation::post("/v1/groups/{group}/dead/requeue", "requeueDeadEvents", "Deliver dead letters again")
            .detail("By ids of events, by type or by the type of the last error; without any of them, all. The group's \
                     cursor stays.")
            .needs(Scope::Admin)
            .keyed()
            .optional_body(one::<DeadEventSelect>)
            .answer(200, "How many fitted, and how many were changed.", one::<DeadChanged>)
            .codes(&[Code::NotFound, Code::StateConflict]),
    ]
}

fn position() -> Value {
    json!({ "type": "string" })
}

fn data(_: &mut Schemas) -> Value {
    json!({ "description": "The data of the event: JSON, or anything else as its content type says." })
}

/// A CloudEvent to be published: what is left out is added, extensions are kept.
fn event(schemas: &mut Schemas) -> Value {
    schemas.add("CloudEvent", cloud_event());
    reference("CloudEvent")
}

fn batch(schemas: &mut Schemas) -> Value {
    json!({ "type": "array", "minItems": 1, "items": event(schemas) })
}

fn cloud_event() -> Value {
    let text =
        |detail: &str| json!({ "type": "string", "minLength": 1, "maxLength": 1_024, "description": detail });
    json!({
        "type": "object",
        "description": "A CloudEvent in the JSON format of version 1.0. Other members are extension attributes.",
        "properties": {
            "specversion": { "type": "string", "const": "1.0" },
            "id": text("Unique for its source. Defaults to a UUIDv7."),
            "source": text("Where it comes from, a URI reference. Defaults to `/mainstay`."),
            "type": text("What happened. Defaults to the topic."),
            "subject": text("What it happened to."),
            "time": { "type": "string", "format": "date-time", "description": "When it happened." },
            "partitionkey": text("Groups that are ordered by key settle events of one key in order."),
            "datacontenttype": text("What the data is. Defaults to JSON."),
            "dataschema": text("The schema of the data, a URI."),
            "data": { "description": "What happened: any JSON." },
            "data_base64": { "type": "string", "contentEncoding": "base64", "description": "What happened, in bytes." }
        },
        "additionalProperties": {
            "type": ["string", "boolean", "integer"], "description": "An extension attribute."
        }
    })
}

fn seek(_: &mut Schemas) -> Value {
    json!({
        "type": "object",
        "description": "One of these.",
        "properties": {
            "seq": { "type": "integer", "minimum": 1, "maximum": MAX_SAFE_INTEGER, "description": "This number, inclusive." },
            "time": { "type": "string", "format": "date-time", "description": "The first event published then or later." },
            "to": { "type": "string", "enum": ["earliest", "latest"], "description": "One of the ends." }
        }
    })
}
