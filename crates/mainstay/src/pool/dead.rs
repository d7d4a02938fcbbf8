//! Jobs that went wrong, kept to be read and to be run again.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::PoolError;

/// A job that went wrong.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeadLetter<J> {
    /// Its number, to [`resubmit`](super::WorkerPool::resubmit) it by.
    pub id: u64,
    /// The job as it was submitted.
    pub job: J,
    /// What went wrong.
    pub error: PoolError,
    /// It held its thread past its time, and lost its slot. What it was doing may still go on.
    pub stuck: bool,
    /// How long it ran.
    pub ran: Duration,
    /// When it ended.
    pub at: Instant,
    pub(super) priority: u8,
    pub(super) limit: Option<Duration>,
}

/// At most so many; the oldest give way.
pub(super) struct DeadLetters<J> {
    letters: Mutex<VecDeque<DeadLetter<J>>>,
    most: usize,
}

impl<J: Clone> DeadLetters<J> {
    pub fn list(&self) -> Vec<DeadLetter<J>> {
        self.lock().iter().cloned().collect()
    }
}

impl<J> DeadLetters<J> {
    pub fn new(most: usize) -> Self {
        Self { letters: Mutex::default(), most }
    }

    /// Answers whether another gave way, or this one.
    pub fn add(&self, letter: DeadLetter<J>) -> bool {
        let mut letters = self.lock();
        letters.push_back(letter);
        let oldest = if letters.len() > self.most { letters.pop_front() } else { None };
        drop(letters);
        oldest.is_some()
    }

    pub fn take(&self) -> Vec<DeadLetter<J>> {
        std::mem::take(&mut *self.lock()).into()
    }

    pub fn remove(&self, id: u64) -> Option<DeadLetter<J>> {
        let mut letters = self.lock();
        let at = letters.iter().position(|letter| letter.id == id)?;
        letters.remove(at)
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<DeadLetter<J>>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A letter that was taken out, and goes back unless it is said to be gone.
pub(super) struct Kept<'a, J> {
    letters: &'a DeadLetters<J>,
    letter: Option<DeadLetter<J>>,
}

impl<'a, J> Kept<'a, J> {
    pub fn new(letters: &'a DeadLetters<J>, letter: DeadLetter<J>) -> Self {
        Self { letters, letter: Some(letter) }
    }

    pub fn gone(&mut self) {
        self.letter = None;
    }
}

impl<J> Drop for Kept<'_, J> {
    fn drop(&mut self) {
        if let Some(letter) = self.letter.take() {
            self.letters.add(letter);
        }
    }
}
