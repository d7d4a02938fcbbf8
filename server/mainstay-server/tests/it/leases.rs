//! Leases over the wire, on a clock that the test moves.

use mainstay::secs;
use serde_json::{Value, json};

use crate::server::Setup;

#[tokio::test]
async fn a_worker_that_is_gone_loses_its_job_and_cannot_finish_it() {
    let server = Setup::default().manual_clock().start().await;
    let id = server.enqueue("q", json!({})).await;
    let stale = server.claim("q", 1).await.remove(0);
    server.advance(secs(31));
    let complete = format!("/v1/jobs/{id}/complete");
    let late = server.post(&complete, json!({ "lease": stale["lease"] })).await;
    assert_eq!(late.problem(409, "lease-lost")["outcome"], "not-applied");

    let taken = server.claim("q", 1).await.remove(0);
    assert_eq!((&taken["id"], &taken["attempt"], &taken["crashes"]), (&json!(id), &json!(2), &json!(1)));
    assert!(taken["token"].as_u64() > stale["token"].as_u64(), "a fencing token only grows");
    server.post(&complete, json!({ "lease": stale["lease"] })).await.problem(409, "lease-lost");
    server.post(&complete, json!({ "lease": taken["lease"] })).await.is(200);
}

#[tokio::test]
async fn an_extended_lease_lives_on_but_not_past_the_jobs_time_limit() {
    let server = Setup::default().manual_clock().start().await;
    let id = server.enqueue("q", json!({ "timeout_ms": 70000 })).await;
    let (_, lease) = server.claim_one("q").await;
    let extend = format!("/v1/jobs/{id}/extend");
    let seconds = |answer: &Value| answer["expires_at"].as_str().unwrap()[14..19].to_owned();
    server.advance(secs(29));
    let first = server.post(&extend, json!({ "lease": lease, "extend_ms": 60000 })).await.is(200);
    assert_eq!(seconds(&first), "01:10", "70 s after the claim, not 89 s");
    server.advance(secs(40));
    server.post(&extend, json!({ "lease": lease })).await.is(200);
    server.advance(secs(2));
    server.post(&extend, json!({ "lease": lease })).await.problem(409, "lease-lost");
}

#[tokio::test]
async fn an_extend_beyond_the_time_limit_says_that_it_is_the_limit() {
    let server = Setup::default().manual_clock().start().await;
    let id = server.enqueue("q", json!({ "timeout_ms": 5000 })).await;
    let (_, lease) = server.claim_one("q").await;
    server.advance(secs(6));
    let extend = server.post(&format!("/v1/jobs/{id}/extend"), json!({ "lease": lease })).await;
    let detail = extend.problem(409, "lease-lost")["detail"].clone();
    assert!(detail.as_str().unwrap().contains("timeout_ms of 5000 ms"), "{detail}");
    let item = json!({ "id": id, "lease": lease, "outcome": "extend" });
    let settled = server.post("/v1/jobs/settle", json!({ "items": [item] })).await.is(200);
    assert_eq!(settled["results"][0]["error"], json!({ "code": "lease-lost", "detail": detail }));
    server.post(&format!("/v1/jobs/{id}/complete"), json!({ "lease": lease })).await.is(200);
}

#[tokio::test]
async fn a_lease_that_is_not_asked_for_keeps_the_servers_bounds() {
    let setup = Setup::default().manual_clock().set("limits__lease_max_ms", 5000);
    let server = setup.set("limits__lease_min_ms", 1000).start().await;
    let id = server.enqueue("q", json!({})).await;
    let claimed = server.claim("q", 1).await.remove(0);
    server.advance(secs(2));
    let extend = json!({ "lease": claimed["lease"] });
    let extended = server.post(&format!("/v1/jobs/{id}/extend"), extend).await.is(200);
    let acquired = server.post("/v1/locks/l/acquire", json!({ "owner": "o" })).await.is(200);
    let group = server.put("/v1/groups/g", json!({ "topics": ["a"] })).await.is(200);
    let second = |answer: &Value| answer["expires_at"].as_str().unwrap()[17..19].to_owned();
    assert_eq!([second(&claimed), second(&extended), second(&acquired)], ["05", "07", "07"]);
    assert_eq!(group["ack_wait_ms"], 5000, "{group}");
}

