//! Structured mode, from the publisher's and the reader's side.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{CloudEvent, EventData};
use crate::{Limits, Problem, RawJson, strict};

impl CloudEvent {
    /// The JSON format of CloudEvents 1.0; what is `None` is left out.
    pub fn to_json(&self) -> RawJson {
        let mut out = b"{\"specversion\":\"1.0\"".to_vec();
        let attributes = [
            ("id", &self.id),
            ("source", &self.source),
            ("type", &self.kind),
            ("subject", &self.subject),
            ("time", &self.time),
            ("partitionkey", &self.partition_key),
            ("datacontenttype", &self.content_type),
            ("dataschema", &self.data_schema),
        ];
        for (name, text) in attributes {
            if let Some(text) = text {
                member(&mut out, name, string(text).as_bytes());
            }
        }
        for (name, value) in &self.extensions {
            member(&mut out, name, value.as_bytes());
        }
        match &self.data {
            EventData::None => {}
            EventData::Json(json) => member(&mut out, "data", json.as_bytes()),
            EventData::Binary(bytes) => {
                member(&mut out, "data_base64", string(&STANDARD.encode(bytes)).as_bytes());
            }
        }
        out.push(b'}');
        RawJson::from_trusted(out.into())
    }

    /// Reads what a server answers, however large its limits are.
    ///
    /// # Errors
    /// `validation-failed` when it is no CloudEvent.
    pub fn from_json(json: &RawJson) -> Result<Self, Problem> {
        let wide = Limits { event_bytes: usize::MAX, ..Limits::default() };
        strict::parse::<CloudEvent>(json.as_bytes(), &wide).map(|parsed| parsed.value)
    }
}

fn member(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.push(b',');
    out.extend_from_slice(string(name).as_bytes());
    out.push(b':');
    out.extend_from_slice(value);
}

fn string(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_written_is_read_as_the_same() {
        let json = |text: &str| RawJson::parse(text).unwrap();
        let event = CloudEvent {
            id: Some("a \"b\"".into()),
            kind: Some("T".into()),
            time: Some("2026-01-02T03:04:05+01:00".into()),
            extensions: vec![("n".into(), json("5")), ("word".into(), json(r#""x""#))],
            data: EventData::Json(json(r#"{"a" : [1.10]}"#)),
            ..CloudEvent::default()
        };
        assert_eq!(CloudEvent::from_json(&event.to_json()).unwrap(), event);
        let bytes = EventData::Binary(bytes::Bytes::from_static(&[0, 1, 255]));
        let event = CloudEvent { data: bytes, ..CloudEvent::default() };
        assert_eq!(CloudEvent::from_json(&event.to_json()).unwrap(), event);
        assert_eq!(CloudEvent::from_json(&json("[]")).unwrap_err().status, 422);
    }
}
