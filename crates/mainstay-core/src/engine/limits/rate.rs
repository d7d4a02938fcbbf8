//! How fast a queue hands out: a log of its hand-outs over the span of its rate (the *sliding window log* of rate
//! limiting). Rates above a thousand keep the hand-outs of a thousandth of the span in one entry, which counts until
//! its last instant has left the window: no span whatever sees more than `count`, what is kept is bounded, and a
//! hand-out waits at most a thousandth of the span longer than it had to.

use std::collections::BTreeMap;

use crate::{queue::Rate, time::StoreTime};

/// Entries of a window, about.
const ENTRIES: u64 = 1_000;

/// What a queue with a rate has handed out lately.
#[derive(Default)]
pub(in super::super) struct Window {
    /// By the last instant an entry may stand for.
    handed: BTreeMap<StoreTime, u64>,
    total: u64,
}

impl Window {
    /// The entry that a hand-out at `now` belongs to.
    pub(super) fn entry(rate: Rate, now: StoreTime) -> StoreTime {
        let width = if rate.count > ENTRIES { (rate.per_ms / ENTRIES).max(1) } else { 1 };
        StoreTime((now.0 / width).saturating_mul(width).saturating_add(width - 1))
    }

    pub(super) fn get(&self, at: StoreTime) -> u64 {
        self.handed.get(&at).copied().unwrap_or(0)
    }

    pub(super) fn swap(&mut self, at: StoreTime, new: Option<u64>) -> Option<u64> {
        let old = match new {
            Some(count) => self.handed.insert(at, count),
            None => self.handed.remove(&at),
        };
        self.total = self.total - old.unwrap_or(0) + new.unwrap_or(0);
        old
    }

    /// How many may be handed out at `now`, and when there will be more if not all may.
    pub(super) fn left(&self, rate: Rate, now: StoreTime) -> (u64, Option<StoreTime>) {
        let mut used = self.total;
        for (at, count) in &self.handed {
            if !is_over(rate, *at, now) {
                return (rate.count.saturating_sub(used), Some(at.plus_ms(rate.per_ms)));
            }
            used -= count;
        }
        (rate.count, None)
    }

    /// The first entry, if it counts no more.
    pub(super) fn first_over(&self, rate: Rate, now: StoreTime) -> Option<StoreTime> {
        self.handed.keys().next().copied().filter(|at| is_over(rate, *at, now))
    }

    /// All entries.
    pub(super) fn entries(&self) -> Vec<StoreTime> {
        self.handed.keys().copied().collect()
    }
}

fn is_over(rate: Rate, at: StoreTime, now: StoreTime) -> bool {
    at.plus_ms(rate.per_ms) <= now
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out as much as there may be at each of `times`, and answers how much that was.
    fn play(rate: Rate, times: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
        let mut window = Window::default();
        let mut handed = vec![];
        for now in times.into_iter().map(StoreTime) {
            while let Some(at) = window.first_over(rate, now) {
                window.swap(at, None);
            }
            let (left, _) = window.left(rate, now);
            if left > 0 {
                let at = Window::entry(rate, now);
                window.swap(at, Some(window.get(at) + left));
                handed.push((now.0, left));
            }
            assert!(window.entries().len() as u64 <= ENTRIES + 2, "what is kept is bounded");
        }
        handed
    }

    #[test]
    fn no_span_sees_more_than_its_count_wherever_it_begins() {
        for rate in [Rate { per_ms: 100, count: 3 }, Rate { per_ms: 86_400_000, count: 5_000 }] {
            let step = rate.per_ms / 37 + 1;
            let handed = play(rate, (0..400).map(|n| n * step + n % 3));
            for (from, _) in &handed {
                let span = *from..from + rate.per_ms;
                let sum: u64 = handed.iter().filter(|(at, _)| span.contains(at)).map(|(_, n)| n).sum();
                assert!(sum <= rate.count, "{sum} from {from} with {rate:?}");
            }
            let all: u64 = handed.iter().map(|(_, n)| n).sum();
            assert!(all >= rate.count * 8, "and the rate is used: {all} with {rate:?}");
        }
    }

    #[test]
    fn it_is_known_when_there_will_be_more() {
        let (rate, mut window) = (Rate { per_ms: 1_000, count: 2 }, Window::default());
        assert_eq!(window.left(rate, StoreTime(5)), (2, None));
        window.swap(Window::entry(rate, StoreTime(5)), Some(2));
        assert_eq!(window.left(rate, StoreTime(1_004)), (0, Some(StoreTime(1_005))));
        assert_eq!(window.left(rate, StoreTime(1_005)), (2, None));
    }

    #[test]
    fn a_million_hand_outs_in_one_span_are_a_thousand_entries() {
        let rate = Rate { per_ms: 60_000, count: 1_000_000 };
        let mut window = Window::default();
        for now in 0..60_000 {
            let at = Window::entry(rate, StoreTime(now));
            window.swap(at, Some(window.get(at) + 16));
        }
        assert_eq!(window.entries().len(), 1_000);
        assert_eq!(window.left(rate, StoreTime(59_999)).0, 40_000);
    }
}
