//! Who waits, and who is not worth waiting for any more.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{AdmissionRules, ShedReason};
use crate::context::Criticality;
use crate::millis;

const CLASSES: usize = 4;

/// The waiting line: the most critical first, and in order of arrival among equals. `T` is how a waiter is told.
#[derive(Debug)]
pub(super) struct Line<T> {
    classes: [VecDeque<Waiting<T>>; CLASSES],
    len: usize,
    codel: Codel,
}

#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub ticket: T,
    pub since: Instant,
    pub deadline: Option<Instant>,
}

/// How long work takes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// At most, nine times of ten.
    pub usual: Duration,
    /// When nothing is in its way.
    pub unloaded: Duration,
    /// The limit is lower than it should be for a moment, to find that out.
    pub probing: bool,
}

impl<T> Line<T> {
    pub fn new(now: Instant) -> Self {
        Self { classes: std::array::from_fn(|_| VecDeque::new()), len: 0, codel: Codel::new(now) }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Queues up. When the line is full, whoever is less critical goes, the newest of the least critical first; if
    /// nobody is, the newcomer does. Answers who goes.
    pub fn push(&mut self, class: Criticality, waiting: Waiting<T>, rules: &AdmissionRules) -> Option<T> {
        if self.len < rules.max_waiting as usize {
            self.classes[class as usize].push_back(waiting);
            self.len += 1;
            return None;
        }
        let lower = self.classes[..class as usize].iter_mut().find_map(VecDeque::pop_back);
        match lower {
            Some(gone) => {
                self.classes[class as usize].push_back(waiting);
                Some(gone.ticket)
            }
            None => Some(waiting.ticket),
        }
    }

    /// Who is next, or who leaves in vain and why. `may_shed` says whether the line
    /// stands because there is too much work, and not because the limit is still finding its place.
    pub fn pop(
        &mut self,
        now: Instant,
        pace: Pace,
        may_shed: bool,
        rules: &AdmissionRules,
    ) -> Option<(Waiting<T>, Option<ShedReason>)> {
        let next = self.classes.iter_mut().rev().find_map(VecDeque::pop_front)?;
        self.len -= 1;
        let waited = now - next.since;
        let standing = self.codel.stands(waited, now, pace, rules);
        let reason = if next.deadline.is_some_and(|deadline| hopeless(deadline, next.since, now, pace.usual))
        {
            Some(ShedReason::Expired)
        } else if may_shed && standing {
            Some(ShedReason::Queue)
        } else {
            None
        };
        Some((next, reason))
    }

    /// Forgets those who have gone away.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.classes.iter_mut().for_each(|class| class.retain(|waiting| keep(&waiting.ticket)));
        self.len = self.classes.iter().map(VecDeque::len).sum();
    }
}

/// Too late to be done in time. What is left is compared with how long work takes, but never with more than half of
/// what there was: a limit that is slow for the moment must not refuse everybody, or it would never learn better.
fn hopeless(deadline: Instant, since: Instant, now: Instant, usual: Duration) -> bool {
    let whole = deadline.saturating_duration_since(since);
    deadline.saturating_duration_since(now) < usual.min(whole / 2).max(Duration::from_nanos(1))
}

/// Controlled delay (Nichols and Jacobson 2012), in the form that suits requests (as in Facebook's folly): a short line
/// that empties now and then is fine however long it gets for a moment; one that stands is not.
#[derive(Debug)]
struct Codel {
    interval_ends: Instant,
    /// The shortest wait of the interval.
    least: Duration,
    /// What went on in the interval, and how much of it was cut.
    passed: u32,
    cut: u32,
    overloaded: bool,
}

impl Codel {
    fn new(now: Instant) -> Self {
        Self { interval_ends: now, least: Duration::MAX, passed: 0, cut: 0, overloaded: false }
    }

    /// Somebody has waited for so long; whether it was too long.
    fn stands(&mut self, waited: Duration, now: Instant, pace: Pace, rules: &AdmissionRules) -> bool {
        // Where work takes long, waiting for some of it is nothing unusual, however small the target.
        let target = millis(rules.codel_target_ms).max(pace.unloaded * 2);
        // A line that stands only for a probe says nothing new.
        if now >= self.interval_ends && !pace.probing {
            // A line that is being cut no longer stands; whether it would is told by how much has to be cut.
            self.overloaded = match self.overloaded {
                false => self.least != Duration::MAX && self.least > target,
                true => self.cut * 10 > self.passed,
            };
            self.interval_ends = now + millis(rules.codel_interval_ms).max(pace.unloaded * 20);
            (self.least, self.passed, self.cut) = (waited, 0, 0);
        }
        self.least = self.least.min(waited);
        self.passed += 1;
        let too_long = self.overloaded && waited > target;
        self.cut += u32::from(too_long);
        too_long
    }

