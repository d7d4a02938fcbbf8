//! Locks as everybody may see them.

use std::ops::Bound;

use super::Lock;
use crate::{
    engine::Engine,
    lease::Token,
    lock::{LockHolder, LockInterest, LockRecord, LockWaiter},
    name::Name,
    time::Now,
};

impl Engine {
    /// A lock that is held, as it is now.
    pub fn lock(&mut self, name: &str, now: Now) -> Option<LockRecord> {
        self.set_now(now);
        let (name, lock) = self.locks.by_name.get_key_value(name)?;
        self.lock_record(name, lock)
    }

    /// Up to `limit` locks that are held, after `after`, by name, whose name begins with `prefix`.
    pub fn locks(&mut self, prefix: &str, after: Option<&str>, limit: usize, now: Now) -> Vec<LockRecord> {
        self.set_now(now);
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let named = self.locks.by_name.range::<str, _>((from, Bound::Unbounded));
        let fit = named.take_while(|(name, _)| name.as_str().starts_with(prefix));
        fit.filter_map(|(name, lock)| self.lock_record(name, lock)).take(limit).collect()
    }

    /// Whether what somebody waits for is so already.
    pub fn lock_has_happened(&self, interest: &LockInterest) -> bool {
        match interest {
            LockInterest::Granted { name, scope } => {
                let at = self.locks.tickets.get(&(name.clone(), *scope));
                !matches!(at, Some(super::Entry::Waiter(_)))
            }
            LockInterest::Changed { name, seen } => self.lock_token(name.as_str()) != *seen,
        }
    }

    /// How many grants there are, and how many waiters.
    pub fn lock_counts(&self) -> (usize, usize) {
        (self.locks.grants, self.locks.waiters)
    }

    /// The highest token of a live holder.
    fn lock_token(&self, name: &str) -> Option<Token> {
        let holders = &self.locks.lock(name)?.holders;
        holders.iter().rev().find(|holder| holder.is_live(self.now.store)).map(|holder| holder.lease.token)
    }

    pub(super) fn live_holders(&self, name: &str) -> impl Iterator<Item = LockHolder> {
        let holders = self.locks.lock(name).map_or(&[][..], |lock| &lock.holders[..]);
        holders.iter().filter(|holder| holder.is_live(self.now.store)).map(|holder| LockHolder {
            owner: holder.owner.clone(),
            token: holder.lease.token,
            acquired_at: holder.acquired_at,
            expires_at: self.now.wall_at(holder.until),
        })
    }

    /// `None`: it is free.
    fn lock_record(&self, name: &Name, lock: &Lock) -> Option<LockRecord> {
        let now = self.now.store;
        let mut held = lock.holders.iter().filter(|holder| holder.free_at() > now);
        let mode = held.next()?.mode;
        let delays = lock.holders.iter().filter(|holder| !holder.is_live(now) && holder.free_at() > now);
        let delayed_until = delays.map(|holder| self.now.wall_at(holder.free_at())).max();
        let waiting = || lock.waiters.values().filter(move |waiter| waiter.gone_at() > now);
        let shown = waiting().take(LockRecord::WAITERS_SHOWN).zip(1..);
        let waiters = shown.map(|(waiter, position)| LockWaiter {
            owner: waiter.owner.clone(),
            position,
            mode: waiter.mode,
            present: waiter.is_present(now),
            since: waiter.since,
        });
        Some(LockRecord {
            name: name.clone(),
            mode,
            holders: self.live_holders(name.as_str()).collect(),
            delayed_until,
            waiters: waiters.collect(),
            waiting: waiting().count() as u64,
        })
    }
}
