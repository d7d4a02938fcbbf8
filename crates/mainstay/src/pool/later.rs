//! Jobs that were put off.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Ordered by when their time comes, then as they came; so many, and one more for each who waits with it.
pub(super) struct Later<T> {
    entries: Mutex<Entries<T>>,
    most: usize,
    /// So that workers need no lock to see that there is nothing.
    len: AtomicUsize,
}

struct Entries<T> {
    next: u64,
    by_time: BTreeMap<Key, T>,
    closed: bool,
}

/// Where one is found.
pub(super) type Key = (Instant, u64);

/// What became of one that was to be put off.
pub(super) enum Put<T> {
    Done(Key),
    /// It is there, beyond the bound: whoever brought it waits with it, and brings no other meanwhile.
    Beyond(Key),
    Closed(T),
}

impl<T> Later<T> {
    pub fn new(most: usize) -> Self {
        let entries = Entries { next: 0, by_time: BTreeMap::new(), closed: false };
        Self { entries: Mutex::new(entries), most, len: AtomicUsize::new(0) }
    }

    pub fn put(&self, at: Instant, item: T) -> Put<T> {
        let mut entries = self.lock();
        if entries.closed {
            return Put::Closed(item);
        }
        let key = (at, entries.next);
        entries.next += 1;
        let beyond = entries.by_time.len() >= self.most;
        entries.by_time.insert(key, item);
        self.len.store(entries.by_time.len(), Ordering::Release);
        if beyond { Put::Beyond(key) } else { Put::Done(key) }
    }

    /// That one, if nobody else has taken it.
    pub fn take(&self, key: &Key) -> Option<T> {
        let mut entries = self.lock();
        let item = entries.by_time.remove(key);
        self.len.store(entries.by_time.len(), Ordering::Release);
        item
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

    /// Takes all there is, and nothing any more.
    pub fn close(&self) -> Vec<T> {
        let mut entries = self.lock();
        entries.closed = true;
        self.len.store(0, Ordering::Release);
        let taken = std::mem::take(&mut entries.by_time);
        drop(entries);
        taken.into_values().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
