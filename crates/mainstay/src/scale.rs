//! How many workers: a pure rule from what was seen to a number, and why.
//!
//! [`pool`](crate::pool) and [`workers`](crate::workers) ask it; it knows no clock, no tasks and no metrics.
//!
//! ```
//! use mainstay::scale::{Look, Reason, Rules, Scale};
//! use mainstay::{millis, secs};
//!
//! let mut scale = Scale::new(Rules::between(1..=8));
//! let crowded = Look { busy: 1, waiting: 40, oldest: millis(80), finished: 5, latency: Some(millis(10)) };
//! assert_eq!(scale.decide(secs(1), &crowded).reason, Reason::Waiting { oldest: millis(80) });
//! assert_eq!(scale.workers(), 2, "never more than twice as many at once");
//! ```
//!
//! # The rule
//! - **More**, when every worker is busy and the oldest job waits too long, or the backlog would make the last one
//!   wait too long (Little's law: what waits, times how long one takes, by how many work). As many as that asks for,
//!   but at most twice as many as before, never more than wait, and not again before the last step could show.
//! - **Back**, when the step brought nothing: jobs took longer by what more of them ran at once. What they share is
//!   saturated then, and more workers only make everyone slower. Not tried again for a while.
//! - **Fewer**, when for a while there were always idle ones: as many go as were never needed in that time, at most
//!   half.
//!
//! Growing looks at one moment and shrinking at a long one: that is the hysteresis. A saw-tooth load keeps its workers.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::time::human;
use crate::{millis, secs};

/// What the rule goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Never fewer workers than this; at least 1.
    pub floor: usize,
    /// Never more.
    pub ceiling: usize,
    /// What a job may wait before more workers are worth it. Defaults to 50 ms.
    pub wait: Duration,
    /// Between two steps up at least, so that the first can show. Defaults to 20 ms; while too few jobs have ended to judge
    /// a step by, it is four times [`wait`](Self::wait).
    pub pause: Duration,
    /// For how long workers must have been idle before they go. Defaults to 10 s.
    pub idle: Duration,
    /// For how long a step that brought nothing is not tried again. Defaults to 10 s.
    pub doubt: Duration,
}

impl Rules {
    /// The defaults for these bounds.
    pub fn between(workers: RangeInclusive<usize>) -> Rules {
        let floor = (*workers.start()).max(1);
        let ceiling = (*workers.end()).max(floor);
        Rules { floor, ceiling, wait: millis(50), pause: millis(20), idle: secs(10), doubt: secs(10) }
    }
}

/// What was seen since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Look {
    /// The most workers that were busy at once.
    pub busy: usize,
    /// Jobs that wait now.
    pub waiting: usize,
    /// How long the oldest of them has waited, as far as can be seen.
    pub oldest: Duration,
    /// Jobs that ended since the last look.
    pub finished: usize,
    /// How long those took, on average.
    pub latency: Option<Duration>,
}

/// How many workers there should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// How many there were meant to be.
    pub before: usize,
    /// How many there are to be now.
    pub workers: usize,
    /// Why.
    pub reason: Reason,
}

impl Decision {
    /// Whether anything is to change.
    pub fn is_change(&self) -> bool {
        self.before != self.workers
    }
}

/// Why there are as many workers as there are.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// Nobody waits too long, and no worker has been idle for long.
    Enough,
    /// More: the oldest job has waited this long.
    Waiting {
        /// How long.
        oldest: Duration,
    },
    /// More: the last job in line would wait this long.
    Backlog {
        /// How long.
        expected: Duration,
    },
    /// More would be wanted, but the ceiling is reached.
    Ceiling,
    /// More would be wanted, but the last step is too young to be judged.
    Settling,
    /// Back, or no more: the last step up did not raise the number of jobs done in a second.
    NoGain {
        /// Jobs a second before the step.
        before: f64,
        /// Jobs a second after it.
        after: f64,
    },
    /// Fewer: for this long there were idle workers.
    Idle {
        /// How long.
        idle: Duration,
    },
}

impl Reason {
    /// The reason as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Enough => "enough",
            Reason::Waiting { .. } => "waiting",
            Reason::Backlog { .. } => "backlog",
            Reason::Ceiling => "ceiling",
            Reason::Settling => "settling",
            Reason::NoGain { .. } => "no_gain",
            Reason::Idle { .. } => "idle",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Reason::Enough => f.write_str("enough: nobody waits long"),
            Reason::Waiting { oldest } => write!(f, "the oldest job has waited {}", human(oldest)),
            Reason::Backlog { expected } => write!(f, "the last job in line would wait {}", human(expected)),
            Reason::Ceiling => f.write_str("jobs wait, but the ceiling is reached"),
            Reason::Settling => f.write_str("jobs wait, but the last step is too young to be judged"),
            Reason::NoGain { before, after } => {
                write!(f, "more workers did not do more: {before:.1} jobs/s before, {after:.1} after")
            }
            Reason::Idle { idle } => write!(f, "some have been idle for {}", human(idle)),
        }
    }
}

