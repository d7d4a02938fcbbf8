//! The document and the server agree: every answer that a test of this crate gets is held against `/openapi.json`, and
//! every request that was taken as well. What none of them says, [`the_bounds_of_the_document_are_the_servers`] asks.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use mainstay_server::openapi;
use serde_json::{Map, Value, json};

use crate::client::{Reply, pointers};
use crate::server::TestServer;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| openapi::document(None));
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Asserts that an answer is one the document knows, and that it knows the request too, if that was taken.
#[track_caller]
pub fn check(method: &str, path: &str, kind: Option<&str>, sent: &[u8], reply: &Reply) {
    let path = path.split('?').next().unwrap_or_default();
    let Some(operation) = operation(&method.to_ascii_lowercase(), path) else { return };
    let what = format!("{method} {path}: {}", reply.status);
    let kind = kind.unwrap_or("application/json").split(';').next().unwrap_or_default();
    if (200..300).contains(&reply.status)
        && let Some(schema) = operation["requestBody"]["content"].get(kind).map(|content| &content["schema"])
        && (kind == "application/json" || kind.ends_with("+json"))
        && !sent.is_empty()
    {
        let sent: Value = serde_json::from_slice(sent).unwrap();
        holds(schema, &sent, &format!("{what}, and the document refuses the request"));
    }
    let answer = &operation["responses"][reply.status.to_string()];
    let said = String::from_utf8_lossy(&reply.body);
    assert!(answer.is_object(), "the document knows no such answer: {what} {said}");
    let kind = reply.header("content-type").unwrap_or_default();
    if kind.ends_with("json") && !reply.body.is_empty() {
        let answered = reply.json();
        let schema = &answer["content"][kind]["schema"];
        assert!(schema.is_object(), "the document knows no answer of type {kind}: {what}");
        holds(schema, &answered, &what);
        if let Some(codes) = answer["x-codes"].as_array() {
            assert!(codes.contains(&answered["code"]), "the document knows no such code: {what} {answered}");
        }
    }
}

/// The operation of a path: the one with the most words of its own.
fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let path: Vec<_> = path.split('/').collect();
    let fits = |known: &&String| {
        let known: Vec<_> = known.split('/').collect();
        known.len() == path.len()
            && known.iter().zip(&path).all(|(known, word)| known.starts_with('{') || known == word)
    };
    let all = DOCUMENT["paths"].as_object().unwrap();
    let named = all.keys().filter(fits).min_by_key(|known| known.matches('{').count())?;
    all[named].get(method)
}

#[track_caller]
fn holds(schema: &Value, value: &Value, what: &str) {
    if let Some(error) = validator(schema).iter_errors(value).next() {
        let (at, keyword) = (&error.instance_path, &error.schema_path);
        panic!("{what}: {error} (at {at}, by {keyword}) in {value}");
    }
}

fn validator(schema: &Value) -> Arc<Validator> {
    let mut known = VALIDATORS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let made = known.entry(schema.to_string()).or_insert_with(|| {
        let whole = json!({ "allOf": [schema], "components": DOCUMENT["components"] });
        Arc::new(jsonschema::draft202012::new(&whole).expect("the schema is one"))
    });
    made.clone()
}

/// What an object may have, in one of the ways it may be.
type Fields = BTreeMap<String, Value>;

/// All ways an object may be; none if it is not one.
fn ways(schema: &Value) -> Vec<Fields> {
    let schema = resolved(schema);
    let mut ways = match schema["properties"].as_object() {
        Some(fields) => vec![fields.iter().map(|(name, field)| (name.clone(), field.clone())).collect()],
        None => vec![],
    };
    for word in ["oneOf", "anyOf"] {
        ways.extend(schema[word].as_array().into_iter().flatten().flat_map(self::ways));
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let mut whole = vec![Fields::new()];
        for part in parts {
            let part = self::ways(part);
            let both = |one: &Fields, other: &Fields| one.clone().into_iter().chain(other.clone()).collect();
            whole = whole.iter().flat_map(|one| part.iter().map(move |other| both(one, other))).collect();
        }
        ways.extend(whole);
    }
    ways
}

