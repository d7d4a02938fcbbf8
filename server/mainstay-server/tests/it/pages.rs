//! The pages and the document they are about.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::Reply;
use crate::server::TestServer;

const FILES: [(&str, &str); 12] = [
    ("/docs", "text/html; charset=utf-8"),
    ("/docs/docs.css", "text/css; charset=utf-8"),
    ("/docs/docs.js", "text/javascript; charset=utf-8"),
    ("/ui/", "text/html; charset=utf-8"),
    ("/ui/ui.css", "text/css; charset=utf-8"),
    ("/ui/ui.js", "text/javascript; charset=utf-8"),
    ("/ui/api.js", "text/javascript; charset=utf-8"),
    ("/ui/curl.js", "text/javascript; charset=utf-8"),
    ("/ui/dom.js", "text/javascript; charset=utf-8"),
    ("/ui/views.js", "text/javascript; charset=utf-8"),
    ("/ui/icon.svg", "image/svg+xml"),
    ("/openapi.json", "application/json"),
];

fn text(reply: &Reply) -> String {
    String::from_utf8(reply.body.clone()).unwrap()
}

#[tokio::test]
async fn files_are_typed_checked_and_allowed_nothing_foreign() {
    let server = TestServer::start().await;
    for (path, content_type) in FILES {
        let reply = server.get(path).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(content_type)), "{path}");
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(reply.header("cache-control"), Some("no-cache"), "{path}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        let etag = reply.header("etag").unwrap();
        for known in [etag.to_owned(), format!("\"other\", W/{etag}"), "*".to_owned()] {
            let again = server.request("GET", path).header("if-none-match", &known).send().await;
            assert_eq!((again.status, again.body.len()), (304, 0), "{path} {known}");
            assert_eq!(again.header("etag"), Some(etag));
        }
        let other = server.request("GET", path).header("if-none-match", "\"other\"").send().await;
        assert_eq!(other.status, 200, "{path}");
        server.request("POST", path).send().await.problem(405, "method-not-allowed");
    }
}

#[tokio::test]
async fn pages_ask_no_other_host_and_keep_to_their_policy() {
    let server = TestServer::start().await;
    for (path, content_type) in FILES.iter().filter(|(path, _)| *path != "/openapi.json") {
        let body = text(&server.get(path).await);
        for (at, scheme) in body.match_indices("://") {
            let rest = &body[at + scheme.len()..];
            assert!(rest.starts_with("www.w3.org/2000/svg\""), "{path} names another host: {:.60}", rest);
        }
        let css = path.ends_with(".css");
        assert!(!css || !(body.contains("@import") || body.contains("url(")), "{path}");
        for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!body.contains(markup), "{path} makes markup of text: {markup}");
        }
        if content_type.starts_with("text/html") {
            // The policy forbids both.
            assert!(!body.contains(" style=") && !body.contains("<style"), "{path}");
            assert_eq!(body.matches("<script").count(), body.matches("<script type=\"module\" src=").count());
            assert!(!body.contains(" on"), "{path} has an inline handler");
        }
    }
}

#[tokio::test]
async fn the_files_a_page_names_are_there() {
    let server = TestServer::start().await;
    for (page, folder) in [("/docs", "/"), ("/ui/", "/ui/")] {
        let body = text(&server.get(page).await);
        let mut named = 0;
        for attribute in ["src=\"", "href=\""] {
            for link in body.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap()) {
                if link.starts_with('#') {
                    continue;
                }
                let path = match link.strip_prefix("../") {
                    Some(link) => format!("/{link}"),
                    None => format!("{folder}{link}"),
                };
                assert_eq!(server.get(&path).await.status, 200, "{page} names {link}");
                named += 1;
            }
        }
        assert!(named >= 4, "{page}");
    }
}

#[tokio::test]
async fn people_are_led_to_the_dashboard_and_programs_are_not() {
    let server = TestServer::start().await;
    for (path, to) in [("/ui", "ui/"), ("/docs/", "../docs")] {
        let reply = server.get(path).await;
        assert_eq!((reply.status, reply.header("location")), (303, Some(to)));
    }
    let browser = server.request("GET", "/").header("accept", "text/html,application/xhtml+xml;q=0.9");
    let reply = browser.send().await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("ui/")));
    server.request("GET", "/").header("accept", "*/*").send().await.problem(404, "not-found");
    server.request("POST", "/").send().await.problem(405, "method-not-allowed");
}