/// The rule with what it remembers. Times are counted from any origin, the same for all calls.
#[derive(Clone, Debug)]
pub struct Scale {
    rules: Rules,
    workers: usize,
    latency: Option<Duration>,
    /// The time with this many workers, all of them busy.
    run: Run,
    /// The last step up, until it has been judged.
    step: Option<Step>,
    /// When the last step up was.
    stepped: Option<Duration>,
    /// Until when more is not tried, and what was seen.
    doubt: Option<(Duration, Reason)>,
    /// Since when there have been idle workers, and the most that was needed since.
    idle: Option<(Duration, usize)>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    since: Duration,
    finished: usize,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    from: usize,
    /// Jobs a second before it.
    rate: f64,
}

/// A step up must raise the throughput by a tenth to count as one that helped.
const GAIN: f64 = 1.1;

impl Scale {
    /// Begins at the floor.
    pub fn new(rules: Rules) -> Scale {
        let floor = rules.floor.max(1);
        let rules = Rules { floor, ceiling: rules.ceiling.max(floor), ..rules };
        Scale {
            rules,
            workers: floor,
            latency: None,
            run: Run { since: Duration::ZERO, finished: 0 },
            step: None,
            stepped: None,
            doubt: None,
            idle: None,
        }
    }

    /// What it goes by.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// How many workers there should be, as was decided last.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Decides anew.
    pub fn decide(&mut self, now: Duration, look: &Look) -> Decision {
        if let Some(latest) = look.latency {
            // Half of the old, half of the new: looks are many, and each is an average already.
            self.latency = Some(self.latency.map_or(latest, |old| (old + latest) / 2));
        }
        let before = self.workers;
        let saturated = look.busy >= self.workers;
        if saturated {
            self.run.finished += look.finished;
        } else {
            self.run = Run { since: now, finished: 0 };
        }
        let reason = if saturated && look.waiting > 0 {
            self.idle = None;
            self.more(now, look)
        } else {
            self.fewer(now, look)
        };
        Decision { before, workers: self.workers, reason }
    }

    fn more(&mut self, now: Duration, look: &Look) -> Reason {
        let rate = self.rate(now);
        if let (Some(step), Some(after)) = (self.step, rate) {
            self.step = None;
            if after < step.rate * GAIN {
                let reason = Reason::NoGain { before: step.rate, after };
                self.doubt = Some((now + self.rules.doubt, reason));
                self.set(step.from, now);
                return reason;
            }
        }
        let jobs = u32::try_from(look.waiting).unwrap_or(u32::MAX);
        let work = self.latency.map(|one| one.saturating_mul(jobs));
        let expected = work.map_or(Duration::ZERO, |work| work / self.workers as u32);
        let reason = if look.oldest >= self.rules.wait {
            Reason::Waiting { oldest: look.oldest }
        } else if expected >= self.rules.wait {
            Reason::Backlog { expected }
        } else {
            return Reason::Enough;
        };
        if self.workers >= self.rules.ceiling {
            return Reason::Ceiling;
        }
        match self.doubt {
            Some((until, doubt)) if now < until => return doubt,
            _ => self.doubt = None,
        }
        // A step is judged before the next, unless the jobs are too long for that.
        let patience =
            if rate.is_some() { self.rules.pause } else { self.rules.pause.max(self.rules.wait * 4) };
        if self.stepped.is_some_and(|at| now < at + patience) {
            return Reason::Settling;
        }
        // So many that what waits now is done in the time a job may wait.
        let wanted = work.map_or(usize::MAX, |work| {
            let wait = self.rules.wait.as_nanos().max(1);
            usize::try_from(work.as_nanos().div_ceil(wait)).unwrap_or(usize::MAX)
        });
        let most = (self.workers * 2).min(self.workers + look.waiting).min(self.rules.ceiling);
        // Without a rate before it, a step cannot be judged: then it is taken for good.
        self.step = rate.map(|rate| Step { from: self.workers, rate });
        self.stepped = Some(now);
        self.set(wanted.clamp(self.workers + 1, most), now);
        reason
    }

    fn fewer(&mut self, now: Duration, look: &Look) -> Reason {
        let needed = look.busy + look.waiting;
        if needed >= self.workers || self.workers <= self.rules.floor {
            self.idle = None;
            return Reason::Enough;
        }
        let (since, most) = self.idle.map_or((now, needed), |(since, most)| (since, most.max(needed)));
        let idle = now.saturating_sub(since);
        if idle < self.rules.idle {
            self.idle = Some((since, most));
            return Reason::Enough;
        }
        self.set(most.max(self.workers / 2).max(self.rules.floor), now);
        self.step = None;
        // The next step down has a time of its own.
        self.idle = Some((now, needed));
        Reason::Idle { idle }
    }

    fn set(&mut self, workers: usize, now: Duration) {
        self.workers = workers;
        self.run = Run { since: now, finished: 0 };
    }

    /// Jobs a second of this run, once enough have ended to tell: those that were begun before it are over by then.
    fn rate(&self, now: Duration) -> Option<f64> {
        let took = now.saturating_sub(self.run.since).as_secs_f64();
        let enough = self.run.finished >= 3 * self.workers && took > 0.0;
        enough.then(|| self.run.finished as f64 / took)
    }
}

#[cfg(test)]
#[path = "scale/tests.rs"]
mod tests;
