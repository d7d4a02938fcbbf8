//! `std::sync::atomic`. Loom knows no sequential consistency of loads and stores: what asks for it is made of operations
//! that always see the newest value, in one order with all others of their kind.

pub use std::sync::atomic::Ordering;

use loom::sync::atomic as of;

/// The ordering of one that sees the newest value.
fn newest(order: Ordering) -> bool {
    order == Ordering::SeqCst
}

#[derive(Debug)]
pub struct AtomicBool(of::AtomicBool);

impl AtomicBool {
    pub fn new(value: bool) -> Self {
        Self(of::AtomicBool::new(value))
    }

    pub fn load(&self, order: Ordering) -> bool {
        if newest(order) { self.0.fetch_or(false, Ordering::AcqRel) } else { self.0.load(order) }
    }

    pub fn store(&self, value: bool, order: Ordering) {
        if newest(order) {
            self.0.swap(value, Ordering::AcqRel);
        } else {
            self.0.store(value, order);
        }
    }

    pub fn swap(&self, value: bool, order: Ordering) -> bool {
        self.0.swap(value, order)
    }
}

#[derive(Debug)]
pub struct AtomicU64(of::AtomicU64);

impl AtomicU64 {
    pub fn new(value: u64) -> Self {
        Self(of::AtomicU64::new(value))
    }

    pub fn load(&self, order: Ordering) -> u64 {
        if newest(order) { self.0.fetch_or(0, Ordering::AcqRel) } else { self.0.load(order) }
    }

    pub fn store(&self, value: u64, order: Ordering) {
        if newest(order) {
            self.0.swap(value, Ordering::AcqRel);
        } else {
            self.0.store(value, order);
        }
    }

    pub fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.0.swap(value, order)
    }

    pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_add(value, order)
    }

    pub fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_max(value, order)
    }
}

#[derive(Debug)]
pub struct AtomicUsize(of::AtomicUsize);

impl AtomicUsize {
    pub fn new(value: usize) -> Self {
        Self(of::AtomicUsize::new(value))
    }

    pub fn load(&self, order: Ordering) -> usize {
        if newest(order) { self.0.fetch_or(0, Ordering::AcqRel) } else { self.0.load(order) }
    }

    pub fn store(&self, value: usize, order: Ordering) {
        if newest(order) {
            self.0.swap(value, Ordering::AcqRel);
        } else {
            self.0.store(value, order);
        }
    }

    pub fn swap(&self, value: usize, order: Ordering) -> usize {
        self.0.swap(value, order)
    }

    pub fn fetch_add(&self, value: usize, order: Ordering) -> usize {
        self.0.fetch_add(value, order)
    }

    pub fn fetch_sub(&self, value: usize, order: Ordering) -> usize {
        self.0.fetch_sub(value, order)
    }

    /// # Errors
    /// The value that `change` did not want.
    pub fn fetch_update(
        &self,
        set: Ordering,
        fetch: Ordering,
        change: impl FnMut(usize) -> Option<usize>,
    ) -> Result<usize, usize> {
        self.0.fetch_update(set, fetch, change)
    }
}
