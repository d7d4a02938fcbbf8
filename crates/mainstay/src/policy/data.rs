//! What a policy says: plain data from TOML, JSON or code.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Problems;
use crate::millis;

/// No configured time is longer.
pub(crate) const DAY_MS: u64 = 86_400_000;
pub(crate) const TOO_LONG: &str = "must not be more than 86400000, a day";

/// How calls to one target are protected. Every part has a default that is safe to have; see the fields.
///
/// ```
/// let policy = mainstay::policy::Policy::from_toml(
///     "attempt_ms = 2000
///      retry = { max_attempts = 4, base_ms = 50 }
///      bulkhead = { max_concurrent = 20, wait_ms = 100 }",
/// )?;
/// assert_eq!(policy.retry.cap_ms, 10_000);
/// # Ok::<(), mainstay::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// How long a call may take with all its attempts and waits, in milliseconds of wall-clock time. Defaults to
    /// 30,000; 0 is no limit. The context's deadline holds if it is earlier.
    pub total_ms: u64,
    /// How long one attempt may take, in milliseconds. Defaults to 10,000; 0 is no limit.
    pub attempt_ms: u64,
    /// Whether calls may be made twice. If not, they are never retried nor hedged. Defaults to true, because who
    /// hands over a closure says how to make the call again; HTTP requests are judged by their method instead.
    pub idempotent: bool,
    /// Counts what the rate limit, the breaker and the bulkhead would refuse, and refuses nothing. Defaults to false.
    pub dry_run: bool,
    /// Calls over this rate are refused. Off unless given.
    pub rate: Option<Rate>,
    /// When and how often a call is tried again.
    pub retry: Retry,
    /// How much retries and hedges may add to the load.
    pub budget: BudgetRules,
    /// A second attempt beside a slow first one. Off unless given.
    pub hedge: Option<Hedge>,
    /// Stops calling a target that fails.
    pub breaker: BreakerRules,
    /// How many attempts may run at once. Off unless given.
    pub bulkhead: Option<BulkheadRules>,
}

/// A rate of calls.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Calls a second, in the long run.
    pub calls_per_second: f64,
    /// How many may come at once after a pause. Defaults to 1.
    #[serde(default = "one")]
    pub burst: u32,
}

/// When and how often a call is tried again.
///
/// The wait before the n-th retry is drawn below `min(cap, base × 2ⁿ⁻¹)`, as the jitter says, and never exceeds the
/// cap. A target's `Retry-After` is a floor; one above the cap ends the call instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all, with the first and with hedges. Defaults to 3; 1 never retries nor hedges.
    pub max_attempts: u32,
    /// The scale of the first wait, in milliseconds. Defaults to 100.
    pub base_ms: u64,
    /// The longest wait, in milliseconds. Defaults to 10,000.
    pub cap_ms: u64,
    /// How waits are spread. Defaults to [`Jitter::Full`].
    pub jitter: Jitter,
    /// In a job or a delivery of the log, a longer wait than this gives the slot back and becomes their own delay, in
    /// milliseconds. Defaults to 2,000.
    pub reschedule_above_ms: u64,
}

/// How waits are spread, so that callers that failed together do not come back together (Brooker, "Exponential
/// Backoff And Jitter", 2015).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Anything from 0 to the whole wait: the fewest calls until all have succeeded.
    #[default]
    Full,
    /// Half of the wait, and anything from 0 to the other half.
    Equal,
    /// Anything from the base to three times the last wait.
    Decorrelated,
    /// The whole wait. Callers stay together: only for tests and single callers.
    None,
}

/// How much retries and hedges together may add to the load (the scheme of Finagle's retry budgets, where a floor and
/// a share add up; here the larger of both counts, so that the share holds).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetRules {
    /// Whether there is a budget. Defaults to true.
    pub enabled: bool,
    /// Extra attempts for 100 calls. Defaults to 20. An attempt that timed out costs double, because the target may
    /// still be at work on it.
    pub percent: f64,
    /// Extra attempts a second that a target with few calls may have all the same. Defaults to 10.
    pub min_per_second: u32,
    /// How long a call counts, in milliseconds. Defaults to 10,000.
    pub ttl_ms: u64,
}