fn resolved(schema: &Value) -> &Value {
    match schema["$ref"].as_str() {
        Some(pointer) => DOCUMENT.pointer(pointer.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// A body with one field that is of interest.
struct Probe {
    body: Value,
    pointer: String,
    /// Whether the document takes it.
    good: bool,
}

/// Every field of a schema with `null`, and every number at its bounds and beyond.
fn probes(schema: &Value, at: &str, inside: &dyn Fn(Value) -> Value, all: &mut Vec<Probe>) {
    for fields in ways(schema) {
        // What says which of the ways it is.
        let word =
            |field: &Value| resolved(field)["enum"].as_array().filter(|words| words.len() == 1).cloned();
        let words: Map<_, _> =
            fields.iter().filter_map(|(name, field)| Some((name.clone(), word(field)?.remove(0)))).collect();
        for (name, field) in fields.iter().filter(|(name, _)| !words.contains_key(*name)) {
            let pointer = format!("{at}/{name}");
            let inside = |value: Value| {
                let mut object = words.clone();
                object.insert(name.clone(), value);
                inside(object.into())
            };
            let mut values = vec![Value::Null];
            let is = resolved(field);
            if is["type"] == "integer" || is["type"] == json!(["integer", "null"]) {
                let low = is["minimum"].as_u64().unwrap();
                let high = is["maximum"].as_u64().unwrap_or(u64::MAX);
                values.extend([json!(low), json!(high), json!(low as i64 - 1)]);
                values.extend(high.checked_add(1).map(Value::from));
            }
            for value in values {
                let good = validator(field).is_valid(&value);
                all.push(Probe { body: inside(value), pointer: pointer.clone(), good });
            }
            probes(field, &pointer, &inside, all);
            if let Some(items) = is.get("items") {
                probes(items, &format!("{pointer}/0"), &|value| inside(json!([value])), all);
            }
        }
    }
}

#[tokio::test]
async fn the_bounds_of_the_document_are_the_servers() {
    let server = TestServer::start().await;
    let mut wrong = Vec::new();
    let mut asked = 0;
    for (path, methods) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let id = "0192f7c6-5f2a-7000-8000-000000000001";
            let path = path.replace("{id}", id).replace(['{', '}'], "");
            let mut all = Vec::new();
            probes(schema, "", &|value| value, &mut all);
            for Probe { body, pointer, good } in all {
                let request = match operation.get("servers") {
                    Some(_) => server.on_admin(&method.to_uppercase(), &path),
                    None => server.request(&method.to_uppercase(), &path),
                };
                let request = request.header("x-request-timeout-ms", "500").json(body.clone());
                let reply = request.unchecked().send().await;
                let named = if reply.status >= 400 { pointers(&reply.json()) } else { vec![] };
                // What is around it does not even make sense without its other fields.
                if named.iter().any(|named| pointer.starts_with(&format!("{named}/"))) {
                    continue;
                }
                if named.contains(&pointer) == good {
                    let takes = if good { "the document" } else { "the server" };
                    wrong.push(format!("{method} {path} {body}: only {takes} takes {pointer}"));
                }
                asked += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked > 300, "{asked}");
}

#[test]
fn a_schema_that_allows_null_says_so_once() {
    for (name, schema) in DOCUMENT["components"]["schemas"].as_object().unwrap() {
        one_way_for_null(schema, name);
    }
}

fn one_way_for_null(schema: &Value, at: &str) {
    match schema {
        Value::Object(members) => {
            let ways = members.get("oneOf").and_then(Value::as_array);
            let ways = ways.into_iter().flatten().filter(|way| validator(way).is_valid(&Value::Null)).count();
            assert!(ways <= 1, "`null` is taken in {ways} ways where one is allowed: {at}");
            members.iter().for_each(|(name, member)| one_way_for_null(member, &format!("{at}/{name}")));
        }
        Value::Array(items) => items.iter().for_each(|item| one_way_for_null(item, at)),
        _ => {}
    }
}
