//! Limits a rate by key.

use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, counter};
use tokio::time::Instant;

use super::table::Table;
use super::{Decision, Rate, RateStore};
use crate::Result;

/// Limits how often each key may call. Cheap to clone: all clones are one limiter.
#[derive(Clone)]
pub struct RateLimiter {
    rate: Rate,
    state: State,
    fail_open: bool,
    meter: Arc<Meter>,
    name: Arc<str>,
}

#[derive(Clone)]
enum State {
    Local(Arc<Local>),
    Shared(Arc<dyn RateStore>),
}

struct Local {
    table: Mutex<Table>,
    /// Time is counted from here.
    began: Instant,
}

struct Meter {
    allowed: Counter,
    refused: Counter,
    failed: Counter,
    evicted: Counter,
}

/// Keys that are remembered unless said otherwise: about 5 MB.
const MAX_KEYS: usize = 100_000;

impl RateLimiter {
    /// A limiter that counts in this process. The name is a label of its metrics.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config): the rate makes no sense; it says which field.
    pub fn new(name: impl Into<Arc<str>>, rate: Rate) -> Result<Self> {
        rate.check()?;
        let name = name.into();
        let decided = |decision| counter!("mainstay.rate.decisions", "limiter" => name.to_string(), "decision" => decision);
        let meter = Meter {
            allowed: decided("allowed"),
            refused: decided("refused"),
            failed: decided("failed"),
            evicted: counter!("mainstay.rate.evicted", "limiter" => name.to_string()),
        };
        let local = Local { table: Mutex::new(Table::new(MAX_KEYS)), began: Instant::now() };
        let state = State::Local(Arc::new(local));
        Ok(Self { rate, state, fail_open: true, meter: Arc::new(meter), name })
    }

    /// Remembers so many keys at once, at least 1. Defaults to 100,000. No effect on a shared limiter.
    #[must_use]
    pub fn max_keys(self, keys: usize) -> Self {
        if let State::Local(local) = &self.state {
            local.table.lock().unwrap_or_else(PoisonError::into_inner).resize(keys);
        }
        self
    }

    /// Counts in a store that other processes share.
    #[must_use]
    pub fn shared(mut self, store: Arc<dyn RateStore>) -> Self {
        self.state = State::Shared(store);
        self
    }

    /// Whether calls go on while the shared store cannot be asked. Defaults to true: a limit protects a service, and
    /// must not take it down.
    #[must_use]
    pub fn when_unavailable(mut self, allow: bool) -> Self {
        self.fail_open = allow;
        self
    }

    /// Counts one call of this key, and says whether it may go on. Cancel safe in this process: it never waits.
    pub async fn check(&self, key: &str) -> Decision {
        self.take(key, 1).await
    }

    /// The same for a call that costs as much as `cost` ordinary ones. One that costs more than the burst is always
    /// refused.
    pub async fn take(&self, key: &str, cost: u32) -> Decision {
        let decision = match &self.state {
            State::Local(local) => Ok(self.take_here(local, key, cost)),
            State::Shared(store) => store.take(key, cost, &self.rate).await,
        };
        let decision = decision.unwrap_or_else(|error| {
            self.meter.failed.increment(1);
            tracing::warn!(limiter = %self.name, error = %error.chain(), allowed = self.fail_open, "a rate limit could not be asked");
            let left = if self.fail_open { self.rate.at_once() } else { 0 };
            let (reset, retry_after) = (self.rate.whole_again(), (!self.fail_open).then(|| crate::secs(1)));
            Decision { allowed: self.fail_open, limit: self.rate.at_once(), remaining: left, reset, retry_after }
        });
        let counter = if decision.allowed { &self.meter.allowed } else { &self.meter.refused };
        counter.increment(1);
        decision
    }

    /// What it allows.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn take_here(&self, local: &Local, key: &str, cost: u32) -> Decision {
        let now = u64::try_from(local.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut table = local.table.lock().unwrap_or_else(PoisonError::into_inner);
        let (decision, evicted) = table.take(&self.rate, key, now, cost);
        drop(table);
        if evicted {
            self.meter.evicted.increment(1);
        }
        decision
    }
}

impl std::fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateLimiter")
            .field("name", &self.name)
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::{Error, ErrorKind, millis, secs};

    #[tokio::test(start_paused = true)]
    async fn keys_are_limited_apart_and_time_is_virtual() {
        let limiter = RateLimiter::new("t", Rate::per_second(10).burst(2)).unwrap();
        let mut allowed = Vec::new();
        for _ in 0..3 {
            allowed.push((limiter.check("a").await.allowed, limiter.check("b").await.allowed));
        }
        assert_eq!(allowed, [(true, true), (true, true), (false, false)]);
        tokio::time::advance(millis(100)).await;
        assert!(limiter.check("a").await.allowed && !limiter.take("b", 2).await.allowed);
    }

    #[test]
    fn nonsense_is_refused_with_its_field() {
        for (rate, field) in [
            (Rate::per_second(0), "count"),
            (Rate::per_minute(5).burst(0), "burst"),
            (Rate::new(1, secs(0)), "per"),
            (Rate::new(1, secs(400 * 86_400)), "per"),
        ] {
            let error = RateLimiter::new("t", rate).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(field), "{error}");
        }
    }

    struct Down;

    #[async_trait]
    impl RateStore for Down {
        async fn take(&self, _: &str, _: u32, _: &Rate) -> Result<Decision> {
            Err(Error::unavailable("no connection"))
        }
    }

    #[tokio::test]
    async fn a_store_that_is_down_does_not_take_the_service_down_unless_asked_to() {
        let limiter = RateLimiter::new("t", Rate::per_second(1)).unwrap().shared(Arc::new(Down));
        assert!(limiter.check("a").await.allowed);
        let refused = limiter.when_unavailable(false).check("a").await;
        assert_eq!((refused.allowed, refused.retry_after), (false, Some(secs(1))));
    }
}
