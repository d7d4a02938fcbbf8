//! A policy as a tower layer for clients of HTTP.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use tower::{Layer, Service};

use super::{Attempt, Classified, Classify, PolicyError, Target, Verdict};
use crate::context::{GRPC_TIMEOUT, RETRIES, TIMEOUT, grpc_timeout, grpc_timeout_ms, is_grpc};
use crate::{millis, secs};

/// Nobody is told to stay away for longer, whatever a response says.
const LONGEST_WAIT: Duration = secs(86_400);
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Sends requests under a target's policy.
///
/// A request is tried again (or hedged) only if its method may be repeated, or it has an `Idempotency-Key`, and its
/// body can be had twice ([`ReplayBody`]). Each attempt says in `x-retry-attempt` how many were made before it, and
/// in `x-request-timeout-ms` (`grpc-timeout` for gRPC) how long it will be waited for. Responses are judged
/// [`ByStatus`].
///
/// Each attempt waits until the service is ready, within its time limit: the layer itself is always ready.
///
/// ```
/// # use mainstay::policy::{Policy, PolicyLayer, Target};
/// # use tower::{ServiceBuilder, service_fn};
/// # let http = service_fn(|_: http::Request<String>| async { Ok::<_, std::io::Error>(http::Response::new(())) });
/// # let _runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// let payments = Target::new("payments", Policy::default())?;
/// let client = ServiceBuilder::new().layer(PolicyLayer::new(payments)).service(http);
/// # let _ = client;
/// # Ok::<_, mainstay::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PolicyLayer<J = ByStatus> {
    target: Target,
    judge: J,
}

/// A service behind a [`PolicyLayer`].
#[derive(Debug, Clone)]
pub struct Policed<S, J = ByStatus> {
    inner: S,
    target: Target,
    judge: J,
}

/// Judges responses by their status, and errors by what they say of themselves.
///
/// 408, 425, 429, 500, 502, 503 and 504 may pass, with `Retry-After` if there is one: seconds, or a date, which is
/// compared with the response's own `Date`, else with our clock; a day at most. With `x-should-retry: false` they mean
/// [`Verdict::Overloaded`]: whoever answered has tried, or sheds load. Other 4xx and 5xx stay.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByStatus;

/// Bodies that may be had twice.
pub trait ReplayBody: Sized {
    /// The same body again; `None` if it can be read only once.
    fn replay(&self) -> Option<Self>;
}

impl PolicyLayer {
    /// Requests to this target.
    pub fn new(target: Target) -> Self {
        Self { target, judge: ByStatus }
    }
}

impl<J> PolicyLayer<J> {
    /// Judges outcomes with this.
    pub fn judge<K>(self, judge: K) -> PolicyLayer<K> {
        PolicyLayer { target: self.target, judge }
    }
}

impl<S, J: Clone> Layer<S> for PolicyLayer<J> {
    type Service = Policed<S, J>;

    fn layer(&self, inner: S) -> Policed<S, J> {
        Policed { inner, target: self.target.clone(), judge: self.judge.clone() }
    }
}

impl<S, J, B, R> Service<Request<B>> for Policed<S, J>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    J: Classify<Response<R>, S::Error> + Clone + Send + Sync + 'static,
    B: ReplayBody + Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = PolicyError<S::Error>;
    type Future = BoxFuture<'static, Result<Response<R>, PolicyError<S::Error>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Waiting for the service belongs to the attempt, and under its time limit: each makes its own clone ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (service, target, judge) = (self.inner.clone(), self.target.clone(), self.judge.clone());
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let mut body = Some(body);
            let repeatable = may_repeat(&head.method, &head.headers)
                && body.as_ref().is_some_and(|body| body.replay().is_some());
            let mut call = target.call().judge(judge);
            if !repeatable {
                call = call.idempotent(false);
            }
            let upstream = call.upstream();
            call.run(move |attempt| {
                let again = if repeatable { body.as_ref().and_then(ReplayBody::replay) } else { body.take() };
                let mut request = again.map(|body| Request::from_parts(head.clone(), body));
                if let Some(request) = &mut request {
                    stamp(request.headers_mut(), attempt, upstream);
                }
                let mut service = service.clone();
                async move {
                    let Some(request) = request else {
                        // Only a body that cannot be repeated is gone, and then there is one attempt.
                        return std::future::pending().await;
                    };
                    poll_fn(|cx| service.poll_ready(cx)).await?;
                    service.call(request).await
                }
            })
            .await
        })
    }
}

