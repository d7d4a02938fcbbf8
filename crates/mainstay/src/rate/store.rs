//! Where the state of a limit is kept: a seam, so that many processes can share one.

use std::time::Duration;

use async_trait::async_trait;

use super::Rate;
use crate::Result;

/// What a limiter says to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may go on; then it has been counted.
    pub allowed: bool,
    /// How many are allowed at once.
    pub limit: u32,
    /// How many more are allowed now.
    pub remaining: u32,
    /// In how much time, without further calls, all of `limit` is there again.
    pub reset: Duration,
    /// When to come back; `None` if the call is allowed, or costs more than is ever there.
    pub retry_after: Option<Duration>,
}

impl Decision {
    /// Whether the call may go on.
    pub fn is_allowed(&self) -> bool {
        self.allowed
    }
}

/// State that many processes share. Without one, each process counts for itself.
#[async_trait]
pub trait RateStore: Send + Sync + 'static {
    /// Takes `cost` out of what `key` has left at this rate, or nothing; by the store's clock.
    ///
    /// # Errors
    /// The store's trouble: [`RateLimiter::when_unavailable`](super::RateLimiter::when_unavailable) says what then.
    async fn take(&self, key: &str, cost: u32, rate: &Rate) -> Result<Decision>;
}
