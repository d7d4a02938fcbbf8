//! The locks of what `inbox_model` checks, which puts loom's in their place.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
