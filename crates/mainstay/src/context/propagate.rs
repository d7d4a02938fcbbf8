//! A tower layer for clients.

use std::task::{self, Poll};

use tower::{Layer, Service};

use super::Context;

/// Writes the current context into every request that goes out: `x-request-id`, `traceparent`, `tracestate`,
/// `baggage`, `x-criticality`, what is left of the deadline as `x-request-timeout-ms` (and `grpc-timeout`, if its
/// `content-type` is gRPC's), and in `x-retry-attempt` how many retries whoever asked has made, so that nobody below
/// retries them. A header that the request has already stays as it is.
///
/// Only for calls to services one trusts with baggage.
///
/// ```
/// # use mainstay::context::Propagate;
/// # use tower::{ServiceBuilder, service_fn};
/// # let http = service_fn(|request: http::Request<()>| async { Ok::<_, std::convert::Infallible>(request) });
/// let client = ServiceBuilder::new().layer(Propagate).service(http);
/// # let _ = client;
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Propagate;

/// A client behind [`Propagate`].
#[derive(Debug, Clone)]
pub struct Propagated<S>(S);

impl<S> Layer<S> for Propagate {
    type Service = Propagated<S>;

    fn layer(&self, inner: S) -> Propagated<S> {
        Propagated(inner)
    }
}

impl<S, B> Service<http::Request<B>> for Propagated<S>
where
    S: Service<http::Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> S::Future {
        Context::current().write_headers(request.headers_mut());
        self.0.call(request)
    }
}
