//! Jobs that wait for other jobs, and queues that ask their producers to give way.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::run;
use crate::client::pointers;
use crate::server::{Setup, TestServer};

const UNKNOWN: &str = "0192f7c6-5f2a-7000-8000-00000000ffff";

async fn complete(server: &TestServer, queue: &str) -> String {
    let (id, lease) = server.claim_one(queue).await;
    server.post(&format!("/v1/jobs/{id}/complete"), json!({ "lease": lease })).await.is(200);
    id
}

async fn state(server: &TestServer, id: &Value) -> Value {
    server.job(id.as_str().unwrap()).await["state"].clone()
}

#[tokio::test]
async fn a_graph_in_one_bulk_runs_in_its_order() {
    let server = TestServer::start().await;
    let jobs = json!({ "jobs": [
        {"kind": "extract"},
        {"kind": "clean", "after": ["#0"]},
        {"kind": "count", "after": ["#0"]},
        {"kind": "report", "after": ["#1", "#2"], "after_failure": "run"},
    ]});
    let made = server.post("/v1/queues/q/jobs/bulk", jobs).await.is(200);
    let ids: Vec<_> = (0..4).map(|n| made["results"][n]["id"].clone()).collect();
    let states: Vec<_> = (0..4).map(|n| made["results"][n]["state"].clone()).collect();
    assert_eq!(states, ["available", "blocked", "blocked", "blocked"]);
    let report = server.job(ids[3].as_str().unwrap()).await;
    assert_eq!(report["after"], json!([ids[1], ids[2]]), "as ids");
    assert_eq!((&report["after_failure"], &report["waiting_for"]), (&json!("run"), &json!(2)));
    assert_eq!(server.get("/v1/queues/q").await.is(200)["depth"]["blocked"], 3);
    let blocked = server.get("/v1/jobs?state=blocked&queue=q").await.is(200);
    assert_eq!(blocked["items"].as_array().unwrap().len(), 3);

    complete(&server, "q").await;
    assert_eq!(server.claim("q", 9).await.len(), 2, "both that waited for it, and not the last");
    assert_eq!(state(&server, &ids[3]).await, "blocked");
    let first = server.job(ids[0].as_str().unwrap()).await;
    assert!(first["after"].is_null() && first["waiting_for"].is_null());
}

