//! Clients that go away, and what becomes of the jobs they were about to get.

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::server::TestServer;

/// Takes jobs until it has this many, waiting for each.
async fn collect(server: &TestServer, count: usize) -> Vec<Value> {
    let mut jobs = Vec::new();
    while jobs.len() < count {
        let claim = json!({ "queues": ["q"], "max": 100, "wait_ms": 60000 });
        let claimed = server.post("/v1/jobs/claim", claim).await.is(200);
        let claimed = claimed["jobs"].as_array().unwrap().clone();
        assert!(!claimed.is_empty(), "a job is missing: {} of {count}", jobs.len());
        jobs.extend(claimed);
    }
    jobs
}

fn claim(server: &TestServer, wait_ms: u64) -> crate::client::Request {
    server.request("POST", "/v1/jobs/claim").json(json!({ "queues": ["q"], "max": 100, "wait_ms": wait_ms }))
}

#[tokio::test]
async fn a_client_that_left_while_it_waited_is_granted_nothing() {
    let server = TestServer::start().await;
    for round in 0..20 {
        drop(claim(&server, 60000).open().await);
        let id = server.enqueue("q", json!({})).await;
        let job = collect(&server, 1).await.remove(0);
        assert_eq!(
            (&job["id"], &job["attempt"], &job["crashes"]),
            (&json!(id), &json!(1), &json!(0)),
            "{round}"
        );
    }
}

/// Sends a request behind one that waits, and is gone long before the server comes to it.
pub async fn behind_one_that_waits(server: &TestServer, request: crate::client::Request) {
    let gate = server.enqueue("gate", json!({})).await;
    let (_, lease) = server.claim_one("gate").await;
    let wait = server.request("GET", &format!("/v1/jobs/{gate}/result?wait_ms=60000"));
    drop(wait.and_then(request).open().await);
    let open = json!({ "lease": lease });
    server.post(&format!("/v1/jobs/{gate}/complete"), open).await.is(200);
}

#[tokio::test]
async fn a_client_that_left_before_its_claim_was_begun_is_granted_nothing() {
    let server = TestServer::start().await;
    for round in 0..20 {
        let id = server.enqueue("q", json!({})).await;
        behind_one_that_waits(&server, claim(&server, 0)).await;
        let job = collect(&server, 1).await.remove(0);
        assert_eq!(
            (&job["id"], &job["attempt"], &job["crashes"]),
            (&json!(id), &json!(1), &json!(0)),
            "{round}"
        );
    }
}

#[tokio::test]
async fn a_settle_of_a_client_that_left_counts_and_its_claim_does_not() {
    let server = TestServer::start().await;
    for round in 0..20 {
        let done = server.enqueue("done", json!({})).await;
        let (_, lease) = server.claim_one("done").await;
        let item = json!({ "id": done, "lease": lease, "outcome": "complete" });
        let settle = json!({ "items": [item], "claim": {"queues": ["q"], "wait_ms": 60000} });
        let waiting = server.request("POST", "/v1/jobs/settle").json(settle).open().await;
        let result = server.get(&format!("/v1/jobs/{done}/result?wait_ms=60000")).await.is(200);
        assert_eq!(result["state"], "completed", "the items do not wait for the claim");
        drop(waiting);
        let next = server.enqueue("q", json!({})).await;
        let job = collect(&server, 1).await.remove(0);
        assert_eq!(
            (&job["id"], &job["attempt"], &job["crashes"]),
            (&json!(next), &json!(1), &json!(0)),
            "{round}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_could_not_be_written_is_given_back() {
    let server = TestServer::start().await;
    // More than the buffers between here and there take.
    let payload = "x".repeat((1 << 20) - 2);
    for _ in 0..14 {
        server.enqueue("q", json!({ "payload": payload })).await;
    }
    let mut stream = claim(&server, 0).open().await;
    let mut begin = [0; 8];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1", "the answer is under way");
    drop(stream);
    let jobs = collect(&server, 14).await;
    assert!(jobs.iter().all(|job| job["attempt"] == 1 && job["crashes"] == 0));
}

#[tokio::test]
async fn the_answer_to_a_key_is_kept_for_its_repeat() {
    let server = TestServer::start().await;
    let payload = "x".repeat((1 << 20) - 2);
    for _ in 0..14 {
        server.enqueue("q", json!({ "payload": payload })).await;
    }
    let keyed = || claim(&server, 0).header("idempotency-key", "a");
    let mut stream = keyed().open().await;
    let mut begin = [0; 8];
    stream.read_exact(&mut begin).await.unwrap();
    drop(stream);
    let again = keyed().send().await.is(200);
    assert_eq!(again["jobs"].as_array().unwrap().len(), 14);
    let queue = server.get("/v1/queues/q").await.is(200);
    assert_eq!(queue["depth"]["running"], 14);
}
