//! How much runs at once: as much as the server can do, and no more.
//!
//! Work that comes faster than it can be done must be refused early, or all of it is done too late. An [`Admission`]
//! finds out by itself how much may run at once, lets the rest wait for a moment, the most critical first, and sheds
//! what cannot be done in time.
//!
//! ```
//! use mainstay::admission::{Admission, AdmissionRules};
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let admission = Admission::new("reports", AdmissionRules::default())?;
//! let permit = admission.admit().await?; // held while the work runs
//! // …
//! permit.done();
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! For HTTP: `b.http(…).pipeline(|pipeline| pipeline.admission(admission))`. It is off unless asked for: a listener
//! with long polls or streams holds permits for as long as those last, and only you know whether yours does.
//!
//! # How it decides
//! - **At once**: a gradient limiter, see [`AdmissionRules`]. It re-measures its baseline, and does not grow when
//!   nothing is held back.
//! - **In line**: four classes of [`Criticality`], first come first served in each;
//!   bounded by number and time. What cannot be done before its deadline, given how long work takes, is shed when its
//!   turn comes. A line that stands is cut by controlled delay.
//! - Latency is taken from work that ends well (quick failures would look like a quick server), and from work that
//!   was cut at its deadline.

mod gate;
#[cfg(test)]
mod gate_model;
mod limit;
mod line;
mod permit;
mod rules;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use gate::{Entered, Inner};
pub use permit::Permit;
pub use rules::AdmissionRules;

use crate::context::{Context, Criticality};
use crate::sync;

/// Admits work. Cheap to clone; all clones share the limit.
#[derive(Clone)]
pub struct Admission(Arc<Inner>);

/// Why work was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shed {
    /// The reason.
    pub reason: ShedReason,
    /// When to come back.
    pub retry_after: Duration,
}

/// Why work was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ShedReason {
    /// Its deadline has passed, or would pass before it is done.
    Expired,
    /// Too many were waiting.
    Full,
    /// The line has been standing for too long.
    Queue,
    /// It has waited for as long as anything may.
    Waited,
}

impl ShedReason {
    /// The reason as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Full => "full",
            Self::Queue => "queue",
            Self::Waited => "waited",
        }
    }
}

impl std::fmt::Display for Shed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.reason {
            ShedReason::Expired => "there is too much to do for this to be done in time",
            ShedReason::Full | ShedReason::Queue | ShedReason::Waited => {
                "there is too much to do; try again later"
            }
        })
    }
}

impl std::error::Error for Shed {}

impl crate::policy::Classified for Shed {
    fn verdict(&self) -> crate::policy::Verdict {
        crate::policy::Verdict::Overloaded
    }
}

impl Admission {
    /// A limiter. The name is a label of its metrics, `mainstay.admission.*`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`], with everything that is wrong with the rules.
    pub fn new(name: impl Into<Arc<str>>, rules: AdmissionRules) -> crate::Result<Admission> {
        Self::seeded(name, rules, crate::clock::random())
    }

    /// The same with known random numbers, for tests that want to see the same every time.
    ///
    /// # Errors
    /// As [`Admission::new`].
    pub fn seeded(name: impl Into<Arc<str>>, rules: AdmissionRules, seed: u64) -> crate::Result<Admission> {
        rules.check()?;
        Ok(Admission(Arc::new(Inner::new(name.into(), rules, seed))))
    }