/// A second attempt beside a slow first one. It comes out of the budget and of `retry.max_attempts`, and only for what
/// may be done twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hedge {
    /// How long to wait for the first attempt, in milliseconds: about the 95th percentile of the target.
    pub after_ms: u64,
}

/// When calling a target is stopped, and when it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerRules {
    /// Whether there is a breaker. Defaults to true.
    pub enabled: bool,
    /// Opens when this share of the attempts in the window failed. Defaults to 50; 0 turns the rule off.
    pub failure_percent: f64,
    /// Fewer attempts in the window open nothing. Defaults to 20.
    pub min_calls: u32,
    /// How far back the shares look, in milliseconds. Defaults to 10,000.
    pub window_ms: u64,
    /// Opens after this many failures without a success between them. Defaults to 0: off.
    pub consecutive_failures: u32,
    /// Attempts that take longer than this, in milliseconds, are slow. Defaults to 0: none are.
    pub slow_ms: u64,
    /// Opens when this share of the attempts in the window was slow. Defaults to 100.
    pub slow_percent: f64,
    /// How long it stays open the first time, in milliseconds; doubles while probes fail. Defaults to 5,000. The
    /// actual time is drawn from half of it to all of it.
    pub open_ms: u64,
    /// The longest time it stays open, in milliseconds. Defaults to 60,000.
    pub max_open_ms: u64,
    /// How many attempts may probe at once when the time is over, and how many of them must succeed to close it.
    /// Defaults to 3.
    pub probes: u32,
}

/// How many attempts may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkheadRules {
    /// Attempts at once.
    pub max_concurrent: u32,
    /// How long to wait for a place, in milliseconds, first come first served. Defaults to 0: not at all.
    #[serde(default)]
    pub wait_ms: u64,
}

fn one() -> u32 {
    1
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            total_ms: 30_000,
            attempt_ms: 10_000,
            idempotent: true,
            dry_run: false,
            rate: None,
            retry: Retry::default(),
            budget: BudgetRules::default(),
            hedge: None,
            breaker: BreakerRules::default(),
            bulkhead: None,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            base_ms: 100,
            cap_ms: 10_000,
            jitter: Jitter::Full,
            reschedule_above_ms: 2_000,
        }
    }
}

impl Default for BudgetRules {
    fn default() -> Self {
        Self { enabled: true, percent: 20.0, min_per_second: 10, ttl_ms: 10_000 }
    }
}