/// RFC 9110, 9.2.2; and what a key makes so.
fn may_repeat(method: &Method, headers: &HeaderMap) -> bool {
    method.is_idempotent() || headers.contains_key(IDEMPOTENCY_KEY)
}

/// Tells the target which attempt it is and how long it is waited for: a little less than that, so that its answer
/// arrives in time. What the request says already holds if it is earlier.
fn stamp(headers: &mut HeaderMap, attempt: Attempt, upstream: u32) {
    let retries = upstream + attempt.number() - 1;
    if retries > 0 {
        headers.insert(RETRIES, HeaderValue::from(retries));
    }
    let Some(left) = attempt.remaining() else { return };
    let left = left - (left / 10).min(millis(50));
    let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    let earlier = |own: Option<&HeaderValue>| own.and_then(|own| own.to_str().ok()?.parse::<u64>().ok());
    let ms = earlier(headers.get(TIMEOUT)).map_or(ms, |own| own.min(ms));
    headers.insert(TIMEOUT, HeaderValue::from(ms));
    let own = text(headers, GRPC_TIMEOUT).and_then(grpc_timeout_ms);
    if (is_grpc(headers) || headers.contains_key(GRPC_TIMEOUT))
        && own.is_none_or(|own| own > ms)
        && let Some(value) = grpc_timeout(ms)
    {
        headers.insert(GRPC_TIMEOUT, value);
    }
}

/// When to come back (RFC 9110, 10.2.3). What is no such value says nothing.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, header::RETRY_AFTER)?.trim();
    let wait = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = httpdate::parse_http_date(value).ok()?;
            // The clock that the date was read from, if we can: ours may be wrong, or theirs.
            let theirs = text(headers, header::DATE).and_then(|date| httpdate::parse_http_date(date).ok());
            at.duration_since(theirs.unwrap_or_else(wall)).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

fn wall() -> SystemTime {
    UNIX_EPOCH + millis(u64::try_from(crate::clock::current().now().wall.0).unwrap_or(0))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

impl<R, E: Classified> Classify<Response<R>, E> for ByStatus {
    fn classify(&self, outcome: Result<&Response<R>, &E>) -> Verdict {
        let response = match outcome {
            Ok(response) => response,
            Err(error) => return error.verdict(),
        };
        match response.status() {
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_EARLY
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => match text(response.headers(), SHOULD_RETRY) {
                Some("false") => Verdict::Overloaded,
                _ => retry_after(response.headers()).map_or(Verdict::Retry, Verdict::RetryAfter),
            },
            status if status.is_client_error() || status.is_server_error() => Verdict::Permanent,
            _ => Verdict::Ok,
        }
    }
}

macro_rules! replayed_by_clone {
    ($($body:ty),*) => {
        $(impl ReplayBody for $body {
            fn replay(&self) -> Option<Self> {
                Some(self.clone())
            }
        })*
    };
}
replayed_by_clone!(
    (),
    String,
    &'static str,
    Bytes,
    http_body_util::Full<Bytes>,
    http_body_util::Empty<Bytes>
);

impl<E> ReplayBody for http_body_util::combinators::BoxBody<Bytes, E> {
    fn replay(&self) -> Option<Self> {
        None
    }
}

/// Only the empty one: a stream is read once.
impl ReplayBody for axum::body::Body {
    fn replay(&self) -> Option<Self> {
        http_body::Body::is_end_stream(self).then(axum::body::Body::empty)
    }
}
