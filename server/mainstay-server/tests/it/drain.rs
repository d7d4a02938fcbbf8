//! The drain, seen from the wire.

use serde_json::json;

use crate::server::{Setup, TestServer};

/// A server in its lame duck, which only a further demand ends.
async fn lame_duck(server: &TestServer) {
    server.shutdown.begin();
    server.shutdown.draining().await;
}

#[tokio::test]
async fn the_lame_duck_hands_out_nothing_and_takes_everything() {
    let server = Setup::default().set("lame_duck_ms", 20000).start().await;
    server.enqueue("q", json!({})).await;
    server.enqueue("q", json!({})).await;
    let (id, lease) = server.claim_one("q").await;
    let (other, other_lease) = server.claim_one("q").await;
    let waiting = server.post("/v1/jobs/claim", json!({ "queues": ["empty"], "wait_ms": 60000 }));
    let (waited, ()) = tokio::join!(waiting, lame_duck(&server));
    assert_eq!(waited.is(200), json!({"jobs": []}), "a claim that waits returns at once");

    for probe in [server.get("/readyz").await, server.on_admin("GET", "/readyz").send().await] {
        assert_eq!(probe.is(503), json!({"status": "not_ready", "reason": "draining"}));
    }
    assert_eq!(server.get("/livez").await.status, 200);
    let reply = server.post("/v1/queues/q/jobs", json!({ "kind": "k" })).await;
    assert_eq!(reply.header("connection"), Some("close"));
    reply.is(201);
    let extend = json!({ "lease": lease });
    server.post(&format!("/v1/jobs/{id}/extend"), extend.clone()).await.is(200);
    let claim = json!({ "queues": ["q"], "wait_ms": 60000 });
    assert_eq!(server.post("/v1/jobs/claim", claim.clone()).await.is(200), json!({"jobs": []}));
    let item = json!({ "id": id, "lease": lease, "outcome": "complete" });
    let settled = server.post("/v1/jobs/settle", json!({ "items": [item], "claim": claim })).await.is(200);
    assert_eq!(settled, json!({"results": [{"id": id, "state": "completed"}], "jobs": []}));
    let result = server.get(&format!("/v1/jobs/{other}/result?wait_ms=60000")).await;
    assert_eq!(result.is(202), json!({"state": "running"}));
    let release = json!({ "lease": other_lease });
    server.post(&format!("/v1/jobs/{other}/release"), release).await.is(200);

    server.shutdown.hurry();
    let ended = server.stop().await;
    assert_eq!((ended.exit_code(), ended.cut.len()), (0, 0), "{ended:?}");
}

#[tokio::test]
async fn the_lame_duck_grants_no_locks_and_renews_and_releases_those_there_are() {
    let server = Setup::default().set("lame_duck_ms", 20000).start().await;
    let held = server.post("/v1/locks/l/acquire", json!({ "owner": "a" })).await.is(200);
    let waiting = server.post("/v1/locks/l/acquire", json!({ "owner": "b", "wait_ms": 60000 }));
    let (waited, ()) = tokio::join!(waiting, async {
        server.get_until("/v1/locks/l", |lock| lock["waiters"][0]["owner"] == "b").await;
        lame_duck(&server).await;
    });
    assert_eq!(waited.header("retry-after"), Some("1"));
    assert_eq!(waited.problem(503, "draining")["retryable"], true);
    server.post("/v1/locks/free/acquire", json!({ "owner": "c" })).await.problem(503, "draining");

    let lease = json!({ "lease": held["lease"] });
    server.post("/v1/locks/l/renew", lease.clone()).await.is(200);
    server.post("/v1/locks/l/release", lease).await.is(200);
    server.get("/v1/locks/l").await.problem(404, "not-found");
    server.shutdown.hurry();
    assert_eq!(server.stop().await.exit_code(), 0);
}

#[tokio::test]
async fn outstanding_leases_are_no_reason_for_a_bad_end() {
    let server = TestServer::start().await;
    server.enqueue("q", json!({})).await;
    server.claim_one("q").await;
    let reply = server.on_admin("POST", "/admin/drain").send().await;
    assert_eq!(reply.is(202)["status"], "draining");
    assert_eq!(server.stop().await.exit_code(), 0);
}
