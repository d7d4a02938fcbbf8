//! The metrics of requests. Each series is looked up in the recorder once: a lookup costs more than all else that the
//! pipeline does.

use std::borrow::Cow;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

use metrics::{Gauge, Histogram, Label};

use super::Outcome;

/// What the pipeline in front of one route has found so far.
#[derive(Default)]
pub(super) struct Meters {
    active: OnceLock<Gauge>,
    /// The first that was seen, which most of a route's requests are: found without a lock.
    first: OnceLock<(Series<'static>, Histogram)>,
    /// Few, because a route sees few methods, statuses and outcomes; so they are searched from front to back.
    others: RwLock<Vec<(Series<'static>, Histogram)>>,
}

/// What tells one series from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Series<'a> {
    /// Only known ones, because anybody can invent more.
    pub method: &'static str,
    /// The route's pattern, never the path: scanners try a hundred thousand paths, and each label is a series.
    pub route: Cow<'a, str>,
    /// 0 without an answer.
    pub status: u16,
    pub outcome: Outcome,
    pub https: bool,
}

impl Meters {
    /// Requests in flight.
    pub fn active(&self) -> &Gauge {
        self.active.get_or_init(|| metrics::gauge!("http.server.active_requests"))
    }

    /// A request has ended.
    pub fn ended(&self, series: Series<'_>, took: Duration) {
        if let Some((_, histogram)) = self.first.get().filter(|(first, _)| *first == series) {
            histogram.record(took.as_secs_f64());
            return;
        }
        let known = self.others.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, histogram)) = known.iter().find(|(other, _)| *other == series) {
            histogram.record(took.as_secs_f64());
            return;
        }
        drop(known);
        let series = Series { route: series.route.into_owned().into(), ..series };
        let histogram = metrics::histogram!("http.server.request.duration", labels(&series));
        histogram.record(took.as_secs_f64());
        // Two that find it missing at once both add it: the second is never found, and does no harm.
        if let Err(other) = self.first.set((series, histogram)) {
            self.others.write().unwrap_or_else(PoisonError::into_inner).push(other);
        }
    }
}

fn labels(series: &Series<'static>) -> Vec<Label> {
    // Empty ones are left out: OpenTelemetry has no status without an answer, and no error where all is well.
    let status = if series.status == 0 { String::new() } else { series.status.to_string() };
    let error = match series.outcome {
        Outcome::Ok | Outcome::ClientError => String::new(),
        Outcome::ServerError => status.clone(),
        outcome => outcome.as_str().to_owned(),
    };
    vec![
        Label::from_static_parts("http.request.method", series.method),
        Label::new("http.route", series.route.clone()),
        Label::new("http.response.status_code", status),
        Label::from_static_parts("url.scheme", if series.https { "https" } else { "http" }),
        Label::new("error.type", error),
        Label::from_static_parts("outcome", series.outcome.as_str()),
    ]
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meters").finish_non_exhaustive()
    }
}
