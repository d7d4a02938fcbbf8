//! Locks: who holds one, who waits, and when each of them has to be looked at.
//!
//! A lock is there while it has a holder or a waiter, and leaves nothing behind: tokens come from the store's counter.
//! A holder keeps others out until its time is over and, if it asked for one, the delay after that; whether it still
//! *holds* is a matter of the time alone. What only matters while a caller is connected (its presence, whether it has
//! collected a grant, that it was withdrawn) is in RAM alone: after a restart everybody is absent, and every grant counts as collected.

pub mod change;

mod acquire;
mod line;
mod load;
mod read;
mod settle;
#[cfg(test)]
mod tests;
mod withdrawn;

use std::collections::{BTreeMap, BTreeSet};

use change::{LockChange, LockGrantRow, LockWaiterRow};
use hashbrown::HashMap;

use super::{Engine, change::Change, undo::Undo};
use crate::{
    lease::{LeaseId, Token},
    lock::{LockMode, LockOp, LockReply, MAX_PERMITS, Owner, PLACE_KEPT_MS, Ticket},
    name::Name,
    op::Reason,
    time::{StoreTime, Timestamp},
};

/// All locks of a store.
#[derive(Default)]
pub(super) struct Locks {
    by_name: BTreeMap<Name, Lock>,
    /// Where each ticket is.
    tickets: HashMap<(Name, [u8; 16]), Entry>,
    /// When each has to be looked at.
    ends: BTreeSet<(StoreTime, Name, Entry)>,
    withdrawn: withdrawn::Withdrawn,
    last_place: u64,
    grants: usize,
    waiters: usize,
}

/// A part of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Holder(Token),
    /// By its place in the line; places only grow.
    Waiter(u64),
}

#[derive(Default)]
struct Lock {
    /// By token.
    #[expect(clippy::vec_box, reason = "a vector makes room for four, and most locks have one holder")]
    holders: Vec<Box<Holder>>,
    waiters: BTreeMap<u64, Waiter>,
}

/// One who holds a lock, or keeps others out of it.
#[derive(Clone)]
pub(super) struct Holder {
    lease: LeaseId,
    owner: Owner,
    mode: LockMode,
    /// When it runs out; before it was collected: when it goes to the next.
    until: StoreTime,
    acquired_at: Timestamp,
    ticket: Option<Ticket>,
    /// What the acquire asked for, and what was granted last.
    ttl_ms: u64,
    ms: u64,
    delay_ms: u64,
    collected: bool,
}

impl Holder {
    fn is_live(&self, now: StoreTime) -> bool {
        self.until > now
    }

    /// When it keeps nobody out any more. Nobody has worked under a grant that was not collected.
    fn free_at(&self) -> StoreTime {
        self.until.plus_ms(if self.collected { self.delay_ms } else { 0 })
    }
}

/// One who waits, or keeps its place.
#[derive(Clone)]
pub(super) struct Waiter {
    owner: Owner,
    mode: LockMode,
    ttl_ms: u64,
    delay_ms: u64,
    ticket: Ticket,
    keep_place: bool,
    since: Timestamp,
    /// Its caller is there in these, or was in the last of them. Never empty for one in the line.
    visits: Vec<Visit>,
    /// When it has to be looked at.
    timer: StoreTime,
    /// For the nonce of its grant: a hand-over may come without any caller.
    entropy: u64,
}

/// The most visits that are told apart. Who sends one ticket more often at a time loses sight of the earliest.
const MAX_VISITS: usize = 16;

/// One request that waits with a ticket. A ticket may have several: its caller comes again over a new connection, and
/// the end of the old one is noticed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Visit {
    visit: u64,
    until: StoreTime,
}

impl Waiter {
    fn is_present(&self, now: StoreTime) -> bool {
        self.present_until() > now
    }

    /// Its caller is there until then, in one visit or another.
    fn present_until(&self) -> StoreTime {
        self.visits.iter().map(|visit| visit.until).max().unwrap_or_default()
    }

    /// When it loses its place.
    fn gone_at(&self) -> StoreTime {
        self.present_until().plus_ms(if self.keep_place { PLACE_KEPT_MS } else { 0 })
    }