    /// Waits for a permit, with the current context's deadline and criticality.
    ///
    /// # Errors
    /// [`Shed`]; the work must not begin.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line; a permit that was on its way goes to the next.
    pub async fn admit(&self) -> Result<Permit, Shed> {
        let context = Context::current();
        self.admit_as(context.criticality(), context.deadline()).await
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// As [`Admission::admit`].
    pub async fn admit_as(&self, class: Criticality, deadline: Option<Instant>) -> Result<Permit, Shed> {
        let now = Instant::now();
        let shed = |reason| Err(self.0.shed(reason, class));
        if deadline.is_some_and(|deadline| deadline <= now) {
            return shed(ShedReason::Expired);
        }
        let (answer, until) = match self.0.enter(class, deadline, now) {
            Entered::Runs(permit) => return Ok(permit),
            Entered::Waits { answer, until } => (answer, until),
        };
        let outcome = tokio::time::timeout_at(until, answer).await;
        self.0.waited(Instant::now() - now);
        match outcome {
            Ok(Ok(Ok(permit))) => Ok(permit),
            Ok(Ok(Err(refused))) => shed(refused.reason),
            // Nobody drops a ticket without an answer but the limiter's end, which this future holds off.
            Ok(Err(_)) => shed(ShedReason::Queue),
            Err(_) if deadline == Some(until) => shed(ShedReason::Expired),
            Err(_) => shed(ShedReason::Waited),
        }
    }

    /// Runs `work` when it is admitted.
    ///
    /// # Errors
    /// [`Shed`]; then `work` has not begun.
    pub async fn run<T, E, Fut>(&self, work: Fut) -> Result<Result<T, E>, Shed>
    where
        Fut: Future<Output = Result<T, E>>,
    {
        let permit = self.admit().await?;
        let outcome = work.await;
        if outcome.is_ok() {
            permit.done();
        }
        Ok(outcome)
    }

    /// How much may run at once now.
    pub fn limit(&self) -> usize {
        self.0.limit()
    }

    /// How much is running.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight()
    }

    /// How much is waiting.
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }
}

/// What callers are told. They spread it themselves.
const RETRY_AFTER: Duration = Duration::from_secs(1);

struct Meters {
    name: String,
    limit: metrics::Gauge,
    in_flight: metrics::Gauge,
    waiting: metrics::Gauge,
    wait: metrics::Histogram,
}

impl Meters {
    fn new(name: &str) -> Self {
        let name = name.to_owned();
        Self {
            limit: metrics::gauge!("mainstay.admission.limit", "name" => name.clone()),
            in_flight: metrics::gauge!("mainstay.admission.in_flight", "name" => name.clone()),
            waiting: metrics::gauge!("mainstay.admission.waiting", "name" => name.clone()),
            wait: metrics::histogram!("mainstay.admission.wait", "name" => name.clone()),
            name,
        }
    }

    fn limit(&self, limit: f64) {
        self.limit.set(limit);
    }

    fn in_flight(&self, n: usize) {
        self.in_flight.set(n as f64);
    }

    fn waiting(&self, n: usize) {
        self.waiting.set(n as f64);
    }

    fn waited(&self, time: Duration) {
        self.wait.record(time.as_secs_f64());
    }

    fn shed(&self, reason: ShedReason, class: Criticality) {
        metrics::counter!(
            "mainstay.admission.rejections",
            "name" => self.name.clone(), "reason" => reason.as_str(), "criticality" => class.as_str()
        )
        .increment(1);
    }

    fn would_shed(&self, class: Criticality) {
        metrics::counter!(
            "mainstay.admission.rejections",
            "name" => self.name.clone(), "reason" => "would_wait", "criticality" => class.as_str()
        )
        .increment(1);
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission")
            .field("name", &self.0.name())
            .field("limit", &self.limit())
            .field("in_flight", &self.in_flight())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Registry, TextFormat, render_registry};

    #[tokio::test(start_paused = true)]
    async fn a_dry_run_counts_what_would_wait_and_lets_everything_through() {
        let registry = Registry::new(100);
        let _recorder = metrics::set_default_local_recorder(&registry);
        let rules =
            AdmissionRules { initial: 1, max: 1, max_waiting: 0, dry_run: true, ..AdmissionRules::default() };
        let admission = Admission::seeded("dry", rules, 7).unwrap();
        let began = Instant::now();
        let mut permits = Vec::new();
        for _ in 0..3 {
            permits.push(admission.admit().await.unwrap());
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "nothing waits");
        assert_eq!((admission.in_flight(), admission.waiting()), (3, 0));
        drop(permits);
        assert_eq!(admission.in_flight(), 0);
        let seen = render_registry(&registry, TextFormat::Prometheus);
        let of = |line: &&str| line.starts_with("mainstay_admission_rejections_total{");
        let counted: Vec<_> = seen.lines().filter(of).collect();
        assert!(
            matches!(*counted, [one] if one.contains("reason=\"would_wait\"") && one.ends_with(" 2")),
            "{counted:?}"
        );
    }
}
