//! `std::sync::Mutex`, whose guard knows what it guards: a condition variable has to let go of it.

use std::ops::{Deref, DerefMut};
use std::sync::LockResult;

#[derive(Debug, Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

pub struct MutexGuard<'a, T> {
    pub(crate) mutex: &'a Mutex<T>,
    /// `None` only within a wait.
    pub(crate) held: Option<loom::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    /// # Errors
    /// Never: a panic ends a model.
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        Ok(self.held())
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, held: self.0.lock().ok() }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.held.as_ref().expect("held")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("held")
    }
}
