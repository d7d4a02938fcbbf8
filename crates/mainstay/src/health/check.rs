//! What a check is, and how it is scheduled.

use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::time::human;
use crate::{Error, Result, millis, secs};

/// How much a check weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weight {
    /// The service cannot do its work without it: readiness fails. For what only this replica depends on.
    Critical,
    /// It is reported, and the service stays ready. For what all replicas share: an outage must not take every one
    /// of them out.
    Degraded,
}

/// Something that can be asked whether it is well: any `async fn() -> Result<(), E>`, or one of
/// [`disk`](super::disk), [`memory`](super::memory), [`Health::runtime_lag`](super::Health::runtime_lag).
pub trait Check: Send + Sync + 'static {
    /// Looks once. It is dropped when its time is up; a panic is a failure like any other.
    fn look(&self) -> BoxFuture<'static, Result<()>>;

    /// Whether it may run on the thread that answers probes, so that it also works when the main runtime does not.
    /// Only for what never blocks. Defaults to false.
    fn beside_the_runtime(&self) -> bool {
        false
    }
}

impl<F, Fut, E> Check for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    fn look(&self) -> BoxFuture<'static, Result<()>> {
        let looking = self();
        Box::pin(async move { looking.await.map_err(Error::from_any) })
    }
}

/// How a check is scheduled and judged; a [`Weight`] alone means the defaults.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "options are given to `Boot::check`"]
pub struct CheckOptions {
    pub(super) weight: Weight,
    pub(super) interval: Duration,
    pub(super) interval_down: Duration,
    pub(super) limit: Duration,
    pub(super) failures: u32,
    pub(super) successes: u32,
}

impl From<Weight> for CheckOptions {
    fn from(weight: Weight) -> Self {
        Self { weight, interval: secs(5), interval_down: secs(30), limit: secs(1), failures: 3, successes: 2 }
    }
}

impl CheckOptions {
    /// The defaults for a critical check.
    pub fn critical() -> Self {
        Weight::Critical.into()
    }

    /// The defaults for a check that readiness does not depend on.
    pub fn degraded() -> Self {
        Weight::Degraded.into()
    }

    /// From the end of one look to the begin of the next, while it is up or coming up. Defaults to 5 s. An interval
    /// above that of [`every_when_down`](Self::every_when_down) raises it.
    pub fn every(mut self, interval: Duration) -> Self {
        self.interval_down = self.interval_down.max(interval);
        self.interval = interval;
        self
    }

    /// The same while it is down, so that what is in trouble is left alone. Defaults to 30 s.
    pub fn every_when_down(mut self, interval: Duration) -> Self {
        self.interval_down = interval;
        self
    }

    /// How long a look may take; then it is dropped and has failed. Defaults to 1 s.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// So many failures in a row take it down. Defaults to 3.
    pub fn failures(mut self, in_a_row: u32) -> Self {
        self.failures = in_a_row;
        self
    }

    /// So many successes in a row bring it back. Defaults to 2.
    pub fn successes(mut self, in_a_row: u32) -> Self {
        self.successes = in_a_row;
        self
    }

    /// What cannot be meant.
    pub(super) fn mistake(&self) -> Option<String> {
        let shortest = millis(10);
        for (what, time) in
            [("every", self.interval), ("every_when_down", self.interval_down), ("within", self.limit)]
        {
            if time < shortest {
                return Some(format!("`{what}` must be at least {}", human(shortest)));
            }
        }
        let counts = [("failures", self.failures), ("successes", self.successes)];
        let zero = counts.iter().find(|(_, count)| *count == 0)?;
        Some(format!("`{}` must be at least 1", zero.0))
    }
}
