//! What bad input gets: every mistake at once, and nothing is written.

use serde_json::{Value, json};

use crate::client::pointers;
use crate::server::{Setup, TestServer};

const ID: &str = "0192f7c6-5f2a-7000-8000-000000000001";

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let server = TestServer::start().await;
    let job = format!("/v1/jobs/{ID}");
    let rows: Vec<(&str, String, Value, &[&str])> = vec![
        (
            "POST",
            "/v1/queues/q/jobs".into(),
            json!({ "kind": "", "priority": 10, "run_at": "2027-01-01T00:00:00", "max_attempts": 0, "payloads": 1,
                "backoff": {"factor": 0.5, "jiter": "x"}, "unique": {}, "tags": ["", 1], "meta": [], "id": "x" }),
            &[
                "/backoff/factor",
                "/backoff/jiter",
                "/id",
                "/kind",
                "/max_attempts",
                "/meta",
                "/payloads",
                "/priority",
                "/run_at",
                "/tags/0",
                "/tags/1",
                "/unique/key",
            ],
        ),
        (
            "POST",
            "/v1/queues/q/jobs".into(),
            json!({ "kind": "k", "run_at": "2027-01-01T00:00:00Z", "delay_ms": 1, "expires_at": "x", "expires_in_ms": 1 }),
            &["/delay_ms", "/expires_at", "/expires_at", "/expires_in_ms", "/run_at"],
        ),
        (
            "POST",
            "/v1/queues/q/jobs/bulk".into(),
            json!({ "jobs": [{"kind": "k"}, {"kind": 1}, {"priority": -1}] }),
            &["/jobs/1/kind", "/jobs/2/kind", "/jobs/2/priority"],
        ),
        ("POST", "/v1/queues/q/jobs/bulk".into(), json!({ "jobs": [] }), &["/jobs"]),
        (
            "POST",
            "/v1/jobs/claim".into(),
            json!({ "queues": ["a b", "-"], "max": 1001, "lease_ms": 999, "wait_ms": 60001, "worker": "" }),
            &["/lease_ms", "/max", "/queues/0", "/queues/1", "/wait_ms", "/worker"],
        ),
        ("POST", "/v1/jobs/claim".into(), json!({ "queues": [] }), &["/queues"]),
        ("POST", format!("{job}/extend"), json!({ "extend_ms": 86400001 }), &["/extend_ms", "/lease"]),
        ("POST", format!("{job}/complete"), json!({ "lease": 1, "results": 2 }), &["/lease", "/results"]),
        (
            "POST",
            format!("{job}/fail"),
            json!({ "error": {"type": ""}, "retry": "soon" }),
            &["/error/message", "/error/type", "/lease", "/retry"],
        ),
        ("POST", format!("{job}/release"), json!({ "lease": "x", "delay_ms": -1 }), &["/delay_ms"]),
        (
            "POST",
            "/v1/jobs/settle".into(),
            json!({ "items": [{"id": ID, "lease": "x", "outcome": "done"}, {"outcome": "complete", "retry": 1}],
                "claim": {"queues": []} }),
            &["/claim/queues", "/items/0/outcome", "/items/1/id", "/items/1/lease", "/items/1/retry"],
        ),
        ("POST", format!("{job}/cancel"), json!({ "why": 1 }), &["/why"]),
        (
            "PUT",
            "/v1/queues/q".into(),
            json!({ "max_depth": 0, "overflow": "drop", "retention": {"dead_ms": "x"} }),
            &["/max_depth", "/overflow", "/retention/dead_ms"],
        ),
        (
            "POST",
            "/v1/queues/q/dead/requeue".into(),
            json!({ "ids": ["x"], "kind": "k", "limit": 0 }),
            &["/ids", "/ids/0", "/kind", "/limit"],
        ),
        (
            "POST",
            "/v1/locks/l/acquire".into(),
            json!({ "owner": "", "ttl_ms": 999, "wait_ms": 60001, "mode": "semaphore", "permits": 0, "lease": 1 }),
            &["/lease", "/mode", "/owner", "/permits", "/ttl_ms", "/wait_ms"],
        ),
        (
            "POST",
            "/v1/locks/l/acquire".into(),
            json!({ "owner": "a\tb", "mode": "shared", "permits": 2, "ttl_ms": 86400001 }),
            &["/mode", "/owner", "/permits", "/ttl_ms"],
        ),
        ("POST", "/v1/locks/l/renew".into(), json!({ "ttl_ms": 0 }), &["/lease", "/ttl_ms"]),
        (
            "POST",
            "/v1/locks/renew".into(),
            json!({ "leases": [{"name": "l", "lease": "x"}, {"name": "-", "ttl_ms": 1}] }),
            &["/leases/1/lease", "/leases/1/name", "/leases/1/ttl_ms"],
        ),
        ("POST", "/v1/locks/renew".into(), json!({ "leases": [] }), &["/leases"]),
        ("POST", "/v1/locks/l/release".into(), json!({ "lease": 1, "token": 1 }), &["/lease", "/token"]),
        ("POST", "/v1/locks/l/check".into(), json!({ "token": -1 }), &["/token"]),
        (
            "POST",
            "/v1/commit".into(),
            json!({ "require": [{"lock": "-", "token": "1"}, {"lock": "l", "lease": "x"}],
                "ops": [{"op": "release_lock", "name": "l"}] }),
            &["/ops/0/lease", "/require/0/lock", "/require/0/token", "/require/1/lease", "/require/1/token"],
        ),
        (
            "POST",
            "/v1/commit".into(),
            json!({ "require": [{}], "ops": [{"op": "explode"}, {}, {"op": "enqueue", "queue": "-"}] }),
            &["/ops/0/op", "/ops/1/op", "/ops/2/kind", "/ops/2/queue", "/require/0"],
        ),
    ];
    for (method, path, body, expected) in rows {
        let request = server.request(method, &path).json(body.clone());
        let problem = request.send().await.problem(422, "validation-failed");
        assert_eq!(pointers(&problem), expected, "{method} {path} {body}\n{problem}");
        assert_eq!(problem["outcome"], "not-applied");
    }
    assert_eq!(server.get("/v1/queues").await.is(200)["items"], json!([]), "nothing was written");
}

