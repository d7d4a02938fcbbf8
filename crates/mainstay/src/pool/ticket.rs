//! The two ends of one job: who waits for it, and who runs it.

use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::future::BoxFuture;

use super::PoolError;
use super::sync::atomic::{AtomicBool, Ordering};
use super::sync::{Mutex, MutexGuard, Notify};

/// One allocation for everything that both ends share.
pub(super) struct Ticket<R> {
    pub id: u64,
    state: Mutex<State<R>>,
    stop: AtomicBool,
    stopped: Notify,
}

enum State<R> {
    Waiting(Option<Waker>),
    Running(Option<Waker>),
    Ended(Result<R, PoolError>),
    Taken,
}

/// A ticket as a handler sees it, without the type of its result.
pub(super) trait Stop: Send + Sync {
    fn id(&self) -> u64;
    fn is_told(&self) -> bool;
    /// Resolves at the next telling: look after it was made.
    fn told(&self) -> BoxFuture<'_, ()>;
}

impl<R: Send> Stop for Ticket<R> {
    fn id(&self) -> u64 {
        self.id
    }

    fn is_told(&self) -> bool {
        self.is_stopped()
    }

    fn told(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.stopped.notified())
    }
}

impl<R> Ticket<R> {
    pub fn new(id: u64) -> Self {
        Self {
            id,
            state: Mutex::new(State::Waiting(None)),
            stop: AtomicBool::new(false),
            stopped: Notify::new(),
        }
    }

    /// Its turn has come. `false`: it has ended already.
    pub fn begin(&self) -> bool {
        let mut state = self.lock();
        match &mut *state {
            State::Waiting(waker) | State::Running(waker) => {
                let waker = waker.take();
                *state = State::Running(waker);
                true
            }
            State::Ended(_) | State::Taken => false,
        }
    }

    /// It waits again.
    pub fn put_off(&self) {
        let mut state = self.lock();
        if let State::Running(waker) = &mut *state {
            let waker = waker.take();
            *state = State::Waiting(waker);
        }
    }

    /// Ends it, unless it has ended.
    pub fn end(&self, result: Result<R, PoolError>) -> bool {
        self.end_it(self.lock(), result)
    }

    fn end_it(&self, mut state: MutexGuard<'_, State<R>>, result: Result<R, PoolError>) -> bool {
        match &mut *state {
            State::Waiting(waker) | State::Running(waker) => {
                let waker = waker.take();
                *state = State::Ended(result);
                drop(state);
                if let Some(waker) = waker {
                    waker.wake();
                }
                true
            }
            State::Ended(_) | State::Taken => {
                drop(state);
                drop(result);
                false
            }
        }
    }

    /// Tells whoever runs it to stop; one that waits has ended with that.
    pub fn cancel(&self) {
        self.stop.store(true, Ordering::Release);
        self.stopped.notify_waiters();
        // One look: what begins now is told, and not ended under its worker's hands.
        let state = self.lock();
        if matches!(&*state, State::Waiting(_)) {
            self.end_it(state, Err(PoolError::Cancelled));
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Resolves when it was told to stop.
    pub async fn stopped(&self) {
        loop {
            let notified = self.stopped.notified();
            if self.is_stopped() {
                return;
            }
            notified.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job that was submitted: await it for what its handler gives.
///
/// Dropping it changes nothing: the job goes on, and if it fails it is a dead letter.
#[must_use = "await it for the result, or drop it to let the job go its way"]
pub struct PoolJob<R>(pub(super) Arc<Ticket<R>>);

impl<R> PoolJob<R> {
    /// Its number: the pool's first is 1. A [`DeadLetter`](super::DeadLetter) has the same.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Ends the job: at once if it waits (though its place in the queue is kept until its turn), else its handler is told
    /// ([`PoolContext::cancelled`](super::PoolContext::cancelled)) and cut after the pool's grace. A value that it gives
    /// all the same counts.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        matches!(&*self.0.lock(), State::Ended(_) | State::Taken)
    }
}

impl<R> Future for PoolJob<R> {
    type Output = Result<R, PoolError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.lock();
        match &mut *state {
            State::Waiting(waker) | State::Running(waker) => {
                let old = match waker {
                    Some(waker) if waker.will_wake(cx.waker()) => None,
                    waker => waker.replace(cx.waker().clone()),
                };
                drop(state);
                drop(old);
                Poll::Pending
            }
            State::Ended(_) => match std::mem::replace(&mut *state, State::Taken) {
                State::Ended(result) => Poll::Ready(result),
                _ => Poll::Pending,
            },
            // Polled once more after its end, as no executor does: there is nothing to come.
            State::Taken => Poll::Pending,
        }
    }
}

impl<R> std::fmt::Debug for PoolJob<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolJob").field("id", &self.id()).field("finished", &self.is_finished()).finish()
    }
}
