//! A clock that stands still until the test moves it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use mainstay_core::{
    clock::Clock,
    rules::mix,
    time::{Now, StoreTime, Timestamp},
};
use tokio::sync::watch;

/// Wall and store time set by the test, and chance by a seed.
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<Now>,
    seed: u64,
    draws: AtomicU64,
}

/// Where a new clock starts: 2027-01-15, 08:00:00 UTC. Late enough for tokens, which begin with the seconds since 1970.
pub const START: Timestamp = Timestamp(1_800_000_000_000);

impl ManualClock {
    /// A clock at [`START`], the store's part at 0, with seed 0.
    pub fn new() -> Arc<ManualClock> {
        ManualClock::seeded(0)
    }

    /// The same with another seed.
    pub fn seeded(seed: u64) -> Arc<ManualClock> {
        let (now, _) = watch::channel(Now { wall: START, store: StoreTime(0) });
        Arc::new(ManualClock { now, seed, draws: AtomicU64::new(0) })
    }

    /// Lets `ms` milliseconds pass on both clocks and wakes whoever slept until then.
    pub fn advance(&self, ms: u64) {
        self.now.send_modify(|now| {
            now.wall = now.wall.plus_ms(ms);
            now.store = now.store.plus_ms(ms);
        });
    }

    /// Sets the wall clock forwards or back by `ms`, as an administrator would. No time passes.
    pub fn step_wall(&self, ms: i64) {
        self.now.send_modify(|now| now.wall = Timestamp(now.wall.0.saturating_add(ms)));
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Now {
        *self.now.borrow()
    }

    async fn sleep_until(&self, at: StoreTime) {
        // The sender lives in `self`, so this ends only when the time has come.
        let _ = self.now.subscribe().wait_for(|now| now.store >= at).await;
    }

    fn entropy(&self) -> u64 {
        mix(self.seed, self.draws.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_its_time_has_come_and_not_before() {
        let clock = ManualClock::new();
        let mut sleep = std::pin::pin!(clock.sleep_until(StoreTime(100)));
        let mut poll = async || tokio::time::timeout(std::time::Duration::ZERO, sleep.as_mut()).await.is_ok();
        assert!(!poll().await);
        clock.advance(99);
        clock.step_wall(1_000_000);
        assert!(!poll().await);
        clock.advance(1);
        assert!(poll().await);
    }

    #[test]
    fn the_wall_can_be_stepped_apart_from_the_store() {
        let clock = ManualClock::new();
        clock.advance(10);
        clock.step_wall(-4_000);
        assert_eq!(clock.now(), Now { wall: Timestamp(START.0 - 3_990), store: StoreTime(10) });
    }

    #[test]
    fn chance_follows_the_seed() {
        let draw = |seed| {
            let clock = ManualClock::seeded(seed);
            [clock.entropy(), clock.entropy()]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(draw(1)[0], draw(1)[1]);
    }
}
