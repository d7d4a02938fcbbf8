//! The two ends of one job: who waits for it, and who runs it.

use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::PoolError;
use super::sync::atomic::{AtomicBool, Ordering};
use super::sync::{Mutex, MutexGuard, Notify};

/// A job, and all that is known of it: one allocation, to which its handle, the queue or its worker, and its context
/// point.
pub(super) struct Ticket<J, R> {
    pub id: u64,
    pub priority: u8,
    pub limit: Option<Duration>,
    /// The one it was submitted in.
    pub context: crate::Context,
    state: Mutex<State<J, R>>,
    stop: AtomicBool,
}

struct State<J, R> {
    phase: Phase<J, R>,
    /// Who wants to know of its end.
    waker: Option<Waker>,
    /// Tells those who wait for the word to stop, if there ever were any.
    stopped: Option<Arc<Notify>>,
    /// Where it lies, if it was put off.
    place: Option<Box<dyn Place>>,
}

/// Where a job that was put off lies until its time.
pub(super) trait Place: Send + Sync {
    /// The job has ended: nobody need keep it.
    fn clear(&self);
}

enum Phase<J, R> {
    Waiting(Waits<J>),
    /// Somebody has it in hand, and will lay it down to wait.
    PutOff,
    Running,
    Ended(Result<R, PoolError>),
    Taken,
}

/// A job that waits.
pub(super) struct Waits<J> {
    pub job: J,
    /// Since when, where somebody wants to know: reading the clock is a tenth of what a job costs.
    pub since: Option<Instant>,
}

/// A ticket as a handler sees it, without the types of its job and its result.
pub(super) trait Stop: Send + Sync {
    fn id(&self) -> u64;
    fn is_told(&self) -> bool;
    /// Resolves when it was told to stop.
    fn told(&self) -> BoxFuture<'_, ()>;
}

impl<J: Send, R: Send> Stop for Ticket<J, R> {
    fn id(&self) -> u64 {
        self.id
    }

    fn is_told(&self) -> bool {
        self.is_stopped()
    }

    fn told(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.stopped())
    }
}

impl<J, R> Ticket<J, R> {
    pub fn new(
        id: u64,
        job: Waits<J>,
        priority: u8,
        limit: Option<Duration>,
        context: crate::Context,
    ) -> Self {
        Self {
            id,
            priority,
            limit,
            context,
            state: Mutex::new(State { phase: Phase::Waiting(job), waker: None, stopped: None, place: None }),
            stop: AtomicBool::new(false),
        }
    }

    /// Its turn has come. `None`: it has ended already.
    pub fn begin(&self) -> Option<Waits<J>> {
        let mut state = self.lock();
        match std::mem::replace(&mut state.phase, Phase::Running) {
            Phase::Waiting(waits) => Some(waits),
            other => {
                state.phase = other;
                None
            }
        }
    }

