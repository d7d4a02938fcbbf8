//! What a layer that judges a request first has in common with the others: authentication, fencing, a caller's rate.

use std::convert::Infallible;
use std::future::Future;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use futures_util::future::BoxFuture;
use http::Request;
use tower::Service;

/// A layer's judgement.
pub trait Gate: Clone + Send + Sync + 'static {
    /// Answers the request, by asking `inner` or without it.
    fn answer<S>(
        self,
        request: Request<Body>,
        inner: S,
    ) -> impl Future<Output = Result<Response, Infallible>> + Send
    where
        S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Send + 'static;
}

/// A service behind a layer that may answer in its place: [`Authenticate`](crate::auth::Authenticate),
/// [`FenceLayer`](crate::lock::fence::http::FenceLayer), [`CallerRate`](super::CallerRate).
#[derive(Debug, Clone)]
pub struct Gated<S, G> {
    inner: S,
    gate: G,
}

impl<S, G> Gated<S, G> {
    pub(crate) fn new(inner: S, gate: G) -> Self {
        Self { inner, gate }
    }
}

impl<S, G> Service<Request<Body>> for Gated<S, G>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
    G: Gate,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready is asked; its copy is made ready next time.
        let fresh = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, fresh);
        Box::pin(self.gate.clone().answer(request, ready))
    }
}
