//! Locks come back when a store opens.

use super::{
    Holder, Visit, Waiter,
    change::{LockGrantRow, LockWaiterRow},
};
use crate::{engine::Engine, lease::Token, name::Name};

impl Engine {
    /// A grant.
    pub fn load_lock_grant(&mut self, row: LockGrantRow) {
        let collected = row.until.is_some();
        let holder = Holder {
            lease: row.lease,
            owner: row.owner,
            mode: row.mode,
            // One that was handed over is made a collected one when all is loaded.
            until: row.until.unwrap_or(self.now.store),
            acquired_at: row.acquired_at,
            // The ticket of one that only keeps others out may be in the line again.
            ticket: row.ticket.filter(|_| row.until.is_none_or(|until| until > self.now.store)),
            ttl_ms: row.ttl_ms,
            ms: row.ms,
            delay_ms: row.delay_ms,
            collected,
        };
        self.locks.swap_holder(&row.name, row.lease.token, Some(Box::new(holder)));
    }

    /// A waiter that keeps its place. It is not there, but it may come back.
    pub fn load_lock_waiter(&mut self, row: LockWaiterRow) {
        let now = self.now.store;
        let waiter = Waiter {
            owner: row.owner,
            mode: row.mode,
            ttl_ms: row.ttl_ms,
            delay_ms: row.delay_ms,
            ticket: row.ticket,
            keep_place: true,
            since: row.since,
            visits: vec![Visit { visit: 0, until: now }],
            timer: now,
            entropy: 0,
        };
        self.locks.last_place = self.locks.last_place.max(row.place);
        self.locks.swap_waiter(&row.name, row.place, Some(waiter.timed(now)));
    }

    /// Grants that lived at the last group get their full time again. One that was handed over may have been
    /// collected, and its holder may be at work: it counts as collected now.
    pub(in crate::engine) fn finish_load_of_locks(&mut self) {
        let now = self.now.store;
        let mut alive: Vec<(Name, Token)> = Vec::new();
        for (name, lock) in &self.locks.by_name {
            let live = lock.holders.iter().filter(|holder| !holder.collected || holder.is_live(now));
            alive.extend(live.map(|holder| (name.clone(), holder.lease.token)));
        }
        for (name, token) in alive {
            let Some(holder) = self.locks.holder(&name, token).cloned() else { continue };
            let until = holder.until.max(now.plus_ms(holder.ms));
            self.set_holder(&name, token, Some(Box::new(Holder { until, collected: true, ..holder })));
        }
    }
}
