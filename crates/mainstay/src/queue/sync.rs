//! The one seam of the model checker: `model.rs` compiles the same queue over loom's locks and atomics.

pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard};
