//! A sum over the last stretch of time.

use std::ops::{AddAssign, SubAssign};
use std::time::Duration;

use tokio::time::Instant;

const SLOTS: usize = 10;

/// Adds up what came within the last stretch of time, to a tenth of it. Reading the time is the caller's: one reading
/// serves all that an attempt does. Time that goes back is taken as standing still.
#[derive(Debug)]
pub(super) struct Window<T> {
    slots: [T; SLOTS],
    sum: T,
    at: usize,
    slot: Duration,
    /// When the newest slot ends: until then, adding is one comparison and two additions.
    ends: Instant,
}

impl<T: Copy + Default + AddAssign + SubAssign> Window<T> {
    pub fn new(length_ms: u64, now: Instant) -> Self {
        let slot = Duration::from_micros(length_ms * 1_000 / SLOTS as u64).max(Duration::from_micros(1));
        Self { slots: [T::default(); SLOTS], sum: T::default(), at: 0, slot, ends: now + slot }
    }

    /// Another length; what was added counts on.
    pub fn resize(&mut self, length_ms: u64, now: Instant) {
        let fresh = Self::new(length_ms, now);
        if fresh.slot != self.slot {
            let sum = self.sum(now);
            *self = fresh;
            self.add(sum, now);
        }
    }

    pub fn add(&mut self, value: T, now: Instant) {
        self.advance(now);
        self.slots[self.at] += value;
        self.sum += value;
    }

    pub fn sum(&mut self, now: Instant) -> T {
        self.advance(now);
        self.sum
    }

    pub fn clear(&mut self) {
        (self.slots, self.sum) = ([T::default(); SLOTS], T::default());
    }

    fn advance(&mut self, now: Instant) {
        if now < self.ends {
            return;
        }
        if now >= self.ends + self.slot * SLOTS as u32 {
            self.clear();
            self.ends = now + self.slot;
        }
        while now >= self.ends {
            self.at = (self.at + 1) % SLOTS;
            self.sum -= std::mem::take(&mut self.slots[self.at]);
            self.ends += self.slot;
        }
    }
}
