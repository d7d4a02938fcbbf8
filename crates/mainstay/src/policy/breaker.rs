//! Stops calling a target that fails.

use std::time::Duration;

use mainstay_core::rules::draw;
use tokio::time::Instant;

use super::BreakerRules;
use super::window::Window;
use crate::millis;

/// What a breaker does with attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// Lets them through and watches.
    Closed,
    /// Refuses them.
    Open,
    /// Lets a few through, to see.
    HalfOpen,
}

impl BreakerState {
    /// The state as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// A pure state machine: time and chance are given to it, so virtual time works and tests need no waiting.
#[derive(Debug)]
pub(super) struct Breaker {
    phase: Phase,
    window: Window<Counts>,
    consecutive: u32,
    /// Grows with every change of state: an attempt that began before it says nothing about now.
    generation: u32,
    /// How often it has opened since it was last closed.
    openings: u32,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open { until: Instant },
    HalfOpen { out: u32, succeeded: u32 },
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    calls: u32,
    failed: u32,
    slow: u32,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.slow += other.slow;
    }
}

impl std::ops::SubAssign for Counts {
    fn sub_assign(&mut self, other: Self) {
        self.calls -= other.calls;
        self.failed -= other.failed;
        self.slow -= other.slow;
    }
}

/// The right to one attempt. To be given back with its end, or without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass(u32);

/// What an attempt told about its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Works { slow: bool },
    Fails { slow: bool },
    Nothing,
}

impl Breaker {
    pub fn new(rules: &BreakerRules, now: Instant) -> Self {
        Self {
            phase: Phase::Closed,
            window: Window::new(rules.window_ms, now),
            consecutive: 0,
            generation: 0,
            openings: 0,
        }
    }

    /// New rules; the state stays.
    pub fn reload(&mut self, rules: &BreakerRules, now: Instant) {
        self.window.resize(rules.window_ms, now);
        if !rules.enabled {
            self.close();
        }
    }

    pub fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// May an attempt begin? If not, how long to wait before asking again.
    pub fn admit(&mut self, rules: &BreakerRules, now: Instant) -> Result<Pass, Duration> {
        if let Phase::Open { until } = self.phase {
            if now < until {
                return Err(until - now);
            }
            self.enter(Phase::HalfOpen { out: 0, succeeded: 0 });
        }
        if let Phase::HalfOpen { out, .. } = &mut self.phase {
            if *out >= rules.probes {
                // A probe is under way; what it finds is known soon, but not when.
                return Err(millis(rules.open_ms) / 10);
            }
            *out += 1;
        }
        Ok(Pass(self.generation))
    }

    /// A pass comes back. Only a target's own answers count: who was refused, or went away, tells nothing.
    pub fn settle(&mut self, pass: Pass, told: Told, rules: &BreakerRules, now: Instant, entropy: u64) {
        if pass.0 != self.generation || !rules.enabled {
            return;
        }
        match &mut self.phase {
            Phase::Closed => self.count(told, rules, now, entropy),
            Phase::HalfOpen { out, succeeded } => {
                *out -= 1;
                match told {
                    Told::Nothing => {}
                    Told::Works { slow: false } => {
                        *succeeded += 1;
                        if *succeeded >= rules.probes {
                            self.close();
                        }
                    }
                    Told::Fails { .. } | Told::Works { slow: true } => self.open(rules, now, entropy),
                }
            }
            // Opening begins a generation, so no pass of this one is out.
            Phase::Open { .. } => {}
        }
    }

    fn count(&mut self, told: Told, rules: &BreakerRules, now: Instant, entropy: u64) {
        let (failed, slow) = match told {
            Told::Nothing => return,
            Told::Works { slow } => (false, slow),
            Told::Fails { slow } => (true, slow),
        };
        self.window.add(Counts { calls: 1, failed: u32::from(failed), slow: u32::from(slow) }, now);
        if failed {
            self.consecutive += 1;
        } else {
            self.consecutive = 0;
            if !slow {
                return; // nothing that could open it
            }
        }
        let Counts { calls, failed, slow } = self.window.sum(now);
        let reached = |part: u32, percent: f64| {
            percent > 0.0 && part > 0 && f64::from(part) * 100.0 >= percent * f64::from(calls)
        };
        let in_a_row = rules.consecutive_failures > 0 && self.consecutive >= rules.consecutive_failures;
        let by_share = calls >= rules.min_calls
            && (reached(failed, rules.failure_percent) || reached(slow, rules.slow_percent));
        if in_a_row || by_share {
            self.open(rules, now, entropy);
        }
    }

