//! What hand-made synchronisation stands on, over [loom]'s locks: the model checker runs every interleaving of a few
//! threads, and reports one in which somebody waits for ever.
//!
//! A module that is to be checked takes its primitives from a seam of its own, `use super::sync::…`; its model compiles
//! the same source beside a `mod sync` made of what is here:
//!
//! 1. [`mutex`], [`condvar`], [`atomic`], [`once`]: those of the standard library;
//! 2. [`notify`], [`oneshot`], [`watch`]: those of tokio, as far as they are used;
//! 3. [`check`] runs a model; [`stopped`] is a watch that it sets.
//!
//! Where these differ from what they stand for, they make fewer things happen, so a model says nothing of:
//! - *time*: a wait of up to [`SHORT`] ends at once when nothing has come, a longer one never by itself. So a long
//!   time limit hides no lost wake-up;
//! - *spurious wake-ups* of condition variables;
//! - *weak memory* where `SeqCst` is asked for, and within `OnceLock` and tokio's primitives: each of their calls is one
//!   step. Other orderings are loom's, with all that they allow.
//!
//! For the tests of this workspace alone: nothing is promised to others.
//!
//! [loom]: https://docs.rs/loom
#![expect(missing_docs, reason = "the words are those of what is stood for")]

pub mod atomic;
pub mod condvar;
pub mod mutex;
pub mod notify;
pub mod once;
pub mod oneshot;
pub mod stopped;
mod tests;
pub mod watch;

use std::{future::Future, time::Duration};

pub use condvar::Condvar;
pub use loom::{future::block_on, thread};
pub use mutex::{Mutex, MutexGuard};
pub use notify::Notify;
pub use once::OnceLock;

/// Waits of up to this long end by themselves.
pub const SHORT: Duration = Duration::from_millis(20);

/// Every interleaving with up to three preemptions: what two threads do to each other takes one or two.
pub fn check(model: impl Fn() + Sync + Send + 'static) {
    check_with(3, model);
}

/// The same with up to so many, where three would take minutes.
pub fn check_with(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Stands for a time limit that never passes.
///
/// # Errors
/// Never.
pub async fn timeout<F: Future>(_limit: Duration, future: F) -> Result<F::Output, std::convert::Infallible> {
    Ok(future.await)
}

/// Polls once and drops it: a future that is cancelled wherever it is.
pub fn poll_and_drop<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}
