//! Attempts that have ended, on their way to the store.

use std::sync::{Mutex, MutexGuard, PoisonError};

use mainstay_core::op::Settle;
use tokio::sync::Notify;

use super::running::Slip;

/// How an attempt ended, and the slip that says that its job is in hand until the store has taken that.
pub(super) struct Ended {
    pub settle: Settle,
    /// `None` for one whose attempt holds its thread, and its slip.
    pub slip: Option<Slip>,
    pub tries: u32,
}

/// Bounded by the number of jobs in hand.
#[derive(Default)]
pub(super) struct Outbox {
    ended: Mutex<Vec<Ended>>,
    filled: Notify,
}

impl Outbox {
    pub fn put(&self, ended: Ended) {
        self.lock().push(ended);
        self.filled.notify_one();
    }

    /// For another try.
    pub fn put_back(&self, ended: impl IntoIterator<Item = Ended>) {
        self.lock().extend(ended);
    }

    /// Up to so many, in the order they ended.
    pub fn take(&self, most: usize) -> Vec<Ended> {
        let mut ended = self.lock();
        if ended.len() <= most {
            return std::mem::take(&mut *ended);
        }
        let rest = ended.split_off(most);
        std::mem::replace(&mut *ended, rest)
    }

    /// Resolves when something was put in. Cancel safe.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Ended>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
