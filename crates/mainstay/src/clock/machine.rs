//! Time comes from the machine and from nowhere else.

use std::{sync::Arc, time::Duration};

use mainstay_core::clock::Clock;

use super::SystemClock;

/// What a store that is opened here runs on.
pub(crate) fn current() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// The time since 1970, if it is virtual here.
pub(crate) const fn virtual_wall() -> Option<Duration> {
    None
}

/// The monotonic clock's milliseconds, if they are virtual here.
pub(crate) const fn virtual_monotonic_ms() -> Option<u64> {
    None
}

/// Random bits, if chance follows a seed here.
pub(super) const fn virtual_chance() -> Option<u64> {
    None
}

/// The monotonic clock's milliseconds, for any thread.
pub(crate) fn monotonic() -> Arc<dyn Fn() -> u64 + Send + Sync> {
    Arc::new(crate::time::monotonic_ms)
}

/// Nobody counts how often it is polled.
pub(crate) fn counted<F: Future>(work: F) -> F {
    work
}

/// Nobody looks for tasks that are left behind.
pub(crate) const fn watch(_: &crate::TaskSet) {}

/// Awaits something that another thread or the network does.
pub(crate) async fn real<F: Future>(work: F) -> F::Output {
    work.await
}
