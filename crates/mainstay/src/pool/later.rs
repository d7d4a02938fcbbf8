//! Jobs that were put off.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Ordered by when their time comes, then as they came; at most so many.
pub(super) struct Later<T> {
    entries: Mutex<Entries<T>>,
    most: usize,
    /// So that workers need no lock to see that there is nothing.
    len: AtomicUsize,
}

struct Entries<T> {
    next: u64,
    by_time: BTreeMap<(Instant, u64), T>,
}

impl<T> Later<T> {
    pub fn new(most: usize) -> Self {
        let entries = Entries { next: 0, by_time: BTreeMap::new() };
        Self { entries: Mutex::new(entries), most, len: AtomicUsize::new(0) }
    }

    /// Gives it back if there is no room.
    pub fn put(&self, at: Instant, item: T) -> Result<(), T> {
        let mut entries = self.lock();
        if entries.by_time.len() >= self.most {
            return Err(item);
        }
        let number = entries.next;
        entries.next += 1;
        entries.by_time.insert((at, number), item);
        self.len.store(entries.by_time.len(), Ordering::Release);
        Ok(())
    }

    /// One whose time has come.
    pub fn due(&self) -> Option<T> {
        if self.len() == 0 {
            return None;
        }
        let now = Instant::now();
        let mut entries = self.lock();
        let first = entries.by_time.first_entry().filter(|first| first.key().0 <= now)?;
        let item = first.remove();
        self.len.store(entries.by_time.len(), Ordering::Release);
        Some(item)
    }

    pub fn first(&self) -> Option<Instant> {
        if self.len() == 0 {
            return None;
        }
        self.lock().by_time.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    pub fn take_all(&self) -> Vec<T> {
        let mut entries = self.lock();
        self.len.store(0, Ordering::Release);
        let taken = std::mem::take(&mut entries.by_time);
        drop(entries);
        taken.into_values().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
