//! The steps, in their order.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Poll};

use axum::body::Body;
use axum::response::Response;
use futures_util::FutureExt;
use http::{HeaderValue, Request, StatusCode, header};
use http_body::Body as _;
use tower::Service;

use super::body::{self, Limited, Watched};
use super::meters::Meters;
use super::outcome::{Guard, Outcome};
use super::{Pipeline, Refusal, answers};
use crate::context::{Context, RequestId};
use crate::http::{Arrival, Peer};
use crate::policy::Within;

/// A service behind the [`Pipeline`]. All clones are one.
#[derive(Debug, Clone)]
pub struct Piped<S>(Arc<Shared<S>>);

#[derive(Debug)]
struct Shared<S> {
    pipeline: Pipeline,
    meters: Arc<Meters>,
    /// Cloned for each request.
    inner: S,
}

impl<S> Piped<S> {
    pub(super) fn new(pipeline: Pipeline, inner: S) -> Self {
        Self(Arc::new(Shared { pipeline, meters: Arc::default(), inner }))
    }
}

impl<S> Service<Request<Body>> for Piped<S>
where
    S: Service<Request<Body>, Response = Response> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        // What is inside is waited for within the request, where the time limit counts.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(pass(self.0.clone(), request))
    }
}

/// Outer to inner.
async fn pass<S>(shared: Arc<Shared<S>>, request: Request<Body>) -> Result<Response, S::Error>
where
    S: Service<Request<Body>, Response = Response> + Clone,
{
    let pipeline = &shared.pipeline;
    // 1. Context: before anything that logs; the listener has read it from the headers. The time limit is the caller's
    // or ours, the earlier.
    let arrival = Arrival::of(&request);
    let mut context = arrival.context.clone();
    if let Some(until) = pipeline.time_limit.and_then(|limit| arrival.at.checked_add(limit)) {
        context = context.limited(until);
    }
    // 2. Outcome: it knows how it ended whatever happens below, also when this future is dropped.
    let route = request.extensions().get().cloned();
    let mut guard = Guard::begin(arrival, route, shared.meters.clone(), context.clone(), pipeline.access);
    let origin = pipeline.origin_of(request.headers());
    let refuse = |guard: &Guard, refusal: Refusal| {
        let id = context.request_id().map_or("", RequestId::as_str);
        (pipeline.refuse)(refusal.request_id(id).path(guard.path()))
    };

    // 3. Admission: before anything of the request is read or worked on; probes have to be answered above all when
    // there is too much.
    if let Some(admission) = pipeline.admission.as_ref().filter(|_| !is_probe(guard.path())) {
        match admission.admit_as(context.criticality(), context.deadline()).await {
            Ok(permit) => guard.holds(permit),
            Err(shed) => {
                guard.ends_as(Outcome::Shed);
                let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", shed.to_string());
                let mut response = refuse(&guard, refusal);
                let seconds = HeaderValue::from(shed.retry_after.as_secs());
                response.headers_mut().entry(header::RETRY_AFTER).or_insert(seconds);
                return Ok(finish(response, pipeline, origin, &context, guard));
            }
        }
    }
    // 4. Form and body limit: what HTTP forbids, and a body that says that it is too long, are refused before any work.
    let refused = without_host(&request).or_else(|| too_long(&request, pipeline.body_limit));
    let answered = if let Some(refusal) = refused {
        // A client that asks before it sends is spared; any other reads no answer before it has sent.
        if !request.headers().contains_key(http::header::EXPECT) {
            body::discard(request.into_body(), pipeline.body_limit).await;
        }
        Ok(refuse(&guard, refusal))
    } else {
        let request = request.map(|body| limited(body, pipeline));
        // 5. Panic guard, so that a panic is an answer and an outcome like any other. The call itself is inside,
        // because a handler may panic before its first await.
        let mut inner = shared.inner.clone();
        let handled = async move {
            poll_fn(|cx| inner.poll_ready(cx)).await?;
            inner.call(request).await
        };
        // 6. Time limit. Pinned here, because what holds a request is long and would be moved into each of the futures
        // around it; and gone with the block, before anything is answered in its place.
        let ended = {
            let handled = pin!(context.scope(AssertUnwindSafe(handled).catch_unwind()));
            Within::new(handled, context.deadline()).await
        };
        match ended {
            Some(Ok(answer)) => answer,
            Some(Err(panic)) => {
                guard.ends_as(Outcome::Panicked);
                let _in = context.enter();
                crate::log::panics::caught(&"handler", &*panic);
                let refusal =
                    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here");
                Ok(refuse(&guard, refusal.unknown_outcome()))
            }
            None => {
                guard.ends_as(Outcome::TimedOut);
                let refusal =
                    Refusal::new(StatusCode::GATEWAY_TIMEOUT, "deadline-exceeded", "the time limit passed");
                Ok(refuse(&guard, refusal.unknown_outcome()))
            }
        }
    };
    answered.map(|response: Response| finish(response, pipeline, origin, &context, guard))
}

fn finish(
    mut response: Response,
    pipeline: &Pipeline,
    origin: Option<HeaderValue>,
    context: &Context,
    mut guard: Guard,
) -> Response {
    context.stamp(response.headers_mut());
    if let Some(origin) = origin {
        answers::let_read(response.headers_mut(), origin);
    }
    if pipeline.careful {
        answers::make_careful(response.headers_mut());
    }
    guard.answered(response.status());
    // The outcome is known when the body has been sent.
    response.map(|body| Body::new(Watched::new(body, guard)))
}

fn is_probe(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/startupz" | "/healthz")
}

fn limited(body: Body, pipeline: &Pipeline) -> Body {
    // Most requests have none.
    if body.is_end_stream() {
        return body;
    }
    Body::new(Limited::new(body, pipeline.body_limit, pipeline.body_timeout))
}

/// RFC 9112, section 3.2: a request of HTTP/1.1 has one `Host`. One that came over no wire need not.
fn without_host(request: &Request<Body>) -> Option<Refusal> {
    Peer::of(request.extensions())?;
    let hosts = request.headers().get_all(http::header::HOST).iter().count();
    let wrong = request.version() == http::Version::HTTP_11 && hosts != 1;
    wrong
        .then(|| Refusal::new(StatusCode::BAD_REQUEST, "malformed-request", "HTTP/1.1 needs one Host header"))
}

fn too_long(request: &Request<Body>, limit: usize) -> Option<Refusal> {
    let declared = request.headers().get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok()?;
    (declared > limit as u64).then(|| Refusal::payload_too_large(limit))
}
