//! How long to wait before the next attempt.

use std::time::Duration;

use mainstay_core::rules::draw;

use super::{Jitter, Retry};
use crate::millis;

impl Retry {
    /// The wait before the `n`-th retry (from 1), from 64 random bits and the wait before it (zero for the first):
    /// never above the cap.
    pub fn delay(&self, n: u32, previous: Duration, entropy: u64) -> Duration {
        // In microseconds, so that small bases still spread.
        let (base, cap) = (self.base_ms.saturating_mul(1_000), self.cap_ms.saturating_mul(1_000));
        let shift = n.saturating_sub(1);
        let whole = if shift >= base.leading_zeros() { cap } else { (base << shift).min(cap) };
        let us = match self.jitter {
            Jitter::None => whole,
            Jitter::Full => draw(entropy, whole),
            Jitter::Equal => whole - whole / 2 + draw(entropy, whole / 2),
            Jitter::Decorrelated => {
                let previous = u64::try_from(previous.as_micros()).unwrap_or(u64::MAX).max(base);
                let upper = previous.saturating_mul(3).min(cap);
                let lower = base.min(upper);
                lower + draw(entropy, upper - lower)
            }
        };
        // The jitter comes before the cap everywhere above; this holds it whatever is added one day.
        Duration::from_micros(us.min(cap))
    }

    /// The same with a floor that the target named: spread above it, so that those who were told the same do not
    /// come back together. `None` when the floor is above the cap: waiting so long is not a retry's business.
    pub(super) fn delay_from(
        &self,
        floor: Option<Duration>,
        n: u32,
        previous: Duration,
        entropy: u64,
    ) -> Option<Duration> {
        let delay = self.delay(n, previous, entropy);
        match floor {
            None => Some(delay),
            Some(floor) if floor > millis(self.cap_ms) => None,
            Some(floor) => Some((floor + delay).min(millis(self.cap_ms))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::secs;

    fn jitters() -> impl Strategy<Value = Jitter> {
        prop::sample::select(vec![Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::None])
    }

    proptest! {
        #[test]
        fn no_delay_exceeds_the_cap(
            base_ms in 0..=u64::MAX, cap_ms in 0..=u64::MAX, jitter in jitters(), n in 0..=u32::MAX,
            previous_ms in 0..=u64::MAX, entropy in any::<u64>(), floor_ms in prop::option::of(0..=u64::MAX),
        ) {
            let rules = Retry { base_ms, cap_ms, jitter, ..Retry::default() };
            let (previous, cap) = (millis(previous_ms), millis(cap_ms));
            prop_assert!(rules.delay(n, previous, entropy) <= cap);
            let floor = floor_ms.map(millis);
            match rules.delay_from(floor, n, previous, entropy) {
                Some(delay) => prop_assert!(delay <= cap && floor.is_none_or(|floor| delay >= floor)),
                None => prop_assert!(floor.is_some_and(|floor| floor > cap)),
            }
        }

        #[test]
        fn full_jitter_is_below_the_doubled_base(n in 1..12u32, entropy in any::<u64>()) {
            let rules = Retry::default();
            prop_assert!(rules.delay(n, Duration::ZERO, entropy) <= millis(100 << (n - 1)));
        }
    }

    #[test]
    fn jitter_is_drawn_before_the_cap() {
        // The trap: adding up to one more delay after the cap, so that 10 s become 20 s.
        for jitter in [Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::None] {
            let rules = Retry { base_ms: 1_000, cap_ms: 10_000, jitter, ..Retry::default() };
            let mut previous = Duration::ZERO;
            for n in 1..50 {
                previous = rules.delay(n, previous, u64::MAX);
                assert!(previous <= secs(10), "{jitter:?} {n}: {previous:?}");
            }
            assert_eq!(previous, secs(10), "{jitter:?} reaches its cap");
        }
    }

    #[test]
    fn at_the_cap_waits_are_spread_as_before() {
        // The trap: drawing from a wait that goes on doubling, so that nearly all come back together, at the cap.
        for (jitter, expected) in [(Jitter::Full, 5_000), (Jitter::Equal, 7_500)] {
            let rules = Retry { base_ms: 1_000, cap_ms: 10_000, jitter, ..Retry::default() };
            for n in [5, 20, 54, 64, 1_000] {
                let wait = rules.delay(n, Duration::ZERO, u64::MAX / 2).as_millis();
                assert!(wait.abs_diff(expected) <= 1, "{jitter:?} {n}: {wait}");
            }
        }
    }

    #[test]
    fn waits_double_and_do_not_explode() {
        // The trap: base as the factor, so that 100 ms become 10 s, 1,000 s, a day.
        let rules = Retry { jitter: Jitter::None, ..Retry::default() };
        let waits: Vec<_> = (1..=8).map(|n| rules.delay(n, Duration::ZERO, 0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000]);
    }
}
