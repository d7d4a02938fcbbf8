//! What is inside of a middleware.

use std::future::poll_fn;

use futures_util::future::BoxFuture;
use tower::Service;

/// The rest of the pipeline, as a middleware sees it. A clone may be run again: for a request that is sent twice.
pub struct Next<Req, Res, E> {
    service: Box<dyn Inner<Req, Res, E>>,
    /// Whether it has been asked whether it is ready: only the one that was may be called without asking.
    ready: bool,
}

impl<Req, Res, E> Next<Req, Res, E> {
    pub(super) fn ready<S>(service: S) -> Self
    where
        S: Service<Req, Response = Res, Error = E> + Clone + Send + 'static,
        S::Future: Send + 'static,
        Req: Send + 'static,
    {
        Self { service: Box::new(service), ready: true }
    }

    /// Runs the rest, and waits for its answer.
    ///
    /// # Errors
    /// What comes out of it.
    pub async fn run(self, request: Req) -> Result<Res, E> {
        self.service.run(request, self.ready).await
    }
}

/// It will wait until it is ready before it is called.
impl<Req, Res, E> Clone for Next<Req, Res, E> {
    fn clone(&self) -> Self {
        Self { service: self.service.again(), ready: false }
    }
}

impl<Req, Res, E> std::fmt::Debug for Next<Req, Res, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Next").field("ready", &self.ready).finish_non_exhaustive()
    }
}

/// A service without its type.
trait Inner<Req, Res, E>: Send {
    fn run(self: Box<Self>, request: Req, ready: bool) -> BoxFuture<'static, Result<Res, E>>;
    fn again(&self) -> Box<dyn Inner<Req, Res, E>>;
}

impl<S, Req> Inner<Req, S::Response, S::Error> for S
where
    S: Service<Req> + Clone + Send + 'static,
    S::Future: Send + 'static,
    Req: Send + 'static,
{
    fn run(
        mut self: Box<Self>,
        request: Req,
        ready: bool,
    ) -> BoxFuture<'static, Result<S::Response, S::Error>> {
        if ready {
            return Box::pin(self.call(request));
        }
        Box::pin(async move {
            poll_fn(|cx| self.poll_ready(cx)).await?;
            self.call(request).await
        })
    }

    fn again(&self) -> Box<dyn Inner<Req, S::Response, S::Error>> {
        Box::new(self.clone())
    }
}
