//! The admin listener.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use mainstay::shutdown::Phase;
use mainstay::{Weight, millis};
use tokio::sync::Notify;

use crate::harness::{Raw, get as fetch, with_boot, with_router};

#[tokio::test]
async fn probes_answer_from_start_to_end() {
    let release = Arc::new(Notify::new());
    let releasing = release.clone();
    with_boot(
        &[("lame_duck_ms", "0")],
        async |b| {
            // Work that keeps the drain going until it has been looked at.
            b.tasks().spawn("work", async move { release.notified().await });
            b.http("127.0.0.1:0", Router::new())
        },
        async |running| {
            assert_eq!(fetch(running.admin, "/livez").await.body, r#"{"status":"healthy"}"#);
            assert_eq!(fetch(running.admin, "/readyz").await.body, r#"{"status":"ready"}"#);
            assert_eq!(fetch(running.admin, "/startupz").await.status, 200);
            running.shutdown.begin();
            running.shutdown.reached(Phase::Draining).await;
            let ready = fetch(running.admin, "/readyz").await;
            assert_eq!(
                (ready.status, ready.body.as_str()),
                (503, r#"{"reason":"draining","status":"not_ready"}"#)
            );
            assert_eq!(fetch(running.admin, "/livez").await.status, 200, "still alive while it drains");
            releasing.notify_one();
        },
    )
    .await;
}

#[tokio::test]
async fn only_probes_answer_before_boot_has_returned() {
    with_boot(
        &[("lame_duck_ms", "0")],
        async |b| {
            let admin = b.admin_address().unwrap();
            let ready = fetch(admin, "/readyz").await;
            assert_eq!((ready.status, ready.body.contains("initializing")), (503, true));
            assert_eq!(fetch(admin, "/startupz").await.status, 503);
            assert_eq!(fetch(admin, "/livez").await.status, 200);
            let early = fetch(admin, "/admin/config").await;
            assert_eq!(early.status, 503, "nobody has said yet who may see it");
            let problem: serde_json::Value = serde_json::from_str(&early.body).unwrap();
            let id = early.header("x-request-id").unwrap();
            assert_eq!(
                (problem["instance"].as_str(), problem["request_id"].as_str()),
                (Some("/admin/config"), Some(id))
            );
            assert_eq!(
                (early.header("retry-after"), problem["retryable"].as_bool()),
                (Some("1"), Some(true))
            );
            b.http("127.0.0.1:0", Router::new())
        },
        async |running| assert_eq!(fetch(running.admin, "/admin/config").await.status, 200),
    )
    .await;
}

#[tokio::test]
async fn checks_are_reported_and_only_critical_ones_count() {
    for (weight, status, word) in [(Weight::Degraded, 200, "degraded"), (Weight::Critical, 503, "down")] {
        with_boot(
            &[("lame_duck_ms", "0")],
            async |b| {
                b.check("db", weight, || async { Err::<(), _>("refused") });
                b.http("127.0.0.1:0", Router::new())
            },
            async |running| {
                let report = loop {
                    let answer = fetch(running.admin, "/readyz?verbose").await;
                    if answer.body.contains("refused") {
                        break answer;
                    }
                    tokio::task::yield_now().await;
                };
                assert_eq!(report.status, status);
                assert!(report.body.contains(&format!(r#""status":"{word}""#)), "{}", report.body);
                assert!(
                    report.body.contains("age_ms") && report.body.contains("duration_ms"),
                    "{}",
                    report.body
                );
            },
        )
        .await;
    }
}

#[tokio::test]
async fn a_drain_can_be_asked_for_and_is_like_sigterm() {
    let (ended, ()) = with_router(&[("lame_duck_ms", "100")], Router::new(), async |running| {
        let mut client = Raw::open(running.admin).await;
        client.send("POST /admin/drain HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(client.answer().await.unwrap().status, 202);
        running.shutdown.reached(Phase::Stopping).await;
    })
    .await;
    assert_eq!(ended.exit_code(), 0);
    assert_eq!(ended.phases[0].0, Phase::LameDuck);
    assert!(ended.phases[0].1 >= millis(100));
}

#[tokio::test]
async fn the_log_level_can_be_read_and_set_and_is_checked() {
    with_router(&[("lame_duck_ms", "0")], Router::new(), async |running| {
        let mut client = Raw::open(running.admin).await;
        for (body, status) in [
            (r#"{"level":"info,mainstay=warn"}"#, 200),
            (r#"{"level":"loud"}"#, 422),
            (r#"{"level":7}"#, 422),
            (r#"{}"#, 422),
            (r#"{"level":"info","x":1}"#, 422),
            ("nonsense", 400),
        ] {
            let length = body.len();
            client
                .send(&format!(
                    "PUT /admin/log-level HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
                ))
                .await;
            assert_eq!(client.answer().await.unwrap().status, status, "{body}");
        }
        assert_eq!(client.get("/admin/log-level").await.body, r#"{"level":"info,mainstay=warn"}"#);
    })
    .await;
}

#[tokio::test]
async fn the_configuration_shows_sources() {
    with_router(&[("lame_duck_ms", "0")], Router::new(), async |running| {
        let answer = fetch(running.admin, "/admin/config").await;
        assert!(
            answer.body.contains(r#""lame_duck_ms":{"source":"flag test","value":0}"#),
            "{}",
            answer.body
        );
        assert!(answer.body.contains(r#""grace_ms":{"source":"default","value":30000}"#), "{}", answer.body);
    })
    .await;
}

#[tokio::test]
async fn unmatched_paths_are_one_series() {
    let router = Router::new().route("/things/{id}", get(|| async { "thing" }));
    with_router(&[("lame_duck_ms", "0")], router, async |running| {
        for path in ["/things/1", "/things/2", "/scan/a.php", "/scan/b.php"] {
            fetch(running.api, path).await;
        }
        let text = fetch(running.admin, "/metrics").await.body;
        let counts = text.lines().filter(|line| line.starts_with("http_server_request_duration_seconds_count{"));
        let has = |labels: &str| counts.clone().any(|line| line.contains(labels));
        // Other tests of this process count, too.
        let matched = r#"{http_request_method="GET",http_response_status_code="200",http_route="/things/{id}",outcome="ok",url_scheme="http"} "#;
        assert!(has(matched), "{text}");
        let unmatched = r#"{http_request_method="GET",http_response_status_code="404",outcome="client_error",url_scheme="http"} "#;
        assert!(has(unmatched), "{text}");
        assert!(!text.contains("a.php"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_service_can_add_routes_and_guard_them_but_not_the_probes() {
    with_boot(
        &[("lame_duck_ms", "0")],
        async |b| {
            b.admin(|router| {
                router.route("/admin/backup", get(|| async { "backup" })).layer(axum::middleware::from_fn(
                    async |request: axum::extract::Request, next: axum::middleware::Next| {
                        if request.headers().contains_key("authorization") {
                            next.run(request).await
                        } else {
                            axum::response::IntoResponse::into_response(StatusCode::UNAUTHORIZED)
                        }
                    },
                ))
            });
            b.http("127.0.0.1:0", Router::new())
        },
        async |running| {
            for path in ["/admin/backup", "/admin/config", "/metrics"] {
                assert_eq!(fetch(running.admin, path).await.status, 401, "{path}");
                let mut client = Raw::open(running.admin).await;
                client.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: x\r\n\r\n")).await;
                assert_eq!(client.answer().await.unwrap().status, 200, "{path}");
            }
            assert_eq!(fetch(running.admin, "/livez").await.status, 200);
        },
    )
    .await;
}