    fn is_flowing(&mut self) {
        self.least = Duration::ZERO;
        self.passed += 1;
    }
}

impl<T> Line<T> {
    /// Work went through without waiting: no line stands now.
    pub fn is_flowing(&mut self) {
        self.codel.is_flowing();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Criticality::{Critical, CriticalPlus, Sheddable, SheddablePlus};

    fn waiting(ticket: u32, since: Instant) -> Waiting<u32> {
        Waiting { ticket, since, deadline: None }
    }

    #[test]
    fn the_critical_go_first_and_equals_in_order() {
        let (now, rules) = (Instant::now(), AdmissionRules::default());
        let mut line = Line::new(now);
        for (n, class) in [Sheddable, Critical, CriticalPlus, Critical, SheddablePlus].into_iter().enumerate()
        {
            assert!(line.push(class, waiting(n as u32, now), &rules).is_none());
        }
        let order: Vec<_> = std::iter::from_fn(|| line.pop(now, Pace::default(), true, &rules))
            .map(|(next, reason)| (next.ticket, reason))
            .collect();
        assert_eq!(order, [(2, None), (1, None), (3, None), (4, None), (0, None)]);
    }

    #[test]
    fn a_full_line_sheds_the_least_critical_first() {
        let (now, rules) = (Instant::now(), AdmissionRules { max_waiting: 3, ..AdmissionRules::default() });
        let mut line = Line::new(now);
        for (n, class) in [Sheddable, Critical, Sheddable].into_iter().enumerate() {
            line.push(class, waiting(n as u32, now), &rules);
        }
        assert_eq!(line.push(Critical, waiting(3, now), &rules), Some(2), "the newest of the lowest class");
        assert_eq!(line.push(Sheddable, waiting(4, now), &rules), Some(4), "or else the newcomer");
        assert_eq!(line.push(CriticalPlus, waiting(5, now), &rules), Some(0));
        assert_eq!(line.push(Critical, waiting(6, now), &rules), Some(6));
        assert_eq!(line.len(), 3);
    }

    #[test]
    fn what_cannot_be_done_in_time_any_more_leaves() {
        let (now, rules) = (Instant::now(), AdmissionRules::default());
        let mut line = Line::new(now);
        let mut at_dequeue = |waited_ms: u64, usual_ms: u64| {
            let one = Waiting { ticket: 0, since: now, deadline: Some(now + millis(100)) };
            line.push(Critical, one, &rules);
            {
                let pace = Pace { usual: millis(usual_ms), ..Pace::default() };
                line.pop(now + millis(waited_ms), pace, false, &rules)
            }
            .and_then(|(_, reason)| reason)
        };
        assert_eq!(at_dequeue(70, 25), None);
        assert_eq!(at_dequeue(80, 25), Some(ShedReason::Expired), "20 ms are not enough for 25");
        assert_eq!(at_dequeue(100, 0), Some(ShedReason::Expired));
        // Work that takes longer than anybody waits must not shut the door for ever.
        assert_eq!(at_dequeue(40, 1_000), None);
        assert_eq!(at_dequeue(60, 1_000), Some(ShedReason::Expired));
    }

    #[test]
    fn a_burst_is_served_and_a_standing_line_is_shed() {
        let (now, rules) = (Instant::now(), AdmissionRules::default());
        let serve = |line: &mut Line<u32>, at: Instant, since: Instant| {
            line.push(Critical, waiting(0, since), &rules);
            line.pop(at, Pace::default(), true, &rules).and_then(|(_, reason)| reason)
        };
        let mut line = Line::new(now);
        // A burst: up to 60 ms of waiting, but over within an interval.
        for ms in 0..60 {
            assert_eq!(serve(&mut line, now + millis(ms), now), None);
        }
        line.is_flowing();
        // A line in which everybody waits for 50 ms, for longer than an interval.
        let shed =
            (100..400).filter(|ms| serve(&mut line, now + millis(*ms), now + millis(ms - 50)).is_some());
        assert!(shed.count() > 150);
    }
}
