//! The arithmetic of the generic cell rate algorithm.

use std::time::Duration;

use super::{Decision, Rate};

/// An instant in *ticks*: nanoseconds times the rate's count. One event then costs a whole number of them, so that
/// nothing is ever rounded.
pub(crate) type Ticks = u128;

/// Takes `cost` events out of what a key has at `now`, or none and says how much too early it is. `due` is when the next
/// event would be on schedule, and is moved on.
pub(crate) fn admit(rate: &Rate, due: &mut Ticks, now: Ticks, cost: u32) -> Result<(), Ticks> {
    let each = rate.per().as_nanos();
    let to = (*due).max(now) + each * u128::from(cost);
    let latest = now + each * u128::from(rate.at_once());
    if to > latest {
        return Err(to - latest);
    }
    *due = to;
    Ok(())
}

/// An instant of a clock in the rate's ticks.
pub(crate) fn ticks(rate: &Rate, now_ns: u64) -> Ticks {
    u128::from(now_ns) * u128::from(rate.count())
}

/// How long to wait for so many ticks, rounded up: whoever comes back then is on time.
pub(crate) fn wait(rate: &Rate, ticks: Ticks) -> Duration {
    Duration::from_nanos(ticks.div_ceil(u128::from(rate.count())).try_into().unwrap_or(u64::MAX))
}

/// [`admit`], with all that can be said about it.
pub(super) fn take(rate: &Rate, due: &mut Ticks, now_ns: u64, cost: u32) -> Decision {
    let now = ticks(rate, now_ns);
    let early = admit(rate, due, now, cost).err();
    let (each, due) = (rate.per().as_nanos(), (*due).max(now));
    let burst = each * u128::from(rate.at_once());
    Decision {
        allowed: early.is_none(),
        limit: rate.at_once(),
        remaining: (now + burst).saturating_sub(due).checked_div(each).unwrap_or(0) as u32,
        reset: wait(rate, due - now),
        retry_after: early.filter(|_| cost <= rate.at_once()).map(|early| wait(rate, early)),
    }
}

/// Whether a key is as good as new.
pub(super) fn is_idle(rate: &Rate, due: Ticks, now_ns: u64) -> bool {
    due <= ticks(rate, now_ns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{millis, secs};

    #[test]
    fn per_second_means_a_second() {
        // The trap: `per_second(n)` that means one in n seconds.
        let (rate, mut due) = (Rate::per_second(4_000).burst(1), 0);
        let taken = (0..1_000_000).filter(|us| take(&rate, &mut due, us * 1_000, 1).is_allowed()).count();
        assert_eq!(taken, 4_000);
    }

    #[test]
    fn a_decision_says_what_is_left_and_when_to_come_back() {
        let (rate, mut due) = (Rate::per_second(10).burst(3), 0);
        let mut at = |ms: u64, cost| {
            let Decision { allowed, remaining, reset, retry_after, .. } =
                take(&rate, &mut due, ms * 1_000_000, cost);
            (allowed, remaining, reset, retry_after)
        };
        assert_eq!(at(0, 2), (true, 1, millis(200), None));
        assert_eq!(at(0, 2), (false, 1, millis(200), Some(millis(100))));
        assert_eq!(at(0, 1), (true, 0, millis(300), None));
        assert_eq!(at(99, 1), (false, 0, millis(201), Some(millis(1))));
        assert_eq!(at(100, 1), (true, 0, millis(300), None));
        // More than ever fits: no time to come back.
        assert_eq!(at(10_000, 4), (false, 3, secs(0), None));
        assert_eq!(at(10_000, 0), (true, 3, secs(0), None));
    }

    fn rates() -> impl Strategy<Value = Rate> {
        (1u32..1_000, 1u64..10_000_000_000, 1u32..50)
            .prop_map(|(count, ns, burst)| Rate::new(count, Duration::from_nanos(ns)).burst(burst))
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_the_burst_and_the_rate(
            rate in rates(),
            calls in proptest::collection::vec((0u64..5, 1u32..4), 1..300),
        ) {
            let (mut due, mut now) = (0, 0);
            let mut taken = Vec::new();
            for (step, cost) in calls {
                now += step * (rate.per().as_nanos() as u64 / u64::from(rate.count()) / 2 + 1);
                if take(&rate, &mut due, now, cost).is_allowed() {
                    taken.push((now, u128::from(cost)));
                }
            }
            for first in 0..taken.len() {
                let mut sum = 0;
                for (at, cost) in &taken[first..] {
                    sum += cost;
                    let window = u128::from(at - taken[first].0);
                    // sum ≤ burst + count × window / per, without a division
                    let most = u128::from(rate.at_once()) * rate.per().as_nanos() + u128::from(rate.count()) * window;
                    prop_assert!(sum * rate.per().as_nanos() <= most);
                }
            }
        }

        #[test]
        fn a_steady_flow_at_the_rate_is_never_refused(rate in rates(), start in 0u64..1_000_000, n in 1u64..2_000) {
            let mut due = 0;
            // Clocks count whole nanoseconds: the shortest such gap that keeps to the rate.
            let gap = rate.per().as_nanos().div_ceil(u128::from(rate.count())) as u64;
            for i in 0..n {
                let at = gap * i;
                prop_assert!(take(&rate, &mut due, start + at, 1).is_allowed(), "the {i}-th");
            }
        }

        #[test]
        fn whoever_comes_back_when_told_gets_through(rate in rates(), costs in proptest::collection::vec(1u32..6, 1..60)) {
            let (mut due, mut now) = (0, 0);
            for cost in costs {
                let decision = take(&rate, &mut due, now, cost);
                if let Some(wait) = decision.retry_after {
                    now += wait.as_nanos() as u64;
                    prop_assert!(take(&rate, &mut due, now, cost).is_allowed());
                }
            }
        }
    }
}
