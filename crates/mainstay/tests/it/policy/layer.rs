//! The policy as a tower layer.

use std::future::{Ready, ready};
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::body::Body;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use mainstay::policy::{ByStatus, Classify, GaveUp, Policy, PolicyError, PolicyLayer, Retry, Verdict};
use mainstay::{millis, secs};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{plain, target, transient};

/// What arrived.
type Seen = Arc<Mutex<Vec<(HeaderMap, String)>>>;

/// Answers `status` until `good_after` requests were seen; writes down what arrives.
fn server(
    good_after: usize,
    status: u16,
) -> (
    impl Service<Request<String>, Response = Response<()>, Error = io::Error, Future: Send> + Clone + Send,
    Seen,
) {
    let seen = Seen::default();
    let written = seen.clone();
    let service = service_fn(move |request: Request<String>| {
        let (head, body) = request.into_parts();
        let mut seen = written.lock().unwrap();
        seen.push((head.headers, body));
        let status = if seen.len() > good_after { 200 } else { status };
        ready(Ok(Response::builder().status(status).body(()).unwrap()))
    });
    (service, seen)
}

fn request(method: Method) -> Request<String> {
    Request::builder().method(method).uri("/").body("body".to_owned()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_response_that_may_pass_is_tried_again_with_the_whole_body() {
    let (service, seen) = server(2, 503);
    let client = PolicyLayer::new(target(plain())).layer(service);
    let answer = client.oneshot(request(Method::PUT)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|(_, body)| body == "body"));
    let header = |name: &str| {
        seen.iter().map(|(h, _)| h.get(name).map(|v| v.to_str().unwrap().to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(header("x-retry-attempt"), [None, Some("1".into()), Some("2".into())]);
    let left: Vec<u64> =
        header("x-request-timeout-ms").into_iter().map(|ms| ms.unwrap().parse().unwrap()).collect();
    assert_eq!(left, [9_950, 9_950, 9_950], "of the attempt, with a margin for the answer's way");
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_repeated_is_sent_once() {
    for (request, sent) in [
        (request(Method::POST), 1),
        (request(Method::PATCH), 1),
        (request(Method::GET), 3),
        (Request::post("/").header("idempotency-key", "k").body(String::new()).unwrap(), 3),
    ] {
        let (service, seen) = server(9, 503);
        let client = PolicyLayer::new(target(plain())).layer(service);
        let answer = client.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 503, "the last answer is the answer");
        assert_eq!(seen.lock().unwrap().len(), sent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_can_be_read_once_is_sent_once() {
    let count = Arc::new(Mutex::new(0));
    let counting = count.clone();
    let service = service_fn(move |_: Request<Body>| {
        *counting.lock().unwrap() += 1;
        ready(Err::<Response<()>, _>(transient()))
    });
    let client = PolicyLayer::new(target(plain())).layer(service);
    let failed = client.clone().oneshot(Request::put("/").body(Body::from("stream")).unwrap()).await;
    assert!(matches!(failed, Err(PolicyError::Failed { why: GaveUp::NotIdempotent, .. })));
    assert_eq!(*count.lock().unwrap(), 1);
    let failed = client.oneshot(Request::get("/").body(Body::empty()).unwrap()).await;
    assert!(matches!(failed, Err(PolicyError::Failed { why: GaveUp::Attempts, .. })));
    assert_eq!(*count.lock().unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn refusals_that_stay_are_not_tried_again() {
    for (status, header, sent) in
        [(404, "", 1), (501, "", 1), (503, "false", 1), (503, "true", 3), (429, "", 3)]
    {
        let seen = Arc::new(Mutex::new(0));
        let counting = seen.clone();
        let service = service_fn(move |_: Request<()>| {
            *counting.lock().unwrap() += 1;
            let mut answer = Response::builder().status(status);
            if !header.is_empty() {
                answer = answer.header("x-should-retry", header);
            }
            ready(Ok::<_, io::Error>(answer.body(()).unwrap()))
        });
        let client = PolicyLayer::new(target(plain())).layer(service);
        client.oneshot(Request::new(())).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), sent, "{status} {header}");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_of_a_response_is_waited_for() {
    let service = service_fn(|_: Request<()>| {
        ready(Ok::<_, io::Error>(
            Response::builder().status(503).header("retry-after", "3").body(()).unwrap(),
        ))
    });
    let policy = Policy { retry: Retry { max_attempts: 2, ..plain().retry }, ..plain() };
    let began = Instant::now();
    PolicyLayer::new(target(policy)).layer(service).oneshot(Request::new(())).await.unwrap();
    assert_eq!(began.elapsed(), secs(3) + millis(100));
}

#[test]
fn retry_after_is_read_as_seconds_and_as_a_date_and_is_a_day_at_most() {
    let (sun, now) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:30 GMT");
    let rows = [
        ("3", None, Some(secs(3))),
        ("18446744073709551615", None, Some(secs(86_400))),
        (sun, Some(now), Some(secs(7))),
        // The two old forms of RFC 9110, 5.6.7.
        ("Sunday, 06-Nov-94 08:49:37 GMT", Some(now), Some(secs(7))),
        ("Sun Nov  6 08:49:37 1994", Some(now), Some(secs(7))),
        (now, Some(sun), Some(secs(0))),
        (sun, None, Some(secs(0))),
        (sun, Some("yesterday"), Some(secs(0))),
        ("Fri, 31 Dec 9999 23:59:59 GMT", Some(now), Some(secs(86_400))),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None, Some(secs(86_400))),
        ("soon", Some(now), None),
        ("-1", None, None),
    ];
    for (retry_after, date, wait) in rows {
        let response = Response::builder().status(503).header("retry-after", retry_after);
        let response = match date {
            Some(date) => response.header("date", date),
            None => response,
        };
        let verdict = ByStatus.classify(Ok::<_, &io::Error>(&response.body(()).unwrap()));
        assert_eq!(verdict, wait.map_or(Verdict::Retry, Verdict::RetryAfter), "{retry_after} {date:?}");
    }
}

#[cfg(feature = "testing")]
#[test]
fn a_date_without_a_date_of_its_response_is_compared_with_virtual_time() {
    mainstay::testing::block_on_virtual(async {
        let now = mainstay::testing::START.0.unsigned_abs();
        let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + millis(now + 5_000));
        let response = Response::builder().status(503).header("retry-after", date).body(()).unwrap();
        tokio::time::sleep(secs(2)).await;
        assert_eq!(ByStatus.classify(Ok::<_, &io::Error>(&response)), Verdict::RetryAfter(secs(3)));
    });
}

/// Panics when it is called without having been polled ready; a clone has not been.
struct Strict {
    ready: bool,
    fails: Arc<Mutex<u32>>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Strict { ready: false, fails: self.fails.clone() }
    }
}

impl Service<Request<()>> for Strict {
    type Response = Response<()>;
    type Error = io::Error;
    type Future = Ready<io::Result<Response<()>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been ready");
        let mut fails = self.fails.lock().unwrap();
        *fails = fails.saturating_sub(1);
        ready(if *fails > 0 { Err(transient()) } else { Ok(Response::new(())) })
    }
}

#[tokio::test(start_paused = true)]
async fn no_attempt_calls_a_service_that_is_not_ready() {
    let strict = Strict { ready: false, fails: Arc::new(Mutex::new(3)) };
    let mut client = PolicyLayer::new(target(plain())).layer(strict);
    for _ in 0..2 {
        client.ready().await.unwrap().call(Request::new(())).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_readiness_is_under_the_time_limit() {
    #[derive(Clone)]
    struct NeverReady;
    impl Service<Request<()>> for NeverReady {
        type Response = Response<()>;
        type Error = io::Error;
        type Future = Ready<io::Result<Response<()>>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
        fn call(&mut self, _: Request<()>) -> Self::Future {
            unreachable!("it is never ready")
        }
    }
    let policy = Policy { attempt_ms: 100, total_ms: 250, ..plain() };
    let began = Instant::now();
    let failed = PolicyLayer::new(target(policy)).layer(NeverReady).oneshot(Request::new(())).await;
    assert!(matches!(failed, Err(PolicyError::TimedOut { .. })));
    assert!(began.elapsed() <= millis(250));
}

#[tokio::test(start_paused = true)]
async fn grpc_calls_say_their_time_in_grpcs_words_too() {
    let (service, seen) = server(0, 200);
    let request =
        Request::post("/s/m").header("content-type", "application/grpc").body(String::new()).unwrap();
    PolicyLayer::new(target(plain())).layer(service).oneshot(request).await.unwrap();
    assert_eq!(seen.lock().unwrap()[0].0["grpc-timeout"], "9950m");
}

#[tokio::test(start_paused = true)]
async fn a_grpc_timeout_that_is_there_already_is_lowered_and_never_raised() {
    let sent = async |kind: &str, own: &str| {
        let (service, seen) = server(0, 200);
        let request = Request::post("/s/m").header("content-type", kind).header("grpc-timeout", own);
        let request = request.body(String::new()).unwrap();
        PolicyLayer::new(target(plain())).layer(service).oneshot(request).await.unwrap();
        let seen = seen.lock().unwrap();
        seen[0].0["grpc-timeout"].to_str().unwrap().to_owned()
    };
    assert_eq!(sent("application/grpc", "30S").await, "9950m");
    assert_eq!(sent("application/grpc", "2S").await, "2S");
    assert_eq!(sent("application/grpc", "soon").await, "9950m", "what is no time says nothing");
    assert_eq!(sent("text/plain", "1H").await, "9950m");
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_told_on_so_that_nobody_below_retries_it() {
    use mainstay::Context;
    let mut headers = HeaderMap::new();
    headers.insert("x-retry-attempt", "1".parse().unwrap());
    headers.insert("grpc-timeout", "2S".parse().unwrap());
    let context = Context::from_headers(&headers);
    assert_eq!(context.remaining(), Some(secs(2)));
    let (service, seen) = server(9, 503);
    let client = PolicyLayer::new(target(plain())).layer(service);
    context.scope(async { client.oneshot(request(Method::GET)).await }).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].0["x-retry-attempt"], "1");
    let left: u64 = seen[0].0["x-request-timeout-ms"].to_str().unwrap().parse().unwrap();
    assert_eq!(left, 1_950, "never longer than whoever asked waits");
}

#[tokio::test(start_paused = true)]
async fn a_handler_whose_call_was_refused_answers_so_that_nobody_tries_again_at_once() {
    use axum::response::IntoResponse;
    use mainstay::{http::ApiError, policy::Rate};
    let target = target(Policy { rate: Some(Rate { calls_per_second: 0.5, burst: 1 }), ..plain() });
    let call = async || target.run(|_| ready(Ok::<_, io::Error>(()))).await;
    call().await.unwrap();
    let answer = ApiError::from(call().await.unwrap_err()).into_response();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "2");
    assert_eq!(answer.headers()["x-should-retry"], "false");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let body = axum::body::to_bytes(answer.into_body(), 1_000).await.unwrap();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&problem["code"], &problem["status"]), (&"overloaded".into(), &503.into()));
}

#[tokio::test(start_paused = true)]
async fn a_handler_whose_call_came_too_late_answers_that_nothing_was_done() {
    use axum::response::IntoResponse;
    use mainstay::http::ApiError;
    let target = target(plain());
    let late = target.call().deadline(Instant::now()).run(|_| ready(Ok::<_, io::Error>(())));
    let late = late.await.unwrap_err();
    assert_eq!(late.to_string(), "not tried: the deadline has passed");
    let answer = ApiError::from(late).into_response();
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    let body = axum::body::to_bytes(answer.into_body(), 1_000).await.unwrap();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&problem["code"], &problem["outcome"], &problem["status"]),
        (&"deadline-exceeded".into(), &"not-applied".into(), &504.into())
    );
}

#[tokio::test(start_paused = true)]
async fn a_handler_whose_call_got_no_answer_in_time_says_so() {
    use axum::response::IntoResponse;
    use mainstay::{
        http::ApiError,
        policy::{Classified, Verdict},
    };
    for policy in
        [Policy { attempt_ms: 500, ..plain() }, Policy { attempt_ms: 500, total_ms: 500, ..plain() }]
    {
        let target = target(policy);
        let hung =
            async || target.run(|_| std::future::pending::<Result<(), io::Error>>()).await.unwrap_err();
        let erased: Box<dyn std::error::Error + Send + Sync> = hung().await.into();
        assert_eq!(erased.verdict(), Verdict::Overloaded, "what was tried is not tried again: {erased}");
        let answer = ApiError::from(hung().await).into_response();
        assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
        let body = axum::body::to_bytes(answer.into_body(), 1_000).await.unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["detail"], "something that this needs did not answer in time");
        assert!(problem.get("outcome").is_none(), "nobody knows: {problem}");
    }
}
