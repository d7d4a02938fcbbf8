//! Methods, routes, and codes that need a special server.

use crate::server::{Setup, TestServer};

#[tokio::test]
async fn unknown_routes_and_methods_are_problems() {
    let server = TestServer::start().await;
    for path in ["/", "/v1", "/v1/job", "/v1/queues/q/jobs/", "/v2/jobs"] {
        server.get(path).await.problem(404, "not-found");
    }
    for (method, path, allowed) in [
        ("PATCH", "/v1/queues/q", ["GET", "PUT", "DELETE"].as_slice()),
        ("GET", "/v1/jobs/claim/", &[]),
        ("DELETE", "/v1/jobs", &["GET", "HEAD"]),
        ("PUT", "/v1/queues/q/jobs", &["POST"]),
        ("PUT", "/v1/locks/renew", &["GET", "POST", "DELETE"]),
    ] {
        let reply = server.request(method, path).send().await;
        if allowed.is_empty() {
            reply.problem(404, "not-found");
            continue;
        }
        let allow = reply.header("allow").unwrap_or_default().to_owned();
        assert!(allowed.iter().all(|method| allow.contains(method)), "{method} {path}: {allow}");
        reply.problem(405, "method-not-allowed");
    }
}

#[tokio::test]
async fn head_has_no_body_and_options_says_what_is_allowed() {
    let server = TestServer::start().await;
    let head = server.request("HEAD", "/v1/store").send().await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let options = server.request("OPTIONS", "/v1/queues/q").send().await;
    assert_eq!(options.status, 204);
    assert!(options.header("allow").unwrap().contains("PUT"));
}

#[tokio::test]
async fn a_caller_over_its_rate_is_told_when_to_come_back() {
    let server = Setup::default().set("caller_rate_per_second", 0.001).set("caller_burst", 2).start().await;
    server.get("/v1/store").await.is(200);
    server.get("/v1/store").await.is(200);
    let reply = server.get("/v1/store").await;
    let after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((990..=1_000).contains(&after), "a request every 1,000 s: {after}");
    assert_eq!(reply.problem(429, "rate-limited")["retryable"], true);
    assert_eq!(server.get("/readyz").await.status, 200, "probes are not counted");
}

#[tokio::test]
async fn probes_are_on_both_listeners() {
    let server = TestServer::start().await;
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
        assert_eq!(server.on_admin("GET", path).send().await.status, 200, "{path}");
    }
    let ready = server.on_admin("GET", "/readyz?verbose").send().await.is(200);
    assert_eq!(ready["checks"]["store"]["critical"], true);
}
