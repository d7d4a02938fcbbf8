//! Rate limits by key, in units that cannot be misread.
//!
//! ```
//! use mainstay::rate::{Rate, RateLimiter};
//! # async fn example() -> mainstay::Result<()> {
//! // A hundred calls a second in the long run, twenty at once after a pause.
//! let limiter = RateLimiter::new("api", Rate::per_second(100).burst(20))?;
//! let decision = limiter.check("tenant-7").await;
//! if !decision.is_allowed() {
//!     println!("try again in {:?}", decision.retry_after);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The algorithm is GCRA (ITU-T I.371): a key is nothing but the instant at which its next call would be on schedule.
//! Over any stretch of time `t` a key gets at most `burst + rate × t`, and one that keeps to its rate is never refused.
//! Arithmetic is exact: no rate is rounded to whole nanoseconds.
//!
//! Keys are bounded ([`RateLimiter::max_keys`]): when the table is full a key that has its full burst again is
//! forgotten, which changes nothing; if there is none, one of those nearest to that, which is counted.
//!
//! Metrics: `mainstay.rate.decisions` by `limiter` and `decision` (`allowed`, `refused`, `failed`), and
//! `mainstay.rate.evicted` by `limiter`.

pub(crate) mod gcra;
mod limiter;
mod store;
mod table;

use std::time::Duration;

pub use limiter::RateLimiter;
pub use store::{Decision, RateStore};

use crate::{Error, Result};

/// How often something may happen: so many times in so much time, and so many at once after a pause.
///
/// Never a period for each: `per_second(4000)` is four thousand a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u32,
    per: Duration,
    burst: u32,
}

impl Rate {
    /// `count` times in every `per`. The burst defaults to `count`.
    pub const fn new(count: u32, per: Duration) -> Self {
        Self { count, per, burst: count }
    }

    /// `count` times a second.
    pub const fn per_second(count: u32) -> Self {
        Self::new(count, Duration::from_secs(1))
    }

    /// `count` times a minute.
    pub const fn per_minute(count: u32) -> Self {
        Self::new(count, Duration::from_secs(60))
    }

    /// `count` times an hour.
    pub const fn per_hour(count: u32) -> Self {
        Self::new(count, Duration::from_secs(3_600))
    }

    /// How many may come at once after a pause that was long enough. Defaults to the count.
    #[must_use]
    pub const fn burst(mut self, at_once: u32) -> Self {
        self.burst = at_once;
        self
    }

    /// How many times…
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// …in how much time.
    pub const fn per(&self) -> Duration {
        self.per
    }

    /// How many at once.
    pub const fn at_once(&self) -> u32 {
        self.burst
    }

    /// In how much time a spent burst is whole again.
    pub fn whole_again(&self) -> Duration {
        let ns = self.per.as_nanos() * u128::from(self.burst) / u128::from(self.count.max(1));
        Duration::from_nanos(ns.try_into().unwrap_or(u64::MAX))
    }

    /// Refuses what makes no sense: a count, a time or a burst of zero, and more than a year.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the field.
    pub fn check(&self) -> Result<()> {
        const YEAR: Duration = Duration::from_secs(366 * 86_400);
        let wrong = match self {
            Self { count: 0, .. } => "count: must be at least 1; to let nothing through, do not offer it",
            Self { burst: 0, .. } => "burst: must be at least 1, else nothing ever gets through",
            Self { per, .. } if per.is_zero() => "per: must be more than zero",
            Self { per, .. } if *per > YEAR => "per: must be at most a year",
            _ => return Ok(()),
        };
        Err(Error::config(format!("rate: {wrong}")))
    }
}
