//! Admission of requests.

use std::sync::Arc;

use axum::{Router, body::Body, response::Response, routing::get};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use mainstay::admission::{Admission, AdmissionRules};
use mainstay::millis;
use mainstay::request::Pipeline;
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// A router with one place, whose handler waits to be let go; and its limiter.
fn narrow() -> (Router, Admission, Arc<Semaphore>) {
    let rules =
        AdmissionRules { initial: 1, max: 1, max_waiting: 1, max_wait_ms: 100, ..AdmissionRules::default() };
    let admission = Admission::new("narrow", rules).unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let slow = move || async move {
        held.acquire().await.unwrap().forget();
        "done"
    };
    let router = Router::new()
        .route("/", get(slow))
        .route("/readyz", get(|| async { "ready" }))
        .layer(Pipeline::default().admission(admission.clone()));
    (router, admission, gate)
}

async fn ask(router: &Router, path: &str) -> Response {
    router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_is_told_to_come_back_and_probes_are_answered() {
    let (router, admission, gate) = narrow();
    let first = ask(&router, "/");
    let others = async {
        let shed = ask(&router, "/").await;
        assert_eq!(shed.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(shed.headers()["retry-after"], "1");
        assert!(shed.headers().contains_key("x-request-id"));
        let body = shed.into_body().collect().await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&problem["code"], &problem["retryable"]), (&"overloaded".into(), &true.into()));
        assert_eq!(ask(&router, "/readyz").await.status(), StatusCode::OK);
        assert_eq!(admission.in_flight(), 1);
        gate.add_permits(1);
    };
    let (answer, ()) = tokio::join!(first, others);
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_request_keeps_its_place_until_its_body_has_been_sent() {
    // The trap: a permit that is free again when the head is there, while the body still costs.
    let (router, admission, gate) = narrow();
    gate.add_permits(2);
    let answer = ask(&router, "/").await;
    assert_eq!(admission.in_flight(), 1);
    assert_eq!(ask(&router, "/").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    answer.into_body().collect().await.unwrap();
    assert_eq!(admission.in_flight(), 0);
    let dropped = ask(&router, "/").await;
    drop(dropped);
    assert_eq!(admission.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_will_not_wait_is_told_before_it_stops_waiting() {
    let (router, _, _gate) = narrow();
    let mut first = Box::pin(ask(&router, "/"));
    assert!(futures_util::FutureExt::now_or_never(first.as_mut()).is_none());
    let request = Request::get("/").header("x-request-timeout-ms", "30").body(Body::empty()).unwrap();
    let began = tokio::time::Instant::now();
    let shed = router.clone().oneshot(request).await.unwrap();
    assert_eq!(shed.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(began.elapsed() <= millis(31));
}

#[test]
fn admission_is_a_step_of_the_list_when_there_is_one() {
    let names = |pipeline: Pipeline| pipeline.steps().names().map(str::to_owned).collect::<Vec<_>>();
    assert!(!names(Pipeline::default()).contains(&"admission".to_owned()));
    let admission = Admission::new("all", AdmissionRules::default()).unwrap();
    let names = names(Pipeline::default().admission(admission));
    assert_eq!(names.iter().position(|name| name == "admission"), Some(2), "{names:?}");
}
