//! JSON Schemas of topics, compiled once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonschema::Validator;
use mainstay::core::event::{EventItem, EventKey};
use mainstay::core::store::{Key, Record};
use mainstay::core::topic::TopicName;
use mainstay::{Client, secs};
use mainstay_api::types::{CloudEvent, EventData};
use mainstay_api::{FieldError, Problem, RawJson};
use serde_json::Value;
use tokio::time::Instant;

use crate::api::error;

/// What another node has changed is known after this long at most.
const FRESH: Duration = secs(1);
/// Topics that are remembered; beyond, all are looked up again.
const KEPT: usize = 10_000;
/// Mistakes of one event that are told.
const TOLD: usize = 20;

/// What is known of topics and their schemas.
#[derive(Default)]
pub struct Schemas(Mutex<Known>);

#[derive(Default)]
struct Known {
    topics: HashMap<TopicName, Topic>,
    /// Changes that were made here: what was read before one is not kept after it.
    changes: u64,
}

struct Topic {
    schema: Option<Arc<Validator>>,
    until: Instant,
}

impl Schemas {
    /// Whether the data of all events is what their topic wants. `place` says where that of each stands.
    ///
    /// # Errors
    /// Every mistake, with its pointer; the store's trouble.
    pub async fn check(
        &self,
        store: &Client,
        topic: &TopicName,
        events: &[CloudEvent],
        place: fn(usize) -> String,
    ) -> Result<(), Problem> {
        let Some(schema) = self.of(store, topic).await? else { return Ok(()) };
        let mut wrong = Vec::new();
        for (index, event) in events.iter().enumerate() {
            judge(&schema, &event.data, &place(index), &mut wrong);
        }
        if wrong.is_empty() { Ok(()) } else { Err(Problem::invalid(wrong)) }
    }

    /// The topic has changed.
    pub fn forget(&self, topic: &TopicName) {
        let mut known = self.lock();
        known.topics.remove(topic);
        known.changes += 1;
    }

