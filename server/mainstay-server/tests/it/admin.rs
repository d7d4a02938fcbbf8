//! The admin listener.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::server::{Setup, TestServer};

#[tokio::test]
async fn a_token_that_is_made_again_under_its_key_is_shown_again() {
    let server = TestServer::start().await;
    let root = server.on_admin("POST", "/admin/tokens").json(json!({ "name": "root", "scopes": ["admin"] }));
    let auth = format!("Bearer {}", root.send().await.is(201)["token"].as_str().unwrap());
    let create = |key: &str, body: serde_json::Value| {
        let request = server.on_admin("POST", "/admin/tokens").header("authorization", &auth);
        request.header("idempotency-key", key).json(body)
    };
    let body = json!({ "name": "ci", "scopes": ["read"] });
    let first = create("k1", body.clone()).send().await.is(201);
    let again = create("k1", json!({ "scopes": ["read"], "name": "ci" })).send().await.is(201);
    assert_eq!(first, again);
    let bearer = format!("Bearer {}", first["token"].as_str().unwrap());
    server.request("GET", "/v1/store").header("authorization", &bearer).send().await.is(200);
    create("k1", json!({ "name": "ci", "scopes": ["admin"] }))
        .send()
        .await
        .problem(422, "idempotency-mismatch");
    create("k2", body.clone()).send().await.problem(409, "state-conflict");
    // What was made is told, whatever became of it since.
    let revoke = server.on_admin("DELETE", "/admin/tokens/ci").header("authorization", &auth);
    assert_eq!(revoke.send().await.status, 204);
    assert_eq!(create("k1", body.clone()).send().await.is(201), first);
    server
        .request("GET", "/v1/store")
        .header("authorization", &bearer)
        .send()
        .await
        .problem(401, "unauthenticated");
    let new = create("k3", body).send().await.is(201);
    assert_ne!(new["token"], first["token"]);
}

