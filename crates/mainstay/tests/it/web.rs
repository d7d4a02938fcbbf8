//! Pages of other origins, and compressed answers.

use axum::body::Body;
use axum::response::Response;
use axum::{Router, routing::get};
use http::Request;
use mainstay::auth::{Authenticate, StaticTokens};
use mainstay::request::Pipeline;
use tower::ServiceExt;

async fn ask(pipeline: Pipeline, request: http::request::Builder) -> Response {
    let router = Router::new().route("/", get(async || "long ".repeat(1_000))).layer(pipeline);
    router.oneshot(request.uri("/").body(Body::empty()).unwrap()).await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_preflight_is_answered_before_anybody_asks_for_a_token() {
    let pipeline = Pipeline::default()
        .authenticate(Authenticate::bearer(StaticTokens::new()))
        .cors(["https://app.example.org"])
        .unwrap();
    let preflight = |origin: &str| {
        let request = Request::options("/").header("origin", origin);
        request.header("access-control-request-method", "PUT")
    };
    let allowed = ask(pipeline.clone(), preflight("https://app.example.org")).await;
    assert_eq!(allowed.status(), 200);
    assert_eq!(header(&allowed, "access-control-allow-origin"), "https://app.example.org");
    assert_eq!(header(&allowed, "access-control-allow-methods"), "PUT");
    let foreign = ask(pipeline.clone(), preflight("https://evil.example")).await;
    assert_eq!(header(&foreign, "access-control-allow-origin"), "");
    let refused = ask(pipeline, Request::get("/").header("origin", "https://app.example.org")).await;
    assert_eq!(refused.status(), 401);
    assert!(header(&refused, "access-control-expose-headers").contains("x-request-id"));
}

#[tokio::test]
async fn a_page_may_read_what_the_fixed_steps_answer() {
    let pipeline = Pipeline::default().body_limit(10).cors(["https://app.example.org"]).unwrap();
    let long = |origin: &str| Request::post("/").header("origin", origin).header("content-length", "11");
    let refused = ask(pipeline.clone(), long("https://app.example.org")).await;
    assert_eq!(refused.status(), 413);
    assert_eq!(header(&refused, "access-control-allow-origin"), "https://app.example.org");
    assert!(header(&refused, "access-control-expose-headers").contains("x-request-id"));
    assert_eq!(header(&refused, "vary"), "origin");
    let foreign = ask(pipeline.clone(), long("https://evil.example")).await;
    assert_eq!(foreign.status(), 413);
    assert_eq!(header(&foreign, "access-control-allow-origin"), "");
    let common = ask(pipeline, Request::get("/").header("origin", "https://app.example.org")).await;
    let all = common.headers().get_all("access-control-allow-origin").iter().count();
    assert_eq!((common.status().as_u16(), all), (200, 1), "and no header twice");
}

#[test]
fn what_is_no_origin_is_refused() {
    for wrong in
        ["*", "null", "app.example.org", "https://app.example.org/", "https://a.b/c", "https://u@a.b"]
    {
        let error = Pipeline::default().cors([wrong]).unwrap_err();
        assert!(error.to_string().contains("origin"), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_take_it() {
    let plain = ask(Pipeline::default().compression(), Request::get("/")).await;
    assert_eq!(header(&plain, "content-encoding"), "");
    let gzip =
        ask(Pipeline::default().compression(), Request::get("/").header("accept-encoding", "gzip")).await;
    assert_eq!(header(&gzip, "content-encoding"), "gzip");
    let body = axum::body::to_bytes(gzip.into_body(), 1 << 20).await.unwrap();
    assert!(body.len() < 500 && body[..2] == [0x1f, 0x8b], "{}", body.len());
}
