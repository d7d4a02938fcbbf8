use std::collections::BTreeSet;

use serde_json::Value;

use super::document;

/// The paths a source file gives to `.route(`.
fn routes(source: &str) -> BTreeSet<String> {
    let calls = source.split(".route(").skip(1);
    calls.map(|call| call.split('"').nth(1).unwrap().to_owned()).collect()
}

fn each(value: &Value, visit: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            visit(name, value);
            each(value, visit);
        }),
        Value::Array(items) => items.iter().for_each(|item| each(item, visit)),
        _ => {}
    }
}

#[test]
fn the_document_has_the_paths_of_the_routers_and_no_others() {
    let document = document(None);
    let documented: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    let mut routed = routes(include_str!("../api/routes.rs"));
    routed.extend(routes(include_str!("../admin/mod.rs")));
    // Those of the library, which it tests itself.
    for path in
        ["/livez", "/readyz", "/startupz", "/metrics", "/admin/drain", "/admin/log-level", "/admin/config"]
    {
        routed.insert(path.to_owned());
    }
    assert!(routed.len() > 25, "{routed:?}");
    assert_eq!(documented, routed);
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document(None);
    assert_eq!(document["openapi"], "3.1.0");
    let mut references = 0;
    each(&document, &mut |name, value| {
        if name == "$ref" {
            references += 1;
            let pointer = value.as_str().unwrap().strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
        }
    });
    assert!(references > 50);
}

#[test]
fn operations_are_complete() {
    let document = document(None);
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{method} {path}");
            assert!(["get", "put", "post", "delete"].contains(&method.as_str()), "{name}");
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "{name} has no id of its own"
            );
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{name} never succeeds");
            let in_path = operation["parameters"].as_array().unwrap().iter().filter(|it| it["in"] == "path");
            assert_eq!(in_path.count(), path.matches('{').count(), "{name}");
            if operation["security"].as_array().unwrap().is_empty() {
                continue;
            }
            for status in ["401", "403", "422", "429", "500", "503"] {
                let problem = &responses[status]["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(problem, "#/components/schemas/Problem", "{name} {status}");
            }
        }
    }
}

#[test]
fn administration_names_its_own_server() {
    let document = document(Some("0.0.0.0:7000".parse().unwrap()));
    assert_eq!(document["paths"]["/admin/drain"]["post"]["servers"][0]["url"], "http://127.0.0.1:7000");
    assert!(document["paths"]["/v1/jobs"]["get"].get("servers").is_none());
}

#[test]
fn a_publish_is_documented_in_all_three_modes_and_a_stream_with_its_resume() {
    let document = document(None);
    let headers = |operation: &Value| -> Vec<String> {
        let parameters = operation["parameters"].as_array().unwrap().iter();
        let headers = parameters.filter(|parameter| parameter["in"] == "header");
        headers.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
    };
    let publish = &document["paths"]["/v1/topics/{topic}/events"]["post"];
    let attributes = ["specversion", "id", "source", "type", "subject", "time", "dataschema", "partitionkey"];
    assert_eq!(headers(publish), attributes.map(|name| format!("ce-{name}")));
    let content = publish["requestBody"]["content"].as_object().unwrap();
    let kinds: Vec<_> = content.keys().map(String::as_str).collect();
    let expected =
        ["*/*", "application/cloudevents+json", "application/cloudevents-batch+json", "application/json"];
    assert_eq!(kinds, expected);
    for status in ["200", "201"] {
        let answers = &publish["responses"][status]["content"]["application/json"]["schema"]["anyOf"];
        assert_eq!(answers[1]["$ref"], "#/components/schemas/PublishedBatch");
    }
    assert_eq!(headers(&document["paths"]["/v1/events/stream"]["get"]), ["Last-Event-ID"]);
}
