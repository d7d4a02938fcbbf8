//! The seam of the model checker: a model compiles the same source over other locks.

pub(super) use std::sync::{Mutex, MutexGuard};

pub(super) use tokio::sync::oneshot;
