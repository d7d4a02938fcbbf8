//! The inner steps: panic guard and time limit around the handler; and what every answer gets on its way out.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{self, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use futures_util::FutureExt;
use futures_util::future::CatchUnwind;
use http::{HeaderValue, Request, StatusCode, header};
use tower::Service;
use tower::util::Oneshot;

use super::body::Watched;
use super::outcome::{Guard, Outcome};
use super::{Refusal, answers};
use crate::admission::Shed;
use crate::context::{RequestId, Scope};
use crate::policy::Within;

/// The call itself is inside the panic guard, because a handler may panic before its first await.
type Handled<S> = Within<Scope<CatchUnwind<AssertUnwindSafe<Oneshot<S, Request<Body>>>>>>;

pin_project_lite::pin_project! {
    /// A request with its handler. Written out, and not an `async fn`, so that it has a name: what is around it needs
    /// no box then.
    pub(super) struct Handling<S: Service<Request<Body>>> {
        // Gone before anything is answered in its place.
        #[pin]
        handled: Option<Handled<S>>,
        edge: Option<Edge>,
    }
}

impl<S> Handling<S>
where
    S: Service<Request<Body>, Response = Response>,
{
    pub fn new(edge: Edge, inner: S, request: Request<Body>) -> Self {
        let context = edge.guard.context();
        let guarded = AssertUnwindSafe(Oneshot::new(inner, request)).catch_unwind();
        let handled = Within::new(context.scope(guarded), context.deadline());
        Self { handled: Some(handled), edge: Some(edge) }
    }
}

impl<S> Future for Handling<S>
where
    S: Service<Request<Body>, Response = Response>,
{
    type Output = Result<Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(handled) = this.handled.as_mut().as_pin_mut() else { return Poll::Pending }; // polled after its end
        let ended = ready!(handled.poll(cx));
        this.handled.set(None);
        let Some(edge) = this.edge.take() else { return Poll::Pending };
        Poll::Ready(match ended {
            Some(Ok(answer)) => answer.map(|response| edge.finish(response)),
            Some(Err(panic)) => Ok(edge.panicked(&*panic)),
            None => Ok(edge.timed_out()),
        })
    }
}

/// A request's way out.
pub(super) struct Edge {
    pub guard: Guard,
    /// Its pages may read the answer.
    pub origin: Option<HeaderValue>,
}

impl Edge {
    pub fn shed(mut self, shed: &Shed) -> Response {
        self.guard.ends_as(Outcome::Shed);
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", shed.to_string());
        let mut response = self.say(refusal);
        let seconds = HeaderValue::from(shed.retry_after.as_secs());
        response.headers_mut().entry(header::RETRY_AFTER).or_insert(seconds);
        self.finish(response)
    }

    pub fn refuse(self, refusal: Refusal) -> Response {
        let response = self.say(refusal);
        self.finish(response)
    }

    fn panicked(mut self, panic: &(dyn Any + Send)) -> Response {
        self.guard.ends_as(Outcome::Panicked);
        let _in = self.guard.context().enter();
        crate::log::panics::caught(&"handler", panic);
        let refusal =
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here");
        self.refuse(refusal.unknown_outcome())
    }

    fn timed_out(mut self) -> Response {
        self.guard.ends_as(Outcome::TimedOut);
        let refusal = Refusal::new(StatusCode::GATEWAY_TIMEOUT, "deadline-exceeded", "the time limit passed");
        self.refuse(refusal.unknown_outcome())
    }

    /// A refusal in the API's own words.
    fn say(&self, refusal: Refusal) -> Response {
        let id = self.guard.context().request_id().map_or("", RequestId::as_str);
        (self.guard.pipeline().refuse)(refusal.request_id(id).path(self.guard.path()))
    }

    fn finish(self, mut response: Response) -> Response {
        let Self { mut guard, origin } = self;
        guard.context().stamp(response.headers_mut());
        if let Some(origin) = origin {
            answers::let_read(response.headers_mut(), origin);
        }
        if guard.pipeline().careful {
            answers::make_careful(response.headers_mut());
        }
        guard.answered(&response);
        // The outcome is known when the body has been sent.
        let (head, body) = response.into_parts();
        let watched = Watched::new(body, &head.headers, guard);
        Response::from_parts(head, Body::new(watched))
    }
}