/// What curl would send with a body as JSON by the lines of the pages: bare `-d` is a form.
async fn content_type_of_curl_lines(server: &TestServer) -> String {
    let rule = text(&server.get("/ui/curl.js").await);
    let words = rule.split("=> `").nth(1).expect("a template").split(" -d ").next().unwrap().to_owned();
    for path in ["/ui/views.js", "/docs/docs.js"] {
        let page = text(&server.get(path).await);
        assert!(page.contains("jsonBody(") && !page.contains("-d '"), "{path} has a rule of its own");
    }
    let mut words = words.split_whitespace();
    let mut declared = "application/x-www-form-urlencoded".to_owned();
    while let Some(word) = words.next() {
        assert_eq!(word, "-H", "a word that every curl knows");
        let (name, value) = words.next().and_then(|header| header.split_once(':')).expect("a header");
        assert_eq!(name, "content-type");
        declared = value.to_owned();
    }
    declared
}

#[tokio::test]
async fn what_the_pages_curl_lines_send_is_read_as_json() {
    let server = TestServer::start().await;
    let declared = content_type_of_curl_lines(&server).await;
    let document = server.get("/openapi.json").await.is(200);
    let mut tried = 0;
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let takes_json = operation["requestBody"]["content"]["application/json"].is_object();
            // A drain would be the last of them.
            if !takes_json || template == "/admin/drain" {
                continue;
            }
            let path = template
                .replace("{id}", "01900000-0000-7000-8000-000000000000")
                .replace("{queue}", "q")
                .replace("{name}", "n")
                .replace("{topic}", "t")
                .replace("{group}", "g")
                .replace("{schedule}", "n");
            let method = method.to_uppercase();
            let on_admin = operation.get("servers").is_some();
            let to =
                |path| if on_admin { server.on_admin(&method, path) } else { server.request(&method, path) };
            let reply = to(&path).header("content-type", &declared).body("{}").send().await;
            assert!(!matches!(reply.status, 400 | 415), "{method} {template}: {reply:?}");
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried}");
    let publish = server.request("POST", "/v1/topics/t/events").header("content-type", &declared);
    publish.body("{\"n\":1}").send().await.is(201);
    let events = server.get("/v1/topics/t/events").await.is(200);
    let newest =
        events["items"].as_array().unwrap().iter().any(|item| item["event"]["data"] == json!({ "n": 1 }));
    assert!(newest, "data is JSON: {events}");
}

