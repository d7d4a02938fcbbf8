//! What a service adds to its pipeline: layers between the fixed steps and the handler.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use futures_util::future::Either;
use http::Request;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service};

use crate::pipeline::Step;

/// A handler without its type.
pub(super) type Route = BoxCloneSyncService<Request<Body>, Response, Infallible>;

/// Where an added layer goes: lower is further out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(pub u8);

impl Place {
    pub const AUTHENTICATION: Place = Place(30);
    /// Who is known is counted by name.
    pub const RATE: Place = Place(40);
    pub const OWN: Place = Place(50);
}

/// An added layer.
#[derive(Clone)]
pub(super) struct Added {
    pub place: Place,
    pub step: Step,
    wrap: Arc<dyn Fn(Route) -> Route + Send + Sync>,
}

impl Added {
    pub fn new<L>(place: Place, step: Step, layer: L) -> Self
    where
        L: Layer<Route> + Send + Sync + 'static,
        L::Service:
            Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<Body>>>::Future: Send + 'static,
    {
        let wrap = Arc::new(move |route| BoxCloneSyncService::new(layer.layer(route)));
        Self { place, step, wrap }
    }
}

impl std::fmt::Debug for Added {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Added").field(&self.step.name).finish()
    }
}

/// What is inside of the fixed steps. Without added layers nothing is boxed.
#[derive(Debug, Clone)]
pub enum Inside<S> {
    /// The handler.
    Bare(S),
    /// The handler with added layers around it.
    Layered(BoxCloneSyncService<Request<Body>, Response, Infallible>),
}

impl<S> Inside<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    /// `added` is sorted from outer to inner.
    pub(super) fn new(added: &[Added], inner: S) -> Self {
        if added.is_empty() {
            return Inside::Bare(inner);
        }
        let route = BoxCloneSyncService::new(inner);
        Inside::Layered(added.iter().rev().fold(route, |route, added| (added.wrap)(route)))
    }
}

impl<S> Service<Request<Body>> for Inside<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, <Route as Service<Request<Body>>>::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match self {
            Inside::Bare(inner) => inner.poll_ready(cx),
            Inside::Layered(inner) => inner.poll_ready(cx),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Inside::Bare(inner) => Either::Left(inner.call(request)),
            Inside::Layered(inner) => Either::Right(inner.call(request)),
        }
    }
}
