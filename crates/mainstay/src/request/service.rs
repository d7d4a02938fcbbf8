//! The steps, in their order.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use futures_util::future::Either;
use http::{Request, StatusCode, header};
use http_body::Body as _;
use tower::Service;

use super::body::{self, Limited};
use super::handling::{Edge, Handling};
use super::meters::Meters;
use super::outcome::Guard;
use super::{Pipeline, Refusal};
use crate::http::Arrival;

/// A service behind the [`Pipeline`]. All clones are one.
#[derive(Debug, Clone)]
pub struct Piped<S>(Arc<Shared<S>>);

#[derive(Debug)]
struct Shared<S> {
    front: Arc<Front>,
    /// Cloned for each request.
    inner: S,
}

/// What the pipeline in front of a service is made of.
#[derive(Debug)]
pub(super) struct Front {
    pub pipeline: Pipeline,
    pub meters: Meters,
}

impl<S> Piped<S> {
    pub(super) fn new(pipeline: Pipeline, inner: S) -> Self {
        let front = Arc::new(Front { pipeline, meters: Meters::default() });
        Self(Arc::new(Shared { front, inner }))
    }
}

impl<S> Service<Request<Body>> for Piped<S>
where
    S: Service<Request<Body>, Response = Response> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Passing<S>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        // What is inside is waited for within the request, where the time limit counts.
        Poll::Ready(Ok(()))
    }

    /// Outer to inner.
    fn call(&mut self, request: Request<Body>) -> Passing<S> {
        let Shared { front, inner } = &*self.0;
        let pipeline = &front.pipeline;
        // 1. Context: before anything that logs; the listener has read it from the headers. The time limit is the
        // caller's or ours, the earlier.
        let arrival = Arrival::of(&request);
        let mut context = arrival.context.clone();
        if let Some(until) = pipeline.time_limit.and_then(|limit| arrival.at.checked_add(limit)) {
            context = context.limited(until);
        }
        // 2. Outcome: it knows how it ended whatever happens below, also when the future is dropped.
        let route = request.extensions().get().cloned();
        let over_a_wire = arrival.caller.is_some();
        let guard = Guard::begin(arrival, route, front.clone(), context);
        let edge = Edge { guard, origin: pipeline.origin_of(request.headers()) };
        // 3. Admission: before anything of the request is read or worked on; probes have to be answered above all when
        // there is too much.
        let asks = pipeline.admission.is_some() && !is_probe(edge.guard.path());
        // 4. Form and body limit: what HTTP forbids, and a body that says that it is too long, are refused before any
        // work.
        let refused = if over_a_wire { without_host(&request) } else { None };
        let refused = refused.or_else(|| too_long(&request, pipeline.body_limit));
        // Boxed only where there is something to wait for before the handler.
        let either = if asks || refused.is_some() {
            Either::Right(Box::pin(checked(self.0.clone(), edge, asks, refused, request)) as Checked<S>)
        } else {
            // 5. Panic guard, and 6. time limit.
            Either::Left(Handling::new(edge, inner.clone(), limited(request, pipeline)))
        };
        Passing { either }
    }
}

/// A request that may have to wait before it is handled, or is refused.
type Checked<S> =
    Pin<Box<dyn Future<Output = Result<Response, <S as Service<Request<Body>>>::Error>> + Send>>;

pin_project_lite::pin_project! {
    /// A request on its way through the [`Pipeline`]. Dropped before its end, the client is gone.
    #[must_use = "futures do nothing unless polled"]
    pub struct Passing<S: Service<Request<Body>>> {
        #[pin]
        either: Either<Handling<S>, Checked<S>>,
    }
}

impl<S> Future for Passing<S>
where
    S: Service<Request<Body>, Response = Response>,
{
    type Output = Result<Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(self.project().either.poll(cx)))
    }
}

impl<S: Service<Request<Body>>> std::fmt::Debug for Passing<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passing").finish_non_exhaustive()
    }
}

/// Where the third step asks, or the fourth refuses.
async fn checked<S>(
    shared: Arc<Shared<S>>,
    mut edge: Edge,
    asks: bool,
    refused: Option<Refusal>,
    request: Request<Body>,
) -> Result<Response, S::Error>
where
    S: Service<Request<Body>, Response = Response> + Clone,
{
    let Shared { front, inner } = &*shared;
    if let Some(admission) = front.pipeline.admission.as_ref().filter(|_| asks) {
        let context = edge.guard.context();
        match admission.admit_as(context.criticality(), context.deadline()).await {
            Ok(permit) => edge.guard.holds(permit),
            Err(shed) => return Ok(edge.shed(&shed)),
        }
    }
    if let Some(refusal) = refused {
        // A client that asks before it sends is spared; any other reads no answer before it has sent.
        if !request.headers().contains_key(header::EXPECT) {
            body::discard(request.into_body(), front.pipeline.body_limit).await;
        }
        return Ok(edge.refuse(refusal));
    }
    Handling::new(edge, inner.clone(), limited(request, &front.pipeline)).await
}

fn is_probe(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/startupz" | "/healthz")
}

fn limited(mut request: Request<Body>, pipeline: &Pipeline) -> Request<Body> {
    // Most requests have none.
    if !request.body().is_end_stream() {
        let body = std::mem::take(request.body_mut());
        *request.body_mut() = Body::new(Limited::new(body, pipeline.body_limit, pipeline.body_timeout));
    }
    request
}

/// RFC 9112, section 3.2: a request of HTTP/1.1 has one `Host`. One that came over no wire need not.
fn without_host(request: &Request<Body>) -> Option<Refusal> {
    let hosts = || request.headers().get_all(header::HOST).iter().count();
    let wrong = request.version() == http::Version::HTTP_11 && hosts() != 1;
    wrong
        .then(|| Refusal::new(StatusCode::BAD_REQUEST, "malformed-request", "HTTP/1.1 needs one Host header"))
}

fn too_long(request: &Request<Body>, limit: usize) -> Option<Refusal> {
    let declared = request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok()?;
    (declared > limit as u64).then(|| Refusal::payload_too_large(limit))
}
