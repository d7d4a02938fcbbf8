//! Ending many claims at once.

use std::sync::Arc;

use serde_json::{Value, json};

use mainstay_testkit::clock::ManualClock;

use crate::changing::Changing;
use crate::server::{Setup, TestServer};

fn item(id: &str, lease: &str, outcome: &str) -> Value {
    json!({ "id": id, "lease": lease, "outcome": outcome })
}

#[tokio::test]
async fn each_item_stands_alone_and_the_claim_comes_with_it() {
    let server = TestServer::start().await;
    for _ in 0..6 {
        server.enqueue("q", json!({})).await;
    }
    let jobs = server.claim("q", 5).await;
    let of = |n: usize, outcome: &str| {
        item(jobs[n]["id"].as_str().unwrap(), jobs[n]["lease"].as_str().unwrap(), outcome)
    };
    let mut failed = of(1, "fail");
    failed["error"] = json!({ "message": "m" });
    failed["retry"] = json!({ "delay_ms": 60000 });
    let items = json!([
        of(0, "complete"),
        failed,
        of(2, "release"),
        of(3, "cancel"),
        of(4, "extend"),
        item(jobs[0]["id"].as_str().unwrap(), "1-0000000000000000", "complete"),
        item("0192f7c6-5f2a-7000-8000-00000000ffff", "x", "complete"),
        item("00000000-0000-4000-8000-000000000000", "x", "complete"),
    ]);
    let settled =
        server.post("/v1/jobs/settle", json!({ "items": items, "claim": {"queues": ["q"], "max": 10} }));
    let settled = settled.await.is(200);
    let results = settled["results"].as_array().unwrap();
    let states: Vec<_> = results.iter().map(|result| result["state"].as_str().unwrap_or("-")).collect();
    assert_eq!(states, ["completed", "retryable", "available", "cancelled", "running", "-", "-", "-"]);
    assert!(results[4]["expires_at"].is_string() && results[4]["cancel_requested"] == false);
    let codes: Vec<_> = results[5..].iter().map(|result| result["error"]["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["lease-lost", "not-found", "not-found"]);
    let claimed: Vec<_> = settled["jobs"].as_array().unwrap().iter().map(|job| job["id"].clone()).collect();
    assert_eq!(claimed[0], jobs[2]["id"], "what was given back is handed out first");
    assert_eq!(claimed.len(), 2);
}

#[tokio::test]
async fn a_settle_that_waits_gets_the_job_that_comes() {
    let server = TestServer::start().await;
    let waiting =
        server.post("/v1/jobs/settle", json!({ "items": [], "claim": {"queues": ["q"], "wait_ms": 60000} }));
    let (settled, id) = tokio::join!(waiting, server.enqueue("q", json!({})));
    assert_eq!(settled.is(200)["jobs"][0]["id"], id);
}

#[tokio::test]
async fn what_was_cancelled_while_it_ran_is_told_at_its_next_extend() {
    let server = Setup::default().manual_clock().start().await;
    let id = server.enqueue("q", json!({})).await;
    let (_, lease) = server.claim_one("q").await;
    server.request("POST", &format!("/v1/jobs/{id}/cancel")).send().await.is(200);
    let mut extend = item(&id, &lease, "extend");
    extend["progress"] = json!({ "done": 3 });
    let settled = server.post("/v1/jobs/settle", json!({ "items": [extend] })).await.is(200);
    assert_eq!(settled["results"][0]["cancel_requested"], true);
    assert_eq!(server.job(&id).await["progress"], json!({ "done": 3 }));
    let settled = server.post("/v1/jobs/settle", json!({ "items": [item(&id, &lease, "release")] })).await;
    assert_eq!(settled.is(200)["results"][0]["state"], "cancelled");
}

#[tokio::test]
async fn items_that_were_settled_are_said_to_be_when_the_claim_fails() {
    let clock = ManualClock::new();
    let store = Arc::new(Changing::new(clock.clone()));
    let server = Setup::default().on_store(store.clone(), clock).start().await;
    server.enqueue("q", json!({})).await;
    let (id, lease) = server.claim_one("q").await;
    store.hand_out_nothing();
    let claim = json!({ "queues": ["q"], "wait_ms": 20000 });
    let settle = json!({ "items": [item(&id, &lease, "complete")], "claim": claim });
    let settled = server.post("/v1/jobs/settle", settle).await.is(200);
    assert_eq!((&settled["results"][0]["state"], &settled["jobs"]), (&json!("completed"), &json!([])));
    // Alone, a claim says what is wrong.
    server
        .post("/v1/jobs/settle", json!({ "items": [], "claim": claim }))
        .await
        .problem(503, "storage-unavailable");
}
