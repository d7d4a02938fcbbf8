//! Calls a second to one target.

use std::time::Duration;

use tokio::time::Instant;

use super::Rate;

/// The generic cell rate algorithm (ITU-T I.371): one instant, no refill.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the next call would come if calls came evenly.
    due: Option<Instant>,
    /// Between two calls, and the rate that it was worked out from.
    interval: Duration,
    of: f64,
}

impl Pace {
    /// Takes a call, or says how long to wait for one.
    pub fn admit(&mut self, rate: &Rate, now: Instant) -> Result<(), Duration> {
        if self.of != rate.calls_per_second {
            self.of = rate.calls_per_second;
            self.interval = Duration::from_secs_f64((1.0 / self.of).min(86_400.0));
        }
        let interval = self.interval;
        let due = self.due.map_or(now, |due| due.max(now));
        let early = due - now;
        let allowed = interval * (rate.burst - 1);
        if early > allowed {
            return Err(early - allowed);
        }
        self.due = Some(due + interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{millis, secs};

    #[test]
    fn calls_per_second_is_calls_a_second() {
        // The trap: `per_second(n)` that means one call in n seconds.
        let rate = Rate { calls_per_second: 4_000.0, burst: 1 };
        let (start, mut pace) = (Instant::now(), Pace::default());
        let taken = (0..1_000_000u64)
            .filter(|us| pace.admit(&rate, start + Duration::from_micros(*us)).is_ok())
            .count();
        assert_eq!(taken, 4_000);
    }

    #[test]
    fn a_burst_is_let_through_after_a_pause_and_the_wait_is_told() {
        let rate = Rate { calls_per_second: 10.0, burst: 3 };
        let (now, mut pace) = (Instant::now(), Pace::default());
        (0..3).for_each(|_| pace.admit(&rate, now).unwrap());
        assert_eq!(pace.admit(&rate, now), Err(millis(100)));
        assert_eq!(pace.admit(&rate, now + millis(99)), Err(millis(1)));
        pace.admit(&rate, now + millis(100)).unwrap();
        (0..3).for_each(|_| pace.admit(&rate, now + secs(10)).unwrap());
        assert!(pace.admit(&rate, now + secs(10)).is_err());
    }
}
