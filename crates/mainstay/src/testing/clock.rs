//! mainstay's clock over tokio's paused one.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::keeper::{Held, Keeper};
use async_trait::async_trait;
use mainstay_core::{
    clock::Clock,
    rules::mix,
    time::{Now, StoreTime, Timestamp},
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

/// Where virtual time starts: 2027-01-15, 08:00:00 UTC, the same in every run.
pub const START: Timestamp = Timestamp(1_800_000_000_000);

/// The clock of a [`Runtime`](super::Runtime): shows its virtual time on any thread, and draws chance from a seed.
#[derive(Debug)]
pub struct VirtualClock {
    runtime: Handle,
    origin: Instant,
    /// What the monotonic clock showed at the origin: threads that live in real time read it as well.
    monotonic_ms: u64,
    seed: u64,
    draws: AtomicU64,
    keeper: Keeper,
}

impl VirtualClock {
    pub(super) fn of(runtime: Handle, seed: u64, keeper: Keeper) -> VirtualClock {
        let origin = on(&runtime);
        let monotonic_ms = crate::time::monotonic_ms();
        VirtualClock { runtime, origin, monotonic_ms, seed, draws: AtomicU64::new(0), keeper }
    }

    pub(super) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Something has come that it waits for.
    pub(crate) fn moves(&self) {
        self.keeper.moves();
    }

    /// Somebody holds it.
    pub(super) fn hold(&self) -> Held {
        self.keeper.hold()
    }

    /// How much virtual time has passed.
    pub fn elapsed(&self) -> Duration {
        on(&self.runtime).saturating_duration_since(self.origin)
    }

    pub(crate) fn since_epoch(&self) -> Duration {
        Duration::from_millis(START.0.unsigned_abs()) + self.elapsed()
    }

    pub(crate) fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms + ms(self.elapsed())
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Now {
        let passed = ms(self.elapsed());
        Now { wall: START.plus_ms(passed), store: StoreTime(passed) }
    }

    async fn sleep_until(&self, at: StoreTime) {
        // Beyond what tokio can count nobody waits: the test's own limit comes first.
        if let Some(at) = self.origin.checked_add(Duration::from_millis(at.0)) {
            sleep_until(at).await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    fn entropy(&self) -> u64 {
        mix(self.seed, self.draws.fetch_add(1, Ordering::Relaxed))
    }
}

/// Now, as that runtime sees it.
fn on(runtime: &Handle) -> Instant {
    let _inside = runtime.enter();
    Instant::now()
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
