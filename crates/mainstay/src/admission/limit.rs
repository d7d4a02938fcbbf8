//! How many may run at once: follows the ratio of unloaded to present latency.

use std::time::Duration;

use tokio::time::Instant;

use super::AdmissionRules;
use crate::millis;

/// Samples that a decision needs.
const ENOUGH: usize = 10;
/// Samples that a baseline needs: everything hangs on it.
const ENOUGH_FOR_BASELINE: usize = 40;
/// Samples that are looked at: the last ones of a window.
const KEPT: usize = 256;
/// After so many windows without too much, the limit is what is too low, and not the server.
const CALM: u32 = 10;
/// How fast the baseline follows lower medians: one window's is an estimate from ten samples, and the lowest of many
/// such estimates would be far too low.
const FOLLOW: f64 = 0.3;
/// A probe that finds less than this share of the baseline means that the limit was far too high.
const FAR_BELOW: f64 = 0.8;
/// Latency is far above the baseline: either there is far too much work, or the baseline is out of date.
const FAR_ABOVE: f64 = 2.0;
/// After so many windows far above in a row, the baseline is measured at once.
const SUSPICIOUS_WINDOWS: u32 = 3;
/// A baseline that was taken under load is not to be trusted: it is measured as soon as that.
const FIRST_PROBE: Duration = millis(500);
/// But not more often than this.
const PROBE_PAUSE: Duration = millis(2_000);

/// The gradient limiter (the family of Netflix' Gradient2 and Envoy's adaptive concurrency): each window,
/// `limit = limit × clamp(tolerance × baseline ÷ median, ½, 1) + √limit`.
///
/// - The baseline follows lower medians, and is measured anew while work has to wait, with half of the limit (a quarter
///   as long as that finds it far too high): a server that has become slower for good gets a new baseline instead of
///   a limit of 1.
/// - The limit grows only if it was reached: work that never comes proves nothing.
/// - Until the first sign of too much it doubles, so that a cold start sheds nothing.
#[derive(Debug)]
pub(super) struct Limit {
    limit: f64,
    baseline: Option<f64>,
    samples: Vec<u32>,
    seen: usize,
    window_began: Instant,
    /// The limit held work back in this window.
    reached: bool,
    /// Nothing has been too slow yet.
    cold: bool,
    far_above: u32,
    probe: Option<Instant>,
    /// What the limit is divided by in a probe.
    divisor: f64,
    next_probe: Instant,
    last_probe: Instant,
    /// Windows since the last one in which there was too much.
    calm: u32,
    /// What nine of ten took at most, in the last window.
    usual: Duration,
}

impl Limit {
    pub fn new(rules: &AdmissionRules, now: Instant) -> Self {
        Self {
            limit: f64::from(rules.initial),
            baseline: None,
            samples: Vec::with_capacity(KEPT),
            seen: 0,
            window_began: now,
            reached: false,
            cold: true,
            far_above: 0,
            probe: None,
            divisor: 4.0,
            next_probe: now + FIRST_PROBE,
            last_probe: now,
            calm: CALM,
            usual: Duration::ZERO,
        }
    }

    /// How many may run now.
    pub fn now(&self) -> usize {
        let limit = if self.probe.is_some() { self.limit / self.divisor } else { self.limit };
        (limit.round() as usize).max(1)
    }

    /// Without a probe under way.
    pub fn settled(&self) -> f64 {
        self.limit
    }

    pub fn is_probing(&self) -> bool {
        self.probe.is_some()
    }

    /// Whether there has been too much work for the server lately, as far as latencies tell.
    pub fn is_congested(&self) -> bool {
        self.calm < CALM
    }

    /// How long work usually takes at most (nine of ten).
    pub fn usual(&self) -> Duration {
        self.usual
    }

    /// How long work takes when nothing is in its way, as far as is known.
    pub fn unloaded(&self) -> Duration {
        Duration::from_secs_f64(self.baseline.unwrap_or_default())
    }

    /// Something had to wait because of the limit.
    pub fn reached(&mut self) {
        self.reached = true;
    }

    /// Work that began at `began` has ended well after `took`.
    pub fn sample(
        &mut self,
        began: Instant,
        took: Duration,
        rules: &AdmissionRules,
        now: Instant,
        entropy: u64,
    ) {
        if self.probe.is_some_and(|since| began < since) {
            return; // it ran beside more than a probe allows
        }
        let us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        if self.samples.len() < KEPT {
            self.samples.push(us);
        } else {
            self.samples[self.seen % KEPT] = us;
        }
        self.seen += 1;
        let over = now - self.window_began >= millis(rules.window_ms);
        let decided = match self.probe {
            Some(_) => self.seen >= ENOUGH_FOR_BASELINE,
            None => over && self.seen >= ENOUGH,
        };
        if decided {
            self.decide(rules, now, entropy);
        }
    }

