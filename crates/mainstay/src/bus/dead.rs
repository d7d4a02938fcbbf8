//! What handlers gave up on.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mainstay_core::{job::DeadReason, time::Timestamp};

use crate::event::Envelope;

const KEPT: usize = 1_000;

/// An event that a subscription gave up on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The bus's number of it: newer ones have larger numbers.
    pub number: u64,
    /// The event.
    pub event: Envelope,
    /// Who gave up on it.
    pub subscriber: Arc<str>,
    /// How many attempts were made.
    pub attempts: u32,
    /// Whether there were no attempts left, or further ones would have been useless.
    pub reason: DeadReason,
    /// What the last attempt said.
    pub error: String,
    /// Since when it is dead.
    pub died_at: Timestamp,
    pub(super) outlet: u64,
}

/// What came of a requeue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requeued {
    /// How many dead letters were asked for.
    pub matched: usize,
    /// How many of them are in their queues again.
    pub changed: usize,
}

/// The newest dead letters of a bus.
pub(super) struct DeadLetters(Mutex<Kept>);

struct Kept {
    letters: VecDeque<DeadLetter>,
    most: usize,
    next: u64,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self(Mutex::new(Kept { letters: VecDeque::new(), most: KEPT, next: 1 }))
    }
}

impl DeadLetters {
    /// `letter.number` is given here.
    pub fn bury(&self, mut letter: DeadLetter) {
        let mut kept = self.lock();
        letter.number = kept.next;
        kept.next += 1;
        kept.letters.push_back(letter);
        kept.trim();
    }

    pub fn keep(&self, most: usize) {
        let mut kept = self.lock();
        kept.most = most;
        kept.trim();
    }

    pub fn list(&self) -> Vec<DeadLetter> {
        self.lock().letters.iter().cloned().collect()
    }

    /// Gives those that match to `send`; what it takes is no dead letter any more.
    pub fn requeue(
        &self,
        mut which: impl FnMut(&DeadLetter) -> bool,
        mut send: impl FnMut(u64, &Envelope) -> bool,
    ) -> Requeued {
        let mut done = Requeued::default();
        // With the lock free: both are other people's code.
        for letter in self.list() {
            if !which(&letter) {
                continue;
            }
            done.matched += 1;
            // Taken out first, so that two who requeue do not send it twice; put back in its place if nobody takes it.
            if !self.take(letter.number) {
                continue;
            }
            if send(letter.outlet, &letter.event) {
                done.changed += 1;
            } else {
                self.put_back(letter);
            }
        }
        done
    }

    pub fn delete(&self, mut which: impl FnMut(&DeadLetter) -> bool) -> usize {
        let numbers: Vec<_> =
            self.list().into_iter().filter(&mut which).map(|letter| letter.number).collect();
        numbers.into_iter().filter(|number| self.take(*number)).count()
    }

    fn take(&self, number: u64) -> bool {
        let mut kept = self.lock();
        match kept.letters.binary_search_by_key(&number, |letter| letter.number) {
            Ok(at) => kept.letters.remove(at).is_some(),
            Err(_) => false,
        }
    }

    fn put_back(&self, letter: DeadLetter) {
        let mut kept = self.lock();
        let at = kept.letters.partition_point(|other| other.number < letter.number);
        kept.letters.insert(at, letter);
        kept.trim();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn trim(&mut self) {
        let over = self.letters.len().saturating_sub(self.most);
        self.letters.drain(..over);
    }
}
