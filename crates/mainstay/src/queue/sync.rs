//! The one seam of the model checker: `model.rs` compiles the same queue over loom's locks and atomics.

use std::sync::PoisonError;
pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard};

/// How often a lock is tried before its thread may be put to sleep for it, and how long is waited before each.
const TRIES: u32 = 20;
const PAUSES: u32 = 16;

/// Locks what is only ever locked for a moment.
///
/// Whoever finds it locked leaves it alone for as long as a few entries take, so that the other one gets on with its
/// memory in its own caches: what costs is not the wait but that lock and entries move between processors. (And the
/// standard library's own wait asks the kernel to put the thread to sleep as soon as it has lost one race.)
#[inline]
pub(super) fn lock<M>(mutex: &Mutex<M>) -> MutexGuard<'_, M> {
    match mutex.try_lock() {
        Ok(guard) => guard,
        Err(_) => lock_contended(mutex),
    }
}

#[cold]
fn lock_contended<M>(mutex: &Mutex<M>) -> MutexGuard<'_, M> {
    for _ in 0..TRIES {
        for _ in 0..PAUSES {
            std::hint::spin_loop();
        }
        if let Ok(guard) = mutex.try_lock() {
            return guard;
        }
    }
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
