//! The seam of the model checker: a model compiles the same source over other locks, and with a watch that it sets.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, atomic};

pub(crate) use tokio::sync::watch;

pub(crate) use crate::stopwatch::Stopwatch;
