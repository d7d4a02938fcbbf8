//! The bodies of the newest unfinished jobs, so that a claim soon after the enqueue reads nothing; and those that are
//! read ahead.

use std::{collections::VecDeque, sync::Arc};

use mainstay_core::{QueueName, engine::Turn, job::JobBody};

use crate::ahead::{Ahead, Due};

/// Bodies by number, first in, first out, bounded in bytes. Numbers grow, so a place in the queue is the index.
pub struct BodyCache {
    slots: VecDeque<Option<Arc<JobBody>>>,
    /// The number of the first slot.
    first: u64,
    bytes: usize,
    limit: usize,
    /// Bodies above this number are not in the tables yet: they stay, whatever the bound says. What may lie between
    /// journal and tables has a bound of its own.
    in_tables: u64,
    /// Of older jobs, which are claimed next.
    ahead: Ahead,
}

/// This part of the bound is for bodies that are read ahead, if they are.
const AHEAD_PART: usize = 8;
/// What a body costs beside its bytes.
const OVERHEAD: usize = 160;
/// A hole of this many numbers is not worth its slots.
const WIDEST_GAP: u64 = 65_536;

impl BodyCache {
    pub fn new(limit: usize) -> BodyCache {
        let (slots, ahead) = (VecDeque::new(), Ahead::default());
        BodyCache { slots, first: 0, bytes: 0, limit, in_tables: u64::MAX, ahead }
    }

    /// One of a store that reads ahead.
    pub fn reading_ahead(limit: usize) -> BodyCache {
        let ahead = limit / AHEAD_PART;
        BodyCache { ahead: Ahead::new(ahead), ..BodyCache::new(limit - ahead) }
    }

    pub fn get(&self, n: u64) -> Option<&Arc<JobBody>> {
        self.slots.get(usize::try_from(n.checked_sub(self.first)?).ok()?)?.as_ref()
    }

    /// The body of a job that was handed out.
    pub fn claimed(&mut self, queue: &QueueName, n: u64) -> Option<Arc<JobBody>> {
        match self.get(n) {
            Some(body) => Some(body.clone()),
            None => self.ahead.take(queue, n),
        }
    }

    /// Queues whose next bodies are to be looked for now.
    pub fn take_due(&mut self) -> Vec<Due> {
        self.ahead.take_due()
    }

    /// Up to here the next bodies of a queue have been looked for.
    pub fn has_seen(&mut self, queue: &QueueName, up_to: Turn) {
        self.ahead.has_seen(queue, up_to);
    }

    /// Whether a body of so many bytes, which will be asked for, is to be read now. Only what the tables have is.
    pub fn reads(&mut self, n: u64, size: usize) -> bool {
        n <= self.in_tables && self.get(n).is_none() && self.ahead.ask(n, size)
    }

    /// A body that was read ahead, or could not be.
    pub fn came(&mut self, n: u64, body: Option<Arc<JobBody>>) {
        self.ahead.came(n, body);
    }

    /// Keeps a body. One with a smaller number than all that are kept is too old to be worth it.
    pub fn insert(&mut self, n: u64, body: Arc<JobBody>) {
        let next = self.first + self.slots.len() as u64;
        if self.slots.is_empty() || n > next + WIDEST_GAP {
            self.slots.clear();
            self.bytes = 0;
            self.first = n;
        } else if n < self.first {
            return;
        }
        self.remove_new(n);
        let at = (n - self.first) as usize;
        while self.slots.len() <= at {
            self.slots.push_back(None);
        }
        self.bytes += cost(&body);
        self.slots[at] = Some(body);
        self.shrink();
    }

    /// Lets go of a body: its job has finished.
    pub fn remove(&mut self, n: u64) {
        self.ahead.remove(n);
        self.remove_new(n);
    }

    fn remove_new(&mut self, n: u64) {
        let Some(at) = n.checked_sub(self.first) else { return };
        if let Some(body) = self.slots.get_mut(at as usize).and_then(Option::take) {
            self.bytes -= cost(&body);
        }
        if at == 0 {
            self.shrink();
        }
    }

    /// Lets go of every body with a number above `n`: their enqueue was undone.
    pub fn undo_after(&mut self, n: u64) {
        let keep = (n + 1).saturating_sub(self.first).min(self.slots.len() as u64) as usize;
        for body in self.slots.drain(keep..).flatten() {
            self.bytes -= cost(&body);
        }
    }

    /// Bodies up to this number are in the tables.
    pub fn in_tables(&mut self, n: u64) {
        if self.in_tables != n {
            self.in_tables = n;
            self.shrink();
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes + self.ahead.bytes()
    }

    fn shrink(&mut self) {
        let slot = size_of::<Option<Arc<JobBody>>>();
        while let Some(front) = self.slots.front() {
            let fits = self.bytes + self.slots.len() * slot <= self.limit;
            if front.is_some() && (fits || self.first > self.in_tables) {
                break;
            }
            if let Some(Some(body)) = self.slots.pop_front() {
                self.bytes -= cost(&body);
            }
            self.first += 1;
        }
    }
}

fn cost(body: &JobBody) -> usize {
    body.size() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Arc<JobBody> {
        Arc::new(JobBody::new("k", text))
    }

    #[test]
    fn the_oldest_go_first_and_the_bound_holds() {
        let mut cache = BodyCache::new(10 * (OVERHEAD + 20));
        for n in 1..=100 {
            cache.insert(n, body("0123456789"));
            assert!(cache.bytes() <= cache.limit);
            assert!(cache.get(n).is_some());
        }
        assert!(cache.get(1).is_none());
        assert!(cache.get(95).is_some());
    }

    #[test]
    fn what_is_not_in_the_tables_stays_until_it_is() {
        let mut cache = BodyCache::new(0);
        cache.in_tables(0);
        (1..=100).for_each(|n| cache.insert(n, body("0123456789")));
        assert!((1..=100).all(|n| cache.get(n).is_some()));
        cache.in_tables(60);
        assert!((1..=60).all(|n| cache.get(n).is_none()) && (61..=100).all(|n| cache.get(n).is_some()));
        cache.in_tables(100);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn a_number_that_was_undone_can_come_again() {
        let mut cache = BodyCache::new(1 << 20);
        cache.insert(7, body("old"));
        cache.insert(8, body("undone"));
        cache.undo_after(7);
        assert!(cache.get(8).is_none());
        cache.insert(8, body("new"));
        assert_eq!(&*cache.get(8).unwrap().payload, "new");
        assert_eq!(&*cache.get(7).unwrap().payload, "old");
        cache.undo_after(3);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn finished_jobs_leave_no_bytes_and_holes_close() {
        let mut cache = BodyCache::new(1 << 20);
        for n in [5, 6, 9] {
            cache.insert(n, body("x"));
        }
        for n in [6, 5, 9, 9, 1] {
            cache.remove(n);
        }
        assert_eq!((cache.bytes(), cache.slots.len()), (0, 0));
    }
}
