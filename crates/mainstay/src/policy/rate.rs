//! Calls a second to one target.

use std::time::Duration;

use tokio::time::Instant;

use super::Rate;
use crate::rate::gcra::{self, Ticks};

/// One key of a rate limiter, for whoever holds its lock already.
#[derive(Debug)]
pub(super) struct Pace {
    /// What time is counted from.
    began: Instant,
    /// When the next call would come if calls came evenly.
    due: Ticks,
    /// The rate in whole numbers, and what it was worked out from.
    exact: crate::rate::Rate,
    of: Rate,
}

impl Pace {
    pub fn new(now: Instant) -> Self {
        let of = Rate { calls_per_second: 1.0, burst: 1 };
        Self { began: now, due: 0, exact: exact(&of), of }
    }

    /// Takes a call, or says how long to wait for one.
    pub fn admit(&mut self, rate: &Rate, now: Instant) -> Result<(), Duration> {
        if self.of != *rate {
            self.change(rate);
        }
        let ns = now.saturating_duration_since(self.began).as_nanos() as u64;
        let now = gcra::ticks(&self.exact, ns);
        gcra::admit(&self.exact, &mut self.due, now, 1).map_err(|early| gcra::wait(&self.exact, early))
    }

    /// New rules, at which what was taken stays taken: the same instant in other ticks.
    fn change(&mut self, rate: &Rate) {
        let due = gcra::wait(&self.exact, self.due);
        (self.of, self.exact) = (*rate, exact(rate));
        self.due = gcra::ticks(&self.exact, due.as_nanos() as u64);
    }
}

/// So many calls in so much time: about a second, or one call and as long as it takes, a day at most. Off by less than
/// one in a thousand million, and not at all for whole numbers.
fn exact(rate: &Rate) -> crate::rate::Rate {
    const DAY: f64 = 86_400.0;
    let count = rate.calls_per_second.ceil().clamp(1.0, f64::from(u32::MAX));
    let per = Duration::from_secs_f64((count / rate.calls_per_second).min(DAY));
    crate::rate::Rate::new(count as u32, per).burst(rate.burst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{millis, secs};

    #[test]
    fn calls_per_second_is_calls_a_second() {
        // The trap: `per_second(n)` that means one call in n seconds.
        let rate = Rate { calls_per_second: 4_000.0, burst: 1 };
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let taken = (0..1_000_000u64)
            .filter(|us| pace.admit(&rate, start + Duration::from_micros(*us)).is_ok())
            .count();
        assert_eq!(taken, 4_000);
    }

    #[test]
    fn a_burst_is_let_through_after_a_pause_and_the_wait_is_told() {
        let rate = Rate { calls_per_second: 10.0, burst: 3 };
        let now = Instant::now();
        let mut pace = Pace::new(now);
        (0..3).for_each(|_| pace.admit(&rate, now).unwrap());
        assert_eq!(pace.admit(&rate, now), Err(millis(100)));
        assert_eq!(pace.admit(&rate, now + millis(99)), Err(millis(1)));
        pace.admit(&rate, now + millis(100)).unwrap();
        (0..3).for_each(|_| pace.admit(&rate, now + secs(10)).unwrap());
        assert!(pace.admit(&rate, now + secs(10)).is_err());
    }

    #[test]
    fn fractions_of_a_call_a_second_are_exact() {
        for (calls_per_second, seconds, calls) in
            [(2.5, 1_000, 2_500), (1.0 / 3.0, 3_000, 1_000), (0.01, 1_000, 10)]
        {
            let rate = Rate { calls_per_second, burst: 1 };
            let start = Instant::now();
            let mut pace = Pace::new(start);
            let taken = (0..seconds * 100).filter(|n| pace.admit(&rate, start + millis(n * 10)).is_ok());
            assert_eq!(taken.count(), calls, "{calls_per_second}");
        }
        let never = Rate { calls_per_second: f64::MIN_POSITIVE, burst: 1 };
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.admit(&never, start).unwrap();
        assert_eq!(pace.admit(&never, start), Err(secs(86_400)), "a day at most");
        let always = Rate { calls_per_second: f64::MAX, burst: 1 };
        (0..1_000).for_each(|_| Pace::new(start).admit(&always, start).unwrap());
    }

    #[test]
    fn a_new_rate_keeps_what_was_taken() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.admit(&Rate { calls_per_second: 0.5, burst: 1 }, start).unwrap();
        let faster = Rate { calls_per_second: 100.0, burst: 1 };
        assert_eq!(pace.admit(&faster, start), Err(secs(2)));
        pace.admit(&faster, start + secs(2)).unwrap();
        assert_eq!(pace.admit(&faster, start + secs(2)), Err(millis(10)));
    }
}
