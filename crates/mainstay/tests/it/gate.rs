//! Who gets through the request pipeline, and how often.

use axum::body::Body;
use axum::response::Response;
use axum::{Router, routing::get};
use http::{Request, StatusCode};
use mainstay::auth::{Authenticate, Denied, Principal, StaticTokens, Verify};
use mainstay::pipeline::{Middleware, Next};
use mainstay::rate::{Rate, RateLimiter};
use mainstay::request::Pipeline;
use mainstay::{millis, secs};
use tower::ServiceExt;

fn tokens() -> StaticTokens {
    StaticTokens::new().token("alice", "alice-secret", ["read"]).token("bob", "bob-secret", ["read", "write"])
}

async fn whoami(who: Option<axum::Extension<Principal>>) -> String {
    who.map_or_else(|| "nobody".to_owned(), |who| who.name().to_owned())
}

fn router(pipeline: Pipeline) -> Router {
    let strict = get(async |who: Principal| who.name().to_owned());
    Router::new().route("/", get(whoami)).route("/strict", strict).layer(pipeline)
}

async fn ask(router: &Router, path: &str, authorization: Option<&str>) -> Response {
    let mut request = Request::builder().uri(path);
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn text(response: Response) -> String {
    let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn only_known_tokens_get_through() {
    let router = router(Pipeline::default().authenticate(Authenticate::bearer(tokens())));
    for (given, status, challenge) in [
        (None, 401, "Bearer"),
        (Some("Basic YTpi"), 401, "Bearer error=\"invalid_token\""),
        (Some("Bearer "), 401, "Bearer error=\"invalid_token\""),
        (Some("Bearer alice-secreT"), 401, "Bearer error=\"invalid_token\""),
        (Some("Bearer alice-secret"), 200, ""),
        (Some("bearer bob-secret"), 200, ""),
    ] {
        let response = ask(&router, "/", given).await;
        assert_eq!(response.status(), status, "{given:?}");
        assert!(header(&response, "www-authenticate").starts_with(challenge), "{given:?}");
        assert!(!header(&response, "x-request-id").is_empty());
    }
    assert_eq!(text(ask(&router, "/", Some("Bearer bob-secret")).await).await, "bob");
    let refused = text(ask(&router, "/", None).await).await;
    assert!(refused.contains("unauthenticated") && refused.contains("not-applied"), "{refused}");
}

#[tokio::test]
async fn where_it_is_optional_a_handler_may_still_insist() {
    let router = router(Pipeline::default().authenticate(Authenticate::bearer(tokens()).optional()));
    assert_eq!(text(ask(&router, "/", None).await).await, "nobody");
    assert_eq!(ask(&router, "/", Some("Bearer wrong")).await.status(), 401);
    assert_eq!(ask(&router, "/strict", None).await.status(), 401);
    assert_eq!(text(ask(&router, "/strict", Some("Bearer alice-secret")).await).await, "alice");
}

struct Down;

#[async_trait::async_trait]
impl Verify for Down {
    async fn verify(&self, _: &str) -> Result<Principal, Denied> {
        Err(Denied::Unavailable("no keys".to_owned()))
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_checked_is_not_called_wrong() {
    let router = router(Pipeline::default().authenticate(Authenticate::bearer(tokens()).or(Down)));
    assert_eq!(ask(&router, "/", Some("Bearer alice-secret")).await.status(), 200);
    let response = ask(&router, "/", Some("Bearer other")).await;
    assert_eq!((response.status(), header(&response, "retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
}

#[tokio::test(start_paused = true)]
async fn each_caller_has_a_rate_and_is_told_how_it_stands() {
    let limiter = RateLimiter::new("api", Rate::per_minute(6).burst(2)).unwrap();
    let pipeline = Pipeline::default().rate_limit(limiter).authenticate(Authenticate::bearer(tokens()));
    let router = router(pipeline);
    let alice = Some("Bearer alice-secret");
    let first = ask(&router, "/", alice).await;
    assert_eq!(header(&first, "ratelimit-policy"), "\"api\";q=6;w=60");
    assert_eq!(header(&first, "ratelimit"), "\"api\";r=1;t=10");
    assert_eq!(ask(&router, "/strict", alice).await.status(), 200, "counted over all routes");
    tokio::time::advance(millis(500)).await;
    let third = ask(&router, "/", alice).await;
    assert_eq!((third.status(), header(&third, "retry-after")), (StatusCode::TOO_MANY_REQUESTS, "10"));
    assert_eq!(header(&third, "ratelimit"), "\"api\";r=0;t=20");
    let body = text(third).await;
    assert!(body.contains("rate-limited") && body.contains("\"retryable\":true"), "{body}");
    assert_eq!(ask(&router, "/", Some("Bearer bob-secret")).await.status(), 200);
    assert_eq!(ask(&router, "/", None).await.status(), 401, "the unknown are not counted as anybody");
    tokio::time::advance(secs(10)).await;
    assert_eq!(ask(&router, "/", alice).await.status(), 200);
}

#[tokio::test]
async fn added_layers_stand_in_the_order_of_the_design_whatever_order_they_were_added_in() {
    type Rest = Next<Request<Body>, Response, std::convert::Infallible>;
    let tag = |request: Request<Body>, next: Rest| async move {
        let who = request.extensions().get::<Principal>().map(|who| who.name().to_owned());
        let mut response = next.run(request).await?;
        response.headers_mut().insert("x-seen", who.unwrap_or_default().parse().unwrap());
        Ok::<_, std::convert::Infallible>(response)
    };
    let limiter = RateLimiter::new("api", Rate::per_second(5)).unwrap();
    let pipeline = Pipeline::default()
        .layer("tag", "mine", Middleware::new(tag))
        .rate_limit(limiter)
        .authenticate(Authenticate::bearer(tokens()))
        .security_headers();
    let steps = pipeline.steps();
    let names: Vec<_> = steps.names().collect();
    assert_eq!(names[..3], ["context", "outcome", "security headers"]);
    assert_eq!(names[3..6], ["body limit", "time limit", "panic guard"]);
    assert_eq!(names[6..], ["authentication", "rate limit", "tag"]);
    assert!(steps.iter().all(|step| !step.reason.is_empty()));
    assert!(steps.to_string().starts_with("1. context: "));

    let router = router(pipeline);
    let known = ask(&router, "/", Some("Bearer bob-secret")).await;
    assert_eq!((header(&known, "x-seen"), header(&known, "x-frame-options")), ("bob", "DENY"));
    let refused = ask(&router, "/", None).await;
    assert_eq!((header(&refused, "x-content-type-options"), header(&refused, "x-seen")), ("nosniff", ""));
}

#[tokio::test(start_paused = true)]
async fn what_the_fixed_steps_answer_has_security_headers_too() {
    let stuck = Router::new().route("/", get(std::future::pending::<()>));
    let router = stuck.layer(Pipeline::default().security_headers().body_limit(3).time_limit(millis(10)));
    let late = ask(&router, "/", None).await;
    assert_eq!((late.status(), header(&late, "x-frame-options")), (StatusCode::GATEWAY_TIMEOUT, "DENY"));
    let long = Request::post("/").header("content-length", "4").body(Body::from("long")).unwrap();
    let refused = router.oneshot(long).await.unwrap();
    assert_eq!(
        (refused.status(), header(&refused, "x-frame-options")),
        (StatusCode::PAYLOAD_TOO_LARGE, "DENY")
    );
}
