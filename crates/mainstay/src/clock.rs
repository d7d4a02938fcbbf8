//! The clock of the machine.

use async_trait::async_trait;
use mainstay_core::{
    clock::Clock,
    time::{Now, StoreTime, Timestamp},
};
use rustix::time::{ClockId, clock_gettime};

/// The machine's wall clock, and its boot-time clock, which also runs while the machine sleeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Now {
        let ms = |id| {
            let now = clock_gettime(id);
            now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
        };
        Now { wall: Timestamp(ms(ClockId::Realtime)), store: StoreTime(ms(ClockId::Boottime).max(0) as u64) }
    }

    async fn sleep_until(&self, at: StoreTime) {
        let now = self.now().store;
        tokio::time::sleep(std::time::Duration::from_millis(at.0.saturating_sub(now.0))).await;
    }

    fn entropy(&self) -> u64 {
        random()
    }
}

/// 64 random bits from the operating system.
pub(crate) fn random() -> u64 {
    // The operating system's source does not fail once it has begun to answer; a process that never got chance
    // must not run with predictable leases.
    getrandom::u64().expect("the operating system gives random bytes")
}
