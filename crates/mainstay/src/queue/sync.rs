//! The one seam of the model checker: `model.rs` compiles the same state over loom's lock.

pub(super) use std::sync::{Mutex, MutexGuard};
