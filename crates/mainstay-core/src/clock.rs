//! Where time and chance come from: a true seam, so that tests run on virtual time.

use async_trait::async_trait;

use crate::time::{Now, StoreTime};

/// A source of time and chance.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Both clocks now. The store part counts from any origin, never goes back, and runs while the machine sleeps.
    fn now(&self) -> Now;

    /// Returns when the store part has reached `at`. Dropping it is safe.
    async fn sleep_until(&self, at: StoreTime);

    /// 64 random bits.
    fn entropy(&self) -> u64;
}
