//! What the API does when it is asked rightly.

use serde_json::json;

use crate::server::TestServer;

#[tokio::test]
async fn a_job_goes_from_enqueue_to_result() {
    let server = TestServer::start().await;
    let body = json!({ "kind": "send", "payload": {"to": ["ada"], "n": 9007199254740993_u64}, "tags": ["a"],
        "meta": {"m": 1}, "timeout_ms": 60000 });
    let reply = server.post("/v1/queues/mail/jobs", body).await;
    let location = reply.header("location").unwrap().to_owned();
    let made = reply.is(201);
    assert_eq!(made["state"], "available");
    assert_eq!((&made["deduplicated"], &made["priority"]), (&json!(false), &json!(5)));
    assert_eq!(location, format!("/v1/jobs/{}", made["id"].as_str().unwrap()));

    let jobs = server.claim("mail", 10).await;
    assert_eq!(jobs.len(), 1);
    let job = &jobs[0];
    assert_eq!(job["payload"]["n"], 9007199254740993_u64, "integers of 64 bits come back exactly");
    assert_eq!((&job["attempt"], &job["tags"], &job["meta"]), (&json!(1), &json!(["a"]), &json!({"m": 1})));
    let path = location.as_str();
    let running = server.get(path).await.is(200);
    assert_eq!((&running["state"], &running["token"]), (&json!("running"), &job["token"]));
    assert!(running.get("lease").is_none(), "a lease is shown to nobody else");

    let done = json!({ "lease": job["lease"], "result": {"sent": true} });
    assert_eq!(server.post(&format!("{path}/complete"), done).await.is(200), json!({"state": "completed"}));
    let result = server.get(&format!("{path}/result")).await.is(200);
    assert_eq!(result, json!({"state": "completed", "result": {"sent": true}}));
}

#[tokio::test]
async fn a_result_that_is_waited_for_comes_when_the_job_ends() {
    let server = TestServer::start().await;
    let id = server.enqueue("q", json!({})).await;
    let path = format!("/v1/jobs/{id}/result");
    assert_eq!(server.get(&path).await.is(202), json!({"state": "available"}));
    let (_, lease) = server.claim_one("q").await;
    let wait = format!("{path}?wait_ms=60000");
    let waiting = server.get(&wait);
    let fail = json!({ "lease": lease, "error": {"type": "t", "message": "m"}, "retry": "never" });
    let path = format!("/v1/jobs/{id}/fail");
    let failing = server.post(&path, fail);
    let (result, failed) = tokio::join!(waiting, failing);
    assert_eq!(failed.is(200)["state"], "dead");
    let result = result.is(200);
    assert_eq!((&result["state"], &result["error"]["type"]), (&json!("dead"), &json!("t")));
}

#[tokio::test]
async fn a_claim_that_waits_gets_the_first_job_that_comes() {
    let server = TestServer::start().await;
    let claim = json!({ "queues": ["q", "other"], "wait_ms": 60000 });
    let waiting = server.post("/v1/jobs/claim", claim);
    let making = async {
        // Whichever comes first, the claim must get the job.
        server.enqueue("other", json!({})).await
    };
    let (claimed, id) = tokio::join!(waiting, making);
    assert_eq!(claimed.is(200)["jobs"][0]["id"], id);
}

#[tokio::test]
async fn a_caller_that_will_not_wait_longer_gets_the_ordinary_empty_answer() {
    let server = TestServer::start().await;
    let claim = json!({ "queues": ["q"], "wait_ms": 60000 });
    let reply = server.request("POST", "/v1/jobs/claim").header("x-request-timeout-ms", "200").json(claim);
    assert_eq!(reply.send().await.is(200), json!({"jobs": []}));
}

