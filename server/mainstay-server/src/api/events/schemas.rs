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

/// Where `new` refuses what `old` let through, as far as that can be seen from both. What is written differently and may
/// mean the same (a pattern, `allOf`, a reference) is named, too. A property that `old` did not name is not: whoever
/// published it wrote what nobody had agreed on.
pub(super) fn incompatible(old: &RawJson, new: &RawJson) -> Vec<String> {
    let (Ok(old), Ok(new)) = (old.read::<Value>(), new.read::<Value>()) else { return Vec::new() };
    let mut found = Vec::new();
    narrower(&old, &new, "", &mut found);
    found
}

/// Bounds that let less through when they grow.
const LEAST: [&str; 6] =
    ["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"];
/// Bounds that let less through when they shrink.
const MOST: [&str; 6] =
    ["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains"];
/// What says nothing about values, or is looked at by itself.
const NO_RULE: [&str; 24] = [
    "$schema",
    "$id",
    "$comment",
    "$anchor",
    "$dynamicAnchor",
    "$vocabulary",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "required",
    "type",
    "enum",
    "properties",
    "additionalProperties",
    "items",
];

fn narrower(old: &Value, new: &Value, at: &str, found: &mut Vec<String>) {
    let place = if at.is_empty() { "/" } else { at };
    match new {
        _ if old == new || *old == Value::Bool(false) => return,
        Value::Bool(false) => return found.push(format!("{place}: nothing is allowed any more")),
        // A list of schemas, in the place of one.
        Value::Array(_) => return found.push(format!("{place}: is another one now")),
        _ => {}
    }
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
    for (key, rule) in new.as_object().into_iter().flatten() {
        let before = old.get(key);
        if NO_RULE.contains(&key.as_str()) || before == Some(rule) {
            continue;
        }
        let bounds = (before.and_then(Value::as_f64), rule.as_f64());
        let known = match bounds {
            (Some(before), Some(now)) if LEAST.contains(&key.as_str()) => now <= before,
            (Some(before), Some(now)) if MOST.contains(&key.as_str()) => now >= before,
            _ => false,
        };
        if !known {
            let what = if before.is_some() { "is another one now" } else { "is new" };
            found.push(format!("{place}: {key} {what}"));
        }
    }
    for defs in ["$defs", "definitions"] {
        for (name, schema) in new.get(defs).and_then(Value::as_object).into_iter().flatten() {
            if let Some(before) = old.get(defs).and_then(|defs| defs.get(name)) {
                narrower(before, schema, &format!("{at}/{defs}/{name}"), found);
            }
        }
    }
    let anything = Value::Bool(true);
    let others = |schema: &Value| schema.get("additionalProperties").cloned();
    let closed = |schema: &Value| others(schema) == Some(Value::Bool(false));
    if closed(new) {
        if !closed(old) {
            found.push(format!("{place}: no other properties are allowed any more"));
        }
    } else if let Some(now) = others(new) {
        narrower(&others(old).unwrap_or(anything.clone()), &now, &format!("{at}/*"), found);
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
    if let Some(now) = new.get("items") {
        narrower(old.get("items").unwrap_or(&anything), now, &format!("{at}/*"), found);
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

    #[test]
    fn what_may_let_less_through_is_told_and_what_lets_more_through_is_not() {
        let old = r##"{"minimum":1,"maxLength":9,"pattern":"a","items":{"type":"string"},"$defs":{"n":{"maximum":5}},
            "properties":{"a":{"$ref":"#/$defs/n"}},"title":"before"}"##;
        let wider = r##"{"minimum":0,"maxLength":10,"items":true,"$defs":{"n":{"maximum":6},"m":{"maximum":1}},
            "properties":{"a":{"$ref":"#/$defs/n"},"b":{"const":1}},"title":"after","description":"x"}"##;
        let told = |old: &str, new: &str| incompatible(&raw(old), &raw(new));
        assert_eq!(told(old, wider), Vec::<String>::new());
        assert_eq!(told(old, "true"), Vec::<String>::new());
        assert_eq!(told("false", old), Vec::<String>::new());
        assert_eq!(told(old, "false"), ["/: nothing is allowed any more"]);
        for (new, expected) in [
            (r#"{"minimum":2}"#, "/: minimum is another one now"),
            (r#"{"minimum":1,"maximum":7}"#, "/: maximum is new"),
            (r#"{"maxLength":8}"#, "/: maxLength is another one now"),
            (r#"{"pattern":"b"}"#, "/: pattern is another one now"),
            (r#"{"allOf":[{}]}"#, "/: allOf is new"),
            (r#"{"const":5}"#, "/: const is new"),
            (r#"{"items":{"type":"string","const":"x"}}"#, "/*: const is new"),
            (r#"{"items":[{"type":"string"}]}"#, "/*: is another one now"),
            (r#"{"items":false}"#, "/*: nothing is allowed any more"),
            (r#"{"$defs":{"n":{"maximum":4}}}"#, "/$defs/n: maximum is another one now"),
            (r#"{"additionalProperties":{"type":"string"}}"#, "/*: type is restricted now"),
            (r#"{"properties":{"a":false}}"#, "/a: nothing is allowed any more"),
        ] {
            assert_eq!(told(old, new), [expected], "{new}");
        }
        assert_eq!(told("{}", r#"{"items":{"type":"string"}}"#), ["/*: type is restricted now"]);
    }
}
