//! When a loop that failed is started again.

use std::ops::RangeInclusive;
use std::time::Duration;

use mainstay_core::job::{Backoff, Jitter};
use mainstay_core::rules::backoff_delay;

use crate::{millis, secs};

/// How a failed loop is started again. Plain data.
///
/// The delay before the nth restart in a row is a draw from 0 to `min(longest, first × 2ⁿ⁻¹)` (full jitter, Brooker
/// 2015), so that many instances that fail together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    first: Duration,
    longest: Duration,
    give_up_after: Option<u32>,
    pub(super) healthy_after: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self { first: millis(200), longest: secs(30), give_up_after: Some(10), healthy_after: secs(60) }
    }
}

impl Restart {
    /// The bounds of the delay: of the first restart in a row, and of any. Defaults to 200 ms and 30 s.
    #[must_use]
    pub fn delays(mut self, bounds: RangeInclusive<Duration>) -> Self {
        (self.first, self.longest) = bounds.into_inner();
        self
    }

    /// Stops the service at this many failures in a row. Defaults to 10.
    #[must_use]
    pub fn give_up_after(mut self, failures: u32) -> Self {
        self.give_up_after = Some(failures);
        self
    }

    /// Restarts it for ever; only the health and the log tell.
    #[must_use]
    pub fn forever(mut self) -> Self {
        self.give_up_after = None;
        self
    }

    /// A run that lasts this long ends a row of failures, and the trouble in the health. Defaults to 60 s.
    #[must_use]
    pub fn healthy_after(mut self, run: Duration) -> Self {
        self.healthy_after = run;
        self
    }

    pub(super) fn gives_up(&self, failures: u32) -> bool {
        self.give_up_after.is_some_and(|limit| failures >= limit)
    }

    pub(super) fn delay(&self, failures: u32, entropy: u64) -> Duration {
        let backoff = Backoff {
            base_ms: self.first.as_millis() as u64,
            factor_milli: 2_000,
            max_ms: self.longest.as_millis() as u64,
            jitter: Jitter::Full,
        };
        millis(backoff_delay(&backoff, failures, entropy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_are_drawn_from_zero() {
        let restart = Restart::default().delays(secs(1)..=secs(5));
        let longest: Vec<_> = (1..=5).map(|n| restart.delay(n, u64::MAX).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 5, 5]);
        assert_eq!(restart.delay(5, 0), Duration::ZERO);
    }
}
