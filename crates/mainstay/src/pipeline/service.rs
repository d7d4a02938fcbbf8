//! A handler with its layers.

use std::future::{Future, poll_fn};
use std::task::{Context, Poll};

use tower::Service;

use super::Steps;

/// A handler inside of a [`Pipeline`](super::Pipeline).
#[derive(Debug, Clone)]
pub struct Handled<S> {
    service: S,
    steps: Steps,
}

impl<S> Handled<S> {
    pub(super) fn new(service: S, steps: Steps) -> Self {
        Self { service, steps }
    }

    /// Passes one request through all layers to the handler, and its answer back. Dropped before it is done, whatever
    /// it had reached is dropped.
    ///
    /// # Errors
    /// What comes out of the outermost layer.
    pub async fn run<Req>(&self, request: Req) -> Result<S::Response, S::Error>
    where
        S: Service<Req> + Clone,
    {
        let mut service = self.service.clone();
        poll_fn(|cx| service.poll_ready(cx)).await?;
        service.call(request).await
    }

    /// The layers, in their order, each with its reason.
    pub fn steps(&self) -> &Steps {
        &self.steps
    }
}

impl<S: Service<Req>, Req> Service<Req> for Handled<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> S::Future {
        self.service.call(request)
    }
}

/// An `async fn(request) -> Result<response, error>` as a tower service. Always ready.
#[derive(Debug, Clone)]
pub struct HandlerFn<H>(H);

impl<H> HandlerFn<H> {
    pub(super) fn new(handler: H) -> Self {
        Self(handler)
    }
}

impl<H, Fut, Req, Res, E> Service<Req> for HandlerFn<H>
where
    H: Fn(Req) -> Fut,
    Fut: Future<Output = Result<Res, E>>,
{
    type Response = Res;
    type Error = E;
    type Future = Fut;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Fut {
        (self.0)(request)
    }
}