    /// It is to wait again, from when it is [laid down](Self::lay_down).
    pub fn put_off(&self) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Running) {
            state.phase = Phase::PutOff;
        }
    }

    /// A job that was put off waits, unless it has ended meanwhile.
    pub fn lay_down(&self, job: J, since: Instant) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::PutOff) {
            state.phase = Phase::Waiting(Waits { job, since: Some(since) });
        } else {
            drop(state);
            drop(job);
        }
    }

    /// It was put off, and lies there. Cancelled before its time, it leaves at once.
    pub fn lies_in(&self, place: Box<dyn Place>) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Ended(_) | Phase::Taken) {
            drop(state);
            place.clear();
        } else {
            let old = state.place.replace(place);
            drop(state);
            drop(old);
        }
    }

    /// Ends it, unless it has ended.
    pub fn end(&self, result: Result<R, PoolError>) -> bool {
        self.end_it(self.lock(), result).is_ok()
    }

    /// The same of one that waits, whose job is wanted back.
    pub fn give_up(&self, error: PoolError) -> Option<J> {
        let waits = self.end_it(self.lock(), Err(error)).ok().flatten()?;
        Some(waits.job)
    }

    /// Answers the job of one that waited; an error if it has ended before. Nothing of users is dropped, nor anybody woken,
    /// under the lock.
    fn end_it(
        &self,
        mut state: MutexGuard<'_, State<J, R>>,
        result: Result<R, PoolError>,
    ) -> Result<Option<Waits<J>>, ()> {
        match &state.phase {
            Phase::Waiting(_) | Phase::PutOff | Phase::Running => {
                let before = std::mem::replace(&mut state.phase, Phase::Ended(result));
                let waker = state.waker.take();
                drop(state);
                if let Some(waker) = waker {
                    waker.wake();
                }
                Ok(match before {
                    Phase::Waiting(waits) => Some(waits),
                    _ => None,
                })
            }
            Phase::Ended(_) | Phase::Taken => {
                drop(state);
                drop(result);
                Err(())
            }
        }
    }

    /// Tells whoever runs it to stop; one that waits has ended with that.
    pub fn cancel(&self) {
        self.stop.store(true, Ordering::Release);
        // One look: what begins now is told, and not ended under its worker's hands.
        let mut state = self.lock();
        let stopped = state.stopped.clone();
        let place = state.place.take();
        if matches!(state.phase, Phase::Waiting(_) | Phase::PutOff) {
            drop(self.end_it(state, Err(PoolError::Cancelled)));
            if let Some(place) = place {
                place.clear();
            }
        } else {
            drop(state);
        }
        if let Some(stopped) = stopped {
            stopped.notify_waiters();
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Resolves when it was told to stop.
    pub async fn stopped(&self) {
        // Made by the first who asks: most jobs are never asked about.
        let stopped = self.lock().stopped.get_or_insert_with(|| Arc::new(Notify::new())).clone();
        loop {
            let notified = stopped.notified();
            if self.is_stopped() {
                return;
            }
            notified.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<J, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A ticket as who submitted it sees it, without the type of its job.
pub(super) trait Handle<R>: Send + Sync {
    fn id(&self) -> u64;
    fn cancel(&self);
    fn is_finished(&self) -> bool;
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<R, PoolError>>;
}

impl<J: Send, R: Send> Handle<R> for Ticket<J, R> {
    fn id(&self) -> u64 {
        self.id
    }

    fn cancel(&self) {
        self.cancel();
    }

    fn is_finished(&self) -> bool {
        matches!(self.lock().phase, Phase::Ended(_) | Phase::Taken)
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<R, PoolError>> {
        let mut state = self.lock();
        match &state.phase {
            Phase::Waiting(_) | Phase::PutOff | Phase::Running => {
                let old = match &mut state.waker {
                    Some(waker) if waker.will_wake(cx.waker()) => None,
                    waker => waker.replace(cx.waker().clone()),
                };
                drop(state);
                drop(old);
                Poll::Pending
            }
            Phase::Ended(_) => match std::mem::replace(&mut state.phase, Phase::Taken) {
                Phase::Ended(result) => Poll::Ready(result),
                _ => Poll::Pending,
            },
            // Polled once more after its end, as no executor does: there is nothing to come.
            Phase::Taken => Poll::Pending,
        }
    }
}

/// A job that was submitted: await it for what its handler gives.
///
/// Dropping it changes nothing: the job goes on, and if it fails it is a dead letter.
#[must_use = "await it for the result, or drop it to let the job go its way"]
pub struct PoolJob<R>(pub(super) Arc<dyn Handle<R>>);

impl<R> PoolJob<R> {
    /// Its number: the pool's first is 1. A [`DeadLetter`](super::DeadLetter) has the same.
    pub fn id(&self) -> u64 {
        self.0.id()
    }

    /// Ends the job: at once if it waits (though its place in the queue is kept until its turn) or was put off, else its handler is told
    /// ([`PoolContext::cancelled`](super::PoolContext::cancelled)) and cut after the pool's grace. A value that it gives
    /// all the same counts.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<R> Future for PoolJob<R> {
    type Output = Result<R, PoolError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}

impl<R> std::fmt::Debug for PoolJob<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolJob").field("id", &self.id()).field("finished", &self.is_finished()).finish()
    }
}
