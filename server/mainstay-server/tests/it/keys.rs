//! Idempotency keys.

use serde_json::{Value, json};

use crate::client::Reply;
use crate::server::{Setup, TestServer};

async fn keyed(server: &TestServer, path: &str, key: &str, body: Value) -> Reply {
    server.request("POST", path).header("idempotency-key", key).json(body).send().await
}

#[tokio::test]
async fn an_enqueue_repeated_under_its_key_says_deduplicated() {
    let server = TestServer::start().await;
    let path = "/v1/queues/q/jobs";
    let first = keyed(&server, path, "a", json!({ "kind": "k", "payload": {"x": 1, "y": 2} })).await.is(201);
    server.put("/v1/queues/q", json!({ "max_depth": 1 })).await.is(200);
    // Another order and quotes around the key are the same request; a full queue does not matter any more.
    let again = server.request("POST", path).header("idempotency-key", "\"a\"");
    let again = again.json(json!({ "payload": {"y": 2, "x": 1}, "kind": "k" })).send().await.is(200);
    assert_eq!((&again["id"], &again["deduplicated"]), (&first["id"], &json!(true)));
    keyed(&server, path, "a", json!({ "kind": "other" })).await.problem(422, "idempotency-mismatch");
    keyed(&server, "/v1/queues/r/jobs", "a", json!({ "kind": "k" })).await.is(201);
    keyed(&server, path, "b", json!({ "kind": "k" })).await.problem(429, "queue-full");
    server.put("/v1/queues/q", json!({})).await.is(200);
    keyed(&server, path, "b", json!({ "kind": "k" })).await.is(201);
}

#[tokio::test]
async fn a_bulk_repeated_under_its_key_says_deduplicated() {
    let server = TestServer::start().await;
    let path = "/v1/queues/q/jobs/bulk";
    let body = json!({ "jobs": [{"kind": "a"}, {"kind": "b"}] });
    let first = keyed(&server, path, "a", body.clone()).await.is(200);
    let again = keyed(&server, path, "a", body).await.is(200);
    for n in 0..2 {
        assert_eq!(first["results"][n]["id"], again["results"][n]["id"]);
        assert_eq!(
            (&first["results"][n]["deduplicated"], &again["results"][n]["deduplicated"]),
            (&json!(false), &json!(true))
        );
    }
    let lines = || {
        let request = server.request("POST", path).header("idempotency-key", "lines");
        request.header("content-type", "application/x-ndjson").body("{\"kind\":\"c\"}\n")
    };
    let first = lines().send().await.is(200);
    assert_eq!(lines().send().await.is(200)["results"][0]["id"], first["results"][0]["id"]);
    assert_eq!(server.get("/v1/queues/q").await.is(200)["depth"]["available"], 3);
}

#[tokio::test]
async fn a_claim_repeated_under_its_key_gets_its_grants_while_they_live() {
    let server = Setup::default().manual_clock().start().await;
    let path = "/v1/jobs/claim";
    let claim = json!({ "queues": ["q"], "max": 2 });
    assert_eq!(keyed(&server, path, "a", claim.clone()).await.is(200)["jobs"], json!([]));
    let id = server.enqueue("q", json!({})).await;
    let first = keyed(&server, path, "a", claim.clone()).await.is(200);
    assert_eq!(first["jobs"][0]["id"], id, "an empty claim is tried anew");
    server.enqueue("q", json!({})).await;
    let with_wait = json!({ "queues": ["q"], "max": 2, "wait_ms": 5000 });
    assert_eq!(keyed(&server, path, "a", with_wait).await.is(200), first, "and never grants anew");
    keyed(&server, path, "a", json!({ "queues": ["q"] })).await.problem(422, "idempotency-mismatch");
    let done = json!({ "lease": first["jobs"][0]["lease"] });
    server.post(&format!("/v1/jobs/{id}/complete"), done).await.is(200);
    assert_eq!(keyed(&server, path, "a", claim).await.is(200)["jobs"], json!([]));
}

#[tokio::test]
async fn everything_else_repeats_to_the_byte() {
    let server = Setup::default().manual_clock().start().await;
    let id = server.enqueue("q", json!({})).await;
    let job = format!("/v1/jobs/{id}");
    let (_, lease) = server.claim_one("q").await;
    let fail = json!({ "lease": lease, "error": {"message": "m"} });
    let rows = [
        (format!("{job}/extend"), json!({ "lease": lease })),
        (format!("{job}/fail"), fail),
        (format!("{job}/retry"), json!({})),
        (format!("{job}/cancel"), json!({})),
        ("/v1/queues/q/pause".to_owned(), json!({})),
        ("/v1/queues/q/purge".to_owned(), json!({})),
        ("/v1/commit".to_owned(), json!({ "ops": [{"op": "enqueue", "queue": "z", "kind": "k"}] })),
    ];
    for (path, body) in rows {
        let first = keyed(&server, &path, "a", body.clone()).await;
        server.advance(mainstay::secs(3));
        let again = keyed(&server, &path, "a", body).await;
        let (first, again) = (first.is(200), again.is(200));
        assert_eq!(first, again, "{path}");
    }
    assert_eq!(server.get("/v1/queues/z").await.is(200)["depth"]["available"], 1);
}

#[tokio::test]
async fn a_keyed_settle_repeats_its_items_and_its_grants() {
    let server = Setup::default().manual_clock().start().await;
    for _ in 0..3 {
        server.enqueue("q", json!({})).await;
    }
    let (id, lease) = server.claim_one("q").await;
    let item = |outcome: &str| json!({ "id": id, "lease": lease, "outcome": outcome, "delay_ms": 60000 });
    let claim = json!({ "queues": ["q"] });
    let body = json!({ "items": [item("release")], "claim": claim });
    let first = keyed(&server, "/v1/jobs/settle", "a", body.clone()).await.is(200);
    assert_eq!(first["results"][0]["state"], "scheduled");
    assert_eq!(first["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(keyed(&server, "/v1/jobs/settle", "a", body).await.is(200), first);
    // Another body settles nothing, also where it has more items than the first.
    let (other, other_lease) = server.claim_one("q").await;
    let more = json!({ "id": other, "lease": other_lease, "outcome": "complete" });
    let body = json!({ "items": [item("release"), more], "claim": claim });
    keyed(&server, "/v1/jobs/settle", "a", body).await.problem(422, "idempotency-mismatch");
    assert_eq!(server.job(&other).await["state"], "running");
}

#[tokio::test]
async fn a_trigger_and_a_resume_repeated_after_their_schedule_is_gone_get_their_first_answer() {
    let server = TestServer::start().await;
    let schedule = json!({ "cron": "0 0 1 1 *", "queue": "q", "job": { "kind": "k" } });
    server.put("/v1/schedules/s", schedule).await.is(200);
    let [trigger, resume] = ["trigger", "resume"].map(|verb| format!("/v1/schedules/s/{verb}"));
    let (trigger, resume) = (&trigger[..], &resume[..]);
    let first = keyed(&server, trigger, "a", json!({})).await.is(200);
    keyed(&server, resume, "b", json!({})).await.is(200);
    assert_eq!(server.delete("/v1/schedules/s").await.status, 204);
    assert_eq!(keyed(&server, trigger, "a", json!({})).await.is(200)["id"], first["id"]);
    keyed(&server, resume, "b", json!({})).await.is(200);
    keyed(&server, trigger, "c", json!({})).await.problem(404, "not-found");
    keyed(&server, resume, "c", json!({})).await.problem(404, "not-found");
}
