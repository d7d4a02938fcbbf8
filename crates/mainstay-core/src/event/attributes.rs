//! An event with its attributes, after CloudEvents 1.0.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use serde::{Deserialize, Serialize};

use crate::{job::Json, text::Text, topic::TopicName};

/// What is published: the attributes and the data of a CloudEvent. Whoever makes one checks it with
/// [`Event::problems`]; a store takes it as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `id`: unique for its source.
    pub id: Text,
    /// `source`: where it comes from, a URI reference. Defaults to `/mainstay`.
    pub source: Text,
    /// `type`: what happened. Defaults to the name of the topic.
    pub kind: Text,
    /// `subject`
    pub subject: Option<Arc<str>>,
    /// `time`: when it happened, RFC 3339, as its publisher wrote it.
    pub time: Option<Arc<str>>,
    /// `partitionkey`: groups that are ordered by key settle the events of one key one after the other.
    pub partition_key: Option<Arc<str>>,
    /// `datacontenttype`
    pub content_type: Option<Arc<str>>,
    /// `dataschema`
    pub data_schema: Option<Arc<str>>,
    /// Extension attributes by name; each value is the JSON text of a string, a boolean or an integer.
    pub extensions: Vec<(Arc<str>, Json)>,
    /// `data` or `data_base64`
    pub data: EventData,
}

/// The data of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventData {
    /// There is none.
    #[default]
    None,
    /// A JSON text, kept byte for byte. The edge has checked that it is JSON.
    Json(Json),
    /// Anything else.
    Binary(Arc<[u8]>),
}

/// What is wrong with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The attribute's name in CloudEvents.
    pub attribute: String,
    /// What is wrong, for its author.
    pub detail: String,
}

/// The most characters of an attribute.
const MOST: usize = 1_024;
/// What an extension cannot be named.
const TAKEN: [&str; 10] = [
    "id",
    "source",
    "type",
    "subject",
    "time",
    "specversion",
    "partitionkey",
    "datacontenttype",
    "dataschema",
    "data",
];

impl Event {
    /// An event with JSON data and the defaults for everything else.
    pub fn new(id: &str, topic: &TopicName, data: &str) -> Event {
        Event {
            id: id.into(),
            source: Event::default_source(),
            kind: topic.to_text(),
            subject: None,
            time: None,
            partition_key: None,
            content_type: None,
            data_schema: None,
            extensions: Vec::new(),
            data: EventData::Json(data.into()),
        }
    }

    /// The `source` of an event that says none.
    pub fn default_source() -> Text {
        "/mainstay".into()
    }

    /// The bytes it takes in an answer, roughly; what the bounds of fetches, reads and retention are counted in.
    pub fn size(&self) -> usize {
        let options = [&self.subject, &self.time, &self.partition_key, &self.content_type, &self.data_schema];
        let options: usize = options.into_iter().flatten().map(|text| text.len()).sum();
        let extensions: usize = self.extensions.iter().map(|(name, value)| name.len() + value.len()).sum();
        let data = match &self.data {
            EventData::None => 0,
            EventData::Json(text) => text.len(),
            EventData::Binary(bytes) => bytes.len(),
        };
        self.id.len() + self.source.len() + self.kind.len() + options + extensions + data
    }

    /// The extension attribute with this name, as JSON text.
    pub fn extension(&self, name: &str) -> Option<&Json> {
        self.extensions.iter().find(|(known, _)| **known == *name).map(|(_, value)| value)
    }

    /// Everything that is wrong with the attributes. Whether JSON data is JSON, and how long data may be, is the
    /// caller's to check.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut bad = |attribute: &str, detail: String| {
            found.push(Problem { attribute: attribute.into(), detail });
        };
        let texts = [
            ("id", Some(&*self.id)),
            ("source", Some(&*self.source)),
            ("type", Some(&*self.kind)),
            ("subject", self.subject.as_deref()),
            ("partitionkey", self.partition_key.as_deref()),
            ("datacontenttype", self.content_type.as_deref()),
            ("dataschema", self.data_schema.as_deref()),
        ];
        for (attribute, text) in texts {
            let Some(text) = text else { continue };
            if text.is_empty() {
                bad(attribute, "has at least one character".into());
            } else if text.len() > MOST {
                bad(attribute, format!("has at most {MOST} bytes"));
            } else if text.chars().any(char::is_control) {
                bad(attribute, "has no control characters".into());
            }
        }
        for (i, (name, _)) in self.extensions.iter().enumerate() {
            let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
                bad(name, "is not the name of an attribute: 1 to 64 characters of a-z and 0-9".into());
            } else if TAKEN.contains(&&**name) {
                bad(name, "is not an extension: it has a meaning of its own".into());
            } else if self.extensions[..i].iter().any(|(other, _)| other == name) {
                bad(name, "is there twice".into());
            }
        }
        found
    }
}

/// What recognises an event that is published again: its topic, source and id, hashed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct DedupKey(pub [u8; 16]);

impl DedupKey {
    /// The first half of a SHA-256, so that nobody can make another event's.
    pub fn of(topic: &TopicName, source: &str, id: &str) -> DedupKey {
        let mut hash = Sha256::new();
        for part in [topic.as_str(), source, id] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        DedupKey(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_of_an_event_is_named() {
        let topic = TopicName::new("orders.created").unwrap();
        let mut event = Event::new("1", &topic, "{}");
        assert_eq!(event.problems(), []);
        event.id = "".into();
        event.subject = Some("a\nb".into());
        event.source = "s".repeat(MOST + 1).into();
        event.extensions =
            ["ok1", "Bad", "id", "ok1"].into_iter().map(|name| (name.into(), "1".into())).collect();
        let named: Vec<_> = event.problems().into_iter().map(|problem| problem.attribute).collect();
        assert_eq!(named, ["id", "source", "subject", "Bad", "id", "ok1"]);
    }

    #[test]
    fn the_parts_of_a_dedup_key_do_not_run_into_each_other() {
        let topic = TopicName::new("t").unwrap();
        assert_eq!(DedupKey::of(&topic, "a", "bc"), DedupKey::of(&topic, "a", "bc"));
        assert_ne!(DedupKey::of(&topic, "a", "bc"), DedupKey::of(&topic, "ab", "c"));
    }
}
