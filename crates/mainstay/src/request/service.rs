//! The steps, in their order.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use futures_util::FutureExt;
use http::{Request, StatusCode};
use tokio::time::{Instant, timeout_at};
use tower::Service;
use tracing::Instrument;

use super::body::{self, Limited, Watched};
use super::id::{self, Deadline, Identity};
use super::outcome::{Guard, Outcome};
use super::{Pipeline, Refusal};
use crate::http::RequestSpan;

/// A service behind the [`Pipeline`].
#[derive(Debug, Clone)]
pub struct Piped<S> {
    pipeline: Pipeline,
    inner: S,
}

impl<S> Piped<S> {
    pub(super) fn new(pipeline: Pipeline, inner: S) -> Self {
        Self { pipeline, inner }
    }
}

impl<S> Service<Request<Body>> for Piped<S>
where
    S: Service<Request<Body>, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that was polled ready is the one to call.
        let ready = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, ready);
        Box::pin(pass(self.pipeline.clone(), inner, request))
    }
}

/// Outer to inner.
async fn pass<S>(pipeline: Pipeline, mut inner: S, mut request: Request<Body>) -> Result<Response, S::Error>
where
    S: Service<Request<Body>, Response = Response>,
{
    // 1. Outcome: outermost, so that it knows how it ended whatever happens below, also when this future is dropped.
    let mut guard = Guard::begin(&request);
    // 2. Identity: before anything that logs.
    let identity = Identity::accept(&mut request);
    let span = guard.enter_span(&identity);
    if let Some(slot) = request.extensions().get::<RequestSpan>() {
        slot.set(&span);
    }
    let uri = request.uri().clone();
    let refuse =
        |refusal: Refusal| (pipeline.refuse)(refusal.request_id(identity.id.as_str()).path(uri.path()));

    // 3. Body limit: a body that says that it is too long is refused before any work.
    let answered = if let Some(refusal) = too_long(&request, pipeline.body_limit) {
        // A client that asks before it sends is spared; any other reads no answer before it has sent.
        if !request.headers().contains_key(http::header::EXPECT) {
            body::discard(request.into_body(), pipeline.body_limit).await;
        }
        Ok(refuse(refusal))
    } else {
        let request = request.map(|body| Limited::new(body, pipeline.body_limit, pipeline.body_timeout));
        // 4. Time limit: the caller's or ours, the earlier.
        let deadline = id::deadline(&request, pipeline.time_limit);
        let mut request = request.map(Body::new);
        if let Some(at) = deadline {
            request.extensions_mut().insert(Deadline(at));
        }
        // 5. Panic guard: innermost, so that a panic is an answer and an outcome like any other. The call itself is
        // inside, because a handler may panic before its first await.
        let handled = AssertUnwindSafe(async move { inner.call(request).await }).catch_unwind();
        match within(deadline, handled.instrument(span.clone())).await {
            Some(Ok(answer)) => answer,
            Some(Err(panic)) => {
                guard.ends_as(Outcome::Panicked);
                let message = crate::tasks::panic_message(&*panic);
                span.in_scope(|| tracing::error!(panic = %message, "handler panicked"));
                let refusal =
                    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here");
                Ok(refuse(refusal.unknown_outcome()))
            }
            None => {
                guard.ends_as(Outcome::TimedOut);
                let refusal =
                    Refusal::new(StatusCode::GATEWAY_TIMEOUT, "deadline-exceeded", "the time limit passed");
                Ok(refuse(refusal.unknown_outcome()))
            }
        }
    };
    answered.map(|mut response: Response| {
        identity.stamp(response.headers_mut());
        guard.answered(response.status());
        // The outcome is known when the body has been sent.
        response.map(|body| Body::new(Watched::new(body, guard)))
    })
}

fn too_long(request: &Request<Body>, limit: usize) -> Option<Refusal> {
    let declared = request.headers().get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok()?;
    (declared > limit as u64).then(|| Refusal::payload_too_large(limit))
}

async fn within<F: Future>(deadline: Option<Instant>, work: F) -> Option<F::Output> {
    match deadline {
        Some(at) => timeout_at(at, work).await.ok(),
        None => Some(work.await),
    }
}