#[tokio::test]
async fn a_commit_ends_a_job_and_starts_a_chain() {
    let server = TestServer::start().await;
    server.enqueue("q", json!({})).await;
    let (id, lease) = server.claim_one("q").await;
    let done = server
        .post(
            "/v1/commit",
            json!({ "ops": [
                {"op": "complete", "id": id, "lease": lease},
                {"op": "enqueue", "queue": "a", "kind": "k", "after": [id]},
                {"op": "enqueue", "queue": "b", "kind": "k", "after": ["#1"]},
            ]}),
        )
        .await
        .is(200);
    assert_eq!(
        (&done["results"][1]["state"], &done["results"][2]["state"]),
        (&json!("available"), &json!("blocked"))
    );
    assert_eq!(complete(&server, "a").await, done["results"][1]["id"].as_str().unwrap());
    assert_eq!(server.claim("b", 1).await.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_waited_for_is_named_by_its_place() {
    let server = TestServer::start().await;
    let known = server.enqueue("q", json!({})).await;
    let path = "/v1/queues/q/jobs";
    // No job can have this id, one could have the other.
    let other = "00000000-0000-4000-8000-000000000000";
    let problem = server.post(path, json!({ "kind": "k", "after": [known, UNKNOWN, other] })).await;
    assert_eq!(pointers(&problem.problem(422, "validation-failed")), ["/after/1", "/after/2"]);
    let problem = server.post(path, json!({ "kind": "k", "after": ["#0"] })).await;
    assert_eq!(pointers(&problem.problem(422, "validation-failed")), ["/after/0"], "it is alone");
    let problem = server.post(path, json!({ "kind": "", "after": ["x"], "after_failure": "stop" })).await;
    let wrong = pointers(&problem.problem(422, "validation-failed"));
    assert_eq!(wrong, ["/after/0", "/after_failure", "/kind"]);
    let bulk = json!({ "jobs": [{"kind": "k"}, {"kind": "k", "after": ["#0", UNKNOWN]}] });
    let problem = server.post(&format!("{path}/bulk"), bulk).await;
    assert_eq!(pointers(&problem.problem(422, "validation-failed")), ["/jobs/1/after/1"]);
    let bulk = json!({ "jobs": [{"kind": "k", "after": ["#0", "#1"]}, {"kind": "k"}] });
    let problem = server.post(&format!("{path}/bulk"), bulk).await;
    assert_eq!(pointers(&problem.problem(422, "validation-failed")), ["/jobs/0/after/0", "/jobs/0/after/1"]);
    let ops = json!({ "ops": [{"op": "enqueue", "queue": "q", "kind": "k", "after": [UNKNOWN]}] });
    let problem = server.post("/v1/commit", ops).await;
    assert_eq!(pointers(&problem.problem(422, "validation-failed")), ["/ops/0/after/0"]);
    assert_eq!(server.get("/v1/queues/q").await.is(200)["depth"]["available"], 1, "nothing was added");
}

#[tokio::test]
async fn a_blocked_job_cannot_be_retried_and_goes_with_what_it_waits_for() {
    let server = TestServer::start().await;
    let first = server.enqueue("q", json!({})).await;
    let next = server.enqueue("q", json!({ "after": [first] })).await;
    let last = server.enqueue("q", json!({ "after": [next], "after_failure": "run" })).await;
    server.post(&format!("/v1/jobs/{next}/retry"), json!({})).await.problem(409, "state-conflict");
    server.post(&format!("/v1/jobs/{first}/cancel"), json!({})).await.is(200);
    for id in [&next, &last] {
        assert_eq!(server.job(id).await["state"], "cancelled");
    }
    let born = server.post("/v1/queues/q/jobs", json!({ "kind": "k", "after": [first] })).await.is(201);
    assert_eq!(born["state"], "cancelled");
}

#[tokio::test]
async fn a_queue_tells_how_full_it_is_before_it_refuses() {
    let server = Setup::default().manual_clock().start().await;
    let config = json!({ "max_depth": 4, "max_age_ms": 10_000 });
    server.put("/v1/queues/q", config.clone()).await.is(200);
    let shown = server.get("/v1/queues/q").await.is(200)["config"].clone();
    assert_eq!((&shown["max_depth"], &shown["max_age_ms"]), (&json!(4), &json!(10_000)));
    let path = "/v1/queues/q/jobs";
    assert_eq!(server.post(path, json!({ "kind": "k" })).await.is(201)["pressure"], 0.25);
    server.advance(Duration::from_secs(9));
    let bulk = server.post(&format!("{path}/bulk"), json!({ "jobs": [{"kind": "k"}] })).await.is(200);
    assert_eq!(bulk["pressure"], 0.9);
    server.advance(Duration::from_secs(2));
    let refused = server.post(path, json!({ "kind": "k" })).await;
    assert_eq!(refused.header("retry-after"), Some("22"), "two jobs, and none has ended in 11 s");
    let problem = refused.problem(429, "queue-full");
    assert!(problem["detail"].as_str().unwrap().contains("max_age_ms"), "{problem}");
    assert_eq!((&problem["retryable"], &problem["outcome"]), (&json!(true), &json!("not-applied")));
    let free = server.post("/v1/queues/free/jobs", json!({ "kind": "k" })).await.is(201);
    assert!(free["pressure"].is_null());
}

#[tokio::test]
async fn the_command_line_names_what_a_job_waits_for() {
    let server = TestServer::start().await;
    let first = run(&server, &["jobs", "enqueue", "q", "k"]).await.ok();
    let line = ["jobs", "enqueue", "q", "k", "--after", &first, "--after-failure", "cancel"];
    let next = run(&server, &line).await.ok();
    let job = server.job(&next).await;
    assert_eq!((&job["state"], &job["after"]), (&json!("blocked"), &json!([first])));
    assert_eq!(job["after_failure"], "cancel");
    let shown = run(&server, &["jobs", "show", &next]).await.ok();
    assert!(shown.contains("blocked") && shown.contains(&first), "{shown}");
    let error = run(&server, &["jobs", "enqueue", "q", "k", "--after", UNKNOWN]).await.failed(1);
    assert!(error.contains("/after/0"), "{error}");
    run(&server, &["jobs", "enqueue", "q", "k", "--after-failure", "run"]).await.failed(2);
}

#[tokio::test]
async fn a_producer_that_is_refused_learns_of_patience_and_patience_has_an_end() {
    let server = TestServer::start().await;
    server.put("/v1/queues/q", json!({ "max_depth": 1 })).await.is(200);
    let id = server.enqueue("q", json!({})).await;
    let error = run(&server, &["jobs", "enqueue", "q", "k"]).await.failed(1);
    assert!(error.contains("--patience-ms"), "{error}");
    run(&server, &["jobs", "enqueue", "q", "k", "--patience-ms", "10"]).await.failed(1);
    server.delete(&format!("/v1/jobs/{id}")).await.is(204);
    run(&server, &["jobs", "enqueue", "q", "k", "--patience-ms", "60000"]).await.ok();
}

#[tokio::test]
async fn what_only_the_store_knows_is_told_with_what_can_be_read() {
    let server = TestServer::start().await;
    let there = server.enqueue("q", json!({})).await;
    let elsewhere = server.enqueue("other", json!({})).await;
    let job = json!({ "kind": "", "after": [UNKNOWN, "x", there, UNKNOWN], "id": elsewhere });
    let without_id = json!({ "kind": "", "after": [UNKNOWN, "x", there, UNKNOWN] });
    let refused = async |path: &str, body: Value| {
        pointers(
            &server.post(&format!("/v1/queues/q/jobs{path}"), body).await.problem(422, "validation-failed"),
        )
    };
    assert_eq!(refused("", job).await, ["/after/1", "/id", "/kind"], "a duplicate waits for nothing new");
    assert_eq!(refused("", without_id).await, ["/after/0", "/after/1", "/after/3", "/kind"]);
    let both = json!({ "kind": "k", "id": elsewhere });
    let own = "0192f7c6-5f2a-7000-8000-00000000aaaa";
    let jobs = json!([both, {"kind": "k", "id": own}, {"kind": "k", "after": [own, UNKNOWN]}, both]);
    let wrong = ["/jobs/0/id", "/jobs/2/after/1", "/jobs/3/id"];
    assert_eq!(refused("/bulk", json!({ "jobs": jobs })).await, wrong);
    let lines: String = jobs.as_array().unwrap().iter().map(|job| format!("{job}\n\n")).collect();
    let request =
        server.request("POST", "/v1/queues/q/jobs/bulk").header("content-type", "application/x-ndjson");
    assert_eq!(pointers(&request.body(lines).send().await.problem(422, "validation-failed")), wrong);
    assert_eq!(server.get("/v1/queues/q").await.is(200)["depth"]["available"], 1, "nothing was written");
}
