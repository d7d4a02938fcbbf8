//! A middleware that is an `async fn`.

use std::future::Future;
use std::task::{Context, Poll, ready};

use tower::{Layer, Service};

use super::Next;

/// An `async fn(request, next) -> Result<response, error>` as a tower layer.
#[derive(Debug, Clone)]
pub struct Middleware<F>(F);

impl<F> Middleware<F> {
    /// For tower stacks; [`Pipeline::middleware`](super::Pipeline::middleware) makes one by itself.
    pub fn new(middleware: F) -> Self {
        Self(middleware)
    }
}

impl<S, F: Clone> Layer<S> for Middleware<F> {
    type Service = Around<S, F>;

    fn layer(&self, inner: S) -> Around<S, F> {
        Around { inner, middleware: self.0.clone() }
    }
}

/// A service with a [`Middleware`] around it.
#[derive(Debug, Clone)]
pub struct Around<S, F> {
    inner: S,
    middleware: F,
}

impl<S, F, Fut, Req, Res, E> Service<Req> for Around<S, F>
where
    S: Service<Req> + Clone + Send + 'static,
    S::Future: Send + 'static,
    Req: Send + 'static,
    F: Fn(Req, Next<Req, S::Response, S::Error>) -> Fut,
    Fut: Future<Output = Result<Res, E>>,
    E: From<S::Error>,
{
    type Response = Res;
    type Error = E;
    type Future = Fut;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        ready!(self.inner.poll_ready(cx))?;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Fut {
        // The one that was asked is the one to call; the clone has to be asked anew.
        let fresh = self.inner.clone();
        let asked = std::mem::replace(&mut self.inner, fresh);
        (self.middleware)(request, Next::ready(asked))
    }
}