#[tokio::test]
async fn wrong_paths_queries_and_headers_are_named_with_the_body() {
    let server = TestServer::start().await;
    let request =
        server.request("POST", "/v1/queues/a%20b/jobs?x=1").header("idempotency-key", &"k".repeat(300));
    let request = request.header("x-request-timeout-ms", "soon").json(json!({ "kind": 1 }));
    let problem = request.send().await.problem(422, "validation-failed");
    assert_eq!(pointers(&problem), ["/idempotency-key", "/kind", "/queue", "/x", "/x-request-timeout-ms"]);
    let place = |pointer: &str| {
        let errors = problem["errors"].as_array().unwrap();
        errors.iter().find(|error| error["pointer"] == pointer).unwrap()["in"].clone()
    };
    assert_eq!((place("/queue"), place("/x")), (json!("path"), json!("query")));
    assert_eq!((place("/idempotency-key"), place("/kind")), (json!("header"), Value::Null));
    let rows = [
        ("/v1/jobs/17", "/id"),
        ("/v1/jobs/%ff", "/id"),
        ("/v1/queues/a%2Fb", "/queue"),
        ("/v1/jobs?state=lost", "/state"),
        ("/v1/jobs?limit=1001", "/limit"),
        ("/v1/queues?cursor=nonsense", "/cursor"),
        ("/v1/queues/q/dead?limti=1", "/limti"),
        ("/v1/store?x", "/x"),
        ("/v1/locks/a%20b", "/name"),
        ("/v1/locks?prefix=-", "/prefix"),
        ("/v1/locks?cursor=nonsense", "/cursor"),
    ];
    for (path, pointer) in rows {
        let problem = server.get(path).await.problem(422, "validation-failed");
        assert_eq!(pointers(&problem), [pointer], "{path}");
    }
    let wait = format!("/v1/jobs/{ID}/result?wait_ms=60001");
    assert_eq!(pointers(&server.get(&wait).await.problem(422, "validation-failed")), ["/wait_ms"]);
}

