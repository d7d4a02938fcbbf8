//! How much retries and hedges may add to the load.

use tokio::time::Instant;

use super::BudgetRules;
use super::window::Window;

/// Tokens in thousandths, so that no share is rounded to another: one extra attempt costs 1,000.
pub(super) const ATTEMPT: u64 = 1_000;
/// An attempt that timed out may still keep the target busy (the price that the AWS SDKs' token buckets use).
pub(super) const AFTER_TIMEOUT: u64 = 2 * ATTEMPT;

/// Of the time that counts, what calls paid in and extra attempts took out.
#[derive(Debug)]
pub(super) struct Budget {
    window: Window<Flow>,
    /// What each call pays in.
    share: u64,
    /// What may be taken out whatever was paid in.
    floor: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    paid_in: u64,
    taken: u64,
}

impl std::ops::AddAssign for Flow {
    fn add_assign(&mut self, other: Self) {
        self.paid_in += other.paid_in;
        self.taken += other.taken;
    }
}

impl std::ops::SubAssign for Flow {
    fn sub_assign(&mut self, other: Self) {
        self.paid_in -= other.paid_in;
        self.taken -= other.taken;
    }
}

impl Budget {
    pub fn new(rules: &BudgetRules, now: Instant) -> Self {
        let mut budget = Self { window: Window::new(rules.ttl_ms, now), share: 0, floor: 0 };
        budget.reload(rules, now);
        budget
    }

    /// New rules; what has been paid in and taken out counts on.
    pub fn reload(&mut self, rules: &BudgetRules, now: Instant) {
        self.window.resize(rules.ttl_ms, now);
        self.share = (rules.percent * 10.0).round() as u64;
        self.floor = u64::from(rules.min_per_second) * rules.ttl_ms;
    }

    /// A call is made.
    pub fn pay_in(&mut self, now: Instant) {
        self.window.add(Flow { paid_in: self.share, taken: 0 }, now);
    }

    /// Takes an extra attempt out, if there is enough.
    pub fn take(&mut self, cost: u64, now: Instant) -> bool {
        if self.left(now) < cost {
            return false;
        }
        self.window.add(Flow { paid_in: 0, taken: cost }, now);
        true
    }

    /// What could be taken out now, in thousandths of an attempt.
    pub fn left(&mut self, now: Instant) -> u64 {
        let flow = self.window.sum(now);
        // The larger, not the sum: at high rates the floor must not add to the share.
        flow.paid_in.max(self.floor).saturating_sub(flow.taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::millis;

    fn rules(percent: f64, min_per_second: u32) -> BudgetRules {
        BudgetRules { percent, min_per_second, ..BudgetRules::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn every_share_is_exact() {
        // The trap: whole tokens, so that 30 % become 33 % and 75 % become 100 %.
        let now = Instant::now();
        for percent in [0.5, 10.0, 20.0, 30.0, 33.3, 40.0, 60.0, 75.0, 90.0, 100.0] {
            let mut budget = Budget::new(&rules(percent, 0), now);
            let taken: u32 = (0..100_000)
                .map(|_| {
                    budget.pay_in(now);
                    u32::from(budget.take(ATTEMPT, now))
                })
                .sum();
            assert_eq!(f64::from(taken), percent * 1_000.0, "{percent} %");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_with_few_calls_has_the_floor_and_one_with_many_only_the_share() {
        let now = Instant::now();
        let drain = |budget: &mut Budget| (0..).take_while(|_| budget.take(ATTEMPT, now)).count();
        let mut budget = Budget::new(&rules(20.0, 10), now);
        assert_eq!(drain(&mut budget), 100);
        let mut budget = Budget::new(&rules(20.0, 10), now);
        (0..10_000).for_each(|_| budget.pay_in(now));
        assert_eq!(drain(&mut budget), 2_000);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_comes_back_after_its_time() {
        let now = Instant::now();
        let mut budget = Budget::new(&rules(20.0, 1), now);
        while budget.take(ATTEMPT, now) {}
        assert!(!budget.take(ATTEMPT, now + millis(8_900)));
        assert!(budget.take(ATTEMPT, now + millis(10_001)));
    }

    proptest! {
        /// Whatever comes, extra attempts in any stretch of the window's length stay within share and floor.
        #[test]
        fn never_more_than_allowed(
            steps in prop::collection::vec((0..400u64, any::<bool>(), any::<bool>()), 1..400),
            percent in 0.0..100.0f64, floor in 0..20u32,
        ) {
            let origin = Instant::now();
            let rules = rules(percent, floor);
            let mut budget = Budget::new(&rules, origin);
            let (mut now, mut calls, mut taken) = (origin, Vec::new(), Vec::new());
            for (pause, call, timed_out) in steps {
                now += millis(pause);
                if call {
                    budget.pay_in(now);
                    calls.push(now);
                }
                let cost = if timed_out { AFTER_TIMEOUT } else { ATTEMPT };
                if budget.take(cost, now) {
                    taken.push((now, cost));
                }
                // Slots make the memory at most a tenth shorter than the time itself.
                let since = |t: &Instant| now.duration_since(*t) < millis(9_000);
                let sum: u64 = taken.iter().filter(|(t, _)| since(t)).map(|(_, cost)| cost).sum();
                let within = calls.iter().filter(|t| now.duration_since(**t) <= millis(10_000)).count() as u64;
                let allowed = (within * (percent * 10.0).round() as u64).max(u64::from(floor) * 10_000);
                // One window may end where another begins: what was taken before counts against its own calls.
                prop_assert!(sum <= allowed + budget_of_expired(&calls, now, percent), "{sum} > {allowed}");
            }
        }
    }

    /// Calls that no longer count, but did when something was taken within the last 9 s.
    fn budget_of_expired(calls: &[Instant], now: Instant, percent: f64) -> u64 {
        let expired = calls.iter().filter(|t| {
            let age = now.duration_since(**t);
            age > millis(10_000) && age <= millis(19_000)
        });
        expired.count() as u64 * (percent * 10.0).round() as u64
    }
}