    /// Its caller is there for so long in this visit, whatever becomes of its other ones.
    fn present(mut self, visit: u64, now: StoreTime, ms: u64) -> Waiter {
        self.visits.retain(|other| other.visit != visit && other.until > now);
        if self.visits.len() >= MAX_VISITS {
            let ends = |(_, visit): &(usize, &Visit)| visit.until;
            if let Some((first, _)) = self.visits.iter().enumerate().min_by_key(ends) {
                self.visits.remove(first);
            }
        }
        self.visits.push(Visit { visit, until: now.plus_ms(ms) });
        self.timed(now)
    }

    /// Whether its caller is there in this visit.
    fn visits(&self, visit: u64, now: StoreTime) -> bool {
        self.visits.iter().any(|known| known.visit == visit && known.until > now)
    }

    fn timed(mut self, now: StoreTime) -> Waiter {
        self.timer = if self.is_present(now) { self.present_until() } else { self.gone_at() };
        self
    }
}

impl Lock {
    fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.waiters.is_empty()
    }

    /// Whether one more holder fits beside those who keep others out.
    fn admits(&self, mode: LockMode) -> bool {
        let held = self.holders.first().map_or(mode, |holder| holder.mode);
        mode.fits(held, self.holders.len()) && self.holders.len() < MAX_PERMITS as usize
    }

    fn holder(&self, token: Token) -> Option<&Holder> {
        let at = self.holders.binary_search_by_key(&token, |holder| holder.lease.token).ok()?;
        Some(&self.holders[at])
    }
}

impl Locks {
    /// Puts or removes a grant, with every index of it.
    fn swap_holder(&mut self, name: &Name, token: Token, new: Option<Box<Holder>>) -> Option<Box<Holder>> {
        let entry = Entry::Holder(token);
        let comes = new.as_ref().map(|holder| (holder.free_at(), holder.ticket));
        let lock = self.lock_or_create(name);
        let found = lock.holders.binary_search_by_key(&token, |holder| holder.lease.token);
        let old = match (found, new) {
            (Ok(at), Some(new)) => Some(std::mem::replace(&mut lock.holders[at], new)),
            (Ok(at), None) => Some(lock.holders.remove(at)),
            (Err(at), Some(new)) => {
                lock.holders.insert(at, new);
                None
            }
            (Err(_), None) => None,
        };
        let goes = old.as_ref().map(|holder| (holder.free_at(), holder.ticket));
        self.grants = self.grants + usize::from(comes.is_some()) - usize::from(goes.is_some());
        self.index(name, entry, goes, comes);
        old
    }

    /// Puts or removes a waiter, with every index of it.
    fn swap_waiter(&mut self, name: &Name, place: u64, new: Option<Waiter>) -> Option<Waiter> {
        let entry = Entry::Waiter(place);
        let comes = new.as_ref().map(|waiter| (waiter.timer, Some(waiter.ticket)));
        let lock = self.lock_or_create(name);
        let old = match new {
            Some(waiter) => lock.waiters.insert(place, waiter),
            None => lock.waiters.remove(&place),
        };
        let goes = old.as_ref().map(|waiter| (waiter.timer, Some(waiter.ticket)));
        self.waiters = self.waiters + usize::from(comes.is_some()) - usize::from(goes.is_some());
        self.index(name, entry, goes, comes);
        old
    }

    fn lock_or_create(&mut self, name: &Name) -> &mut Lock {
        // Looked up twice: an entry would need a name of its own each time.
        if !self.by_name.contains_key(name) {
            self.by_name.insert(name.clone(), Lock::default());
        }
        self.by_name.get_mut(name).expect("it was put there if it was not")
    }

    fn index(
        &mut self,
        name: &Name,
        entry: Entry,
        goes: Option<(StoreTime, Option<Ticket>)>,
        comes: Option<(StoreTime, Option<Ticket>)>,
    ) {
        if goes.map(|(at, _)| at) != comes.map(|(at, _)| at) {
            if let Some((at, _)) = goes {
                self.ends.remove(&(at, name.clone(), entry));
            }
            if let Some((at, _)) = comes {
                self.ends.insert((at, name.clone(), entry));
            }
        }
        let scope = |side: Option<(StoreTime, Option<Ticket>)>| Some(side?.1?.scope);
        if scope(goes) != scope(comes) {
            // A waiter that becomes a holder has the ticket twice for a moment.
            if let Some(scope) = scope(goes) {
                let key = (name.clone(), scope);
                if self.tickets.get(&key) == Some(&entry) {
                    self.tickets.remove(&key);
                }
            }
            if let Some(scope) = scope(comes) {
                self.tickets.insert((name.clone(), scope), entry);
            }
        }
        if comes.is_none() && self.by_name.get(name).is_some_and(Lock::is_empty) {
            self.by_name.remove(name);
        }
    }

