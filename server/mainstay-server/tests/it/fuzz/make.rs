//! Requests made out of the OpenAPI document.

use std::collections::BTreeMap;
use std::fmt;

use axum::body::Body;
use http::Request;
use serde_json::{Map, Value, json};

use super::spoil::{odd, odd_text, spoil, spoil_bytes};
use super::world::Chance;

/// The name of a field that is nowhere.
pub const UNKNOWN: &str = "no_such_field";

/// One request.
#[derive(Clone)]
pub struct Asked {
    /// Its name in the document.
    pub operation: String,
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Of a kept one, the status of its answer.
    pub expected: Option<u16>,
    /// The body may have any field.
    open: bool,
}

impl Asked {
    pub fn request(&self) -> Request<Body> {
        self.build().expect("what is made is a request")
    }

    /// It can be sent.
    #[allow(dead_code, reason = "the coverage-guided targets read what is none")]
    pub fn is_a_request(&self) -> bool {
        self.path.starts_with('/') && self.build().is_ok()
    }

    fn build(&self) -> http::Result<Request<Body>> {
        let mut request = Request::builder().method(&*self.method).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Body::from(self.body.clone()))
    }

    /// It is for the admin listener.
    pub fn is_for_admins(&self) -> bool {
        self.path.starts_with("/admin/")
    }

    /// If it is taken, its answer may have no end.
    pub fn may_stream(&self) -> bool {
        self.path.starts_with("/v1/events/stream")
    }

    /// The same with a field that nobody knows; `None` where anything is allowed, or nothing has fields.
    pub fn with_a_field_more(&self) -> Option<Asked> {
        let Ok(Value::Object(mut members)) = serde_json::from_slice(&self.body) else { return None };
        if self.open || members.is_empty() {
            return None;
        }
        members.insert(UNKNOWN.into(), json!(1));
        let mut more = self.clone();
        more.body = Value::Object(members).to_string().into_bytes();
        more.headers.retain(|(name, _)| name != "idempotency-key");
        Some(more)
    }

    /// Reads a file of the corpus: the status, the request line, headers, an empty line, the body. `None` if it is none.
    pub fn read(text: &[u8]) -> Option<Asked> {
        let at = text.windows(2).position(|two| two == b"\n\n").unwrap_or(text.len());
        let mut lines = std::str::from_utf8(&text[..at]).ok()?.lines();
        let expected = lines.next()?.parse().ok()?;
        let (method, path) = lines.next()?.split_once(' ')?;
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.to_owned()))
        };
        Some(Asked {
            operation: String::new(),
            method: method.to_owned(),
            path: path.to_owned(),
            headers: lines.map(header).collect::<Option<_>>()?,
            body: text.get(at + 2..).unwrap_or_default().to_vec(),
            expected: Some(expected),
            open: true,
        })
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "422\n{} {}", self.method, self.path)?;
        self.headers.iter().try_for_each(|(name, value)| writeln!(f, "{name}: {value}"))?;
        write!(f, "\n{}", String::from_utf8_lossy(&self.body))
    }
}

/// Makes them, one after the other, with what it has learnt from the answers.
pub struct Maker<'d> {
    document: &'d Value,
    operations: Vec<(&'d str, &'d str, &'d Value)>,
    chance: Chance,
    /// Values that an answer had under this name, the newest.
    seen: BTreeMap<String, Vec<Value>>,
}

/// Answers have these for the requests that follow, under the name on the right.
const LEARNT: [(&str, &str); 8] = [
    ("id", "id"),
    ("lease", "lease"),
    ("token", "token"),
    ("seq", "seq"),
    ("next_cursor", "cursor"),
    ("etag", "etag"),
    ("number", "number"),
    ("numbers", "numbers"),
];
/// So many of each.
const KEPT: usize = 12;
/// How deep a value without a schema goes.
const DEPTH: usize = 4;

