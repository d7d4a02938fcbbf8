//! `std::sync::OnceLock`.

use loom::sync::atomic::{AtomicUsize, Ordering};

/// The value is the standard library's; each call is a step that loom sees.
#[derive(Debug)]
pub struct OnceLock<T> {
    steps: AtomicUsize,
    value: std::sync::OnceLock<T>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> OnceLock<T> {
    pub fn new() -> Self {
        Self { steps: AtomicUsize::new(0), value: std::sync::OnceLock::new() }
    }

    pub fn get(&self) -> Option<&T> {
        self.step();
        self.value.get()
    }

    /// # Errors
    /// There is a value already.
    pub fn set(&self, value: T) -> Result<(), T> {
        self.step();
        self.value.set(value)
    }

    /// Another thread may come before, none between it and what follows.
    fn step(&self) {
        self.steps.fetch_add(1, Ordering::AcqRel);
    }
}
