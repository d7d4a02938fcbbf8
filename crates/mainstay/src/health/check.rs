//! One check: its schedule, its hysteresis, its state.

use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{CheckReport, Health, Weight};
use crate::time::{human, monotonic_ms};
use crate::{Error, secs};

const INTERVAL: Duration = secs(5);
const INTERVAL_DOWN: Duration = secs(30);
const LIMIT: Duration = secs(1);
const FAILURES_DOWN: u32 = 3;
const SUCCESSES_UP: u32 = 2;

/// What is known of a check.
pub(super) struct State {
    pub weight: Weight,
    up: bool,
    failures: u32,
    successes: u32,
    /// When the last result came, in milliseconds; `None` before the first.
    at_ms: Option<u64>,
    took: Duration,
    error: Option<String>,
}

impl State {
    fn new(weight: Weight) -> Self {
        Self { weight, up: false, failures: 0, successes: 0, at_ms: None, took: Duration::ZERO, error: None }
    }

    /// Takes a result in; whether the verdict changed.
    fn record(&mut self, at_ms: u64, took: Duration, error: Option<String>) -> bool {
        let (first, was) = (self.at_ms.is_none(), self.up);
        if error.is_none() {
            (self.successes, self.failures) = (self.successes.saturating_add(1), 0);
        } else {
            (self.successes, self.failures) = (0, self.failures.saturating_add(1));
        }
        // The first result decides alone: there is no verdict yet that a single one could be noise against.
        if first || self.successes >= SUCCESSES_UP || self.failures >= FAILURES_DOWN {
            self.up = error.is_none();
        }
        (self.at_ms, self.took, self.error) = (Some(at_ms), took, error);
        self.up != was
    }

    fn interval(&self) -> Duration {
        // A first success is followed up soon: the second brings it back.
        if self.up || self.successes > 0 { INTERVAL } else { INTERVAL_DOWN }
    }

    /// A result that is overdue says that the checker is stuck: then nothing is known to be up.
    fn stale(&self, now_ms: u64) -> bool {
        let overdue = (self.interval() + LIMIT) * 2;
        self.at_ms.is_some_and(|at| now_ms.saturating_sub(at) > overdue.as_millis() as u64)
    }

    pub fn is_up(&self, now_ms: u64) -> bool {
        self.up && !self.stale(now_ms)
    }

    pub fn report(&self, now_ms: u64) -> CheckReport {
        let critical = self.weight == Weight::Critical;
        let status = match (self.is_up(now_ms), critical) {
            (true, _) => "up",
            (false, false) => "degraded",
            (false, true) => "down",
        };
        let stale = || "the last result is too old".to_owned();
        CheckReport {
            status,
            critical,
            age_ms: self.at_ms.map(|at| now_ms.saturating_sub(at)),
            duration_ms: self.at_ms.map(|_| self.took.as_millis() as u64),
            error: self.error.clone().or_else(|| self.stale(now_ms).then(stale)),
        }
    }
}

impl Health {
    /// Adds a check and answers the loop that runs it.
    pub(crate) fn register<F, Fut, E>(
        &self,
        name: String,
        weight: Weight,
        check: F,
    ) -> impl Future<Output = ()> + Send + 'static + use<F, Fut, E>
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.checks().insert(name.clone(), State::new(weight));
        let health = self.clone();
        async move {
            loop {
                let began = Instant::now();
                let error = match timeout(LIMIT, check()).await {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(Error::from_any(error).chain()),
                    Err(_) => Some(format!("no answer within {}", human(LIMIT))),
                };
                let next = health.record(&name, began.elapsed(), error);
                sleep(next).await;
            }
        }
    }

    fn record(&self, name: &str, took: Duration, error: Option<String>) -> Duration {
        let mut checks = self.checks();
        let Some(state) = checks.get_mut(name) else { return INTERVAL };
        let first = state.at_ms.is_none();
        let changed = state.record(monotonic_ms(), took, error);
        let (up, error, interval) = (state.up, state.error.clone().unwrap_or_default(), state.interval());
        drop(checks);
        if up && changed && !first {
            tracing::info!(check = name, "up again");
        } else if !up && (changed || first) {
            tracing::warn!(check = name, error, "down");
        }
        metrics::gauge!("mainstay.health.up", "check" => name.to_owned()).set(f64::from(u8::from(up)));
        interval
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::millis;
    use crate::shutdown::{Phase, Shutdown};

    #[test]
    fn three_failures_take_it_down_and_two_successes_bring_it_back() {
        let mut state = State::new(Weight::Critical);
        let mut seen = Vec::new();
        for ok in [true, false, false, true, false, false, false, true, false, true, true] {
            state.record(1, millis(1), (!ok).then(|| "no".to_owned()));
            seen.push(state.up);
        }
        assert_eq!(seen, [true, true, true, true, true, true, false, false, false, false, true]);
    }

    #[test]
    fn the_first_result_decides_alone_and_an_old_one_counts_as_failure() {
        let mut state = State::new(Weight::Degraded);
        assert!(!state.is_up(1), "nothing is known yet");
        state.record(1000, millis(1), None);
        assert!(state.is_up(12_000));
        assert!(!state.is_up(14_000));
        assert_eq!(state.report(14_000).status, "degraded");
        assert!(state.report(14_000).error.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_check_is_cut_and_checked_less_often_while_down() {
        let health = Health::new(Shutdown::new());
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let run = health.register("db".into(), Weight::Critical, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<Result<(), std::io::Error>>()
        });
        let _ = timeout(secs(60), run).await;
        // Down from the first result: 0, 31 s, then 62 s.
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        let report = &health.report()["db"];
        assert_eq!(report.status, "down");
        assert!(report.error.as_deref().unwrap().contains("no answer"), "{report:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_critical_check_makes_the_service_unready() {
        for (weight, ready) in [(Weight::Degraded, true), (Weight::Critical, false)] {
            let shutdown = Shutdown::new();
            let health = Health::new(shutdown.clone());
            assert!(health.ready().is_err());
            shutdown.advance(Phase::Running);
            let run = health.register("db".into(), weight, || async { Err::<(), _>("refused") });
            let _ = timeout(millis(10), run).await;
            assert_eq!(health.ready().is_ok(), ready);
        }
    }
}