#[tokio::test]
async fn a_release_spends_no_attempt_and_a_failure_does() {
    let server = Setup::default().manual_clock().start().await;
    let id = server.enqueue("q", json!({ "max_attempts": 2, "backoff": {"jitter": "none"} })).await;
    let post =
        async |verb: &str, body: Value| server.post(&format!("/v1/jobs/{id}/{verb}"), body).await.is(200);
    let (_, lease) = server.claim_one("q").await;
    let released = post("release", json!({ "lease": lease, "delay_ms": 5000 })).await;
    assert_eq!(
        (&released["state"], server.job(&id).await["attempt"].as_u64()),
        (&json!("scheduled"), Some(0))
    );
    server.advance(secs(5));
    for (attempt, state) in [(1, "retryable"), (2, "dead")] {
        let job = server.claim("q", 1).await.remove(0);
        assert_eq!(job["attempt"], attempt);
        let error = json!({ "type": "io", "message": "no", "backtrace": "at x" });
        let failed = post("fail", json!({ "lease": job["lease"], "error": error })).await;
        assert_eq!(failed["state"], state);
        server.advance(secs(1));
    }
    let job = server.job(&id).await;
    assert_eq!((&job["reason"], job["errors"].as_array().unwrap().len()), (&json!("exhausted"), 2));
    assert_eq!(job["errors"][1]["type"], "io");
}

#[tokio::test]
async fn a_settled_lease_repeated_with_its_verb_is_the_same_answer() {
    let server = Setup::default().manual_clock().start().await;
    let verbs = [
        ("complete", json!({}), "fail"),
        ("fail", json!({ "error": {"message": "m"}, "retry": {"delay_ms": 60000} }), "complete"),
        ("release", json!({ "delay_ms": 60000 }), "complete"),
    ];
    for (verb, body, other) in verbs {
        let id = server.enqueue("q", json!({})).await;
        let (_, lease) = server.claim_one("q").await;
        let with_lease = |mut body: Value| {
            body["lease"] = json!(lease);
            body
        };
        let path = format!("/v1/jobs/{id}/{verb}");
        let first = server.post(&path, with_lease(body.clone())).await.is(200);
        assert_eq!(server.post(&path, with_lease(body)).await.is(200), first, "{verb}");
        let other_body = if other == "fail" { json!({ "error": {"message": "m"} }) } else { json!({}) };
        let other = server.post(&format!("/v1/jobs/{id}/{other}"), with_lease(other_body)).await;
        other.problem(409, "lease-lost");
    }
}

#[tokio::test]
async fn what_never_was_a_lease_is_lost_like_any_other() {
    let server = Setup::default().manual_clock().start().await;
    let id = server.enqueue("q", json!({})).await;
    server.claim_one("q").await;
    for lease in ["nonsense", "0-0000000000000000", "ffffff-0123456789abcdef"] {
        let body = json!({ "lease": lease });
        server.post(&format!("/v1/jobs/{id}/complete"), body.clone()).await.problem(409, "lease-lost");
        let unknown = "/v1/jobs/0192f7c6-5f2a-7000-8000-00000000ffff/complete";
        server.post(unknown, body).await.problem(404, "not-found");
    }
}

#[tokio::test]
async fn a_job_past_its_expiry_is_dead_not_handed_out() {
    let server = Setup::default().manual_clock().start().await;
    let id = server.enqueue("q", json!({ "expires_in_ms": 1000 })).await;
    server.advance(secs(2));
    assert!(server.claim("q", 1).await.is_empty());
    let job = server.job(&id).await;
    assert_eq!((&job["state"], &job["reason"]), (&json!("dead"), &json!("expired")));
}