#[tokio::test]
async fn bulk_is_atomic_and_takes_lines_too() {
    let server = TestServer::start().await;
    let path = "/v1/queues/q/jobs/bulk";
    let made = server.post(path, json!({ "jobs": [{"kind": "a"}, {"kind": "b", "delay_ms": 60000}] })).await;
    let made = made.is(200);
    assert_eq!(made["results"][1]["state"], "scheduled");
    let lines = "{\"kind\":\"c\"}\n\n{\"kind\":\"d\"}\n";
    let request = server.request("POST", path).header("content-type", "application/x-ndjson").body(lines);
    assert_eq!(request.send().await.is(200)["results"].as_array().unwrap().len(), 2);

    server.put("/v1/queues/q", json!({ "max_depth": 5 })).await.is(200);
    let problem = server.post(path, json!({ "jobs": [{"kind": "e"}, {"kind": "f"}] })).await;
    assert_eq!(problem.header("retry-after"), Some("1"));
    let problem = problem.problem(429, "queue-full");
    assert_eq!(problem["errors"][0]["pointer"], "/jobs/1");
    let queue = server.get("/v1/queues/q").await.is(200);
    assert_eq!((&queue["depth"]["available"], &queue["depth"]["scheduled"]), (&json!(3), &json!(1)));
}

#[tokio::test]
async fn an_id_and_a_unique_key_answer_with_the_first_job() {
    let server = TestServer::start().await;
    let path = "/v1/queues/q/jobs";
    let id = "0192f7c6-5f2a-7000-8000-000000000001";
    let first = server.post(path, json!({ "kind": "k", "id": id, "unique": {"key": "u"} })).await.is(201);
    for again in [json!({ "kind": "other", "id": id }), json!({ "kind": "k", "unique": {"key": "u"} })] {
        let again = server.post(path, again).await.is(200);
        assert_eq!((&again["id"], &again["kind"]), (&first["id"], &json!("k")));
        assert_eq!(again["deduplicated"], true);
    }
    let elsewhere = server.post("/v1/queues/r/jobs", json!({ "kind": "k", "id": id })).await;
    assert_eq!(elsewhere.problem(422, "validation-failed")["errors"][0]["pointer"], "/id");
}

#[tokio::test]
async fn lists_are_paged_and_a_cursor_belongs_to_its_query() {
    let server = TestServer::start().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(server.enqueue("q", json!({ "tags": [if n % 2 == 0 { "even" } else { "odd" }] })).await);
    }
    ids.reverse();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("/v1/jobs?queue=q&limit=2{cursor}")).await.is(200);
        seen.extend(
            page["items"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids, "newest first, each once");
    let even = server.get("/v1/jobs?tag=even&state=available&kind=k").await.is(200);
    assert_eq!(even["items"].as_array().unwrap().len(), 3);
    let first = server.get("/v1/jobs?queue=q&limit=2").await.is(200);
    let foreign = format!("/v1/jobs?queue=r&cursor={}", first["next_cursor"].as_str().unwrap());
    let problem = server.get(&foreign).await.problem(422, "validation-failed");
    assert_eq!(
        (&problem["errors"][0]["pointer"], &problem["errors"][0]["in"]),
        (&json!("/cursor"), &json!("query"))
    );
    assert_eq!(server.get("/v1/jobs?queue=unknown").await.is(200), json!({"items": [], "next_cursor": null}));
}

