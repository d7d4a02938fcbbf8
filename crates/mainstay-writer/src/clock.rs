//! The store's clock: it goes on where the last group left it, and stands still while no process has the store open.

use std::sync::Arc;

use mainstay_core::{StoreTime, clock::Clock, time::Now};

/// The user's clock, shifted so that store time continues over a restart.
#[derive(Clone)]
pub struct StoreClock {
    clock: Arc<dyn Clock>,
    /// What the clock said when the store was opened, and what the store's clock said then.
    opened_at: StoreTime,
    base: StoreTime,
}

impl StoreClock {
    pub fn new(clock: Arc<dyn Clock>, base: StoreTime) -> StoreClock {
        let opened_at = clock.now().store;
        StoreClock { clock, opened_at, base }
    }

    pub fn now(&self) -> Now {
        let now = self.clock.now();
        let since = now.store.0.saturating_sub(self.opened_at.0);
        Now { wall: now.wall, store: self.base.plus_ms(since) }
    }

    pub fn entropy(&self) -> u64 {
        self.clock.entropy()
    }

    /// Returns when the store's clock has reached `at`.
    pub async fn sleep_until(&self, at: StoreTime) {
        let since = at.0.saturating_sub(self.base.0);
        self.clock.sleep_until(self.opened_at.plus_ms(since)).await;
    }
}
