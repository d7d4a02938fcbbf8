//! The clock of all processes that share a store: that of the database.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use async_trait::async_trait;
use mainstay_core::{StoreTime, Timestamp, clock::Clock, time::Now};

/// This process's clock, its wall time moved to that of the database. What runs evenly is this process's own.
pub(crate) struct DatabaseClock {
    clock: Arc<dyn Clock>,
    /// How far the database is ahead, in milliseconds.
    ahead: AtomicI64,
}

impl DatabaseClock {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> DatabaseClock {
        DatabaseClock { clock, ahead: AtomicI64::new(0) }
    }

    /// The database has said what time it is, between now and `asked`.
    pub(crate) fn heard(&self, asked: Now, database: Timestamp) {
        let now = self.clock.now();
        // In the middle of the round trip, as well as anybody can know.
        let middle = asked.wall.0 + (now.store.0.saturating_sub(asked.store.0) / 2) as i64;
        let (before, ahead) = (self.ahead.load(Ordering::Relaxed), database.0 - middle);
        // What the round trip may be wrong by is no reason to move.
        if (ahead - before).unsigned_abs() > now.store.0.saturating_sub(asked.store.0) {
            self.ahead.store(ahead, Ordering::Relaxed);
        }
    }

    /// Chance.
    pub(crate) fn own_entropy(&self) -> u64 {
        self.clock.entropy()
    }

    /// This process's own time.
    pub(crate) fn own(&self) -> Now {
        self.clock.now()
    }
}

#[async_trait]
impl Clock for DatabaseClock {
    fn now(&self) -> Now {
        let now = self.clock.now();
        Now { wall: Timestamp(now.wall.0 + self.ahead.load(Ordering::Relaxed)), ..now }
    }

    async fn sleep_until(&self, at: StoreTime) {
        self.clock.sleep_until(at).await;
    }

    fn entropy(&self) -> u64 {
        self.clock.entropy()
    }
}

#[cfg(test)]
mod tests {
    use mainstay_testkit::ManualClock;

    use super::*;

    #[test]
    fn wall_time_follows_the_database_and_leases_do_not() {
        let own = ManualClock::new();
        let clock = DatabaseClock::new(own.clone());
        let start = clock.now();
        for step in [3_600_000, -7_200_000, 86_400_000] {
            let (asked, before) = (clock.own(), clock.now());
            own.advance(10);
            // It was asked in the middle of the round trip.
            clock.heard(asked, Timestamp(asked.wall.0 + 5 + step));
            let after = clock.now();
            assert_eq!(after.wall.0, asked.wall.0 + 10 + step);
            assert_eq!(after.store.0, before.store.0 + 10);
        }
        // What a round trip may be wrong by moves nothing.
        let (asked, before) = (clock.own(), clock.now());
        own.advance(100);
        clock.heard(asked, Timestamp(before.wall.0 + 90));
        assert_eq!(clock.now().wall.0, before.wall.0 + 100);
        assert_eq!(clock.now().store.0, start.store.0 + 130);
    }
}
