//! How the grace is shared out among the phases.

use std::time::Duration;

use crate::config::Settings;
use crate::millis;

/// What each phase may take at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    pub grace: Duration,
    pub lame_duck: Duration,
    pub drain: Duration,
    pub cancel: Duration,
    pub stop: Duration,
    pub flush: Duration,
}

/// The plan for a grace of 30 s, of which 3 s stay free: key and milliseconds, in order.
const PHASES: [(&str, u64); 5] = [
    ("lame_duck_ms", 5000),
    ("drain_ms", 15_000),
    ("cancel_ms", 2000),
    ("stop_ms", 2000),
    ("flush_ms", 3000),
];

impl Budget {
    /// Shares out `settings.grace_ms`. What is set explicitly stays; the rest shrinks in proportion to a smaller
    /// grace. The key and what is wrong with it, if it does not fit.
    pub fn plan(settings: &Settings) -> Result<Self, (&'static str, String)> {
        let grace = settings.grace_ms;
        if !(100..=86_400_000).contains(&grace) {
            return Err(("grace_ms", "must be between 100 and 86400000".to_owned()));
        }
        let explicit = [
            settings.lame_duck_ms,
            settings.drain_ms,
            settings.cancel_ms,
            settings.stop_ms,
            settings.flush_ms,
        ];
        let asked = explicit.iter().flatten().fold(0u64, |sum, ms| sum.saturating_add(*ms));
        let usable = grace - margin(grace);
        if asked > usable {
            let named = PHASES.iter().zip(explicit).filter(|(_, ms)| ms.is_some()).map(|((key, _), _)| *key);
            let named: Vec<_> = named.collect();
            return Err((
                "grace_ms",
                format!(
                    "{grace} is too short: {} come to {asked}, and {} are kept for the exit",
                    named.join(" + "),
                    margin(grace)
                ),
            ));
        }
        // Of 30 s the plan uses 27; a smaller grace leaves as large a part free, if the explicit ones let it.
        let planned = grace / 10 * 9;
        let left = planned.saturating_sub(asked);
        let wanted: u64 =
            PHASES.iter().zip(explicit).filter(|(_, ms)| ms.is_none()).map(|((_, d), _)| d).sum();
        let mut shares = [Duration::ZERO; 5];
        for (share, ((_, default), ms)) in shares.iter_mut().zip(PHASES.iter().zip(explicit)) {
            *share =
                millis(ms.unwrap_or_else(|| if wanted <= left { *default } else { default * left / wanted }));
        }
        let [lame_duck, drain, cancel, stop, flush] = shares;
        Ok(Self { grace: millis(grace), lame_duck, drain, cancel, stop, flush })
    }

    /// What each phase may take, by its key.
    pub fn phases(&self) -> [(&'static str, Duration); 5] {
        let shares = [self.lame_duck, self.drain, self.cancel, self.stop, self.flush];
        std::array::from_fn(|i| (PHASES[i].0, shares[i]))
    }

    /// Whether the drain could be this long, all else as it is; if not, what to set. `set` is what the settings say.
    pub fn has_room_for(&self, drain: Duration, set: Option<u64>) -> Result<(), String> {
        let ms = drain.as_millis();
        if let Some(set) = set {
            return Err(format!("`drain_ms` is set to {set}; set it to {ms} at least, or leave it out"));
        }
        let others = self.lame_duck + self.cancel + self.stop + self.flush;
        let needed = others.saturating_add(drain);
        if needed <= self.watchdog() {
            return Ok(());
        }
        let grace = needed.as_millis() + 1_000;
        Err(format!(
            "set `grace_ms` to {grace} at least (now {}), and whoever stops the process to wait as long",
            self.grace.as_millis()
        ))
    }

    /// When the watchdog ends the process, counted from the first signal.
    pub fn watchdog(&self) -> Duration {
        self.grace - millis(margin(self.grace.as_millis() as u64))
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            grace: millis(30_000),
            lame_duck: millis(PHASES[0].1),
            drain: millis(PHASES[1].1),
            cancel: millis(PHASES[2].1),
            stop: millis(PHASES[3].1),
            flush: millis(PHASES[4].1),
        }
    }
}

/// One second, or a tenth of a tiny grace.
fn margin(grace_ms: u64) -> u64 {
    (grace_ms / 10).min(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(grace: u64, set: impl FnOnce(&mut Settings)) -> Result<Budget, (&'static str, String)> {
        let mut settings = Settings { grace_ms: grace, ..Settings::default() };
        set(&mut settings);
        Budget::plan(&settings)
    }

    #[test]
    fn the_default_grace_gives_the_default_plan() {
        assert_eq!(plan(30_000, |_| {}).unwrap(), Budget::default());
        assert_eq!(Budget::default().watchdog(), millis(29_000));
    }

    #[test]
    fn phases_shrink_in_proportion_and_do_not_grow() {
        let small = plan(3000, |_| {}).unwrap();
        assert_eq!((small.lame_duck, small.drain), (millis(500), millis(1500)));
        assert_eq!(small.watchdog(), millis(2700));
        assert_eq!(plan(120_000, |_| {}).unwrap().drain, millis(15_000));
    }

    #[test]
    fn explicit_phases_stay_and_the_rest_makes_room() {
        let budget = plan(30_000, |s| s.drain_ms = Some(25_000)).unwrap();
        assert_eq!(budget.drain, millis(25_000));
        assert_eq!(budget.lame_duck, millis(5000 * 2000 / 12_000));
    }

    #[test]
    fn explicit_phases_beyond_the_grace_are_refused_by_name() {
        let (key, detail) = plan(10_000, |s| (s.drain_ms, s.stop_ms) = (Some(9000), Some(1000))).unwrap_err();
        assert_eq!(key, "grace_ms");
        assert!(detail.contains("drain_ms + stop_ms"), "{detail}");
        assert!(plan(10, |_| {}).is_err());
    }

    #[test]
    fn a_longer_drain_is_had_where_the_grace_has_room_and_nobody_said_otherwise() {
        let roomy = plan(120_000, |_| {}).unwrap();
        assert_eq!(roomy.has_room_for(millis(107_000), None), Ok(()));
        let said = roomy.has_room_for(millis(108_000), None).unwrap_err();
        assert!(said.contains("`grace_ms` to 121000"), "{said}");
        let said = roomy.has_room_for(millis(60_000), Some(15_000)).unwrap_err();
        assert!(said.contains("`drain_ms`"), "{said}");
    }

    #[test]
    fn every_plan_fits_before_the_watchdog() {
        for grace in [100, 150, 999, 5000, 29_999, 30_000, 31_000] {
            for drain in [None, Some(0), Some(50), Some(grace / 2), Some(grace / 10 * 9)] {
                let budget = plan(grace, |s| s.drain_ms = drain).unwrap();
                let sum = budget.lame_duck + budget.drain + budget.cancel + budget.stop + budget.flush;
                assert!(sum <= budget.watchdog(), "{grace} {drain:?}: {budget:?}");
            }
        }
    }
}
