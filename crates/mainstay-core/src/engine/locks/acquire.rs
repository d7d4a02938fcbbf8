//! A lock is asked for.

use std::ops::RangeInclusive;

use super::{Entry, Holder, Waiter};
use crate::{
    engine::Engine,
    lease::{LeaseId, Token},
    lock::{
        Acquire, DELAY_MS, LockGrant, LockMode, LockReply, LockWaiting, MAX_GRANTS, MAX_PERMITS, MAX_WAITERS,
        MAX_WAITERS_IN_ALL, TTL_MS, Ticket, WAIT_MS,
    },
    name::Name,
    op::Reason,
    rules,
};

impl Engine {
    pub(super) fn acquire(&mut self, ask: &Acquire, entropy: u64) -> Result<LockReply, Reason> {
        is_sound(ask)?;
        self.lapse(&ask.name);
        if let Some(ticket) = &ask.ticket {
            self.still_wanted(ask, ticket)?;
            match self.locks.tickets.get(&(ask.name.clone(), ticket.scope)).copied() {
                Some(Entry::Holder(token)) => {
                    if let Some(collected) = self.collect(&ask.name, token, ticket) {
                        return collected;
                    }
                }
                Some(Entry::Waiter(place)) => return self.ask_again(ask, place, ticket, entropy),
                None => {}
            }
        }
        self.same_permits(&ask.name, ask.mode)?;
        let now = self.now.store;
        let free = self.locks.lock(ask.name.as_str()).is_none_or(|lock| {
            lock.admits(ask.mode) && !lock.waiters.values().any(|waiter| waiter.is_present(now))
        });
        if free {
            if self.locks.grants >= MAX_GRANTS {
                return Err(full(&ask.name, "grants", MAX_GRANTS));
            }
            let waiter = self.newcomer(ask, ask.ticket, entropy);
            let token = self.grant_lock(&ask.name, waiter, ask.ticket, true);
            return Ok(LockReply::Granted(self.lock_grant(&ask.name, token)));
        }
        let Some(ticket) = ask.ticket else {
            return Err(Reason::LockHeld(Box::new(self.waiting(&ask.name, None))));
        };
        if ask.wait_ms == 0 && !ask.keep_place {
            return Ok(LockReply::Waiting(self.waiting(&ask.name, None)));
        }
        let here = self.locks.lock(ask.name.as_str()).map_or(0, |lock| lock.waiters.len());
        if here >= MAX_WAITERS || self.locks.waiters >= MAX_WAITERS_IN_ALL {
            let limit = if here >= MAX_WAITERS { MAX_WAITERS } else { MAX_WAITERS_IN_ALL };
            return Err(full(&ask.name, "waiters", limit));
        }
        self.locks.last_place += 1;
        let place = self.locks.last_place;
        let waiter = self.newcomer(ask, Some(ticket), entropy).present(ask.visit, now, ask.wait_ms);
        self.set_waiter(&ask.name, place, Some(waiter));
        Ok(LockReply::Waiting(self.waiting(&ask.name, Some(place))))
    }

    /// A ticket in the line asks again: it is there now, and for as long as it says.
    fn ask_again(
        &mut self,
        ask: &Acquire,
        place: u64,
        ticket: &Ticket,
        entropy: u64,
    ) -> Result<LockReply, Reason> {
        let name = &ask.name;
        let found = self.locks.lock(name.as_str()).and_then(|lock| lock.waiters.get(&place)).cloned();
        let now = self.now.store;
        let Some(mut waiter) = found.filter(|waiter| waiter.gone_at() > now) else {
            // Its place is lost, but nobody has tidied up yet.
            self.set_waiter(name, place, None);
            return self.acquire(ask, entropy);
        };
        if waiter.ticket.fingerprint != ticket.fingerprint {
            return Err(Reason::IdempotencyMismatch);
        }
        waiter.entropy = entropy;
        let waiter = waiter.present(ask.visit, now, ask.wait_ms);
        // The last look of one request is not the end of another's wait.
        let keeps = waiter.gone_at() > now;
        self.note_waiter(name, place, Some(waiter));
        self.hand_on(name, Some(place));
        if let Some(Entry::Holder(token)) = self.locks.tickets.get(&(name.clone(), ticket.scope)).copied() {
            return Ok(LockReply::Granted(self.lock_grant(name, token)));
        }
        if ask.wait_ms > 0 {
            return Ok(LockReply::Waiting(self.waiting(name, Some(place))));
        }
        if !keeps {
            self.set_waiter(name, place, None);
        }
        // It is not there any more: whom it kept from a grant may have one.
        self.hand_on(name, None);
        Ok(LockReply::Waiting(self.waiting(name, keeps.then_some(place))))
    }