impl<'d> Maker<'d> {
    pub fn new(document: &'d Value, chance: Chance) -> Maker<'d> {
        let paths = document["paths"].as_object().expect("paths").iter();
        let methods = paths.flat_map(|(path, item)| {
            let methods = item.as_object().expect("methods").iter();
            methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        });
        // The probes know no mistakes, and what follows a drain is refused.
        let here = methods.filter(|(path, ..)| {
            path.starts_with("/v1/") || (path.starts_with("/admin/") && *path != "/admin/drain")
        });
        Maker { document, operations: here.collect(), chance, seen: BTreeMap::new() }
    }

    /// What was to be chosen has been.
    #[allow(dead_code, reason = "the coverage-guided targets end with their input")]
    pub fn is_used_up(&self) -> bool {
        self.chance.is_used_up()
    }

    pub fn next(&mut self) -> Asked {
        // What makes something comes more often than what needs it.
        const OFTEN: [&str; 7] = [
            "/jobs",
            "/claim",
            "/acquire",
            "/events",
            "/fetch",
            "/v1/groups/{group}",
            "/v1/schedules/{schedule}",
        ];
        let (mut path, mut method, mut operation) = self.operations[self.chance.below(self.operations.len())];
        if self.chance.once_in(3) {
            let often = |(path, method, _): &&(&str, &str, &Value)| {
                *method != "get" && *method != "delete" && OFTEN.iter().any(|end| path.ends_with(end))
            };
            let often: Vec<_> = self.operations.iter().filter(often).copied().collect();
            if let Some(one) = self.chance.one_of(&often) {
                (path, method, operation) = *one;
            }
        }
        let publishes = path.ends_with("/events") && method == "post";
        let mut headers = self.headers(publishes, path == "/v1/events/stream");
        let mut body = match operation.pointer("/requestBody/content/application~1json/schema") {
            Some(schema) => Some(self.value("", schema, 0)),
            None if method == "post" && self.chance.once_in(2) => Some(json!({})),
            None => None,
        };
        if publishes {
            body = Some(self.event(&mut headers));
        }
        if let Some(body) = &mut body
            && self.chance.once_in(3)
        {
            spoil(body, &mut self.chance);
        }
        let mut body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        if self.chance.once_in(12) {
            spoil_bytes(&mut body, &mut self.chance);
        }
        Asked {
            operation: operation["operationId"].as_str().unwrap_or_default().to_owned(),
            method: method.to_uppercase(),
            path: self.path(path, operation),
            headers,
            body,
            expected: None,
            open: publishes,
        }
    }

    /// Remembers what an answer had that later requests need.
    pub fn learn(&mut self, answer: &Value) {
        match answer {
            Value::Object(members) => {
                for (name, value) in members {
                    let known = LEARNT.iter().find(|(there, _)| there == name);
                    if let Some((_, kept)) = known
                        && (value.is_string() || value.is_number())
                    {
                        let seen = self.seen.entry((*kept).to_owned()).or_default();
                        seen.push(value.clone());
                        if seen.len() > KEPT {
                            seen.remove(0);
                        }
                    }
                    self.learn(value);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.learn(item)),
            _ => {}
        }
    }

    fn headers(&mut self, publishes: bool, streams: bool) -> Vec<(String, String)> {
        let mut headers = vec![];
        let mut add = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
        let odd_type = ["text/plain", "application/xml", "application/json; charset=latin1", ";"];
        match self.chance.below(20) {
            0 => add("content-type", odd_type[self.chance.below(4)]),
            1 => {}
            _ if publishes => {}
            _ => add("content-type", "application/json"),
        }
        if self.chance.once_in(4) {
            add("idempotency-key", ["one", "two", "three", "\"quoted\"", ""][self.chance.below(5)]);
        }
        if self.chance.once_in(10) {
            add("x-request-timeout-ms", ["50", "60000", "0", "-1", "soon"][self.chance.below(5)]);
        }
        if streams && !self.chance.once_in(3) {
            let odd = ["0", " 7 ", "18446744073709551615", "-1", "+1", "", "1e3", "0x1", "seven"];
            let seen = self.seen.get("seq").and_then(|seen| self.chance.one_of(seen));
            match seen.filter(|_| self.chance.once_in(2)) {
                Some(seq) => add("last-event-id", &seq.to_string()),
                None => add("last-event-id", odd[self.chance.below(odd.len())]),
            }
        }
        headers
    }

    /// In one of the modes of CloudEvents.
    fn event(&mut self, headers: &mut Vec<(String, String)>) -> Value {
        let mut event = Map::new();
        let text = |chance: &mut Chance| ["a", "b", "order.paid", "/shop"][chance.below(4)].to_owned();
        for name in ["id", "source", "type", "subject", "partitionkey", "time", "specversion", "extra"] {
            if self.chance.once_in(3) {
                let value = match name {
                    "specversion" => "1.0".to_owned(),
                    "time" => "2027-01-15T08:00:00Z".to_owned(),
                    _ if self.chance.once_in(8) => odd_text(&mut self.chance),
                    _ => text(&mut self.chance),
                };
                event.insert(name.into(), json!(value));
            }
        }
        let data = self.anything(0);
        let (kind, body) = match self.chance.below(3) {
            0 => {
                let is_header = |text: &str| http::HeaderValue::from_str(text).is_ok();
                let texts = event.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
                let texts = texts.filter(|(_, value)| is_header(value));
                headers.extend(texts.map(|(name, value)| (format!("ce-{name}"), value.to_owned())));
                ("application/json", data)
            }
            1 => {
                event.insert("data".into(), data);
                ("application/cloudevents+json", Value::Object(event))
            }
            _ => {
                event.insert("data".into(), data);
                let events = vec![Value::Object(event); self.chance.below(3)];
                ("application/cloudevents-batch+json", Value::Array(events))
            }
        };
        if !headers.iter().any(|(name, _)| name == "content-type") {
            headers.push(("content-type".into(), kind.into()));
        }
        body
    }

    fn path(&mut self, path: &str, operation: &Value) -> String {
        let mut made = String::new();
        for segment in path.split('/').skip(1) {
            made.push('/');
            match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(_) if self.chance.once_in(12) => {
                    let odd = ["a%20b", "%ff", "-", "%2e%2e", "a%2fb", "%00", "x%C3%A9", "*"];
                    made.push_str(odd[self.chance.below(odd.len())]);
                }
                Some(name) => {
                    let value = self.by_name(name).unwrap_or_else(|| json!("q"));
                    made.push_str(&encoded(value.as_str().unwrap_or("q")));
                }
                None => made.push_str(segment),
            }
        }
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let mut separator = '?';
        for parameter in parameters.iter().filter(|parameter| parameter["in"] == "query") {
            if !self.chance.once_in(3) {
                continue;
            }
            let name = parameter["name"].as_str().unwrap_or_default();
            let value = match self.chance.once_in(6) {
                true => odd(&mut self.chance),
                false => self.value(name, &parameter["schema"], 0),
            };
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            made.push_str(&format!("{separator}{name}={}", encoded(&text)));
            separator = '&';
        }
        if self.chance.once_in(30) {
            made.push_str(&format!("{separator}{UNKNOWN}=1"));
        }
        made
    }

    /// What fits a schema, or nearly.
    fn value(&mut self, name: &str, schema: &Value, depth: usize) -> Value {
        if depth > 0
            && !self.chance.once_in(12)
            && let Some(known) = self.by_name(name)
        {
            return known;
        }
        if let Some(reference) = schema["$ref"].as_str() {
            let document = self.document;
            let schema =
                document.pointer(reference.trim_start_matches('#')).expect("a reference leads somewhere");
            return self.value(name, schema, depth);
        }
        for choice in ["oneOf", "anyOf"] {
            if let Some(all) = schema[choice].as_array() {
                let one = &all[self.chance.below(all.len())];
                return self.value(name, one, depth);
            }
        }
        if let Some(all) = schema["allOf"].as_array() {
            let mut merged = Map::new();
            for part in all {
                if let Value::Object(members) = self.value(name, part, depth) {
                    merged.extend(members);
                }
            }
            return Value::Object(merged);
        }
        if let Some(all) = schema["enum"].as_array() {
            return self.chance.one_of(all).cloned().unwrap_or_default();
        }
        if let Some(only) = schema.get("const") {
            return only.clone();
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => self.chance.one_of(kinds).cloned().unwrap_or_default(),
            kind => kind.clone(),
        };
        match kind.as_str() {
            Some("object") => self.object(schema, depth),
            Some("array") => {
                let least = schema["minItems"].as_u64().unwrap_or(0) as usize;
                let many = least + self.chance.below(3);
                (0..many).map(|_| self.value(name, &schema["items"], depth + 1)).collect()
            }
            Some("integer" | "number") => {
                let least = schema["minimum"].as_i64().unwrap_or(0);
                let most = schema["maximum"].as_i64().unwrap_or(1_000_000);
                match self.chance.below(8) {
                    0 => json!(least),
                    1 => json!(most),
                    2 => json!(least.saturating_sub(1)),
                    3 => json!(most.saturating_add(1)),
                    _ => json!(least.saturating_add(self.chance.below(20) as i64)),
                }
            }
            Some("boolean") => json!(self.chance.once_in(2)),
            Some("null") => Value::Null,
            Some("string") => match schema["format"].as_str() {
                Some("date-time") => json!("2027-01-15T08:00:00.5+01:00"),
                _ => json!(["a", "b", "mail", "word"][self.chance.below(4)]),
            },
            _ => self.anything(depth),
        }
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Value {
        let mut made = Map::new();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            if required.iter().any(|known| known == name) || self.chance.once_in(4) {
                made.insert(name.clone(), self.value(name, inner, depth + 1));
            }
        }
        Value::Object(made)
    }

    fn anything(&mut self, depth: usize) -> Value {
        match self.chance.below(if depth < DEPTH { 8 } else { 4 }) {
            0 => Value::Null,
            1 => json!(self.chance.below(100)),
            2 => json!(odd_text(&mut self.chance)),
            3 => json!(true),
            4 | 5 => (0..self.chance.below(3)).map(|_| self.anything(depth + 1)).collect(),
            _ => {
                let many = self.chance.below(3);
                Value::Object((0..many).map(|n| (format!("k{n}"), self.anything(depth + 1))).collect())
            }
        }
    }

    /// What fields and parameters of this name usually have.
    fn by_name(&mut self, name: &str) -> Option<Value> {
        let words: &[&str] = match name {
            "queue" | "queues" | "name" | "lock" | "group" | "schedule" => &["q", "a", "mail"],
            "topic" => &["a", "orders.paid", "q"],
            "topics" => &["a", ">", "orders.*", "q"],
            "cron" => &["* * * * *", "@daily", "*/5 1-3 L * MON", "0 0 30 2 *"],
            "timezone" => &["UTC", "Europe/Berlin", "Nowhere/Land"],
            "op" => &["enqueue", "complete", "publish", "release_lock", "ack", "fail"],
            "outcome" => &["complete", "fail", "release", "cancel"],
            "worker" | "consumer" | "owner" => &["w-1", "w-2"],
            "wait_ms" => return Some(json!([0, 0, 0, 5, 2_000][self.chance.below(5)])),
            "limit" => return Some(json!(1 + self.chance.below(100))),
            "id" | "ids" | "after" => {
                let known = self.seen.get("id").filter(|seen| !seen.is_empty());
                return Some(match known {
                    Some(known) => self.chance.one_of(known).cloned().unwrap_or_default(),
                    None => json!("0192f7c6-5f2a-7000-8000-000000000001"),
                });
            }
            // An ack is a lease.
            "ack" | "leases" => {
                return self.seen.get("lease").and_then(|seen| self.chance.one_of(seen)).cloned();
            }
            _ => return self.seen.get(name).and_then(|seen| self.chance.one_of(seen)).cloned(),
        };
        self.chance.one_of(words).map(|word| json!(word))
    }
}

/// Percent-encoded, but for what never has to be.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
