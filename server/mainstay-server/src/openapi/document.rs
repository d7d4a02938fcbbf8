//! The document.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mainstay_api::{Code, PROBLEM_JSON, Problem};
use serde_json::{Map, Value, json};

use super::operation::{Content, Operation};
use super::operations::{Group, groups};
use super::schemas::{Schemas, one};

/// Where the admin listener is unless somebody says otherwise.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6247);

/// The OpenAPI document of this version. What is on the admin listener names `admin` as its server, or the default
/// address when there is none.
pub fn document(admin: Option<SocketAddr>) -> Value {
    let mut schemas = Schemas::default();
    let problem = one::<Problem>(&mut schemas);
    let mut paths = Map::new();
    let mut tags = Vec::new();
    let mut order = 0;
    for group in groups() {
        tags.push(json!({ "name": group.name, "description": group.detail }));
        for operation in &group.operations {
            let mut written = write(operation, &group, &problem, &mut schemas);
            if group.on_admin {
                let url = format!("http://{}", reachable(admin.unwrap_or(ADMIN)));
                written["servers"] = json!([{ "url": url, "description": "the admin listener" }]);
            }
            // JSON objects have no order, readers do.
            written["x-order"] = json!(order);
            order += 1;
            let item = paths.entry(operation.path).or_insert_with(|| json!({}));
            item[operation.method] = written;
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "mainstay",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" }
        },
        "servers": [{ "url": "/", "description": "the API listener" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas.into_json(),
            "parameters": {
                "IdempotencyKey": {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "description": "The same key with the same body gets the first answer again, for 24 hours.",
                    "schema": { "type": "string", "minLength": 1, "maxLength": 255 }
                },
                "RequestTimeout": {
                    "name": "x-request-timeout-ms",
                    "in": "header",
                    "description": "How long the caller will wait; the server works no longer than that.",
                    "schema": { "type": "integer", "minimum": 0 }
                }
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An access token. On a loopback address none is needed until one exists."
                }
            }
        }
    })
}

const DESCRIPTION: &str = "Durable jobs, fenced locks and persistent events over HTTP. Every 2xx answer to a write means: durable (on a `memory:` store: \
    applied). Unknown fields and values out of range are refused, every mistake of a request at once. Errors are \
    problems (RFC 9457); programs decide by their `code`.";

fn write(operation: &Operation, group: &Group, problem: &Value, schemas: &mut Schemas) -> Value {
    let mut parameters: Vec<Value> = in_path(operation.path).map(path_parameter).collect();
    let places = [("query", &operation.query), ("header", &operation.headers)];
    for (place, param) in places.into_iter().flat_map(|(place, all)| all.iter().map(move |it| (place, it))) {
        parameters.push(json!({
            "name": param.name, "in": place, "required": false,
            "description": param.detail, "schema": param.schema
        }));
    }
    if operation.keyed {
        parameters.push(json!({ "$ref": "#/components/parameters/IdempotencyKey" }));
    }
    if !operation.scopes.is_empty() {
        parameters.push(json!({ "$ref": "#/components/parameters/RequestTimeout" }));
    }
    let scopes: Vec<_> = operation.scopes.iter().map(|scope| scope.as_str()).collect();
    let security = if scopes.is_empty() { json!([]) } else { json!([{ "bearer": scopes }]) };
    let mut written = json!({
        "operationId": operation.id,
        "tags": [group.name],
        "summary": operation.summary,
        "parameters": parameters,
        "responses": responses(operation, problem, schemas),
        "security": security
    });
    if !operation.detail.is_empty() {
        written["description"] = json!(operation.detail);
    }
    if let Some(body) = &operation.body {
        let nothing = || json!({ "type": "object", "maxProperties": 0 });
        let schema = body.schema.map_or_else(nothing, |schema| schema(schemas));
        let mut content = Map::new();
        content.insert("application/json".to_owned(), json!({ "schema": schema }));
        if let Some(line) = body.line {
            // One of the lines: 3.1 has no word for a sequence.
            content.insert("application/x-ndjson".to_owned(), json!({ "schema": line(schemas) }));
        }
        for (content_type, schema) in &body.others {
            content.insert((*content_type).to_owned(), json!({ "schema": schema(schemas) }));
        }
        written["requestBody"] = json!({ "required": body.required, "content": content });
    }
    written
}

fn responses(operation: &Operation, problem: &Value, schemas: &mut Schemas) -> Value {
    let mut responses = Map::new();
    for answer in &operation.answers {
        let mut response = json!({ "description": answer.detail });
        match &answer.content {
            Some(Content::Json(schema)) => {
                response["content"] = json!({ "application/json": { "schema": schema(schemas) } });
            }
            Some(Content::Other(content_type, schema)) => {
                response["content"] = json!({ *content_type: { "schema": schema } });
            }
            None => {}
        }
        responses.insert(answer.status.to_string(), response);
    }
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in operation.all_codes() {
        by_status.entry(code.status()).or_default().push(code);
    }
    for (status, codes) in by_status {
        let described = codes.iter().map(|code| format!("`{code}`: {}.", code.title()));
        let mut response = json!({
            "description": described.collect::<Vec<_>>().join(" "),
            "content": { PROBLEM_JSON: { "schema": problem } },
            "x-codes": codes.iter().map(|code| code.as_str()).collect::<Vec<_>>()
        });
        let header = match status {
            401 => Some(("WWW-Authenticate", json!({ "type": "string" }))),
            429 | 503 => Some(("Retry-After", json!({ "type": "integer" }))),
            _ => None,
        };
        if let Some((name, schema)) = header {
            response["headers"] = json!({ name: { "schema": schema } });
        }
        responses.insert(status.to_string(), response);
    }
    Value::Object(responses)
}

fn in_path(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(name: &str) -> Value {
    let (detail, schema) = match name {
        "id" => ("The job's id.", json!({ "type": "string", "format": "uuid" })),
        _ => (
            if name == "queue" { "The queue's name." } else { "Its name." },
            json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$" }),
        ),
    };
    json!({ "name": name, "in": "path", "required": true, "description": detail, "schema": schema })
}

/// An address that somebody can call: a listener on all addresses is also on this one.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { SocketAddr::new(ADMIN.ip(), address.port()) } else { address }
}
