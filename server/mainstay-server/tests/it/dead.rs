//! Dead letters.

use serde_json::{Value, json};

use crate::server::TestServer;

/// Makes a dead letter of this kind whose last error has this type.
async fn dead(server: &TestServer, kind: &str, error_type: &str) -> String {
    let id = server.enqueue("q", json!({ "kind": kind })).await;
    let (_, lease) = server.claim_one("q").await;
    let error = json!({ "type": error_type, "message": "m" });
    let fail = json!({ "lease": lease, "error": error, "retry": "never" });
    server.post(&format!("/v1/jobs/{id}/fail"), fail).await.is(200);
    id
}

async fn change(server: &TestServer, verb: &str, select: Value) -> (u64, u64) {
    let answer = server.post(&format!("/v1/queues/q/dead/{verb}"), select).await.is(200);
    (answer["matched"].as_u64().unwrap(), answer["changed"].as_u64().unwrap())
}

#[tokio::test]
async fn dead_letters_are_listed_with_reason_and_error() {
    let server = TestServer::start().await;
    assert_eq!(server.get("/v1/queues/q/dead").await.is(200)["items"], json!([]));
    let id = dead(&server, "a", "io").await;
    let list = server.get("/v1/queues/q/dead").await.is(200);
    let letter = &list["items"][0];
    assert_eq!((&letter["id"], &letter["reason"]), (&json!(id), &json!("permanent")));
    assert_eq!((&letter["error"]["type"], &letter["error"]["attempt"]), (&json!("io"), &json!(1)));
}

#[tokio::test]
async fn dead_letters_are_chosen_counted_and_changed() {
    let server = TestServer::start().await;
    assert_eq!(change(&server, "requeue", json!({})).await, (0, 0), "an unknown queue has none");
    let mut ids = Vec::new();
    for (kind, error) in [("a", "io"), ("a", "db"), ("b", "io"), ("b", "db")] {
        ids.push(dead(&server, kind, error).await);
    }
    let alive = server.enqueue("q", json!({})).await;
    assert_eq!(change(&server, "requeue", json!({ "dry_run": true })).await, (4, 0));
    assert_eq!(change(&server, "requeue", json!({ "kind": "a", "limit": 1 })).await, (2, 1));
    assert_eq!(
        change(&server, "delete", json!({ "error_type": "db" })).await.0,
        change_left(&server, "db").await
    );
    assert_eq!(change(&server, "requeue", json!({ "ids": [] })).await, (0, 0));
    let some = json!({ "ids": [ids[2], ids[2], alive, "00000000-0000-4000-8000-000000000000"] });
    assert_eq!(change(&server, "requeue", some).await, (1, 1));
    assert_eq!(server.job(&ids[2]).await["state"], "available");
    assert_eq!(server.job(&ids[2]).await["attempt"], 0);
}

/// What `delete` by this error type must have matched: all that is gone of the four.
async fn change_left(server: &TestServer, error: &str) -> u64 {
    let left = server.get("/v1/queues/q/dead").await.is(200);
    let left = left["items"].as_array().unwrap().clone();
    assert!(left.iter().all(|letter| letter["error"]["type"] != error));
    let requeued = server.get("/v1/queues/q").await.is(200)["depth"]["available"].as_u64().unwrap() - 1;
    4 - requeued - left.len() as u64
}

#[tokio::test]
async fn more_dead_letters_than_a_chunk_are_changed_all() {
    let server = TestServer::start().await;
    let jobs: Vec<_> = (0..2_500).map(|_| json!({ "kind": "k" })).collect();
    server.post("/v1/queues/q/jobs/bulk", json!({ "jobs": jobs })).await.is(200);
    for _ in 0..3 {
        let items: Vec<_> = server.claim("q", 1000).await.iter().map(|job| {
            json!({ "id": job["id"], "lease": job["lease"], "outcome": "fail", "error": {"message": "m"}, "retry": "never" })
        }).collect();
        server.post("/v1/jobs/settle", json!({ "items": items })).await.is(200);
    }
    assert_eq!(change(&server, "requeue", json!({ "limit": 1200 })).await, (2500, 1200));
    let path = "/v1/queues/q/dead/delete";
    let keyed = || server.request("POST", path).header("idempotency-key", "d1").json(json!({}));
    let first = keyed().send().await.is(200);
    assert_eq!(first, json!({ "matched": 1300, "changed": 1300 }));
    assert_eq!(keyed().send().await.is(200), first, "a repeat says the same and changes nothing");
    assert_eq!(server.request("POST", "/v1/queues/q/purge").send().await.is(200), json!({ "purged": 1200 }));
}
