//! The search for an order that explains a history.
//!
//! Wing and Gong, *Testing and Verifying Concurrent Objects* (1993): take any call that began before every call that
//! is still to be placed has ended, let it happen, go on; go back where its answer does not fit. Lowe, *Testing for
//! linearizability* (2017): remember which sets of calls with which outcome led nowhere. Two things make it fast
//! here: locks are judged one by one, and grants can only happen in the order of their tokens.
//!
//! Time is part of it: a call happens not before it was sent, and a grant expires not before its deadline. As the rules
//! only say how long a grant lives at least, letting everything happen as early as it can loses no explanation.

use std::{collections::HashSet, time::Duration};

use mainstay_core::rules::mix;

use super::{
    Asked, Call, Got, Violation, by_lock,
    rules::{Known, Lock},
};

/// Whether a lock service that keeps the rules can have answered so.
///
/// An acquire that nobody heard of may keep others out for its wait, its time, and `slack` on top: for how long the
/// service was away or stood still, and for how long it keeps a grant for a ticket that has lost its connection. What
/// explains a refusal has to have an end, or a lock that is never free again could not be told from it.
///
/// # Errors
/// The first lock for which there is no explanation, with the longest part of one that was found.
pub fn check(calls: &[Call], slack: Duration) -> Result<(), Violation> {
    by_lock(calls).into_iter().try_for_each(|(lock, calls)| check_one(lock, calls, slack))
}

/// After so many states the search gives up: somebody waits for it.
const STATES: usize = 2_000_000;

/// What may happen next.
#[derive(Clone, Copy)]
enum Step {
    Call(usize),
    Expire(usize),
}

/// A state of the search, and what is still to be tried from there.
struct Frame {
    lock: Lock,
    /// The calls that have happened, as one number.
    set: u64,
    /// How it came about; `None` in the first.
    by: Option<Step>,
    left: Vec<Step>,
}

fn check_one(lock: &str, mut calls: Vec<&Call>, slack: Duration) -> Result<(), Violation> {
    let slack = u64::try_from(slack.as_micros()).unwrap_or(u64::MAX);
    let unseen = calls.iter().filter_map(|call| match call.asked {
        Asked::Acquire { ttl_ms, wait_ms, .. } if call.got == Got::Nothing => {
            let longest = ttl_ms.saturating_add(wait_ms).saturating_mul(1_000).saturating_add(slack);
            Some((call.from, call.from.saturating_add(longest)))
        }
        _ => None,
    });
    let unseen = unseen.collect();
    // Of the others without an answer, only a release can change what somebody else sees.
    calls.retain(|call| call.got != Got::Nothing || matches!(call.asked, Asked::Release { .. }));
    calls.sort_by_key(|call| call.from);
    let mut search = Search::new(calls, unseen);
    if search.run() { Ok(()) } else { Err(search.violation(lock)) }
}

struct Search<'c> {
    calls: Vec<&'c Call>,
    known: Known,
    /// Those with an answer, and those without, by the time they were sent.
    answered: Vec<usize>,
    unanswered: Vec<usize>,
    done: Vec<bool>,
    /// How many with an answer are still to be placed, and before which of `answered` none is.
    open: usize,
    first: usize,
    /// The longest explanation so far, and what did not fit behind it.
    best: Vec<Step>,
    stuck: Vec<usize>,
    gave_up: bool,
}