    fn decide(&mut self, rules: &AdmissionRules, now: Instant, entropy: u64) {
        let median = self.quantile(0.5);
        self.usual = Duration::from_secs_f64(self.quantile(0.9));
        if self.probe.take().is_some() {
            let far_below = self.baseline.is_some_and(|baseline| median < FAR_BELOW * baseline);
            self.baseline = Some(median);
            self.last_probe = now;
            self.divisor = if far_below { 4.0 } else { 2.0 };
            // From half to one and a half of the pause, so that replicas do not probe together.
            let pause = millis(rules.probe_ms / 2 + mainstay_core::rules::draw(entropy, rules.probe_ms));
            self.next_probe = now + if far_below { FIRST_PROBE } else { pause };
            self.far_above = 0;
        } else {
            let follow = |baseline: f64| baseline + FOLLOW * (median - baseline).min(0.0);
            let baseline = self.baseline.map_or(median, follow);
            self.baseline = Some(baseline);
            self.follow(baseline, median, rules);
            let far = self.far_above >= SUSPICIOUS_WINDOWS && now - self.last_probe >= PROBE_PAUSE;
            let due = self.reached && now >= self.next_probe;
            if (far || due) && self.limit >= 2.0 {
                self.probe = Some(now);
            } else if far {
                // There is nothing lower to probe with: what is measured now is the baseline.
                self.baseline = Some(median);
                self.last_probe = now;
                self.far_above = 0;
            }
        }
        self.samples.clear();
        self.seen = 0;
        self.window_began = now;
        self.reached = false;
    }

    fn follow(&mut self, baseline: f64, median: f64, rules: &AdmissionRules) {
        let allowed = baseline * rules.tolerance_percent / 100.0;
        let gradient = (allowed / median.max(1e-9)).clamp(0.5, 1.0);
        let congested = gradient < 1.0;
        self.calm = if congested { 0 } else { self.calm.saturating_add(1) };
        self.cold &= !congested;
        self.far_above = if median > FAR_ABOVE * allowed { self.far_above + 1 } else { 0 };
        let room = if self.cold { self.limit } else { self.limit.sqrt() };
        let next = self.limit * gradient + room;
        if next > self.limit && !self.reached {
            return; // the limit did not hold anything back: growing it would be a guess
        }
        self.limit = next.clamp(f64::from(rules.min), f64::from(rules.max));
    }

    fn quantile(&mut self, q: f64) -> f64 {
        let at = ((self.samples.len() as f64 * q) as usize).min(self.samples.len().saturating_sub(1));
        let (_, value, _) = self.samples.select_nth_unstable(at);
        f64::from(*value) / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secs;

    /// Windows of twenty pieces of work that take 1 ms each.
    fn feed(limit: &mut Limit, now: &mut Instant, windows: u32, reached: bool) {
        let rules = AdmissionRules::default();
        for _ in 0..windows * 20 {
            *now += millis(6);
            if reached {
                limit.reached();
            }
            limit.sample(*now - millis(1), millis(1), &rules, *now, 1 << 63);
        }
    }

    fn fresh() -> (Limit, Instant) {
        let now = Instant::now();
        (Limit::new(&AdmissionRules::default(), now), now)
    }

    #[test]
    fn it_does_not_grow_when_the_application_is_the_limit() {
        // The trap: growing to the maximum with one request in flight.
        let (mut limit, mut now) = fresh();
        feed(&mut limit, &mut now, 200, false);
        assert_eq!(limit.now(), 20);
        limit.next_probe = now + secs(10);
        feed(&mut limit, &mut now, 1, true);
        assert_eq!(limit.now(), 40, "and does when it holds work back");
    }

    #[test]
    fn a_lasting_change_of_latency_gets_a_new_baseline() {
        // The trap: the lowest latency of all times as the baseline, so that 1 ms that became 10 leaves a limit of 1.
        let rules = AdmissionRules::default();
        let (mut limit, mut now) = fresh();
        let mut run = |ms: u64, windows: u32| {
            for _ in 0..windows * 25 {
                now += millis(5);
                limit.reached();
                limit.sample(now - millis(ms), millis(ms), &rules, now, 1 << 63);
            }
            limit.settled()
        };
        let before = run(1, 20);
        assert!(before > 500.0, "{before}");
        let after = run(10, 60);
        assert!(after > 100.0, "{after}: it has recovered within 7.5 s");
    }

    #[test]
    fn it_settles_a_little_above_what_the_server_can_do() {
        // 10 workers of 10 ms: with n at once, each takes n ÷ 10 × 10 ms.
        let rules = AdmissionRules { initial: 200, ..AdmissionRules::default() };
        let mut now = Instant::now();
        let mut limit = Limit::new(&rules, now);
        let mut seen = Vec::new();
        while seen.len() < 40_000 {
            let at_once = limit.now() as f64;
            let took = Duration::from_secs_f64(0.01 * (at_once / 10.0).max(1.0));
            now += Duration::from_secs_f64(took.as_secs_f64() / at_once);
            limit.reached();
            limit.sample(now - took, took, &rules, now, 1 << 63);
            seen.push(limit.settled());
        }
        let last = seen[30_000..].iter().sum::<f64>() / 10_000.0;
        assert!((10.0..20.0).contains(&last), "{last}");
    }
}