    async fn of(&self, store: &Client, topic: &TopicName) -> Result<Option<Arc<Validator>>, Problem> {
        let changes = {
            let known = self.lock();
            match known.topics.get(topic) {
                Some(topic) if topic.until > Instant::now() => return Ok(topic.schema.clone()),
                _ => known.changes,
            }
        };
        let text = stored(store, topic).await?;
        let schema = match text.map(|text| compile(&text)) {
            Some(Ok(schema)) => Some(Arc::new(schema)),
            // It was checked when it was put.
            Some(Err(why)) => {
                return Err(error::internal(&format!("the schema of topic {topic} is none: {why}")));
            }
            None => None,
        };
        let mut known = self.lock();
        if known.changes == changes {
            if known.topics.len() >= KEPT {
                known.topics.clear();
            }
            let until = Instant::now() + FRESH;
            known.topics.insert(topic.clone(), Topic { schema: schema.clone(), until });
        }
        Ok(schema)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The schema that the store has of a topic.
pub(super) async fn stored(store: &Client, topic: &TopicName) -> Result<Option<RawJson>, Problem> {
    let key = Key::Event(EventKey::Topic(topic.clone()));
    let record = store.store().get(&key).await.map_err(|error| error::failed(&error))?;
    Ok(match record {
        Some(Record::Event(EventItem::Topic(topic))) => {
            topic.config.schema.as_ref().map(crate::api::convert::raw)
        }
        _ => None,
    })
}

/// Compiles a schema; nothing is fetched from anywhere.
///
/// # Errors
/// Why it is none, for its author.
pub(super) fn compile(schema: &RawJson) -> Result<Validator, String> {
    let schema: Value = schema.read().map_err(|error| error.to_string())?;
    jsonschema::validator_for(&schema).map_err(|error| format!("is no JSON Schema: {error}"))
}

fn judge(schema: &Validator, data: &EventData, at: &str, wrong: &mut Vec<FieldError>) {
    let value = match data {
        EventData::Json(json) => json.read::<Value>().unwrap_or_default(),
        EventData::None => Value::Null,
        EventData::Binary(_) => {
            let detail = "must be JSON, because the topic has a schema";
            return wrong.push(FieldError::new(at.to_owned(), detail));
        }
    };
    for mistake in schema.iter_errors(&value).take(TOLD) {
        let pointer = format!("{at}{}", mistake.instance_path);
        wrong.push(FieldError::new(pointer, format!("does not fit the topic's schema: {mistake}")));
    }
}

/// Where `new` refuses what `old` let through, as far as that can be seen from both: what is required, types, values
/// and names of properties.
pub(super) fn incompatible(old: &RawJson, new: &RawJson) -> Vec<String> {
    let (Ok(old), Ok(new)) = (old.read::<Value>(), new.read::<Value>()) else { return Vec::new() };
    let mut found = Vec::new();
    narrower(&old, &new, "", &mut found);
    found
}

fn narrower(old: &Value, new: &Value, at: &str, found: &mut Vec<String>) {
    let place = if at.is_empty() { "/" } else { at };
    let texts = |schema: &Value, key: &str| -> Option<Vec<Value>> {
        match schema.get(key)? {
            Value::Array(all) => Some(all.clone()),
            one => Some(vec![one.clone()]),
        }
    };
    let required = |schema: &Value| texts(schema, "required").unwrap_or_default();
    for name in required(new).iter().filter(|name| !required(old).contains(name)) {
        found.push(format!("{place}: {name} is required now"));
    }
    for key in ["type", "enum"] {
        let Some(allowed) = texts(new, key) else { continue };
        // A whole number is a number, too.
        let fits = |value: &Value| {
            allowed.contains(value) || value == "integer" && allowed.contains(&Value::from("number"))
        };
        match texts(old, key) {
            None => found.push(format!("{place}: {key} is restricted now")),
            Some(before) => {
                for gone in before.iter().filter(|value| !fits(value)) {
                    found.push(format!("{place}: {key} {gone} is not allowed any more"));
                }
            }
        }
    }
    let closed = |schema: &Value| schema.get("additionalProperties") == Some(&Value::Bool(false));
    if closed(new) && !closed(old) {
        found.push(format!("{place}: no other properties are allowed any more"));
    }
    let properties =
        |schema: &Value| schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let (before, now) = (properties(old), properties(new));
    for (name, schema) in &now {
        if let Some(before) = before.get(name) {
            narrower(before, schema, &format!("{at}/{name}"), found);
        }
    }
    if closed(new) {
        for name in before.keys().filter(|name| !now.contains_key(*name)) {
            found.push(format!("{place}: \"{name}\" is not allowed any more"));
        }
    }
    if let (Some(old), Some(new)) = (old.get("items"), new.get("items")) {
        narrower(old, new, &format!("{at}/*"), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> RawJson {
        RawJson::parse(text).unwrap()
    }

    #[test]
    fn a_schema_names_every_mistake_with_its_place() {
        let schema = r#"{"type":"object","required":["n"],"properties":{"n":{"type":"integer"},"to":{"items":{"type":"string"}}}}"#;
        let schema = compile(&raw(schema)).unwrap();
        let judged = |data: EventData| {
            let mut wrong = Vec::new();
            judge(&schema, &data, "/3/data", &mut wrong);
            wrong.into_iter().map(|error| error.pointer).collect::<Vec<_>>()
        };
        assert!(judged(EventData::Json(raw(r#"{"n":1}"#))).is_empty());
        assert_eq!(judged(EventData::Json(raw(r#"{"n":"x","to":["a",5]}"#))), ["/3/data/n", "/3/data/to/1"]);
        assert_eq!(judged(EventData::None), ["/3/data"]);
        assert_eq!(judged(EventData::Binary(bytes::Bytes::new())), ["/3/data"]);
        assert!(compile(&raw(r#"{"type":5}"#)).is_err());
        assert!(compile(&raw(r#"{"$ref":"http://127.0.0.1:1/never-fetched"}"#)).is_err());
    }

    #[test]
    fn what_a_new_schema_refuses_is_told() {
        let old = raw(
            r#"{"type":"object","required":["a"],"properties":{"a":{"type":["integer","null"]},"e":{"enum":[1,2]},"gone":{}}}"#,
        );
        let wider = raw(
            r#"{"type":"object","properties":{"a":{"type":["number","null"]},"e":{"enum":[1,2,3]},"new":{}}}"#,
        );
        assert!(incompatible(&old, &wider).is_empty(), "{:?}", incompatible(&old, &wider));
        let narrow = raw(
            r#"{"type":"object","required":["a","b"],"additionalProperties":false,"properties":{"a":{"type":"integer"},"e":{"enum":[1]}}}"#,
        );
        let found = incompatible(&old, &narrow).join("; ");
        for part in
            ["\"b\" is required", "/a: type \"null\"", "/e: enum 2", "no other properties", "\"gone\" is not"]
        {
            assert!(found.contains(part), "{part} is missing in {found}");
        }
    }
}
