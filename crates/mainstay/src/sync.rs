//! The seam of the model checker: a model compiles the same source over other locks. What waits with hand-made
//! synchronisation takes its primitives from here, by `super::sync`.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, atomic};

pub(crate) use tokio::sync::{Notify, oneshot, watch};
pub(crate) use tokio::time::timeout;

pub(crate) use crate::tasks::TaskSet;