    fn open(&mut self, rules: &BreakerRules, now: Instant, entropy: u64) {
        let longest = rules.max_open_ms;
        let shift = self.openings.min(rules.open_ms.leading_zeros().saturating_sub(1));
        let whole = (rules.open_ms << shift).min(longest);
        self.openings = self.openings.saturating_add(1);
        // Jittered, so that many callers of one target do not probe it at the same instant.
        let open_ms = whole - whole / 2 + draw(entropy, whole / 2);
        self.enter(Phase::Open { until: now + millis(open_ms) });
    }

    fn close(&mut self) {
        self.openings = 0;
        self.enter(Phase::Closed);
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation = self.generation.wrapping_add(1);
        self.consecutive = 0;
        self.window.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::secs;

    const WORKS: Told = Told::Works { slow: false };
    const FAILS: Told = Told::Fails { slow: false };

    fn fresh(rules: &BreakerRules) -> (Breaker, Instant) {
        let now = Instant::now();
        (Breaker::new(rules, now), now)
    }

    fn pass(breaker: &mut Breaker, rules: &BreakerRules, now: Instant, told: Told) {
        let pass = breaker.admit(rules, now).unwrap();
        breaker.settle(pass, told, rules, now, u64::MAX);
    }

    #[test]
    fn opens_when_half_of_enough_attempts_failed_and_not_before() {
        let rules = BreakerRules::default();
        let (mut breaker, now) = fresh(&rules);
        for n in 0..19 {
            pass(&mut breaker, &rules, now, if n % 2 == 0 { FAILS } else { WORKS });
            assert_eq!(breaker.state(), BreakerState::Closed, "{n}");
        }
        pass(&mut breaker, &rules, now, FAILS);
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(breaker.admit(&rules, now + millis(4_999)).is_err());
        assert!(breaker.admit(&rules, now + millis(5_000)).is_ok());
    }

    #[test]
    fn old_failures_are_forgotten() {
        let rules = BreakerRules::default();
        let (mut breaker, now) = fresh(&rules);
        (0..19).for_each(|_| pass(&mut breaker, &rules, now, FAILS));
        pass(&mut breaker, &rules, now + secs(11), FAILS);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn consecutive_failures_and_slow_attempts_open_it_when_asked_to() {
        let rules = BreakerRules { consecutive_failures: 5, ..BreakerRules::default() };
        let (mut breaker, now) = fresh(&rules);
        for told in [FAILS, FAILS, FAILS, FAILS, WORKS, FAILS, FAILS, FAILS, FAILS] {
            pass(&mut breaker, &rules, now, told);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        pass(&mut breaker, &rules, now, FAILS);
        assert_eq!(breaker.state(), BreakerState::Open);

        let rules = BreakerRules { slow_ms: 100, slow_percent: 60.0, ..BreakerRules::default() };
        let (mut breaker, now) = fresh(&rules);
        (0..8).for_each(|_| pass(&mut breaker, &rules, now, WORKS));
        (0..11).for_each(|_| pass(&mut breaker, &rules, now, Told::Works { slow: true }));
        assert_eq!(breaker.state(), BreakerState::Closed);
        pass(&mut breaker, &rules, now, Told::Works { slow: true });
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn probes_are_few_and_all_must_succeed() {
        let rules = BreakerRules { consecutive_failures: 1, ..BreakerRules::default() };
        let (mut breaker, now) = fresh(&rules);
        pass(&mut breaker, &rules, now, FAILS);
        let later = now + secs(5);
        let probes: Vec<_> = (0..3).map(|_| breaker.admit(&rules, later).unwrap()).collect();
        assert!(breaker.admit(&rules, later).is_err(), "a fourth at once");
        breaker.settle(probes[0], WORKS, &rules, later, 0);
        breaker.settle(probes[1], WORKS, &rules, later, 0);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        breaker.settle(probes[2], WORKS, &rules, later, 0);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_failed_probe_keeps_it_open_for_twice_as_long() {
        let rules = BreakerRules { consecutive_failures: 1, ..BreakerRules::default() };
        let (mut breaker, mut now) = fresh(&rules);
        pass(&mut breaker, &rules, now, FAILS);
        for open in [5, 10, 20, 40, 60, 60] {
            assert!(breaker.admit(&rules, now + secs(open) - millis(1)).is_err(), "{open}");
            now += secs(open);
            pass(&mut breaker, &rules, now, FAILS);
        }
    }

    #[test]
    fn a_probe_that_tells_nothing_gives_its_place_back() {
        let rules = BreakerRules { consecutive_failures: 1, probes: 1, ..BreakerRules::default() };
        let (mut breaker, now) = fresh(&rules);
        pass(&mut breaker, &rules, now, FAILS);
        let later = now + secs(5);
        pass(&mut breaker, &rules, later, Told::Nothing);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        pass(&mut breaker, &rules, later, WORKS);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn what_began_before_a_change_does_not_count_after_it() {
        let rules = BreakerRules { consecutive_failures: 1, ..BreakerRules::default() };
        let (mut breaker, now) = fresh(&rules);
        let early = breaker.admit(&rules, now).unwrap();
        pass(&mut breaker, &rules, now, FAILS);
        let later = now + secs(5);
        let _probe = breaker.admit(&rules, later).unwrap();
        breaker.settle(early, FAILS, &rules, later, 0);
        assert_eq!(breaker.state(), BreakerState::HalfOpen, "a late failure is no probe's");
    }

    proptest! {
        /// Whatever comes: never more probes out than allowed, open only with a reason and for a bounded time,
        /// closed only after enough successes, and never stuck.
        #[test]
        fn the_state_machine_keeps_its_promises(
            steps in prop::collection::vec((0..3_000u64, 0..4u8, any::<u64>()), 1..500),
            probes in 1..5u32, consecutive in 0..4u32,
        ) {
            let rules = BreakerRules { probes, consecutive_failures: consecutive, ..BreakerRules::default() };
            let (mut breaker, mut now) = fresh(&rules);
            let mut out: Vec<(Pass, BreakerState)> = Vec::new();
            for (pause, step, entropy) in steps {
                now += millis(pause);
                let before = breaker.state();
                if step == 0 || out.is_empty() {
                    match breaker.admit(&rules, now) {
                        Ok(pass) => out.push((pass, breaker.state())),
                        Err(wait) => prop_assert!(!wait.is_zero() && wait <= secs(60)),
                    }
                    if before == BreakerState::Closed {
                        prop_assert_eq!(breaker.state(), BreakerState::Closed);
                    }
                } else {
                    let (pass, _) = out.swap_remove(entropy as usize % out.len());
                    let told = [Told::Nothing, WORKS, FAILS][usize::from(step - 1)];
                    breaker.settle(pass, told, &rules, now, entropy);
                    match (before, breaker.state()) {
                        (BreakerState::Closed | BreakerState::HalfOpen, BreakerState::Open) => {
                            prop_assert_eq!(told, FAILS)
                        }
                        (BreakerState::HalfOpen, BreakerState::Closed) => prop_assert_eq!(told, WORKS),
                        (before, after) => prop_assert_eq!(before, after),
                    }
                }
                if let Phase::HalfOpen { out, succeeded } = breaker.phase {
                    prop_assert!(out <= probes && succeeded < probes);
                }
            }
            // It is never stuck: when its time is over, an attempt gets through once none is out.
            out.into_iter().for_each(|(pass, _)| breaker.settle(pass, Told::Nothing, &rules, now, 0));
            prop_assert!(breaker.admit(&rules, now + secs(60)).is_ok());
        }
    }
}
