//! How a request ended: exactly one truthful answer, as a metric and an access log line.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::MatchedPath;
use axum::response::Response;
use http::{Method, StatusCode};

use super::Pipeline;
use super::meters::Series;
use super::service::Front;
use crate::admission::Permit;
use crate::context::Context;
use crate::http::Arrival;
use crate::log::{ACCESS, AccessLog};
use crate::otlp;
use crate::shutdown::Shutdown;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Answered, and the answer was sent.
    Ok,
    /// The request was wrong (4xx).
    ClientError,
    /// We were wrong (5xx).
    ServerError,
    /// The client went away before it had its answer.
    ClientGone,
    /// The time limit passed.
    TimedOut,
    /// The handler panicked.
    Panicked,
    /// Not begun, because there was too much to do.
    Shed,
    /// Still running when the drain's time was up.
    Cut,
}

impl Outcome {
    /// The outcome as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::ClientError => "client_error",
            Outcome::ServerError => "server_error",
            Outcome::ClientGone => "client_gone",
            Outcome::TimedOut => "timed_out",
            Outcome::Panicked => "panicked",
            Outcome::Shed => "shed",
            Outcome::Cut => "cut",
        }
    }

    /// Whether a request that ended so has a line in this log. What was shed is no error, and under overload there is
    /// most of it: with a line each, of a log that is exempt from the limit of lines, the refusal costs more than it
    /// saves.
    fn has_line(self, log: AccessLog) -> bool {
        match log {
            AccessLog::Off => false,
            AccessLog::Errors => !matches!(self, Outcome::Ok | Outcome::ClientError | Outcome::Shed),
            AccessLog::All => true,
        }
    }
}

/// Follows a request; says how it ended when it is dropped, whoever drops it.
pub(super) struct Guard {
    arrival: Arc<Arrival>,
    front: Arc<Front>,
    route: Option<MatchedPath>,
    context: Context,
    status: Option<StatusCode>,
    outcome: Option<Outcome>,
    sent: bool,
    /// Its place among those that run at once.
    permit: Option<Permit>,
}

impl Guard {
    pub fn begin(
        arrival: Arc<Arrival>,
        route: Option<MatchedPath>,
        front: Arc<Front>,
        context: Context,
    ) -> Self {
        front.meters.active().increment(1);
        Self { arrival, front, route, context, status: None, outcome: None, sent: false, permit: None }
    }

    /// What it passes through.
    pub fn pipeline(&self) -> &Pipeline {
        &self.front.pipeline
    }

    /// What was asked for.
    pub fn path(&self) -> &str {
        self.arrival.uri.path()
    }

    /// The context in which the request is handled.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Runs code in that context.
    pub fn within<R>(&mut self, during: impl FnOnce() -> R) -> R {
        self.context.lend(during)
    }

    /// It runs in this place until it has ended.
    pub fn holds(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// The outcome is not what the status says.
    pub fn ends_as(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    pub fn answered(&mut self, response: &Response) {
        self.status = Some(response.status());
        if self.route.is_none() {
            // Of a router that was chosen behind the pipeline.
            self.route = response.extensions().get::<MatchedPath>().cloned();
        }
        if let Some(permit) = &mut self.permit {
            permit.answered();
        }
        // Nothing of these bodies is ever sent.
        self.sent |= self.arrival.method == Method::HEAD;
    }

    pub fn sent(&mut self) {
        self.sent = true;
    }

    fn route(&self) -> &str {
        self.route.as_ref().map_or("", MatchedPath::as_str)
    }

    fn verdict(&self) -> Outcome {
        match (self.outcome, self.status) {
            (Some(known), _) => known,
            (None, Some(status)) if self.sent && status.is_server_error() => Outcome::ServerError,
            (None, Some(status)) if self.sent && status.is_client_error() => Outcome::ClientError,
            (None, Some(_)) if self.sent => Outcome::Ok,
            _ if self.arrival.shutdown().is_some_and(Shutdown::is_cancelled) => Outcome::Cut,
            _ => Outcome::ClientGone,
        }
    }

    /// The method as a label: only known ones, because anybody can invent more.
    fn method(&self) -> &'static str {
        match self.arrival.method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::DELETE => "DELETE",
            Method::PATCH => "PATCH",
            Method::HEAD => "HEAD",
            Method::OPTIONS => "OPTIONS",
            Method::CONNECT => "CONNECT",
            Method::TRACE => "TRACE",
            _ => "_OTHER",
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.front.meters.active().decrement(1);
        let (took, outcome) = (self.arrival.at.elapsed(), self.verdict());
        if let Some(permit) = self.permit.take().filter(|_| outcome == Outcome::Ok) {
            permit.done();
        }
        let (method, route) = (self.method(), self.route());
        let status = self.status.map_or(0, |status| status.as_u16());
        let https = self.arrival.uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        self.front.meters.ended(Series { method, route: route.into(), status, outcome, https }, took);
        if !otlp::is_on() && !outcome.has_line(self.front.pipeline.access) {
            return;
        }
        let _in = std::mem::take(&mut self.context).enter_for_good();
        self.trace(outcome, status, took);
        self.log(outcome, status, took);
    }
}

impl Guard {
    fn trace(&self, outcome: Outcome, status: u16, took: Duration) {
        if !otlp::is_on() {
            return;
        }
        otlp::ended(otlp::Kind::Server, took, || {
            let (method, route) = (self.method(), self.route());
            let failed = !matches!(outcome, Outcome::Ok | Outcome::ClientError | Outcome::ClientGone);
            let mut attributes = vec![
                ("http.request.method", method.into()),
                ("http.route", route.into()),
                ("url.path", self.path().into()),
                ("mainstay.outcome", outcome.as_str().into()),
            ];
            if status > 0 {
                attributes.push(("http.response.status_code", status.into()));
            }
            let name = if route.is_empty() { method.to_owned() } else { format!("{method} {route}") };
            (name, failed, attributes)
        });
    }

    fn log(&self, outcome: Outcome, status: u16, took: Duration) {
        if !outcome.has_line(self.front.pipeline.access) {
            return;
        }
        let (method, route, path) = (self.method(), self.route(), self.path());
        let (took_ms, peer) =
            (took.as_micros() as f64 / 1000.0, self.arrival.caller.as_ref().map(|caller| &*caller.addr));
        // The level is part of a callsite.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(target: ACCESS, method, route, path, status, took_ms, outcome = outcome.as_str(), peer, "request")
            };
        }
        match outcome {
            Outcome::Ok | Outcome::ClientError | Outcome::ClientGone | Outcome::Shed => line!(info),
            Outcome::ServerError | Outcome::TimedOut | Outcome::Cut => line!(warn),
            Outcome::Panicked => line!(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shed_has_a_line_in_the_whole_access_log_only() {
        assert!(Outcome::Shed.has_line(AccessLog::All));
        assert!(!Outcome::Shed.has_line(AccessLog::Errors) && !Outcome::Shed.has_line(AccessLog::Off));
        assert!(
            !Outcome::Ok.has_line(AccessLog::Errors) && !Outcome::ClientError.has_line(AccessLog::Errors)
        );
        for ours in [Outcome::ServerError, Outcome::TimedOut, Outcome::Panicked, Outcome::Cut] {
            assert!(ours.has_line(AccessLog::Errors), "{ours:?}");
        }
        assert!(Outcome::ClientGone.has_line(AccessLog::Errors));
    }
}
