//! The pipeline every request goes through: outcome, context, limits, panic guard.
//!
//! It is a tower layer, so any axum router can have it (`router.layer(Pipeline::default())`); `b.http(…)` puts it
//! there by itself. [`Pipeline::steps`] is the list, each line with its reason.

mod answers;
mod body;
mod gate;
mod handling;
mod inside;
mod meters;
mod outcome;
mod rate;
mod refusal;
mod service;
#[cfg(feature = "web")]
mod web;

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Request, header};
use inside::{Added, Place};
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service};

pub(crate) use gate::Gate;
pub use gate::Gated;
pub use inside::Inside;
pub use outcome::Outcome;
pub use rate::CallerRate;
pub use refusal::Refusal;
pub use service::{Passing, Piped};

use crate::admission::Admission;
use crate::auth::Authenticate;
use crate::config::Settings;
use crate::log::AccessLog;
use crate::millis;
use crate::pipeline::{Step, Steps};
use crate::rate::RateLimiter;

/// How requests are limited, who may ask, and how refusals look.
///
/// The order is fixed, and [`steps`](Self::steps) shows it. The first steps are one service without a box between them;
/// added layers are opt-in, and cost what `docs/performance.md` says.
#[derive(Debug, Clone)]
pub struct Pipeline {
    body_limit: usize,
    body_timeout: Duration,
    time_limit: Option<Duration>,
    access: AccessLog,
    admission: Option<Admission>,
    refuse: fn(Refusal) -> Response,
    /// Answers get security headers.
    careful: bool,
    /// Whose pages may read the answers.
    origins: Arc<[HeaderValue]>,
    /// From outer to inner.
    added: Vec<Added>,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self::from_settings(&Settings::default())
    }
}

impl Pipeline {
    /// The limits of a configuration.
    pub fn from_settings(settings: &Settings) -> Self {
        Self {
            body_limit: settings.max_body_bytes,
            body_timeout: millis(settings.body_timeout_ms),
            time_limit: None,
            access: settings.access_log,
            admission: None,
            refuse: |refusal| refusal.into_response(),
            careful: false,
            origins: Arc::default(),
            added: Vec::new(),
        }
    }

    /// The longest request body, in bytes: 413 if it is declared longer, an error while reading if it gets longer.
    /// Defaults to the setting `max_body_bytes`.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// How long a client may take over a body, counted from when the handler first has to wait for some of it; then
    /// reading it is an error. Defaults to the setting `body_timeout_ms`.
    #[must_use]
    pub fn body_timeout(mut self, limit: Duration) -> Self {
        self.body_timeout = limit;
        self
    }

    /// How long a handler may take to answer; then it is dropped and the answer is 504. A caller's
    /// `x-request-timeout-ms` may shorten it. No limit by default.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Which requests get a line in the log when they have ended. Defaults to the setting `access_log`.
    #[must_use]
    pub fn access_log(mut self, which: AccessLog) -> Self {
        self.access = which;
        self
    }

    /// Lets only so many requests run at once as the handlers can take; others wait for a moment, and are answered 503
    /// with `Retry-After` when there is too much. Probes are let through. A request keeps its place until its answer
    /// has been sent: not for a router with long polls or streams.
    #[must_use]
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = Some(admission);
        self
    }

    /// Says refusals in the API's own words; call it before what refuses is added. By default they are
    /// `application/problem+json`.
    #[must_use]
    pub fn refuse_with(mut self, refuse: fn(Refusal) -> Response) -> Self {
        self.refuse = refuse;
        self
    }

    /// Lets nobody through who does not say who they are. Off by default.
    #[must_use]
    pub fn authenticate(self, by: Authenticate) -> Self {
        let step =
            Step::new("authentication", "inside of all limits, because checking a token may take time");
        let by = by.refuse_with(self.refuse);
        self.add(Added::new(Place::AUTHENTICATION, step, by))
    }

    /// Limits how often one caller may ask: a principal, or where there is none an address. Off by default.
    #[must_use]
    pub fn rate_limit(self, limiter: RateLimiter) -> Self {
        let step = Step::new("rate limit", "inside of authentication: who is known is counted by name");
        let rate = CallerRate::new(limiter).refuse_with(self.refuse);
        self.add(Added::new(Place::RATE, step, rate))
    }

    /// Adds headers that make browsers careful to answers that have none of their own (`X-Content-Type-Options`,
    /// `X-Frame-Options`, `Referrer-Policy`, `Content-Security-Policy`, `Cross-Origin-Resource-Policy`). Off by default.
    #[must_use]
    pub fn security_headers(mut self) -> Self {
        self.careful = true;
        self
    }

    /// Adds a tower layer of your own around the handler, inside of everything else, and of those added before. It is
    /// applied to every route of a router on its own, so what routes share must be in the layer.
    #[must_use]
    pub fn layer<L>(
        self,
        name: impl Into<Cow<'static, str>>,
        reason: impl Into<Cow<'static, str>>,
        layer: L,
    ) -> Self
    where
        L: Layer<BoxCloneSyncService<Request<Body>, Response, Infallible>> + Send + Sync + 'static,
        L::Service:
            Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<Body>>>::Future: Send + 'static,
    {
        self.add(Added::new(Place::OWN, Step::new(name, reason), layer))
    }

    /// What a request goes through, from outer to inner, each with its reason.
    pub fn steps(&self) -> Steps {
        let mut steps = Steps::default();
        for (name, reason) in FIXED {
            if name == "body limit" && self.admission.is_some() {
                steps.push(Step::new("admission", "before anything of a request is read or worked on"));
            }
            steps.push(Step::new(name, reason));
            if name == "outcome" && self.careful {
                steps.push(Step::new(
                    "security headers",
                    "outside of all that may answer, so that every answer has them",
                ));
            }
        }
        self.added.iter().for_each(|added| steps.push(added.step.clone()));
        steps
    }

    /// The request's origin, if its pages may read the answer.
    fn origin_of(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.origins.is_empty() {
            return None;
        }
        let origin = headers.get(header::ORIGIN)?;
        self.origins.contains(origin).then(|| origin.clone())
    }

    fn add(mut self, added: Added) -> Self {
        let at = self.added.partition_point(|other| other.place <= added.place);
        self.added.insert(at, added);
        self
    }
}

/// The steps of [`Piped`], which are one service. Whether the service drains is asked before them: by the listener,
/// which tells every client to leave, and then closes.
const FIXED: [(&str, &str); 5] = [
    ("context", "request id, trace and deadline: before anything that logs or waits"),
    (
        "outcome",
        "access log and metrics: outside of all that may answer, so that it always knows how it ended",
    ),
    ("body limit", "a body that says that it is too long is refused before any work"),
    ("time limit", "the caller's or ours, the earlier; what is inside is dropped when it passes"),
    ("panic guard", "a panic is an answer and an outcome like any other"),
];

impl<S> Layer<S> for Pipeline
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    type Service = Piped<Inside<S>>;

    fn layer(&self, inner: S) -> Self::Service {
        Piped::new(self.clone(), Inside::new(&self.added, inner))
    }
}