impl Default for BreakerRules {
    fn default() -> Self {
        Self {
            enabled: true,
            failure_percent: 50.0,
            min_calls: 20,
            window_ms: 10_000,
            consecutive_failures: 0,
            slow_ms: 0,
            slow_percent: 100.0,
            open_ms: 5_000,
            max_open_ms: 60_000,
            probes: 3,
        }
    }
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`], with everything that is wrong.
    pub fn from_toml(text: &str) -> crate::Result<Policy> {
        let policy: Policy = toml::from_str(text).map_err(|error| {
            crate::Error::config(format!("not a policy: {}", error.to_string().trim_end()))
        })?;
        policy.check()?;
        Ok(policy)
    }

    /// Whether its values make sense.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`], with everything that is wrong.
    pub fn check(&self) -> crate::Result<()> {
        let mut problems = Problems::default();
        self.validate("", &mut problems);
        if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
    }

    /// Adds everything that is wrong, under keys that begin with `prefix`.
    pub fn validate(&self, prefix: &str, problems: &mut Problems) {
        let mut wrong = |bad: bool, key: &str, detail: &str| {
            if bad {
                problems.add(format!("{prefix}{key}"), detail);
            }
        };
        let at_least_1 = "must be at least 1";
        let percent = "must be from 0 to 100";
        let share = |value: f64| !(0.0..=100.0).contains(&value);
        wrong(
            self.total_ms > 0 && self.attempt_ms > self.total_ms,
            "attempt_ms",
            "must not be longer than total_ms",
        );
        if let Some(rate) = self.rate {
            let sane = rate.calls_per_second.is_finite() && rate.calls_per_second > 0.0;
            wrong(!sane, "rate.calls_per_second", "must be more than 0");
            wrong(rate.burst == 0, "rate.burst", at_least_1);
        }
        let budget = &self.budget;
        let sane = budget.percent.is_finite() && (0.0..=1_000.0).contains(&budget.percent);
        wrong(!sane, "budget.percent", "must be from 0 to 1000");
        wrong(budget.ttl_ms < 1_000, "budget.ttl_ms", "must be at least 1000");
        wrong(self.hedge.is_some_and(|hedge| hedge.after_ms == 0), "hedge.after_ms", at_least_1);
        let breaker = &self.breaker;
        wrong(share(breaker.failure_percent), "breaker.failure_percent", percent);
        wrong(share(breaker.slow_percent), "breaker.slow_percent", percent);
        wrong(breaker.min_calls == 0, "breaker.min_calls", at_least_1);
        wrong(breaker.window_ms < 100, "breaker.window_ms", "must be at least 100");
        wrong(breaker.open_ms == 0, "breaker.open_ms", at_least_1);
        wrong(
            breaker.max_open_ms < breaker.open_ms,
            "breaker.max_open_ms",
            "must not be less than breaker.open_ms",
        );
        wrong(breaker.probes == 0, "breaker.probes", at_least_1);
        let empty = self.bulkhead.is_some_and(|bulkhead| bulkhead.max_concurrent == 0);
        wrong(empty, "bulkhead.max_concurrent", at_least_1);
        // Sums and products of what is allowed stay far within their types.
        for (key, ms) in [
            ("total_ms", self.total_ms),
            ("attempt_ms", self.attempt_ms),
            ("budget.ttl_ms", budget.ttl_ms),
            ("hedge.after_ms", self.hedge.map_or(0, |hedge| hedge.after_ms)),
            ("breaker.window_ms", breaker.window_ms),
            ("breaker.slow_ms", breaker.slow_ms),
            ("breaker.open_ms", breaker.open_ms),
            ("breaker.max_open_ms", breaker.max_open_ms),
            ("bulkhead.wait_ms", self.bulkhead.map_or(0, |bulkhead| bulkhead.wait_ms)),
        ] {
            wrong(ms > DAY_MS, key, TOO_LONG);
        }
        let hasty = self.rate.is_some_and(|rate| rate.calls_per_second > 1e9);
        wrong(hasty, "rate.calls_per_second", "must not be more than 1000000000");
        wrong(budget.min_per_second > 1_000_000, "budget.min_per_second", "must not be more than 1000000");
        self.retry.validate(&format!("{prefix}retry."), problems);
    }

    pub(super) fn total(&self) -> Option<Duration> {
        (self.total_ms > 0).then(|| millis(self.total_ms))
    }

    pub(super) fn attempt(&self) -> Option<Duration> {
        (self.attempt_ms > 0).then(|| millis(self.attempt_ms))
    }
}

impl Retry {
    /// Whether its values make sense, for [`retry`](super::retry()) with rules from elsewhere: it takes them as they
    /// are, so a `base_ms` of 0 does not wait. A [`Policy`] checks its own.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`], with everything that is wrong.
    pub fn check(&self) -> crate::Result<()> {
        let mut problems = Problems::default();
        self.validate("", &mut problems);
        if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
    }