impl<'c> Search<'c> {
    fn new(calls: Vec<&'c Call>, unseen: Vec<(u64, u64)>) -> Search<'c> {
        let granted = calls.iter().filter_map(|call| match call.got {
            Got::Granted(token) => Some(token),
            _ => None,
        });
        let mut tokens: Vec<u64> = granted.collect();
        tokens.sort_unstable();
        let (answered, unanswered): (Vec<_>, Vec<_>) =
            (0..calls.len()).partition(|at| calls[*at].to.is_some());
        Search {
            known: Known { tokens, unseen },
            open: answered.len(),
            answered,
            unanswered,
            done: vec![false; calls.len()],
            first: 0,
            best: Vec::new(),
            stuck: Vec::new(),
            gave_up: false,
            calls,
        }
    }

    /// Whether there is an explanation.
    fn run(&mut self) -> bool {
        let mut seen = HashSet::new();
        let start = Lock::default();
        let left = self.steps(&start);
        let mut path = vec![Frame { lock: start, set: 0, by: None, left }];
        while self.open > 0 {
            let Some(frame) = path.last_mut() else { return false };
            let Some(step) = frame.left.pop() else {
                if path.len() > self.best.len() + 1 {
                    self.best = path.iter().filter_map(|frame| frame.by).collect();
                    self.stuck = self.next();
                }
                if let Some(Frame { by: Some(Step::Call(at)), .. }) = path.pop() {
                    self.take_back(at);
                }
                continue;
            };
            let (lock, set) = match step {
                Step::Expire(at) => (frame.lock.after_expiry(at), frame.set),
                Step::Call(at) => match frame.lock.after(self.calls[at], &self.known) {
                    Some(lock) => (lock, frame.set ^ mix(0x6869_7374, at as u64)),
                    None => continue,
                },
            };
            if !seen.insert((set, lock.clone())) {
                continue;
            }
            if seen.len() > STATES {
                self.gave_up = true;
                self.best = path.iter().filter_map(|frame| frame.by).collect();
                return false;
            }
            if let Step::Call(at) = step {
                self.place(at);
            }
            let left = self.steps(&lock);
            path.push(Frame { lock, set, by: Some(step), left });
        }
        true
    }

    fn place(&mut self, at: usize) {
        self.done[at] = true;
        self.open -= usize::from(self.calls[at].to.is_some());
        while self.answered.get(self.first).is_some_and(|at| self.done[*at]) {
            self.first += 1;
        }
    }

    fn take_back(&mut self, at: usize) {
        self.done[at] = false;
        if let Ok(place) = self.answered.binary_search(&at) {
            self.open += 1;
            self.first = self.first.min(place);
        }
    }

    /// What may happen next, the likeliest last.
    fn steps(&self, lock: &Lock) -> Vec<Step> {
        let (mut next, unanswered): (Vec<_>, Vec<_>) =
            self.next().into_iter().partition(|at| self.calls[*at].to.is_some());
        // Whose answer came first probably happened first.
        next.sort_by_key(|at| std::cmp::Reverse(self.calls[*at].to));
        let unanswered = unanswered.into_iter().map(Step::Call);
        let expiries = (0..lock.holders.len()).map(Step::Expire);
        unanswered.chain(expiries).chain(next.into_iter().map(Step::Call)).collect()
    }

    /// The calls that began before every call that is still to be placed has ended.
    fn next(&self) -> Vec<usize> {
        let mut ended = u64::MAX;
        let mut next = Vec::new();
        for at in self.answered[self.first..].iter().filter(|at| !self.done[**at]) {
            let call = self.calls[*at];
            if call.from > ended {
                break;
            }
            ended = ended.min(call.to.unwrap_or(u64::MAX));
            next.push(*at);
        }
        let unanswered = self.unanswered.iter().copied();
        next.extend(unanswered.take_while(|at| self.calls[*at].from <= ended).filter(|at| !self.done[*at]));
        next
    }

    fn violation(&self, lock: &str) -> Violation {
        let of = |at: &usize| self.calls[*at].clone();
        let explained = self.best.iter().filter_map(|step| match step {
            Step::Call(at) => Some(of(at)),
            Step::Expire(_) => None,
        });
        Violation {
            lock: lock.to_owned(),
            explained: explained.collect(),
            stuck: self.stuck.iter().map(of).collect(),
            gave_up: self.gave_up,
        }
    }
}