#[tokio::test]
async fn a_token_of_the_configuration_is_not_revoked_but_told_of() {
    let hash = "163d12d04c278d83f3858cb336bab98f6596d2475ea39e0f8785176ff372c1f3"; // of `from-the-file`
    let token = format!("[{{ name = \"filed\", hash = \"{hash}\", scopes = [\"admin\"] }}]");
    let server = Setup::default().set("tokens", token).start().await;
    let revoke = async |name: &str| {
        let request = server.on_admin("DELETE", &format!("/admin/tokens/{name}"));
        request.header("authorization", "Bearer from-the-file").send().await
    };
    let detail = revoke("filed").await.problem(409, "state-conflict")["detail"].clone();
    assert!(detail.as_str().unwrap().contains("defined in the server's configuration"), "{detail}");
    assert_eq!(revoke("other").await.problem(404, "not-found")["detail"], "no access token of that name");
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let server = TestServer::start().await;
    let create = |name: &str| {
        server
            .on_admin("POST", "/admin/tokens")
            .json(json!({ "name": name, "scopes": ["read", "jobs:work=mail"] }))
    };
    let problem =
        server.on_admin("POST", "/admin/tokens").json(json!({ "name": "a b", "scopes": ["fly"], "x": 1 }));
    let problem = problem.send().await.problem(422, "validation-failed");
    assert_eq!(crate::client::pointers(&problem), ["/name", "/scopes/0", "/x"]);
    let root = server.on_admin("POST", "/admin/tokens").json(json!({ "name": "root", "scopes": ["admin"] }));
    let root = root.send().await.is(201)["token"].as_str().unwrap().to_owned();
    let auth = format!("Bearer {root}");
    let made = create("w").header("authorization", &auth).send().await.is(201);
    assert_eq!(made["scopes"], json!(["read", "jobs:work=mail"]));
    create("w").header("authorization", &auth).send().await.problem(409, "state-conflict");
    let list = server.on_admin("GET", "/admin/tokens").header("authorization", &auth).send().await;
    let text = String::from_utf8_lossy(&list.body).into_owned();
    assert!(!text.contains(made["token"].as_str().unwrap()) && !text.contains("hash"), "{text}");
    let list = list.is(200);
    let names: Vec<_> = list["items"].as_array().unwrap().iter().map(|token| token["name"].clone()).collect();
    assert_eq!(names, ["root", "w"]);
    let revoke = |name: &str| {
        server.on_admin("DELETE", &format!("/admin/tokens/{name}")).header("authorization", &auth)
    };
    assert_eq!(revoke("w").send().await.status, 204);
    revoke("w").send().await.problem(404, "not-found");
    let with_revoked = server.request("GET", "/v1/store");
    let with_revoked =
        with_revoked.header("authorization", &format!("Bearer {}", made["token"].as_str().unwrap()));
    with_revoked.send().await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn the_store_the_disk_memory_and_the_runtime_are_watched() {
    let dir = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", dir.path().join("m.db").display());
    for (store, wanted, loops) in [
        (
            file.as_str(),
            &["disk", "memory", "runtime lag", "store"][..],
            &["runtime", "scheduler", "store tables", "store writer"][..],
        ),
        ("memory:", &["memory", "runtime lag", "store"], &["runtime", "scheduler", "store writer"]),
    ] {
        let server = Setup::default().set("store", store).start().await;
        let body = server.get("/readyz?verbose").await.is(200);
        let checks = body["checks"].as_object().unwrap();
        assert_eq!(checks.keys().collect::<Vec<_>>(), wanted, "{store}");
        let watched = body["loops"].as_object().unwrap().keys();
        assert_eq!(watched.collect::<Vec<_>>(), loops, "{store}");
        for (name, check) in checks {
            assert_eq!(check["critical"], name == "store", "{store} {name}: {check}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn deeds_of_administration_leave_a_line_in_the_audit_trail() {
    let server = TestServer::start().await;
    server.put("/v1/queues/q", json!({})).await.is(200);
    server.request("POST", "/v1/queues/q/purge").header("x-request-id", "r-1").send().await.is(200);
    server.delete("/v1/queues/q").await;
    server.on_admin("PUT", "/admin/log-level").json(json!({ "level": "warn" })).send().await.is(200);
    server
        .on_admin("PUT", "/admin/log-level")
        .json(json!({ "level": "loud" }))
        .send()
        .await
        .problem(422, "validation-failed");
    let root = server.on_admin("POST", "/admin/tokens").json(json!({ "name": "root", "scopes": ["admin"] }));
    let root = root.send().await.is(201)["token"].as_str().unwrap().to_owned();
    let trail = async |query: &str| -> Value {
        let request = server.on_admin("GET", &format!("/admin/audit{query}"));
        request.header("authorization", &format!("Bearer {root}")).send().await.is(200)
    };
    let all = trail("").await;
    let items = all["items"].as_array().unwrap();
    let actions: Vec<_> = items.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["token.create", "server.log-level", "queue.delete", "queue.purge", "queue.put"]);
    assert_eq!((&items[3]["target"], &items[3]["request_id"]), (&json!("q"), &json!("r-1")));
    assert_eq!(items[0]["principal"], Value::Null);
    let page = trail("?limit=2").await;
    let next = trail(&format!("?limit=2&cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!(next["items"][0]["action"], "queue.delete");
}

#[tokio::test]
async fn the_chassis_speaks_the_words_of_the_contract() {
    let server = TestServer::start().await;
    let level = |body: Value| server.on_admin("PUT", "/admin/log-level").json(body).send();
    let problem = level(json!({ "level": 1, "x": 2 })).await.problem(422, "validation-failed");
    assert_eq!(crate::client::pointers(&problem), ["/level", "/x"]);
    let problem = level(json!({ "level": "loud", "x": 2 })).await.problem(422, "validation-failed");
    assert_eq!(crate::client::pointers(&problem), ["/level", "/x"]);
    assert_eq!(crate::client::pointers(&level(json!([])).await.problem(422, "validation-failed")), [""]);
    let empty = server.on_admin("PUT", "/admin/log-level").send().await;
    assert_eq!(crate::client::pointers(&empty.problem(422, "validation-failed")), ["/level"]);
    server.on_admin("PUT", "/admin/log-level").body("{").send().await.problem(400, "malformed-body");
    for path in ["/admin/log-level?x=1", "/admin/config?x=1", "/metrics?x=1"] {
        let problem = server.on_admin("GET", path).send().await.problem(422, "validation-failed");
        assert_eq!(crate::client::pointers(&problem), ["/x"], "{path}");
        assert_eq!(problem["errors"][0]["in"], "query", "{path}");
    }
    server.on_admin("GET", "/nothing").send().await.problem(404, "not-found");
    let reply = server.on_admin("GET", "/admin/drain").send().await;
    assert_eq!(reply.header("allow"), Some("POST"));
    reply.problem(405, "method-not-allowed");
    let twice = server.on_admin("PUT", "/admin/log-level").body(r#"{"level":"info","level":"warn"}"#);
    assert_eq!(crate::client::pointers(&twice.send().await.problem(422, "validation-failed")), ["/level"]);
    let plain = server.on_admin("PUT", "/admin/log-level").header("content-type", "text/plain");
    plain.body(r#"{"level":"info"}"#).send().await.problem(415, "unsupported-media-type");
    for probe in [server.on_admin("POST", "/livez"), server.request("POST", "/livez")] {
        let reply = probe.send().await;
        assert_eq!(reply.header("allow"), Some("GET,HEAD"));
        let problem = reply.problem(405, "method-not-allowed");
        assert_eq!(problem["instance"], "/livez", "{problem}");
    }
    let mut nameless = tokio::net::TcpStream::connect(server.api).await.unwrap();
    nameless.write_all(b"GET /v1/store HTTP/1.1\r\n\r\n").await.unwrap();
    crate::client::read(&mut nameless, "GET").await.problem(400, "malformed-body");
    let config = server.on_admin("GET", "/admin/config").send().await.is(200);
    assert_eq!(config["store"]["value"], "memory:", "{config}");
    let metrics = server.on_admin("GET", "/metrics").send().await;
    assert!(String::from_utf8_lossy(&metrics.body).contains("http_server_request_duration"));
}

#[tokio::test]
async fn a_backup_opens_as_a_store_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| format!("sqlite:{}", dir.path().join(name).display());
    let server = Setup::default().set("store", of("a.db")).start().await;
    assert_eq!(server.get("/v1/store").await.is(200)["durable"], true);
    let id = server.enqueue("q", json!({ "payload": [1, 2] })).await;
    let copy = server.on_admin("POST", "/admin/backup").send().await;
    assert_eq!(copy.status, 200, "{}", String::from_utf8_lossy(&copy.body));
    std::fs::write(dir.path().join("b.db"), &copy.body).unwrap();
    let counted = Duration::from_secs(60);
    let ended = tokio::time::timeout(counted, how_it_ended(&server, "/admin/backup")).await.unwrap();
    assert!(ended.contains("outcome=\"ok\""), "{ended}");
    assert_eq!(server.stop().await.exit_code(), 0);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("backup")), "{left:?}");

    let server = Setup::default().set("store", of("b.db")).start().await;
    assert_eq!(server.job(&id).await["payload"], json!([1, 2]));
    assert_eq!(server.claim("q", 1).await[0]["id"], id);
}

/// The first count of requests that this route has had an end of.
async fn how_it_ended(server: &TestServer, route: &str) -> String {
    loop {
        let metrics = server.on_admin("GET", "/metrics").send().await;
        let text = String::from_utf8(metrics.body).unwrap();
        let of_route =
            |line: &&str| line.contains(&format!("http_route=\"{route}\"")) && line.contains("\"200\"");
        if let Some(line) = text.lines().find(of_route) {
            return line.to_owned();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_store_without_a_file_cannot_be_backed_up() {
    let server = TestServer::start().await;
    let problem = server.on_admin("POST", "/admin/backup").send().await.problem(501, "not-supported");
    assert!(problem["detail"].as_str().unwrap().contains("sqlite"), "{problem}");
}
