//! Jobs that were claimed ahead of a free slot.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use mainstay_core::job::Grant;
use tokio::time::Instant;

use super::{desk::release, outbox::Ended, run::Pool};
use crate::secs;

/// Its jobs go back when it is dropped.
pub(super) struct Ahead<S> {
    pool: Arc<Pool<S>>,
    waiting: VecDeque<Waiting>,
    /// How many attempts end in a round, as its largest of late.
    pace: usize,
}

struct Waiting {
    grant: Grant,
    /// When its claim was sent.
    sent: Instant,
    /// Since when it waits here.
    since: Instant,
}

impl<S> Ahead<S> {
    pub fn new(pool: Arc<Pool<S>>) -> Self {
        Self { pool, waiting: VecDeque::new(), pace: 0 }
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many may wait here, when so many attempts have ended since the last round: twice as many, so that it grows
    /// while the handlers keep up, and not more than was allowed.
    pub fn room(&self, ended: usize) -> usize {
        self.pace.max(2 * ended).min(self.pool.prefetch)
    }

    /// Another round, with so many ends. A pace that is not kept is forgotten by halves.
    pub fn exchanged(&mut self, ended: usize) {
        self.pace = (self.pace / 2).max(2 * ended);
    }

    pub fn push(&mut self, grant: Grant, sent: Instant) {
        self.waiting.push_back(Waiting { grant, sent, since: Instant::now() });
    }

    /// The next to begin. Those that have waited for too long go back: their leases are not renewed here, and others may
    /// have slots.
    pub fn next(&mut self) -> Option<(Grant, Instant)> {
        self.give_back_stale();
        self.waiting.pop_front().map(|waiting| (waiting.grant, waiting.sent))
    }

    /// When the first will have waited for too long.
    pub fn stale_at(&mut self) -> Instant {
        self.give_back_stale();
        let far = Instant::now() + secs(86_400);
        self.waiting.front().map_or(far, |first| first.since + self.patience())
    }

    /// All that is here goes back.
    pub fn give_back(&mut self) {
        for waiting in self.waiting.drain(..) {
            self.pool.outbox.put(back(&waiting.grant));
        }
    }

    fn patience(&self) -> Duration {
        self.pool.lease / 3
    }

    fn give_back_stale(&mut self) {
        let (now, patience) = (Instant::now(), self.patience());
        while self.waiting.front().is_some_and(|first| first.since + patience <= now) {
            let stale = self.waiting.pop_front();
            stale.iter().for_each(|waiting| self.pool.outbox.put(back(&waiting.grant)));
            // Not to have it again at once.
            self.pace = 0;
        }
    }
}

impl<S> Drop for Ahead<S> {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn back(grant: &Grant) -> Ended {
    Ended { settle: release((grant.id, grant.lease), Duration::ZERO), slip: None, tries: 0 }
}
