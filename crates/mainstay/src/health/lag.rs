//! How long the main runtime keeps a task waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::Check;
use crate::time::{human, monotonic_us};
use crate::{Error, Result};

/// A task on the main runtime that is woken from another thread and tells how long that took: the true delay of
/// every task that becomes ready, also while it still waits.
#[derive(Debug, Default)]
pub(super) struct Lag {
    wake: Notify,
    /// When it was woken, in microseconds; 0 when it has answered.
    asked: AtomicU64,
    last: AtomicU64,
}

impl Lag {
    /// The probe's side, on the main runtime.
    pub async fn answer(&self) {
        loop {
            self.wake.notified().await;
            let asked = self.asked.swap(0, Relaxed);
            if asked > 0 {
                let delay = monotonic_us().saturating_sub(asked);
                self.last.store(delay, Relaxed);
                metrics::histogram!("mainstay.runtime.poll.delay").record(delay as f64 / 1e6);
            }
        }
    }

    /// The asking side, elsewhere. One that has not been answered yet is not asked again.
    pub fn ask(&self) {
        if self.asked.load(Relaxed) == 0 {
            self.asked.store(monotonic_us(), Relaxed);
            self.wake.notify_one();
        }
    }

    /// The last delay, or the present one if that is longer.
    pub fn now(&self) -> Duration {
        let waiting = match self.asked.load(Relaxed) {
            0 => 0,
            asked => monotonic_us().saturating_sub(asked),
        };
        Duration::from_micros(self.last.load(Relaxed).max(waiting))
    }
}

/// See [`Health::runtime_lag`](super::Health::runtime_lag).
#[derive(Debug, Clone)]
pub struct RuntimeLag {
    lag: Arc<Lag>,
    limit: Duration,
}

impl RuntimeLag {
    pub(super) fn new(lag: Arc<Lag>, limit: Duration) -> Self {
        Self { lag, limit }
    }
}

impl Check for RuntimeLag {
    fn look(&self) -> BoxFuture<'static, Result<()>> {
        let (lag, limit) = (self.lag.now(), self.limit);
        Box::pin(async move {
            if lag <= limit {
                return Ok(());
            }
            Err(Error::from(format!(
                "a task that is ready waits {}, the limit is {}",
                human(lag),
                human(limit)
            )))
        })
    }

    fn beside_the_runtime(&self) -> bool {
        true
    }
}
