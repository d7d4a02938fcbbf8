//! Places, rates and turns, from outside.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Setup, TestServer};

#[tokio::test]
async fn the_limits_of_a_queue_are_shown_as_they_were_put() {
    let server = TestServer::start().await;
    let limits = json!({
        "concurrency": 20, "key_concurrency": 2, "rate": {"per_ms": 1000, "count": 50},
        "fairness": {"by": "fairness_key", "weights": {"gold": 2.5, "trial": 0.001}}, "ageing_ms": 60000,
    });
    let shown = server.put("/v1/queues/q", limits.clone()).await.is(200);
    for (name, value) in limits.as_object().unwrap() {
        assert_eq!(&shown["config"][name], value, "{name}");
    }
    assert_eq!(server.get("/v1/queues/q").await.is(200), shown);
    let shown = server.put("/v1/queues/q", json!({})).await.is(200);
    let config = shown["config"].as_object().unwrap();
    assert_eq!(config["key_concurrency"], 1, "the default is shown");
    for name in ["concurrency", "rate", "fairness", "ageing_ms"] {
        assert!(!config.contains_key(name), "{name} is replaced by nothing");
    }
}

#[tokio::test]
async fn a_key_runs_one_job_at_a_time_however_its_jobs_came() {
    let server = TestServer::start().await;
    let job =
        |n: u8| json!({ "kind": "k", "payload": n, "concurrency_key": "tenant-7", "fairness_key": "eu" });
    let first = server.post("/v1/queues/q/jobs", job(0)).await.is(201);
    server.post("/v1/queues/q/jobs/bulk", json!({ "jobs": [job(1)] })).await.is(200);
    let mut op = job(2);
    op["op"] = json!("enqueue");
    op["queue"] = json!("q");
    server.post("/v1/commit", json!({ "ops": [op] })).await.is(200);

    let view = server.get(&format!("/v1/jobs/{}", first["id"].as_str().unwrap())).await.is(200);
    assert_eq!((&view["concurrency_key"], &view["fairness_key"]), (&json!("tenant-7"), &json!("eu")));
    let mut seen = vec![];
    for _ in 0..3 {
        let jobs = server.claim("q", 10).await;
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        assert!(server.claim("q", 10).await.is_empty(), "empty, not an error");
        seen.push(jobs[0]["payload"].clone());
        let path = format!("/v1/jobs/{}/complete", jobs[0]["id"].as_str().unwrap());
        server.post(&path, json!({ "lease": jobs[0]["lease"] })).await.is(200);
    }
    assert_eq!(seen, [0, 1, 2].map(Value::from));
}

#[tokio::test]
async fn a_claim_that_waits_gets_the_place_that_comes_free() {
    let server = TestServer::start().await;
    server.put("/v1/queues/q", json!({ "concurrency": 1 })).await.is(200);
    server.enqueue("q", json!({})).await;
    let second = server.enqueue("q", json!({})).await;
    let (id, lease) = server.claim_one("q").await;
    let waiting = server.post("/v1/jobs/claim", json!({ "queues": ["q"], "wait_ms": 60000 }));
    let path = format!("/v1/jobs/{id}/release");
    let ending = server.post(&path, json!({ "lease": lease, "delay_ms": 3_600_000 }));
    let (claimed, ended) = tokio::join!(waiting, ending);
    ended.is(200);
    assert_eq!(claimed.is(200)["jobs"][0]["id"], second);
}

#[tokio::test]
async fn a_claim_that_waits_gets_the_job_when_the_rate_allows_it() {
    let server = Setup::default().manual_clock().start().await;
    server.put("/v1/queues/q", json!({ "rate": {"per_ms": 5000, "count": 1} })).await.is(200);
    server.enqueue("q", json!({})).await;
    let second = server.enqueue("q", json!({})).await;
    server.claim_one("q").await;
    assert!(server.claim("q", 1).await.is_empty());
    let waiting = server.post("/v1/jobs/claim", json!({ "queues": ["q"], "wait_ms": 60000 }));
    // Whichever comes first, the claim must get the job.
    let (claimed, ()) = tokio::join!(waiting, async { server.advance(Duration::from_secs(5)) });
    assert_eq!(claimed.is(200)["jobs"][0]["id"], second);
}