    /// A ticket that has a grant asks again: its time begins with the first time. `None`: it has run out, and keeps
    /// others out; the ticket is a newcomer's.
    fn collect(&mut self, name: &Name, token: Token, ticket: &Ticket) -> Option<Result<LockReply, Reason>> {
        let holder = self.locks.holder(name, token).cloned()?;
        if !holder.is_live(self.now.store) {
            self.note_holder(name, token, Some(Box::new(Holder { ticket: None, ..holder })));
            return None;
        }
        if holder.ticket.is_some_and(|had| had.fingerprint != ticket.fingerprint) {
            return Some(Err(Reason::IdempotencyMismatch));
        }
        if !holder.collected {
            let until = self.now.store.plus_ms(holder.ms);
            self.note_holder(name, token, Some(Box::new(Holder { until, collected: true, ..holder })));
        }
        Some(Ok(LockReply::Granted(self.lock_grant(name, token))))
    }

    fn newcomer(&self, ask: &Acquire, ticket: Option<Ticket>, entropy: u64) -> Waiter {
        let now = self.now.store;
        Waiter {
            owner: ask.owner.clone(),
            mode: ask.mode,
            ttl_ms: ask.ttl_ms,
            delay_ms: ask.delay_ms,
            ticket: ticket.unwrap_or(Ticket { scope: [0; 16], fingerprint: [0; 16] }),
            keep_place: ask.keep_place,
            since: self.now.wall,
            visits: Vec::new(),
            timer: now,
            entropy,
        }
    }

    /// Makes a grant. `collected`: to a caller who is asking at this moment.
    pub(super) fn grant_lock(
        &mut self,
        name: &Name,
        to: Waiter,
        ticket: Option<Ticket>,
        collected: bool,
    ) -> Token {
        self.counters.token += 1;
        let token = Token(self.counters.token);
        let ms = if collected { to.ttl_ms } else { crate::lock::COLLECT_MS };
        let holder = Holder {
            lease: LeaseId { token, nonce: rules::mix(to.entropy, token.0) },
            owner: to.owner,
            mode: to.mode,
            until: self.now.store.plus_ms(ms),
            acquired_at: self.now.wall,
            ticket,
            ttl_ms: to.ttl_ms,
            ms: to.ttl_ms,
            delay_ms: to.delay_ms,
            collected,
        };
        self.set_holder(name, token, Some(Box::new(holder)));
        token
    }

    fn lock_grant(&self, name: &Name, token: Token) -> LockGrant {
        let holder = self.locks.holder(name, token).expect("it was granted, or found, a moment ago");
        LockGrant {
            name: name.clone(),
            lease: holder.lease,
            mode: holder.mode,
            ttl_ms: holder.ms,
            expires_at: self.now.wall_at(holder.until),
        }
    }

    /// What one who cannot have the lock is told.
    fn waiting(&self, name: &Name, place: Option<u64>) -> LockWaiting {
        let lock = self.locks.lock(name.as_str());
        let holder = lock.and_then(|lock| lock.holders.first()).expect("a lock that nobody holds is granted");
        let line = lock.map(|lock| &lock.waiters);
        let waiters = line.map_or(0, |line| line.len()) as u64;
        let position = place.zip(line).map(|(place, line)| match line.last_key_value() {
            // A newcomer, of whom there may be many.
            Some((last, _)) if *last == place => waiters,
            _ => line.range(..=place).count() as u64,
        });
        LockWaiting {
            name: name.clone(),
            position,
            holder: holder.owner.clone(),
            expires_at: self.now.wall_at(holder.free_at()),
            waiters,
        }
    }

    /// All who hold a semaphore say the same number. Who awaits one may not come to hold it: another number waits
    /// until that fits.
    fn same_permits(&self, name: &Name, mode: LockMode) -> Result<(), Reason> {
        let LockMode::Semaphore { permits } = mode else { return Ok(()) };
        let Some(lock) = self.locks.lock(name.as_str()) else { return Ok(()) };
        match lock.holders.first().map(|holder| holder.mode) {
            Some(LockMode::Semaphore { permits: other }) if other != permits => {
                Err(Reason::StateConflict(format!(
                    "lock `{name}` is a semaphore of {other} permits as long as somebody holds it, not of {permits}"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// The bounds of what can be asked.
fn is_sound(ask: &Acquire) -> Result<(), Reason> {
    in_range("ttl_ms", ask.ttl_ms, TTL_MS)?;
    in_range("delay_ms", ask.delay_ms, 0..=DELAY_MS)?;
    in_range("wait_ms", ask.wait_ms, 0..=WAIT_MS)?;
    match ask.mode {
        LockMode::Semaphore { permits } => in_range("permits", permits.into(), 1..=MAX_PERMITS.into()),
        _ => Ok(()),
    }
}

pub(super) fn in_range(field: &'static str, value: u64, range: RangeInclusive<u64>) -> Result<(), Reason> {
    if range.contains(&value) {
        return Ok(());
    }
    let detail = format!("is {value}, but must be from {} to {}", range.start(), range.end());
    Err(Reason::Invalid { field, detail })
}

fn full(lock: &Name, what: &'static str, limit: usize) -> Reason {
    Reason::LocksFull { lock: lock.clone(), what, limit: limit as u64 }
}