    fn validate(&self, prefix: &str, problems: &mut Problems) {
        let mut wrong = |bad: bool, key: &str, detail: &str| {
            if bad {
                problems.add(format!("{prefix}{key}"), detail);
            }
        };
        wrong(self.max_attempts == 0, "max_attempts", "must be at least 1, which never retries");
        wrong(self.base_ms == 0 && self.max_attempts > 1, "base_ms", "must be at least 1");
        wrong(self.cap_ms < self.base_ms, "cap_ms", "must not be less than base_ms");
        for (key, ms) in [
            ("base_ms", self.base_ms),
            ("cap_ms", self.cap_ms),
            ("reschedule_above_ms", self.reschedule_above_ms),
        ] {
            wrong(ms > DAY_MS, key, TOO_LONG);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_is_valid_and_survives_both_formats() {
        let policy = Policy { hedge: Some(Hedge { after_ms: 50 }), ..Policy::default() };
        policy.check().unwrap();
        assert_eq!(Policy::from_toml(&toml::to_string(&policy).unwrap()).unwrap(), policy);
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
        assert_eq!(Policy::from_toml("").unwrap(), Policy::default());
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        for text in ["retries = 3", "retry = { max_tries = 3 }", "breaker = { open = 1 }"] {
            let error = Policy::from_toml(text).unwrap_err();
            assert!(error.to_string().contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn values_that_no_sum_could_hold_are_refused_by_name() {
        let error = Policy::from_toml(
            "total_ms = 86400001
             attempt_ms = 86400001
             rate = { calls_per_second = 1e300 }
             retry = { base_ms = 86400001, cap_ms = 86400001, reschedule_above_ms = 86400001 }
             budget = { ttl_ms = 86400001, min_per_second = 1000001 }
             hedge = { after_ms = 86400001 }
             breaker = { window_ms = 9223372036854775807, slow_ms = 86400001, open_ms = 86400001,
                         max_open_ms = 86400001 }
             bulkhead = { max_concurrent = 1, wait_ms = 86400001 }",
        );
        let told = error.unwrap_err().to_string();
        for key in [
            "total_ms",
            "attempt_ms",
            "rate.calls_per_second",
            "retry.base_ms",
            "retry.cap_ms",
            "retry.reschedule_above_ms",
            "budget.ttl_ms",
            "budget.min_per_second",
            "hedge.after_ms",
            "breaker.window_ms",
            "breaker.slow_ms",
            "breaker.open_ms",
            "breaker.max_open_ms",
            "bulkhead.wait_ms",
        ] {
            assert!(
                told.contains(&format!("\n  {key}: must not be more than ")),
                "{key} is missing in {told}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_times_and_highest_rates_that_are_allowed_can_be_worked_with() {
        let day = DAY_MS;
        let policy = Policy {
            total_ms: day,
            attempt_ms: day,
            rate: Some(Rate { calls_per_second: 1e9, burst: u32::MAX }),
            retry: Retry { base_ms: day, cap_ms: day, reschedule_above_ms: day, ..Retry::default() },
            budget: BudgetRules { percent: 1_000.0, min_per_second: 1_000_000, ttl_ms: day, enabled: true },
            hedge: Some(Hedge { after_ms: day }),
            breaker: BreakerRules {
                window_ms: day,
                slow_ms: day,
                open_ms: day,
                max_open_ms: day,
                consecutive_failures: 1,
                ..BreakerRules::default()
            },
            bulkhead: Some(BulkheadRules { max_concurrent: u32::MAX, wait_ms: day }),
            ..Policy::default()
        };
        let target = super::super::Target::new("longest", policy).unwrap();
        let fails = || std::future::ready(Err::<(), _>(std::io::Error::from(std::io::ErrorKind::TimedOut)));
        assert!(target.run(|_| fails()).await.is_err());
        assert_eq!(target.breaker(), super::super::BreakerState::Open);
    }

    #[test]
    fn lone_rules_of_a_retry_are_checked_as_those_of_a_policy() {
        Retry::default().check().unwrap();
        let wrong = Retry { base_ms: 0, cap_ms: DAY_MS + 1, ..Retry::default() };
        let told = wrong.check().unwrap_err().to_string();
        assert!(told.contains("base_ms: must be at least 1") && told.contains("cap_ms: must not"), "{told}");
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let error = Policy::from_toml(
            "total_ms = 5
             rate = { calls_per_second = 0.0, burst = 0 }
             retry = { max_attempts = 0, base_ms = 500, cap_ms = 100 }
             budget = { percent = -1.0, ttl_ms = 1 }
             hedge = { after_ms = 0 }
             breaker = { failure_percent = 101.0, min_calls = 0, window_ms = 1, open_ms = 0, probes = 0 }
             bulkhead = { max_concurrent = 0 }",
        );
        let told = error.unwrap_err().to_string();
        for key in [
            "attempt_ms",
            "rate.calls_per_second",
            "rate.burst",
            "retry.max_attempts",
            "retry.cap_ms",
            "budget.percent",
            "budget.ttl_ms",
            "hedge.after_ms",
            "breaker.failure_percent",
            "breaker.min_calls",
            "breaker.window_ms",
            "breaker.open_ms",
            "breaker.probes",
            "bulkhead.max_concurrent",
        ] {
            assert!(told.contains(&format!("\n  {key}: ")), "{key} is missing in {told}");
        }
    }
}
