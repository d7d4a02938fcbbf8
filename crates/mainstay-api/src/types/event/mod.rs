//! Events, as CloudEvents 1.0 has them on the wire.

mod binary;
mod envelope;
mod structured;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

pub use binary::Headers;
pub use envelope::{Envelope, LogPage, LoggedEvent, Published, PublishedBatch};

use crate::RawJson;
use crate::strict::{Cx, Kind, Path, Strict, Value, text};

/// The content type of one event in structured mode.
pub const CLOUDEVENT_JSON: &str = "application/cloudevents+json";
/// The content type of many events in structured mode.
pub const CLOUDEVENT_BATCH_JSON: &str = "application/cloudevents-batch+json";

/// The most bytes of an attribute.
const ATTRIBUTE: usize = 1_024;
/// The most extension attributes.
const EXTENSIONS: usize = 32;

/// An event as its publisher says it: what is left out, the server adds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloudEvent {
    /// `id`. Defaults to a new UUIDv7.
    pub id: Option<String>,
    /// `source`. Defaults to `/mainstay`.
    pub source: Option<String>,
    /// `type`. Defaults to the topic.
    pub kind: Option<String>,
    /// `subject`
    pub subject: Option<String>,
    /// `time`: RFC 3339, as its publisher wrote it.
    pub time: Option<String>,
    /// `partitionkey`: groups that are ordered by key settle the events of one key one after the other.
    pub partition_key: Option<String>,
    /// `datacontenttype`
    pub content_type: Option<String>,
    /// `dataschema`
    pub data_schema: Option<String>,
    /// Extension attributes: strings, booleans and whole numbers.
    pub extensions: Vec<(String, RawJson)>,
    /// What happened.
    pub data: EventData,
}

/// The data of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum EventData {
    /// There is none.
    #[default]
    None,
    /// `data`
    Json(RawJson),
    /// `data_base64`
    Binary(Bytes),
}

impl Strict for CloudEvent {
    /// As in structured mode.
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let Some(members) = value.members() else {
            cx.error(at, "must be an object");
            return None;
        };
        let mut event = CloudEvent::default();
        let mut seen = Vec::new();
        for (name, value) in members {
            // Of duplicates the first counts; the walk has reported the others.
            if value.is_null() && name != "data" || seen.contains(&name) {
                continue;
            }
            let at = &at.key(&name);
            match &*name {
                "specversion" => version(cx, at, value),
                "data" if value.is_null() => {}
                "data" => {
                    let data = json_data(cx, at, value);
                    event.set_data(cx, at, data);
                }
                "data_base64" => {
                    let data = binary_data(cx, at, value);
                    event.set_data(cx, at, data);
                }
                _ => event.attribute(cx, at, &name, value),
            }
            seen.push(name);
        }
        Some(event)
    }
}

impl CloudEvent {
    fn set_data(&mut self, cx: &mut Cx<'_>, at: &Path<'_>, data: Option<EventData>) {
        if self.data != EventData::None {
            cx.error(at, "only one of data and data_base64 can be given");
        } else if let Some(data) = data {
            self.data = data;
        }
    }

    fn attribute(&mut self, cx: &mut Cx<'_>, at: &Path<'_>, name: &str, value: Value<'_>) {
        let Some(slot) = self.named(name) else {
            return self.extension(cx, at, name, value);
        };
        let Some(read) = text(1..=ATTRIBUTE)(cx, at, value) else { return };
        if let Some(wrong) = wrong_text(name, &read) {
            cx.error(at, wrong);
        }
        *slot = Some(read);
    }

    fn extension(&mut self, cx: &mut Cx<'_>, at: &Path<'_>, name: &str, value: Value<'_>) {
        if let Some(wrong) = wrong_name(name) {
            cx.error(at, wrong);
        } else if self.extensions.len() == EXTENSIONS {
            cx.error(at, format!("is one extension attribute too many: there can be {EXTENSIONS}"));
        } else if !is_simple(value) {
            cx.error(
                at,
                format!("must be a string of at most {ATTRIBUTE} bytes, a boolean or a whole number"),
            );
        } else {
            self.extensions.push((name.to_owned(), value.to_raw()));
        }
    }

    /// The place of an attribute of the standard.
    fn named(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.kind,
            "subject" => &mut self.subject,
            "time" => &mut self.time,
            "partitionkey" => &mut self.partition_key,
            "datacontenttype" => &mut self.content_type,
            "dataschema" => &mut self.data_schema,
            _ => return None,
        })
    }
}

fn version(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) {
    if value.as_str().is_none_or(|version| version != "1.0") {
        cx.error(at, "must be \"1.0\", the version of CloudEvents that is spoken here");
    }
}

fn json_data(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<EventData> {
    if value.text().len() > cx.limits.event_bytes {
        cx.too_large(at, cx.limits.event_bytes);
        return None;
    }
    Some(EventData::Json(value.to_raw()))
}

fn binary_data(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<EventData> {
    let decoded = value.as_str().and_then(|text| STANDARD.decode(text.as_bytes()).ok());
    match decoded {
        None => {
            cx.error(at, "must be a string of Base64 (RFC 4648, with padding)");
            None
        }
        Some(bytes) if bytes.len() > cx.limits.event_bytes => {
            cx.too_large(at, cx.limits.event_bytes);
            None
        }
        Some(bytes) => Some(EventData::Binary(bytes.into())),
    }
}

/// What is wrong with the text of an attribute, if anything is.
fn wrong_text(name: &str, text: &str) -> Option<String> {
    if text.chars().any(char::is_control) {
        return Some("must have no control characters".to_owned());
    }
    if name == "time" {
        return text.parse::<crate::Timestamp>().err().map(|error| error.to_string());
    }
    None
}

/// What is wrong with the name of an extension, if anything is.
fn wrong_name(name: &str) -> Option<&'static str> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let legal = (1..=64).contains(&name.len()) && name.bytes().all(fits);
    (!legal).then_some("is not the name of an attribute: 1 to 64 characters of a-z and 0-9")
}

fn is_simple(value: Value<'_>) -> bool {
    match value.kind() {
        Kind::Bool => true,
        Kind::String => {
            value.as_str().is_some_and(|text| text.len() <= ATTRIBUTE && !text.chars().any(char::is_control))
        }
        Kind::Number => value.text().parse::<i64>().is_ok(),
        Kind::Null | Kind::Array | Kind::Object => false,
    }
}

/// Events of one publish in batched mode, all or none; at most 1,000.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloudEventBatch {
    /// In their order.
    pub events: Vec<CloudEvent>,
}

impl Strict for CloudEventBatch {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let Some(elements) = value.elements() else {
            cx.error(at, "must be an array of events");
            return None;
        };
        let max = cx.limits.batch;
        let count = elements.clone().take(max + 1).count();
        if count == 0 || count > max {
            cx.error(at, format!("must have 1 to {max} elements"));
            return None;
        }
        let mut events = Vec::with_capacity(count);
        for (index, element) in elements.enumerate() {
            events.extend(CloudEvent::read(cx, &at.index(index), element));
        }
        (events.len() == count).then_some(Self { events })
    }
}

#[cfg(test)]
mod tests;
