//! Where a policy's chance comes from.

use std::sync::atomic::{AtomicU64, Ordering};

use mainstay_core::rules::mix;

/// Random bits from one seed; a test that gives the seed knows them all.
#[derive(Debug)]
pub(super) struct Chance {
    seed: u64,
    drawn: AtomicU64,
}

impl Chance {
    pub fn from_seed(seed: u64) -> Self {
        Self { seed, drawn: AtomicU64::new(0) }
    }

    pub fn from_system() -> Self {
        Self::from_seed(crate::clock::random())
    }

    pub fn draw(&self) -> u64 {
        mix(self.seed, self.drawn.fetch_add(1, Ordering::Relaxed))
    }
}