    fn lock(&self, name: &str) -> Option<&Lock> {
        self.by_name.get(name)
    }

    fn holder(&self, name: &Name, token: Token) -> Option<&Holder> {
        self.lock(name.as_str())?.holder(token)
    }

    /// When somebody has to be looked at next.
    pub(super) fn next_end(&self) -> Option<StoreTime> {
        self.ends.first().map(|(at, ..)| *at)
    }
}

/// A before-image.
pub(super) enum LockUndo {
    Holder(Name, Token, Option<Box<Holder>>),
    Waiter(Name, u64, Option<Waiter>),
    Withdrawn(Name, Ticket, Option<withdrawn::Mark>),
}

impl Engine {
    pub(super) fn lock_op(&mut self, op: &LockOp, entropy: u64) -> Result<LockReply, Reason> {
        match op {
            LockOp::Acquire(acquire) => self.acquire(acquire, entropy),
            LockOp::Renew { name, lease, ttl_ms } => self.renew(name, *lease, *ttl_ms),
            LockOp::Release { name, lease } => self.release(name, *lease),
            LockOp::Break { name } => self.break_lock(name),
            LockOp::Withdraw { name, ticket, visit, may_return } => {
                Ok(self.withdraw(name, ticket, *visit, *may_return))
            }
        }
    }

    /// Makes, prolongs or ends a grant.
    fn set_holder(&mut self, name: &Name, token: Token, new: Option<Box<Holder>>) {
        let is_there = self.locks.holder(name, token).is_some();
        let change = match &new {
            Some(holder) if is_there => {
                LockChange::Renewed { name: name.clone(), token, until: holder.until, ms: holder.ms }
            }
            Some(holder) => LockChange::Granted(Box::new(LockGrantRow {
                name: name.clone(),
                lease: holder.lease,
                owner: holder.owner.clone(),
                mode: holder.mode,
                until: holder.collected.then_some(holder.until),
                acquired_at: holder.acquired_at,
                ttl_ms: holder.ttl_ms,
                ms: holder.ms,
                delay_ms: holder.delay_ms,
                ticket: holder.ticket,
            })),
            None => LockChange::Freed { name: name.clone(), token },
        };
        self.note_holder(name, token, new);
        self.changes.push(Change::Lock(change));
    }

    /// Changes of a grant what is not written down: that it was collected, or how long it waits for that.
    fn note_holder(&mut self, name: &Name, token: Token, new: Option<Box<Holder>>) {
        let old = self.locks.swap_holder(name, token, new);
        self.undo.push(Undo::Lock(LockUndo::Holder(name.clone(), token, old)));
    }

    /// Puts or removes a waiter. Only one that keeps its place is written down.
    fn set_waiter(&mut self, name: &Name, place: u64, new: Option<Waiter>) {
        let change = match &new {
            Some(waiter) => waiter.keep_place.then(|| {
                LockChange::Queued(Box::new(LockWaiterRow {
                    place,
                    name: name.clone(),
                    owner: waiter.owner.clone(),
                    mode: waiter.mode,
                    ttl_ms: waiter.ttl_ms,
                    delay_ms: waiter.delay_ms,
                    ticket: waiter.ticket,
                    since: waiter.since,
                }))
            }),
            None => {
                let old = self.locks.lock(name.as_str()).and_then(|lock| lock.waiters.get(&place));
                old.filter(|waiter| waiter.keep_place).map(|waiter| LockChange::Left {
                    name: name.clone(),
                    place,
                    scope: Some(waiter.ticket.scope),
                })
            }
        };
        self.note_waiter(name, place, new);
        self.changes.extend(change.map(Change::Lock));
    }

    /// Changes of a waiter what is not written down: until when it is present.
    fn note_waiter(&mut self, name: &Name, place: u64, new: Option<Waiter>) {
        let old = self.locks.swap_waiter(name, place, new);
        self.undo.push(Undo::Lock(LockUndo::Waiter(name.clone(), place, old)));
    }

    pub(super) fn undo_lock(&mut self, step: LockUndo) {
        match step {
            LockUndo::Holder(name, token, before) => drop(self.locks.swap_holder(&name, token, before)),
            LockUndo::Waiter(name, place, before) => drop(self.locks.swap_waiter(&name, place, before)),
            LockUndo::Withdrawn(name, ticket, before) => self.undo_withdrawn(&name, ticket, before),
        }
    }
}
