//! One commit for everything.

use serde_json::{Value, json};

use crate::client::pointers;
use crate::server::TestServer;

async fn commit(server: &TestServer, body: Value) -> crate::client::Reply {
    server.post("/v1/commit", body).await
}

#[tokio::test]
async fn a_job_ends_and_starts_its_successors_at_once() {
    let server = TestServer::start().await;
    server.enqueue("q", json!({})).await;
    let (id, lease) = server.claim_one("q").await;
    let done = commit(
        &server,
        json!({ "require": [{"job": id, "lease": lease}], "ops": [
            {"op": "complete", "id": id, "lease": lease, "result": 1},
            {"op": "enqueue", "queue": "next", "kind": "a"},
            {"op": "enqueue", "queue": "next", "kind": "b", "delay_ms": 1000},
        ]}),
    );
    let done = done.await.is(200);
    let results = done["results"].as_array().unwrap();
    assert_eq!(results[0], json!({"state": "completed"}));
    assert_eq!((&results[1]["kind"], &results[2]["state"]), (&json!("a"), &json!("scheduled")));
}

#[tokio::test]
async fn one_op_that_cannot_be_undoes_all_and_is_named() {
    let server = TestServer::start().await;
    server.put("/v1/queues/full", json!({ "max_depth": 1 })).await.is(200);
    server.enqueue("full", json!({})).await;
    server.enqueue("q", json!({})).await;
    let (id, lease) = server.claim_one("q").await;
    let enqueue = json!({"op": "enqueue", "queue": "new", "kind": "k"});
    let unknown = "0192f7c6-5f2a-7000-8000-00000000ffff";
    let rows = [
        (json!({"op": "complete", "id": id, "lease": "1-0000000000000000"}), 409, "lease-lost"),
        (json!({"op": "release", "id": unknown, "lease": "x"}), 404, "not-found"),
        (
            json!({"op": "complete", "id": "00000000-0000-4000-8000-000000000000", "lease": "x"}),
            404,
            "not-found",
        ),
        (json!({"op": "enqueue", "queue": "full", "kind": "k"}), 429, "queue-full"),
    ];
    for (op, status, code) in rows {
        let problem = commit(&server, json!({ "ops": [enqueue, op] })).await.problem(status, code);
        assert_eq!(pointers(&problem), ["/ops/1"], "{problem}");
        assert_eq!(problem["outcome"], "not-applied");
    }
    let require = json!([{"job": id, "lease": lease}, {"job": id, "lease": "1-0000000000000000"}]);
    let problem = commit(&server, json!({ "require": require, "ops": [enqueue] })).await;
    assert_eq!(pointers(&problem.problem(409, "state-conflict")), ["/require/1"]);
    let unknown = json!([{"job": unknown, "lease": "x"}]);
    let problem = commit(&server, json!({ "require": unknown, "ops": [enqueue] })).await;
    assert_eq!(pointers(&problem.problem(409, "state-conflict")), ["/require/0"]);
    server.get("/v1/queues/new").await.problem(404, "not-found");

    let settle = json!({ "ops": [{"op": "complete", "id": id, "lease": lease}, enqueue] });
    commit(&server, settle.clone()).await.is(200);
    let problem = commit(&server, settle).await.problem(409, "already-settled");
    assert_eq!(pointers(&problem), ["/ops/0"]);
    assert_eq!(server.get("/v1/queues/new").await.is(200)["depth"]["available"], 1);
}
