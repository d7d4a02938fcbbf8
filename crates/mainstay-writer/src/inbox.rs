//! A bounded queue from async callers to a plain thread.

use std::{collections::VecDeque, sync::PoisonError, task::Wake, time::Duration};

use super::sync::{Condvar, Mutex, MutexGuard};
use crate::stopwatch::Stopwatch;

/// Many senders that never wait, one or more threads that take. Bounded by weight (bytes, or a count).
pub struct Inbox<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
    limit: usize,
}

struct State<T> {
    items: VecDeque<(usize, T)>,
    weight: usize,
    closed: bool,
    /// Threads asleep in [`Inbox::take`], and how many of them have been called: a call costs a system call, so
    /// nobody is called twice.
    asleep: usize,
    called: usize,
    /// An alarm rang; see [`Inbox::ring`].
    rang: bool,
}

/// Why something was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Full,
    Closed,
}

/// What [`Inbox::take`] came back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Something, or nothing because an alarm rang or the time was up.
    Open,
    /// Closed, and everything has been taken.
    Over,
}

impl<T> Inbox<T> {
    pub fn new(limit: usize) -> Inbox<T> {
        let state =
            State { items: VecDeque::new(), weight: 0, closed: false, asleep: 0, called: 0, rang: false };
        Inbox { state: Mutex::new(state), ready: Condvar::new(), limit }
    }

    /// Takes in `item`, unless the bound would be passed. An item heavier than the bound is taken in when alone.
    pub fn push(&self, item: T, weight: usize) -> Result<(), (Refused, T)> {
        let state = self.lock();
        if state.closed {
            return Err((Refused::Closed, item));
        }
        if state.weight + weight > self.limit && !state.items.is_empty() {
            return Err((Refused::Full, item));
        }
        self.put(state, item, weight);
        Ok(())
    }

    /// Takes in `item` past the bound; for what is bounded by something else and must not be lost.
    pub fn force(&self, item: T) -> Result<(), T> {
        let state = self.lock();
        if state.closed {
            return Err(item);
        }
        self.put(state, item, 0);
        Ok(())
    }

    fn put(&self, mut state: MutexGuard<'_, State<T>>, item: T, weight: usize) {
        state.items.push_back((weight, item));
        state.weight += weight;
        self.call(state);
    }

    /// Wakes one thread that sleeps and was not called yet.
    fn call(&self, mut state: MutexGuard<'_, State<T>>) {
        let wake = state.asleep > state.called;
        state.called += usize::from(wake);
        drop(state);
        if wake {
            self.ready.notify_one();
        }
    }

    /// Moves what waits into `into`, while `fits` says that the next one (of that weight) still fits; waits up to
    /// `at_most` when there is nothing.
    pub fn take(
        &self,
        into: &mut Vec<T>,
        at_most: Option<Duration>,
        mut fits: impl FnMut(&T, usize) -> bool,
    ) -> Taken {
        let mut state = self.sleep(at_most);
        state.rang = false;
        while let Some((weight, item)) = state.items.front() {
            if !fits(item, *weight) {
                break;
            }
            let Some((weight, item)) = state.items.pop_front() else { break };
            state.weight -= weight;
            into.push(item);
        }
        if state.closed && state.items.is_empty() && into.is_empty() { Taken::Over } else { Taken::Open }
    }

    /// Until there is a reason to look, or the time is up.
    fn sleep(&self, at_most: Option<Duration>) -> MutexGuard<'_, State<T>> {
        let watch = Stopwatch::start();
        let mut state = self.lock();
        while state.items.is_empty() && !state.closed && !state.rang {
            let left = at_most.map(|time| time.saturating_sub(watch.elapsed()));
            if left == Some(Duration::ZERO) {
                break;
            }
            state.asleep += 1;
            state = match left {
                None => self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
            state.asleep -= 1;
            // One that woke for another reason may take the call of another; at worst, that is called again.
            state.called = state.called.saturating_sub(1);
        }
        state
    }

    /// Ends one [`Inbox::take`] that waits, or the next one.
    pub fn ring(&self) {
        let mut state = self.lock();
        state.rang = true;
        self.call(state);
    }

    /// Nothing more is taken in; what is inside can still be taken out.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    /// Closes, and hands out what was inside.
    pub fn close_and_empty(&self) -> Vec<T> {
        let mut state = self.lock();
        state.closed = true;
        state.weight = 0;
        let items = state.items.drain(..).map(|(_, item)| item).collect();
        drop(state);
        self.ready.notify_all();
        items
    }

    /// Nothing more is taken in.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// How much is inside.
    pub fn weight(&self) -> usize {
        self.lock().weight
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under this lock, so its state is whole even if it is called poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As a waker, an inbox rings.
impl<T: Send + 'static> Wake for Inbox<T> {
    fn wake(self: std::sync::Arc<Self>) {
        self.ring();
    }
}