#[tokio::test]
async fn pages_are_open_and_what_they_show_is_not() {
    let server = TestServer::start().await;
    let token = json!({ "name": "root", "scopes": ["admin"] });
    server.on_admin("POST", "/admin/tokens").json(token).send().await.is(201);
    for (path, _) in FILES {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    for path in ["/v1/queues", "/v1/store", "/v1/jobs"] {
        server.get(path).await.problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn the_document_has_the_methods_the_routers_have() {
    let server = TestServer::start().await;
    let document = server.get("/openapi.json").await.is(200);
    assert_eq!(document["openapi"], "3.1.0");
    for (template, item) in document["paths"].as_object().unwrap() {
        let mut documented: BTreeSet<String> =
            item.as_object().unwrap().keys().map(|it| it.to_uppercase()).collect();
        if documented.contains("GET") {
            documented.insert("HEAD".to_owned());
        }
        if template == "/v1/locks/renew" {
            // What there is of a lock that has this name.
            documented.extend(["GET", "HEAD", "DELETE"].map(str::to_owned));
        }
        let path = template
            .replace("{id}", "01900000-0000-7000-8000-000000000000")
            .replace("{queue}", "q")
            .replace("{name}", "n");
        let on_admin = item.as_object().unwrap().values().any(|operation| operation.get("servers").is_some());
        let request = if on_admin { server.on_admin("PATCH", &path) } else { server.request("PATCH", &path) };
        let reply = request.send().await;
        assert_eq!(reply.status, 405, "{template}: {reply:?}");
        let allowed: BTreeSet<String> =
            reply.header("allow").unwrap().split(',').map(|method| method.trim().to_owned()).collect();
        assert_eq!(documented, allowed, "{template}");
    }
}

#[tokio::test]
async fn answers_are_as_documented() {
    let server = TestServer::start().await;
    let document = server.get("/openapi.json").await.is(200);
    let check = |operation: &str, reply: Reply| {
        let found = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|item| item.as_object().unwrap().values());
        let operation = found.into_iter().find(|it| it["operationId"] == operation).unwrap();
        let content_type = reply.header("content-type").unwrap().split(';').next().unwrap().to_owned();
        let response = &operation["responses"][reply.status.to_string()];
        let schema = &response["content"][&content_type]["schema"];
        assert!(schema.is_object(), "{} {content_type} of {operation}", reply.status);
        let body = reply.json();
        if let Err(wrong) = fits(&document, schema, &body, "") {
            panic!("{}: {wrong} in {body}", operation["operationId"]);
        }
        body
    };
    let job = json!({ "kind": "k", "payload": [1], "tags": ["t"], "meta": {"m": 1}, "unique": {"key": "u"},
        "timeout_ms": 1000, "expires_in_ms": 100_000 });
    let made = check("enqueueJob", server.post("/v1/queues/q/jobs", job.clone()).await);
    check("enqueueJob", server.post("/v1/queues/q/jobs", job).await);
    check("enqueueJobs", server.post("/v1/queues/q/jobs/bulk", json!({ "jobs": [{"kind": "b"}] })).await);
    check("enqueueJob", server.post("/v1/queues/q/jobs", json!({ "kind": 7, "x": 1 })).await);
    let one = format!("/v1/jobs/{}", made["id"].as_str().unwrap());
    let claimed =
        check("claimJobs", server.post("/v1/jobs/claim", json!({ "queues": ["q"], "worker": "w" })).await);
    let lease = &claimed["jobs"][0]["lease"];
    check("getJob", server.get(&one).await);
    check("extendJob", server.post(&format!("{one}/extend"), json!({ "lease": lease, "progress": 1 })).await);
    check("getResult", server.get(&format!("{one}/result")).await);
    let fail =
        json!({ "lease": lease, "error": {"type": "t", "message": "m", "backtrace": "b"}, "retry": "never" });
    check("failJob", server.post(&format!("{one}/fail"), fail).await);
    check("completeJob", server.post(&format!("{one}/complete"), json!({ "lease": lease })).await);
    check("getResult", server.get(&format!("{one}/result")).await);
    check("listDead", server.get("/v1/queues/q/dead").await);
    check("requeueDead", server.post("/v1/queues/q/dead/requeue", json!({ "dry_run": true })).await);
    check("retryJob", server.post(&format!("{one}/retry"), json!({})).await);
    check("cancelJob", server.post(&format!("{one}/cancel"), json!({})).await);
    check("listJobs", server.get("/v1/jobs?limit=1").await);
    check(
        "settleJobs",
        server.post("/v1/jobs/settle", json!({ "items": [], "claim": {"queues": ["q"]} })).await,
    );
    let acquire = |more: Value| {
        let mut body = json!({ "owner": "o" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/locks/l/acquire", body)
    };
    let grant = check("acquireLock", acquire(json!({ "permits": 2 })).await);
    check("acquireLock", acquire(json!({ "mode": "shared" })).await);
    let lease = json!({ "lease": grant["lease"] });
    check("renewLock", server.post("/v1/locks/l/renew", lease.clone()).await);
    let leases = json!({ "leases": [{"name": "l", "lease": grant["lease"]}, {"name": "m", "lease": "x"}] });
    check("renewLocks", server.post("/v1/locks/renew", leases).await);
    check("checkLock", server.post("/v1/locks/l/check", json!({ "token": grant["token"] })).await);
    check("checkLock", server.post("/v1/locks/free/check", json!({ "token": 1 })).await);
    check("getLock", server.get("/v1/locks/l").await);
    check("listLocks", server.get("/v1/locks?limit=1").await);
    check("releaseLock", server.post("/v1/locks/l/release", lease.clone()).await);
    check("releaseLock", server.post("/v1/locks/l/release", lease).await);
    check("forceLock", server.delete("/v1/locks/l").await);
    check("publishEvent", server.post("/v1/topics/t/events", json!({ "n": 1 })).await);
    let batch = json!([{"id": "a", "data": 1}, {"data": null}]).to_string();
    let batched = server.request("POST", "/v1/topics/t/events");
    let batched = batched.header("content-type", "application/cloudevents-batch+json").body(batch);
    check("publishEvent", batched.send().await);
    check("listEvents", server.get("/v1/topics/t/events").await);
    let ops = json!({ "ops": [{"op": "enqueue", "queue": "q", "kind": "k"}] });
    check("commit", server.post("/v1/commit", ops).await);
    check("putQueue", server.put("/v1/queues/q", json!({ "max_depth": 5 })).await);
    check("getQueue", server.get("/v1/queues/q").await);
    check("getQueue", server.get("/v1/queues/none").await);
    check("listQueues", server.get("/v1/queues").await);
    check("pauseQueue", server.post("/v1/queues/q/pause", json!({})).await);
    check("purgeQueue", server.post("/v1/queues/q/purge", json!({})).await);
    let schedule = json!({ "cron": "0 3 * * *", "queue": "q", "job": {"kind": "k", "unique": {"key": "u"}} });
    check("putSchedule", server.put("/v1/schedules/s", schedule).await);
    check("getSchedule", server.get("/v1/schedules/s").await);
    check("getSchedule", server.get("/v1/schedules/none").await);
    check("listSchedules", server.get("/v1/schedules").await);
    check("triggerSchedule", server.post("/v1/schedules/s/trigger", json!({})).await);
    check("pauseSchedule", server.post("/v1/schedules/s/pause", json!({})).await);
    check("resumeSchedule", server.post("/v1/schedules/s/resume", json!({})).await);
    check("listWorkers", server.get("/v1/workers").await);
    check("getStore", server.get("/v1/store").await);
    check("ready", server.get("/readyz?verbose").await);
    check("live", server.get("/livez").await);
    check("started", server.get("/startupz").await);
    for (id, path) in [
        ("getConfig", "/admin/config"),
        ("getLogLevel", "/admin/log-level"),
        ("listAudit", "/admin/audit"),
        ("listTokens", "/admin/tokens"),
    ] {
        check(id, server.on_admin("GET", path).send().await);
    }
}

/// Whether a value fits a schema, as far as the document's schemas go; objects have no members but those named.
fn fits(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if let Some(pointer) = schema["$ref"].as_str() {
        return fits(document, document.pointer(&pointer[1..]).unwrap(), value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let tried: Vec<_> = choices.iter().map(|choice| fits(document, choice, value, at)).collect();
        let wrong = || tried.iter().filter_map(|tried| tried.clone().err()).collect::<Vec<_>>().join(", or ");
        return if tried.iter().any(Result::is_ok) { Ok(()) } else { Err(wrong()) };
    }
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(value) { Ok(()) } else { Err(format!("{at} is {value}")) };
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return Ok(()),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fitting = kinds.contains(&kind) || (kind == "integer" && kinds.contains(&"number"));
    if !fitting {
        return Err(format!("{at} is {value}, not {kinds:?}"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        fits(document, &schema["items"], item, &format!("{at}/{index}"))?;
    }
    for required in schema["required"].as_array().into_iter().flatten().filter(|_| value.is_object()) {
        let name = required.as_str().unwrap();
        value.get(name).ok_or_else(|| format!("{at}/{name} is missing"))?;
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let at = format!("{at}/{name}");
        match (schema["properties"].get(name), schema.get("additionalProperties")) {
            (Some(property), _) => fits(document, property, member, &at)?,
            (None, Some(any)) => fits(document, any, member, &at)?,
            (None, None) => return Err(format!("{at} is not documented")),
        }
    }
    Ok(())
}
