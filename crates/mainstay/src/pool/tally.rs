//! How many jobs came and went, counted so that those who count do not wait for each other.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counters for ends: a worker has one, which it shares with few others.
const SHARDS: usize = 8;

#[derive(Default)]
pub(super) struct Tally {
    entered: Apart<AtomicU64>,
    ended: [Apart<Ended>; SHARDS],
    /// Who waits for there to be none.
    watched: Apart<AtomicUsize>,
}

#[derive(Default)]
struct Ended {
    /// Jobs that gave a value.
    done: AtomicU64,
    /// Jobs that ended in another way, or did not come in after all.
    undone: AtomicU64,
}

/// In cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Apart<T>(T);

impl Tally {
    /// A job is on its way in; answers its number, from 1.
    pub fn enter(&self) -> u64 {
        self.entered.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// One has gone, counted by this worker; whether it gave a value.
    pub fn leave(&self, worker: u64, done: bool) {
        let ended = self.of(worker);
        let counter = if done { &ended.done } else { &ended.undone };
        counter.fetch_add(1, Ordering::SeqCst);
    }

    /// How many are inside. 0 only if there was a moment with none; and whoever makes one leave last finds 0.
    pub fn pending(&self) -> usize {
        // In this order: no counter goes back, and nothing leaves before it has entered. So if they are equal, nothing
        // was inside when the second look was taken.
        let left = |shard: &Apart<Ended>| {
            shard.0.done.load(Ordering::SeqCst) + shard.0.undone.load(Ordering::SeqCst)
        };
        let left: u64 = self.ended.iter().map(left).sum();
        let entered = self.entered.0.load(Ordering::SeqCst);
        usize::try_from(entered - left).unwrap_or(usize::MAX)
    }

    /// How many gave a value.
    pub fn all_done(&self) -> u64 {
        self.ended.iter().map(|shard| shard.0.done.load(Ordering::Relaxed)).sum()
    }

    /// Somebody waits for there to be none. Begun before looking at what is pending, and seen by whoever leaves after
    /// that look.
    pub fn watch(&self) -> Watch<'_> {
        self.watched.0.fetch_add(1, Ordering::SeqCst);
        Watch(&self.watched.0)
    }

    /// Whether somebody does.
    pub fn is_watched(&self) -> bool {
        self.watched.0.load(Ordering::SeqCst) > 0
    }

    fn of(&self, worker: u64) -> &Ended {
        &self.ended[(worker % SHARDS as u64) as usize].0
    }
}

pub(super) struct Watch<'t>(&'t AtomicUsize);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_is_what_entered_and_has_not_left_whoever_counted_it() {
        let tally = Tally::default();
        for job in 1..=40 {
            assert_eq!(tally.enter(), job);
        }
        for worker in 0..39 {
            tally.leave(worker, worker % 3 > 0);
        }
        assert_eq!((tally.pending(), tally.all_done()), (1, 26));
        tally.leave(99, true);
        assert_eq!((tally.pending(), tally.all_done()), (0, 27));
    }
}
