//! For how long a writer may answer from RAM, where another process may take its place.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// Until when nobody else can be in office. Answers that no transaction has proved are held against it when they have
/// been made: a process that was stopped in between must not give them.
pub struct Office {
    until_ms: AtomicU64,
}

impl Default for Office {
    /// For ever: nobody else can.
    fn default() -> Office {
        Office { until_ms: AtomicU64::new(u64::MAX) }
    }
}

impl Office {
    /// What it is held against: the time since the machine was started, which runs on while this process is stopped and
    /// while the machine sleeps.
    pub fn now() -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
    }

    /// So long it is certain.
    pub fn set(&self, until: Duration) {
        self.until_ms.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// Nothing is certain any more.
    pub fn suspend(&self) {
        self.until_ms.store(0, Ordering::Release);
    }

    /// Another may be in office.
    pub fn is_over(&self) -> bool {
        match self.until_ms.load(Ordering::Acquire) {
            u64::MAX => false,
            until => Office::now().as_millis() >= u128::from(until),
        }
    }
}