#[tokio::test]
async fn what_is_not_json_is_malformed_and_what_is_ambiguous_is_refused() {
    let server = TestServer::start().await;
    let send = |body: &str| server.request("POST", "/v1/queues/q/jobs").body(body.to_owned()).send();
    for body in ["{", "{'kind':1}", "[1,]", "{\"kind\":\"k\"} x", "{\"kind\":NaN}", "\u{feff}{}"] {
        send(body).await.problem(400, "malformed-body");
    }
    let latin = server.request("POST", "/v1/queues/q/jobs").body(b"{\"kind\":\"\xff\"}".to_vec());
    latin.send().await.problem(400, "malformed-body");
    let nested = format!("{{\"kind\":\"k\",\"payload\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let rows = [
        "{\"kind\":\"k\",\"kind\":\"l\"}",
        "{\"kind\":\"k\",\"payload\":{\"a\":1,\"a\":2}}",
        "{\"kind\":\"k\",\"payload\":\"\\ud800\"}",
        "{\"kind\":\"k\",\"payload\":1e999}",
        &nested,
    ];
    for body in rows {
        send(body).await.problem(422, "validation-failed");
    }
    assert_eq!(pointers(&send("").await.problem(422, "validation-failed")), ["/kind"], "empty is {{}}");
    server.get("/v1/queues/q").await.problem(404, "not-found");
}

#[tokio::test]
async fn other_content_types_are_refused() {
    let server = TestServer::start().await;
    let send = |kind: &str| {
        server
            .request("POST", "/v1/queues/q/jobs")
            .header("content-type", kind)
            .body("{\"kind\":\"k\"}")
            .send()
    };
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"] {
        send(kind).await.problem(415, "unsupported-media-type");
    }
    send("application/x-ndjson").await.problem(415, "unsupported-media-type");
    send("application/json; charset=utf-8").await.is(201);
    // Nothing has no type.
    let pause = server.request("POST", "/v1/queues/q/pause").header("content-type", "text/plain");
    pause.send().await.is(200);
}

#[tokio::test]
async fn sizes_have_limits() {
    let setup =
        Setup::default().set("max_body_bytes", 4000).set("limits__payload_bytes", 10).set("limits__bulk", 2);
    let server = setup.start().await;
    let path = "/v1/queues/q/jobs";
    let problem = server.post(path, json!({ "kind": "k", "payload": "x".repeat(20) })).await;
    assert_eq!(pointers(&problem.problem(413, "payload-too-large")), ["/payload"]);
    let both = server.post(path, json!({ "kind": "", "payload": "x".repeat(20) })).await;
    assert_eq!(pointers(&both.problem(422, "validation-failed")), ["/kind", "/payload"]);
    let three = json!({ "jobs": [{"kind": "k"}, {"kind": "k"}, {"kind": "k"}] });
    assert_eq!(
        pointers(&server.post(&format!("{path}/bulk"), three).await.problem(422, "validation-failed")),
        ["/jobs"]
    );
    let long = server.request("POST", path).body(vec![b' '; 5000]).send().await;
    long.problem(413, "payload-too-large");
    // One that does not say how long it is, too.
    let chunk = format!("1388\r\n{}\r\n0\r\n\r\n", " ".repeat(5000));
    let chunked = server.request("POST", path).header("transfer-encoding", "chunked").body(chunk);
    chunked.send().await.problem(413, "payload-too-large");
}

#[tokio::test]
async fn more_mistakes_than_are_listed_are_not_said_to_be_all() {
    let server = TestServer::start().await;
    let jobs: Vec<_> = (0..10_000).map(|_| json!({ "priority": 10 })).collect();
    let problem = server.post("/v1/queues/q/jobs/bulk", json!({ "jobs": jobs })).await;
    let problem = problem.problem(422, "validation-failed");
    let listed = problem["errors"].as_array().unwrap().len();
    let told = format!("more than {listed} fields are wrong; the first {listed} are listed");
    assert_eq!(problem["detail"], told);
}

#[tokio::test]
async fn a_caller_without_time_is_told_in_words_of_http() {
    let server = TestServer::start().await;
    let request = server.request("POST", "/v1/queues/q/jobs").header("x-request-timeout-ms", "0");
    let problem = request.json(json!({ "kind": "k" })).send().await.problem(504, "deadline-exceeded");
    assert!(problem["detail"].as_str().unwrap().contains("x-request-timeout-ms"), "{problem}");
    assert_eq!(problem["outcome"], "not-applied");
    server.get("/v1/queues/q").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_call_has_one_key() {
    let server = TestServer::start().await;
    let keyed = |other: &str| {
        let request = server.request("POST", "/v1/queues/q/jobs").header("idempotency-key", "a");
        request.header("idempotency-key", other).json(json!({"kind": "k"})).send()
    };
    let problem = keyed("b").await.problem(422, "validation-failed");
    assert_eq!(pointers(&problem), ["/idempotency-key"]);
    keyed("a").await.is(201);
}
