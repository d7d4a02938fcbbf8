//! Headers that make browsers careful.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use futures_util::future::{FutureExt, Map};
use http::{HeaderName, HeaderValue, Request, header};
use tower::{Layer, Service};

/// What every answer says unless its handler has said something else: OWASP's recommendations for an API.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Adds security headers to answers that lack them.
#[derive(Debug, Clone, Copy)]
pub(super) struct SecurityHeaders;

impl<S> Layer<S> for SecurityHeaders {
    type Service = Careful<S>;

    fn layer(&self, inner: S) -> Careful<S> {
        Careful(inner)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Careful<S>(S);

type Answer = Result<Response, Infallible>;

impl<S> Service<Request<Body>> for Careful<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Map<S::Future, fn(Answer) -> Answer>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request).map(stamp)
    }
}

fn stamp(answer: Answer) -> Answer {
    answer.map(|mut response| {
        for (name, value) in HEADERS {
            response.headers_mut().entry(name).or_insert(value);
        }
        response
    })
}
