//! What is known of a check: its verdict, and how long it holds.

use std::time::Duration;

use super::{CheckOptions, CheckReport, Weight};

pub(super) struct State {
    options: CheckOptions,
    up: bool,
    failures: u32,
    successes: u32,
    /// When the last result came, in milliseconds; `None` before the first.
    at_ms: Option<u64>,
    took: Duration,
    error: Option<String>,
    /// What the log was told last.
    told: Option<bool>,
}

impl State {
    pub fn new(options: CheckOptions) -> Self {
        Self {
            options,
            up: false,
            failures: 0,
            successes: 0,
            at_ms: None,
            took: Duration::ZERO,
            error: None,
            told: None,
        }
    }

    /// Takes a result in.
    pub fn record(&mut self, at_ms: u64, took: Duration, error: Option<String>) {
        let first = self.at_ms.is_none();
        if error.is_none() {
            (self.successes, self.failures) = (self.successes.saturating_add(1), 0);
        } else {
            (self.successes, self.failures) = (0, self.failures.saturating_add(1));
        }
        // The first result decides alone: there is no verdict yet that a single one could be noise against.
        if first || self.successes >= self.options.successes || self.failures >= self.options.failures {
            self.up = error.is_none();
        }
        (self.at_ms, self.took, self.error) = (Some(at_ms), took, error);
    }

    /// Until the next look.
    pub fn interval(&self) -> Duration {
        // A first success is followed up soon: the second brings it back.
        if self.up || self.successes > 0 { self.options.interval } else { self.options.interval_down }
    }

    /// A result that is overdue says that the checker is stuck: then nothing is known to be up.
    fn stale(&self, now_ms: u64) -> bool {
        let overdue = (self.interval() + self.options.limit) * 2;
        self.at_ms.is_some_and(|at| now_ms.saturating_sub(at) > overdue.as_millis() as u64)
    }

    pub fn is_critical(&self) -> bool {
        self.options.weight == Weight::Critical
    }

    pub fn is_up(&self, now_ms: u64) -> bool {
        self.up && !self.stale(now_ms)
    }

    /// What the log should be told now: up again, or down and why. `None` if it knows.
    pub fn news(&mut self, now_ms: u64) -> Option<Result<(), String>> {
        self.at_ms?;
        let up = self.is_up(now_ms);
        let before = self.told.replace(up);
        match (before, up) {
            // That something works from the start is no news.
            (None | Some(true), true) | (Some(false), false) => None,
            (Some(false), true) => Some(Ok(())),
            (_, false) => Some(Err(self.reason(now_ms).unwrap_or_default())),
        }
    }

    fn reason(&self, now_ms: u64) -> Option<String> {
        let stale = || "the last result is too old".to_owned();
        self.error.clone().or_else(|| self.stale(now_ms).then(stale))
    }

    pub fn report(&self, now_ms: u64) -> CheckReport {
        let critical = self.is_critical();
        let status = match (self.is_up(now_ms), critical) {
            (true, _) => "up",
            (false, false) => "degraded",
            (false, true) => "down",
        };
        CheckReport {
            status,
            critical,
            age_ms: self.at_ms.map(|at| now_ms.saturating_sub(at)),
            duration_ms: self.at_ms.map(|_| self.took.as_millis() as u64),
            error: self.reason(now_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{millis, secs};

    fn verdicts(options: CheckOptions, results: &[bool]) -> Vec<bool> {
        let mut state = State::new(options);
        let mut seen = Vec::new();
        for ok in results {
            state.record(1, millis(1), (!ok).then(|| "no".to_owned()));
            seen.push(state.up);
        }
        seen
    }

    #[test]
    fn three_failures_take_it_down_and_two_successes_bring_it_back() {
        let results = [true, false, false, true, false, false, false, true, false, true, true];
        let expected = [true, true, true, true, true, true, false, false, false, false, true];
        assert_eq!(verdicts(CheckOptions::critical(), &results), expected);
    }

    #[test]
    fn the_numbers_can_be_chosen() {
        let options = CheckOptions::critical().failures(1).successes(3);
        assert_eq!(verdicts(options, &[true, false, true, true, true]), [true, false, false, false, true]);
    }

    #[test]
    fn the_first_result_decides_alone_and_an_old_one_counts_as_failure() {
        let mut state = State::new(CheckOptions::degraded());
        assert!(!state.is_up(1), "nothing is known yet");
        state.record(1000, millis(1), None);
        assert!(state.is_up(12_000));
        assert!(!state.is_up(14_000));
        assert_eq!(state.report(14_000).status, "degraded");
        assert!(state.report(14_000).error.is_some());
    }

    #[test]
    fn how_old_is_too_old_follows_the_interval() {
        let mut state = State::new(CheckOptions::critical().every(secs(60)).within(secs(5)));
        state.record(1000, millis(1), None);
        assert!(state.is_up(1000 + 130_000) && !state.is_up(1000 + 130_001));
    }

    #[test]
    fn the_log_hears_of_each_change_once() {
        let mut state = State::new(CheckOptions::critical().failures(1).successes(1));
        assert_eq!(state.news(1), None, "nothing is known yet");
        state.record(1, millis(1), None);
        assert_eq!(state.news(1), None, "it works from the start");
        state.record(2, millis(1), Some("refused".to_owned()));
        assert_eq!((state.news(2), state.news(2)), (Some(Err("refused".to_owned())), None));
        state.record(3, millis(1), None);
        assert_eq!((state.news(3), state.news(3)), (Some(Ok(())), None));
        assert_eq!(state.news(1_000_000), Some(Err("the last result is too old".to_owned())));
    }
}
