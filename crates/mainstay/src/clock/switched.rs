//! Time comes from the machine, or from the virtual clock of the runtime that this thread is running.

use std::{cell::RefCell, future::poll_fn, pin::pin, sync::Arc, time::Duration};

use mainstay_core::clock::Clock;

use super::SystemClock;
use crate::testing::{Sets, VirtualClock};

thread_local! {
    /// Set while a [`crate::testing::Runtime`] runs on this thread, which polls all its tasks here.
    static VIRTUAL: RefCell<Option<Virtual>> = const { RefCell::new(None) };
}

#[derive(Clone)]
struct Virtual {
    clock: Arc<VirtualClock>,
    sets: Arc<Sets>,
}

/// What a store that is opened here runs on.
pub(crate) fn current() -> Arc<dyn Clock> {
    match here() {
        Some(here) => here.clock,
        None => Arc::new(SystemClock),
    }
}

/// The clock of the runtime that this thread is running, if its time is virtual.
pub(crate) fn virtual_clock() -> Option<Arc<VirtualClock>> {
    here().map(|here| here.clock)
}

/// The time since 1970, if it is virtual here.
pub(crate) fn virtual_wall() -> Option<Duration> {
    here().map(|here| here.clock.since_epoch())
}

/// The monotonic clock's milliseconds, if they are virtual here.
pub(crate) fn virtual_monotonic_ms() -> Option<u64> {
    here().map(|here| here.clock.monotonic_ms())
}

/// Random bits, if chance follows a seed here.
pub(super) fn virtual_chance() -> Option<u64> {
    here().map(|here| here.clock.entropy())
}

/// The monotonic clock's milliseconds as this thread has them, for any thread.
pub(crate) fn monotonic() -> Arc<dyn Fn() -> u64 + Send + Sync> {
    match here() {
        Some(here) => Arc::new(move || here.clock.monotonic_ms()),
        None => Arc::new(crate::time::monotonic_ms),
    }
}

/// Awaits something that another thread or the network does.
pub(crate) async fn real<F: Future>(work: F) -> F::Output {
    if here().is_some() { crate::testing::real(work).await } else { work.await }
}

/// Tells the clock of every poll: something has come that it waits for.
pub(crate) async fn counted<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let _ = VIRTUAL.try_with(|here| here.borrow().iter().for_each(|here| here.clock.moves()));
        work.as_mut().poll(cx)
    })
    .await
}

/// Has the runtime that this thread is running look after the set: who leaves a task behind is told.
pub(crate) fn watch(set: &crate::TaskSet) {
    if let Some(here) = here() {
        here.sets.add(set);
    }
}

/// Makes time virtual on this thread, and keeps account of the task sets made here, until the guard is dropped.
pub(crate) fn switch_to(clock: Arc<VirtualClock>, sets: Arc<Sets>) -> Switched {
    Switched(VIRTUAL.replace(Some(Virtual { clock, sets })))
}

/// Puts back what was there before.
pub(crate) struct Switched(Option<Virtual>);

impl Drop for Switched {
    fn drop(&mut self) {
        VIRTUAL.set(self.0.take());
    }
}

fn here() -> Option<Virtual> {
    // A thread that is on its way out has the machine's time.
    VIRTUAL.try_with(|here| here.borrow().clone()).ok().flatten()
}
