//! The unfinished jobs: a slab with a hash index, about 80 bytes a job.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::change::LiveJob;
use crate::id::JobId;

/// Unfinished jobs by id.
#[derive(Default)]
pub(super) struct Jobs {
    slots: Vec<Option<LiveJob>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Jobs {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn get(&self, id: JobId) -> Option<&LiveJob> {
        let slots = &self.slots;
        let at = self.index.find(self.hasher.hash_one(id), |&at| is_at(slots, at, id))?;
        self.slots[*at as usize].as_ref()
    }

    /// Puts or (with `None`) removes a job; answers what was there.
    pub(super) fn set(&mut self, id: JobId, new: Option<LiveJob>) -> Option<LiveJob> {
        let hash = self.hasher.hash_one(id);
        let slots = &self.slots;
        match (self.index.find_entry(hash, |&at| is_at(slots, at, id)), new) {
            (Ok(entry), Some(job)) => self.slots[*entry.get() as usize].replace(job),
            (Ok(entry), None) => {
                let (at, _) = entry.remove();
                self.free.push(at);
                self.slots[at as usize].take()
            }
            (Err(_), None) => None,
            (Err(_), Some(job)) => {
                let at = match self.free.pop() {
                    Some(at) => at,
                    None => {
                        self.slots.push(None);
                        (self.slots.len() - 1) as u32
                    }
                };
                self.slots[at as usize] = Some(job);
                let (slots, hasher) = (&self.slots, &self.hasher);
                self.index.insert_unique(hash, at, |&at| {
                    hasher.hash_one(slots[at as usize].as_ref().expect("an indexed slot is full").id)
                });
                None
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &LiveJob> {
        self.slots.iter().flatten()
    }
}

fn is_at(slots: &[Option<LiveJob>], at: u32, id: JobId) -> bool {
    slots[at as usize].as_ref().is_some_and(|job| job.id == id)
}
