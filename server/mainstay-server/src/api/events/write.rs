//! Events as text: an envelope is written once for each reader, so by hand, without building a type first.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mainstay::core::event::{Delivery, Event, EventData, LoggedEvent};
use mainstay::core::time::Timestamp;
use mainstay::core::topic::TopicName;
use mainstay_api::write_rfc3339;

/// `{"topic":…,"seq":…,"event":{…}}`
pub(super) fn envelope(out: &mut Vec<u8>, topic: &TopicName, seq: u64, event: &Event) {
    out.push(b'{');
    members(out, topic, seq, event);
    out.push(b'}');
}

fn members(out: &mut Vec<u8>, topic: &TopicName, seq: u64, event: &Event) {
    raw(out, "\"topic\":");
    string(out, topic.as_str());
    raw(out, ",\"seq\":");
    raw(out, &seq.to_string());
    raw(out, ",\"event\":");
    cloud_event(out, event);
}

/// An element of a piece of the log.
pub(super) fn logged(out: &mut Vec<u8>, logged: &LoggedEvent) {
    out.push(b'{');
    members(out, &logged.topic, logged.seq, &logged.event);
    published(out, logged.published_at);
    out.push(b'}');
}

fn published(out: &mut Vec<u8>, at: Timestamp) {
    raw(out, ",\"published_at\":\"");
    let mut buffer = [0; 24];
    raw(out, write_rfc3339(at.0, &mut buffer));
    raw(out, "\"");
}

/// An element of a fetch.
pub(super) fn delivery(out: &mut Vec<u8>, delivery: &Delivery, event: &Event) {
    raw(out, "{");
    members(out, &delivery.topic, delivery.seq, event);
    raw(out, ",\"attempt\":");
    raw(out, &delivery.attempt.to_string());
    raw(out, ",\"lease\":");
    string(out, &delivery.lease.to_string());
    raw(out, ",\"token\":");
    raw(out, &delivery.lease.token.0.to_string());
    raw(out, ",\"expires_at\":\"");
    let mut buffer = [0; 24];
    raw(out, write_rfc3339(delivery.expires_at.0, &mut buffer));
    raw(out, "\"");
    published(out, delivery.published_at);
    out.push(b'}');
}

/// The JSON format of CloudEvents 1.0.
pub(super) fn cloud_event(out: &mut Vec<u8>, event: &Event) {
    raw(out, "{\"specversion\":\"1.0\"");
    let attributes = [
        ("id", Some(&*event.id)),
        ("source", Some(&*event.source)),
        ("type", Some(&*event.kind)),
        ("subject", event.subject.as_deref()),
        ("time", event.time.as_deref()),
        ("partitionkey", event.partition_key.as_deref()),
        ("datacontenttype", event.content_type.as_deref()),
        ("dataschema", event.data_schema.as_deref()),
    ];
    for (name, value) in attributes {
        if let Some(value) = value {
            key(out, name);
            string(out, value);
        }
    }
    for (name, value) in &event.extensions {
        key(out, name);
        raw(out, value);
    }
    match &event.data {
        EventData::None => {}
        EventData::Json(text) => {
            key(out, "data");
            // A line break in an event stream would end its line; in JSON it is white space, or escaped.
            out.extend(text.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
        }
        EventData::Binary(bytes) => {
            key(out, "data_base64");
            string(out, &STANDARD.encode(bytes));
        }
    }
    out.push(b'}');
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.push(b',');
    string(out, name);
    out.push(b':');
}

fn raw(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Writing to a vector cannot fail, and a string can always be JSON.
fn string(out: &mut Vec<u8>, text: &str) {
    let written = serde_json::to_writer(&mut *out, text);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use mainstay_api::types::Envelope;

    use super::*;

    #[test]
    fn an_envelope_is_one_line_that_its_type_reads() {
        let topic = TopicName::new("orders.created").unwrap();
        let mut event = Event::new("a \"b\"", &topic, "{\"x\" :\r\n[1.10]}");
        event.extensions.push(("n".into(), "5".into()));
        event.subject = Some("s\u{e9}".into());
        let mut out = Vec::new();
        envelope(&mut out, &topic, 7, &event);
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains(['\n', '\r']), "{text}");
        let read: Envelope = serde_json::from_str(&text).unwrap();
        assert_eq!((read.topic.as_str(), read.seq), ("orders.created", 7));
        let event: serde_json::Value = read.event.read().unwrap();
        assert_eq!(event["n"], 5);
        assert_eq!(event["data"]["x"][0], 1.1);
        assert_eq!(event["subject"], "sé");
    }

    #[test]
    fn bytes_are_base64() {
        let topic = TopicName::new("t").unwrap();
        let mut event = Event::new("1", &topic, "null");
        event.data = EventData::Binary([0, 1, 255].into());
        let mut out = Vec::new();
        cloud_event(&mut out, &event);
        let event: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((event["data_base64"].as_str(), event.get("data")), (Some("AAH/"), None));
    }
}
