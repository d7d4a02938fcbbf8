//! `tokio::sync::Notify`.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::Mutex;

#[derive(Debug, Default)]
pub struct Notify(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// One `notify_one` that found nobody.
    permit: bool,
    /// How often all were notified: whoever was made before that is.
    rounds: u64,
    last: u64,
    waiting: VecDeque<(u64, Waker)>,
    /// Notified one by one, and have not seen it yet.
    called: BTreeSet<u64>,
}

impl Notify {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn notify_one(&self) {
        let mut state = self.0.held();
        let Some((number, waker)) = state.waiting.pop_front() else {
            state.permit = true;
            return;
        };
        state.called.insert(number);
        drop(state);
        waker.wake();
    }

    pub fn notify_waiters(&self) {
        let mut state = self.0.held();
        state.rounds += 1;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self, round: self.0.held().rounds, number: None, done: false }
    }
}

#[derive(Debug)]
pub struct Notified<'n> {
    notify: &'n Notify,
    round: u64,
    /// Its place in the line.
    number: Option<u64>,
    done: bool,
}

impl Notified<'_> {
    /// Takes its place without waiting; `true`: it was notified already.
    pub fn enable(mut self: Pin<&mut Self>) -> bool {
        self.look(Waker::noop())
    }

    fn look(&mut self, waker: &Waker) -> bool {
        if self.done {
            return true;
        }
        let mut state = self.notify.0.held();
        let called = self.number.is_some_and(|number| state.called.remove(&number));
        self.done = called
            || state.rounds > self.round
            || (self.number.is_none() && std::mem::take(&mut state.permit));
        if self.done {
            return true;
        }
        let number = *self.number.get_or_insert_with(|| {
            state.last += 1;
            state.last
        });
        match state.waiting.iter_mut().find(|(other, _)| *other == number) {
            Some((_, old)) => *old = waker.clone(),
            None => state.waiting.push_back((number, waker.clone())),
        }
        false
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.look(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number.filter(|_| !self.done) else { return };
        let mut state = self.notify.0.held();
        state.waiting.retain(|(other, _)| *other != number);
        let unused = state.called.remove(&number);
        drop(state);
        if unused {
            self.notify.notify_one();
        }
    }
}
