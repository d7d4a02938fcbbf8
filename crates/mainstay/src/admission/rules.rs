//! What an admission limiter goes by.

use serde::{Deserialize, Serialize};

use crate::config::Problems;
use crate::policy::{DAY_MS, TOO_LONG};

/// How many pieces of work run at once, and how long others wait for it. The number follows what is measured; these
/// are its bounds and its pace.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdmissionRules {
    /// How many may run at once to begin with. Defaults to 20.
    pub initial: u32,
    /// Never fewer than this. Defaults to 1.
    pub min: u32,
    /// Never more than this. Defaults to 1,000.
    pub max: u32,
    /// How much slower than unloaded the median may be before the number goes down, in percent. Defaults to 125.
    pub tolerance_percent: f64,
    /// How often the number changes at most, in milliseconds; at least ten samples are waited for. Defaults to 100.
    pub window_ms: u64,
    /// How often the unloaded latency is measured anew while work has to wait, in milliseconds: until forty samples
    /// have come, half of the number may run (a quarter the first time, and when the last time found the number far
    /// too high). The pause is drawn from half to one and a half of this. Defaults to 10,000.
    pub probe_ms: u64,
    /// How much may wait. Defaults to 1,000. Beyond, the least critical is shed first, then the newest.
    pub max_waiting: u32,
    /// How long anything may wait, in milliseconds. Defaults to 1,000; a deadline may be earlier.
    pub max_wait_ms: u64,
    /// When nobody has waited for less than this for `codel_interval_ms`, there is too much work, and what has waited
    /// for longer is shed. In milliseconds; defaults to 5, and is never less than twice what
    /// the work takes when nothing is in its way.
    pub codel_target_ms: u64,
    /// How long a queue must stand before anything is shed for it, in milliseconds. Defaults to 100.
    pub codel_interval_ms: u64,
    /// Counts what would have to wait (reason `would_wait`), and lets everything through. Defaults to false.
    pub dry_run: bool,
}

impl Default for AdmissionRules {
    fn default() -> Self {
        Self {
            initial: 20,
            min: 1,
            max: 1_000,
            tolerance_percent: 125.0,
            window_ms: 100,
            probe_ms: 10_000,
            max_waiting: 1_000,
            max_wait_ms: 1_000,
            codel_target_ms: 5,
            codel_interval_ms: 100,
            dry_run: false,
        }
    }
}

impl AdmissionRules {
    /// Whether the values make sense.
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
        wrong(self.min == 0, "min", "must be at least 1");
        wrong(self.max < self.min, "max", "must not be less than min");
        wrong(!(self.min..=self.max).contains(&self.initial), "initial", "must be from min to max");
        let sane = (100.0..=1_000.0).contains(&self.tolerance_percent);
        wrong(!sane, "tolerance_percent", "must be from 100 to 1000");
        wrong(self.window_ms == 0, "window_ms", "must be at least 1");
        wrong(self.probe_ms < 1_000, "probe_ms", "must be at least 1000");
        wrong(self.codel_target_ms == 0, "codel_target_ms", "must be at least 1");
        wrong(self.codel_interval_ms == 0, "codel_interval_ms", "must be at least 1");
        for (key, ms) in [
            ("window_ms", self.window_ms),
            ("probe_ms", self.probe_ms),
            ("max_wait_ms", self.max_wait_ms),
            ("codel_target_ms", self.codel_target_ms),
            ("codel_interval_ms", self.codel_interval_ms),
        ] {
            wrong(ms > DAY_MS, key, TOO_LONG);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_every_problem_is_named() {
        AdmissionRules::default().check().unwrap();
        let bad = AdmissionRules {
            initial: 9,
            min: 0,
            max: 8,
            tolerance_percent: f64::NAN,
            window_ms: 0,
            probe_ms: 0,
            codel_target_ms: 0,
            codel_interval_ms: 0,
            ..AdmissionRules::default()
        };
        let told = bad.check().unwrap_err().to_string();
        assert!(told.contains("7 problems"), "{told}");
    }

    #[test]
    fn times_of_more_than_a_day_are_refused_by_name() {
        let bad = AdmissionRules {
            window_ms: u64::MAX,
            probe_ms: u64::MAX,
            max_wait_ms: DAY_MS + 1,
            codel_target_ms: DAY_MS + 1,
            codel_interval_ms: DAY_MS + 1,
            ..AdmissionRules::default()
        };
        let told = bad.check().unwrap_err().to_string();
        for key in ["window_ms", "probe_ms", "max_wait_ms", "codel_target_ms", "codel_interval_ms"] {
            assert!(told.contains(&format!("\n  {key}: {TOO_LONG}")), "{key} is missing in {told}");
        }
        AdmissionRules { probe_ms: DAY_MS, max_wait_ms: DAY_MS, ..AdmissionRules::default() }
            .check()
            .unwrap();
    }
}
