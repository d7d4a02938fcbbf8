//! Two clocks, never mixed: the wall clock of people and the store's clock of leases.

use serde::{Deserialize, Serialize};

/// An instant on the wall clock: milliseconds since 1970, UTC.
///
/// `run_at`, cron and expiry are wall time. Defaults to the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The latest instant that can be said (the end of the year 9999).
    pub const MAX: Timestamp = Timestamp(253_402_300_799_999);

    /// This instant moved by `ms` milliseconds, held inside what can be said.
    pub fn plus_ms(self, ms: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(ms.min(i64::MAX as u64) as i64).min(Self::MAX.0))
    }

    /// Milliseconds from `earlier` to this instant; 0 if it lies later.
    pub fn ms_since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0).max(0) as u64
    }
}

/// An instant on a store's own clock, in milliseconds. It never goes back and stands still while no server runs.
///
/// Leases and TTLs run on it, so that a step of the wall clock neither kills nor prolongs a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreTime(pub u64);

impl StoreTime {
    /// This instant moved by `ms` milliseconds.
    pub fn plus_ms(self, ms: u64) -> StoreTime {
        StoreTime(self.0.saturating_add(ms))
    }
}

/// One reading of both clocks; every commit is applied at one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// The wall clock.
    pub wall: Timestamp,
    /// The store's clock.
    pub store: StoreTime,
}

impl Now {
    /// The wall time at which the store's clock will show `at`, if neither clock is stepped.
    pub fn wall_at(&self, at: StoreTime) -> Timestamp {
        Timestamp(self.wall.0.saturating_add(at.0 as i64).saturating_sub(self.store.0 as i64))
    }
}