#[tokio::test]
async fn a_queue_lives_from_its_first_word_to_its_delete() {
    let server = TestServer::start().await;
    server.get("/v1/queues/q").await.problem(404, "not-found");
    server.claim("q", 1).await;
    server.get("/v1/queues/q").await.problem(404, "not-found");
    for verb in ["resume", "purge"] {
        server.request("POST", &format!("/v1/queues/q/{verb}")).send().await.problem(404, "not-found");
    }
    let config = json!({ "max_depth": 7, "overflow": "drop_oldest", "retention": {"completed_count": 9} });
    let queue = server.put("/v1/queues/q", config).await.is(200);
    assert_eq!(
        (&queue["config"]["max_depth"], &queue["config"]["overflow"]),
        (&json!(7), &json!("drop_oldest"))
    );
    assert_eq!(queue["config"]["retention"]["completed_count"], 9);
    let queue = server.put("/v1/queues/q", json!({})).await.is(200);
    assert!(queue["config"].get("max_depth").is_none(), "PUT replaces the whole: {queue}");

    server.enqueue("q", json!({})).await;
    assert_eq!(server.request("POST", "/v1/queues/q/pause").send().await.is(200)["paused"], true);
    assert!(server.claim("q", 1).await.is_empty());
    server.enqueue("q", json!({})).await;
    server.request("POST", "/v1/queues/q/resume").send().await.is(200);
    let (id, lease) = server.claim_one("q").await;
    assert_eq!(server.request("POST", "/v1/queues/q/purge").send().await.is(200), json!({"purged": 1}));
    server.delete("/v1/queues/q").await.problem(409, "state-conflict");
    server.post(&format!("/v1/jobs/{id}/complete"), json!({ "lease": lease })).await.is(200);
    assert_eq!(server.delete("/v1/queues/q").await.status, 204);
    server.get("/v1/queues/q").await.problem(404, "not-found");
    assert_eq!(server.get("/v1/queues").await.is(200)["items"], json!([]));
}

#[tokio::test]
async fn jobs_are_cancelled_retried_and_deleted_from_outside() {
    let server = TestServer::start().await;
    let id = server.enqueue("q", json!({})).await;
    let path = format!("/v1/jobs/{id}");
    let cancel = format!("{path}/cancel");
    for _ in 0..2 {
        let cancelled = server.request("POST", &cancel).send().await.is(200);
        assert_eq!(cancelled, json!({"state": "cancelled", "cancel_requested": false}));
    }
    let retry = format!("{path}/retry");
    assert_eq!(server.request("POST", &retry).send().await.is(200)["state"], "available");
    let (_, lease) = server.claim_one("q").await;
    server.request("POST", &retry).send().await.problem(409, "state-conflict");
    server.delete(&path).await.problem(409, "state-conflict");
    assert_eq!(server.request("POST", &cancel).send().await.is(200)["cancel_requested"], true);
    let extended = server.post(&format!("{path}/extend"), json!({ "lease": lease })).await.is(200);
    assert_eq!(extended["cancel_requested"], true);
    let failed = json!({ "lease": lease, "error": {"message": "stopped"} });
    assert_eq!(server.post(&format!("{path}/fail"), failed).await.is(200)["state"], "cancelled");
    assert_eq!(server.delete(&path).await.status, 204);
    server.get(&path).await.problem(404, "not-found");
}

#[tokio::test]
async fn the_store_says_what_it_can() {
    let server = TestServer::start().await;
    let store = server.get("/v1/store").await.is(200);
    assert_eq!((&store["store"], &store["durable"]), (&json!("memory"), &json!(false)));
    assert_eq!((&store["commit_scope"], &store["token_order"]), (&json!("store"), &json!("store")));
}

#[tokio::test]
async fn the_trace_of_an_enqueue_goes_on_in_its_claim() {
    let server = TestServer::start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = server.request("POST", "/v1/queues/q/jobs").header("traceparent", trace);
    let reply = request.header("x-request-id", "mine-1").json(json!({ "kind": "k" })).send().await;
    assert_eq!(reply.header("x-request-id"), Some("mine-1"));
    assert!(reply.header("traceparent").unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    let job = &server.claim("q", 1).await[0];
    assert!(job["traceparent"].as_str().unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    server.enqueue("q", json!({})).await;
    assert!(server.claim("q", 1).await[0].get("traceparent").is_none(), "no trace is made up");
}

#[tokio::test]
async fn http_2_by_prior_knowledge_works() {
    use http_body_util::{BodyExt, Empty};
    let server = TestServer::start().await;
    let stream = tokio::net::TcpStream::connect(server.api).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut send, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let request = http::Request::get(format!("http://{}/v1/store", server.api));
    let asked = async {
        let reply = send.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
        (reply.status(), reply.into_body().collect().await.unwrap().to_bytes())
    };
    tokio::select! {
        (status, body) = asked => {
            assert_eq!(status, 200);
            assert!(body.starts_with(b"{\"store\":\"memory\""));
        }
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}
