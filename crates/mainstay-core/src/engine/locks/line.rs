//! The line of a lock: who is next, and who has left.

use std::collections::BTreeSet;

use super::{Entry, Locks};
use crate::{engine::Engine, lease::Token, lock::LockMode, name::Name, time::StoreTime};

impl Locks {
    /// The first in the line who is present, if the lock has room for it. Nobody overtakes one who is present.
    fn next_in_line(&self, name: &Name, now: StoreTime, asking: Option<u64>) -> Option<u64> {
        let lock = self.lock(name.as_str())?;
        if lock.holders.first().is_some_and(|holder| holder.mode == LockMode::Exclusive) {
            // Before looking for one who is present, which may take a while.
            return None;
        }
        let mut line = lock.waiters.iter();
        let (place, next) = line.find(|(place, waiter)| waiter.is_present(now) || asking == Some(**place))?;
        lock.admits(next.mode).then_some(*place)
    }
}

impl Engine {
    /// Grants the lock to those whose turn it is. `asking`: this one is present whatever its time says.
    pub(super) fn hand_on(&mut self, name: &Name, asking: Option<u64>) {
        while let Some(place) = self.locks.next_in_line(name, self.now.store, asking) {
            let waiter = self.locks.lock(name.as_str()).and_then(|lock| lock.waiters.get(&place)).cloned();
            let Some(waiter) = waiter else { return };
            let ticket = Some(waiter.ticket);
            self.set_waiter(name, place, None);
            self.grant_lock(name, waiter, ticket, asking == Some(place));
        }
    }

    /// Ends the grants of a lock that keep nobody out any more, and hands it on.
    pub(super) fn lapse(&mut self, name: &Name) {
        let now = self.now.store;
        let Some(lock) = self.locks.lock(name.as_str()) else { return };
        let ended = lock.holders.iter().filter(|holder| holder.free_at() <= now);
        let ended: Vec<Token> = ended.map(|holder| holder.lease.token).collect();
        if ended.is_empty() {
            return;
        }
        for token in ended {
            self.set_holder(name, token, None);
        }
        self.hand_on(name, None);
    }

    /// Looks at up to `limit` grants and waiters whose time has come. Answers at how many it looked.
    pub(in crate::engine) fn lapse_locks(&mut self, limit: u32) -> u32 {
        let mut looked = self.forget_withdrawn(limit);
        // Handed on when all have been looked at: a look along a line of many who went at once costs as much as all.
        let mut freed = BTreeSet::new();
        while looked < limit {
            let now = self.now.store;
            let first = self.locks.ends.first().filter(|(at, ..)| *at <= now).cloned();
            let Some((_, name, entry)) = first else { break };
            match entry {
                Entry::Holder(token) => {
                    self.set_holder(&name, token, None);
                    freed.insert(name);
                }
                Entry::Waiter(place) => {
                    let waiter = self.locks.lock(name.as_str()).and_then(|lock| lock.waiters.get(&place));
                    match waiter.filter(|waiter| waiter.gone_at() > now).cloned() {
                        // It is passed over from now on, and comes up once more when it loses its place.
                        Some(waiter) => self.note_waiter(&name, place, Some(waiter.timed(now))),
                        None => self.set_waiter(&name, place, None),
                    }
                    freed.insert(name);
                }
            }
            looked += 1;
        }
        for name in freed {
            self.hand_on(&name, None);
        }
        looked
    }
}
