//! Questions after the fact, named as Python's `AsyncMock` names them.

use std::{fmt::Debug, sync::Arc};

use super::{Record, Script, history::Fate, history::told};

impl<A, R> Script<A, R> {
    /// How many calls were made: [`call`](Self::call) was reached, awaited or not.
    pub fn called(&self) -> usize {
        self.0.counts.borrow().called
    }

    /// How many calls were polled to their end and returned.
    pub fn awaited(&self) -> usize {
        self.0.counts.borrow().awaited
    }

    /// How many calls were dropped before their end.
    pub fn cancelled(&self) -> usize {
        self.0.counts.borrow().cancelled
    }

    /// The arguments of every call, in order.
    pub fn calls(&self) -> Vec<Arc<A>> {
        self.0.lock().calls.iter().map(|call| call.args.clone()).collect()
    }
}

/// # Panics
/// All of them, if it is not so: with what was expected, and each call with its arguments, its end, its time and the
/// place it came from.
impl<A: Debug + PartialEq, R> Script<A, R> {
    /// It was called this often.
    #[track_caller]
    pub fn assert_called_times(&self, n: usize) {
        self.check(|calls| calls.len() == n, || format!("was called {} instead of {n} times", self.called()));
    }

    /// It was never called.
    #[track_caller]
    pub fn assert_not_called(&self) {
        self.check(<[_]>::is_empty, || "should not have been called".to_owned());
    }

    /// Its *last* call had these arguments.
    #[track_caller]
    pub fn assert_called_with(&self, args: A) {
        let last = |calls: &[Record<A>]| calls.last().is_some_and(|call| *call.args == args);
        self.check(last, || format!("was not called last with {args:?}"));
    }

    /// Some call had these arguments.
    #[track_caller]
    pub fn assert_any_call(&self, args: A) {
        let any = |calls: &[Record<A>]| calls.iter().any(|call| *call.args == args);
        self.check(any, || format!("was never called with {args:?}"));
    }

    /// It was called once, with these arguments.
    #[track_caller]
    pub fn assert_called_once_with(&self, args: A) {
        let once = |calls: &[Record<A>]| matches!(calls, [call] if *call.args == args);
        self.check(once, || format!("was not called exactly once, with {args:?}"));
    }

    /// These were its calls: all of them, in this order.
    #[track_caller]
    pub fn assert_calls(&self, expected: impl IntoIterator<Item = A>) {
        let expected: Vec<A> = expected.into_iter().collect();
        let same = |calls: &[Record<A>]| calls.iter().map(|call| &*call.args).eq(&expected);
        self.check(same, || format!("was not called exactly with {expected:?}"));
    }

    /// These calls were made one directly after the other, whatever came before and after them.
    #[track_caller]
    pub fn assert_has_calls(&self, expected: impl IntoIterator<Item = A>) {
        let expected: Vec<A> = expected.into_iter().collect();
        let among = |calls: &[Record<A>]| {
            let args = |calls: &[Record<A>]| calls.iter().map(|call| &*call.args).eq(&expected);
            expected.is_empty() || calls.windows(expected.len()).any(args)
        };
        self.check(among, || format!("has no calls {expected:?} one after the other"));
    }

    /// So many calls returned.
    #[track_caller]
    pub fn assert_awaited_times(&self, n: usize) {
        let awaited = |calls: &[Record<A>]| count(calls, Fate::Awaited) == n;
        self.check(awaited, || format!("was awaited {} instead of {n} times", self.awaited()));
    }

    /// No call returned.
    #[track_caller]
    pub fn assert_not_awaited(&self) {
        self.assert_awaited_times(0);
    }

    /// The last call that returned had these arguments.
    #[track_caller]
    pub fn assert_awaited_with(&self, args: A) {
        let last = |calls: &[Record<A>]| awaited(calls).last().is_some_and(|call| *call.args == args);
        self.check(last, || format!("was not awaited last with {args:?}"));
    }

    /// Some call with these arguments returned.
    #[track_caller]
    pub fn assert_any_await(&self, args: A) {
        let any = |calls: &[Record<A>]| awaited(calls).any(|call| *call.args == args);
        self.check(any, || format!("was never awaited with {args:?}"));
    }

    /// One call returned, and had these arguments.
    #[track_caller]
    pub fn assert_awaited_once_with(&self, args: A) {
        let once = |calls: &[Record<A>]| {
            let mut awaited = awaited(calls);
            awaited.next().is_some_and(|call| *call.args == args) && awaited.next().is_none()
        };
        self.check(once, || format!("was not awaited exactly once, with {args:?}"));
    }

    /// So many calls were dropped before their end.
    #[track_caller]
    pub fn assert_cancelled_times(&self, n: usize) {
        let cancelled = |calls: &[Record<A>]| count(calls, Fate::Cancelled) == n;
        self.check(cancelled, || format!("was cancelled {} instead of {n} times", self.cancelled()));
    }

    /// Every step was used. (One that repeats does not count.)
    #[track_caller]
    pub fn assert_used_up(&self) {
        let left = self.0.lock().steps.len();
        self.check(|_| left == 0, || format!("has {left} steps that were not used"));
    }

    #[track_caller]
    fn check(&self, holds: impl FnOnce(&[Record<A>]) -> bool, what: impl FnOnce() -> String) {
        let state = self.0.lock();
        let history = if holds(&state.calls) { None } else { Some(told(&state.calls)) };
        drop(state);
        if let Some(history) = history {
            panic!("script `{}` {}\n{history}", self.0.name, what());
        }
    }
}

fn awaited<A>(calls: &[Record<A>]) -> impl Iterator<Item = &Record<A>> {
    calls.iter().filter(|call| call.fate == Fate::Awaited)
}

fn count<A>(calls: &[Record<A>], fate: Fate) -> usize {
    calls.iter().filter(|call| call.fate == fate).count()
}
