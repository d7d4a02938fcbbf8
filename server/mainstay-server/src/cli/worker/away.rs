//! Patience with a server that is not there.

use std::time::Duration;

use mainstay_api::client::{ApiError, ErrorKind};
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(3);

/// Whether the server is there, and when to try again if it is not.
#[derive(Debug, Default)]
pub(in crate::cli) struct Away {
    tried: u32,
    until: Option<Instant>,
    /// Whether it ever was there.
    met: bool,
}

impl Away {
    /// A call was answered. Whether that is news.
    pub(in crate::cli) fn is_back(&mut self) -> bool {
        let news = self.tried > 0;
        *self = Self { tried: 0, until: None, met: true };
        news
    }

    /// A call was not answered. Whether that is news. `chance` spreads the workers of one server.
    pub(in crate::cli) fn failed(&mut self, now: Instant, error: &ApiError, chance: u64) -> bool {
        let ceiling = FIRST.saturating_mul(1 << self.tried.min(10)).min(LONGEST);
        let half = ceiling / 2;
        let drawn = half + Duration::from_millis(chance % (half.as_millis() as u64 + 1));
        self.until = Some(now + drawn.max(error.retry_after().unwrap_or_default().min(10 * LONGEST)));
        self.tried += 1;
        self.tried == 1
    }

    /// Until when no call is made.
    pub(in crate::cli) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether calls are made again.
    pub(in crate::cli) fn may_call(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// Whether the server ever answered.
    pub(in crate::cli) fn has_met(&self) -> bool {
        self.met
    }
}

/// Whether the same call may be answered later: the server is away, starting, overloaded, or has a bad moment.
pub(in crate::cli) fn is_passing(error: &ApiError) -> bool {
    match (error.kind(), error.problem()) {
        (_, Some(problem)) => problem.retryable || (problem.status >= 500 && problem.status != 501),
        (ErrorKind::Connect | ErrorKind::Broken | ErrorKind::Deadline, None) => true,
        // A proxy before it.
        (ErrorKind::Answer, None) => error.retry_after().is_some(),
        _ => false,
    }
}
