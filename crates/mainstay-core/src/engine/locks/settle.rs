//! Grants are prolonged, given back and taken away; waiters leave.

use super::{Entry, Holder, acquire::in_range};
use crate::{
    engine::Engine,
    lease::{LeaseId, Token},
    lock::{COLLECT_MS, LockHolder, LockReply, TTL_MS, Ticket},
    name::Name,
    op::Reason,
};

impl Engine {
    pub(super) fn renew(
        &mut self,
        name: &Name,
        lease: LeaseId,
        ttl_ms: Option<u64>,
    ) -> Result<LockReply, Reason> {
        if let Some(ttl_ms) = ttl_ms {
            in_range("ttl_ms", ttl_ms, TTL_MS)?;
        }
        let holder = self.live_holder(name, lease).cloned().ok_or(Reason::LockLost)?;
        let ms = ttl_ms.unwrap_or(holder.ttl_ms);
        // A renewal that was overtaken on its way must not take away what a later one has given.
        let until = holder.until.max(self.now.store.plus_ms(ms));
        self.set_holder(name, lease.token, Some(Box::new(Holder { until, ms, collected: true, ..holder })));
        Ok(LockReply::Renewed { expires_at: self.now.wall_at(until) })
    }

    pub(super) fn release(&mut self, name: &Name, lease: LeaseId) -> Result<LockReply, Reason> {
        self.live_holder(name, lease).ok_or(Reason::LockLost)?;
        self.set_holder(name, lease.token, None);
        self.lapse(name);
        self.hand_on(name, None);
        Ok(LockReply::Released)
    }

    pub(super) fn break_lock(&mut self, name: &Name) -> Result<LockReply, Reason> {
        self.lapse(name);
        let holders = self.locks.lock(name.as_str()).map_or(&[][..], |lock| &lock.holders[..]);
        if holders.is_empty() {
            return Err(Reason::NotFound("lock"));
        }
        let tokens: Vec<Token> = holders.iter().map(|holder| holder.lease.token).collect();
        let live: Vec<LockHolder> = self.live_holders(name.as_str()).collect();
        for token in tokens {
            self.set_holder(name, token, None);
        }
        self.hand_on(name, None);
        Ok(LockReply::Broken(live))
    }

    pub(super) fn withdraw(
        &mut self,
        name: &Name,
        ticket: &Ticket,
        visit: u64,
        may_return: bool,
    ) -> LockReply {
        let now = self.now.store;
        if !may_return {
            self.remember_withdrawn(name, ticket);
        }
        match self.locks.tickets.get(&(name.clone(), ticket.scope)).copied() {
            None => return LockReply::Withdrawn,
            Some(Entry::Holder(token)) => {
                // What has run out is nobody's any more, and what others asked with the key is not this caller's.
                let same = |had: &Ticket| had.fingerprint == ticket.fingerprint;
                match self.locks.holder(name, token).cloned() {
                    Some(holder) if holder.is_live(now) && holder.ticket.as_ref().is_some_and(same) => {
                        if !may_return {
                            self.set_holder(name, token, None);
                        } else if !holder.collected {
                            let until = now.plus_ms(COLLECT_MS);
                            self.note_holder(name, token, Some(Box::new(Holder { until, ..holder })));
                        }
                        // Else the answer may have arrived: its time runs.
                    }
                    _ => {}
                }
            }
            Some(Entry::Waiter(place)) => {
                let waiter =
                    self.locks.lock(name.as_str()).and_then(|lock| lock.waiters.get(&place)).cloned();
                match waiter.filter(|waiter| waiter.ticket.fingerprint == ticket.fingerprint) {
                    Some(_) if !may_return => self.set_waiter(name, place, None),
                    // Only this request has ended: its caller may have come again, and wait in another.
                    Some(waiter) if waiter.visits(visit, now) => {
                        let waiter = waiter.present(visit, now, 0);
                        if waiter.gone_at() > now {
                            self.note_waiter(name, place, Some(waiter));
                        } else {
                            self.set_waiter(name, place, None);
                        }
                    }
                    _ => {}
                }
            }
        }
        self.lapse(name);
        self.hand_on(name, None);
        LockReply::Withdrawn
    }

    /// The grant with this lease, if it has not run out.
    fn live_holder(&self, name: &Name, lease: LeaseId) -> Option<&Holder> {
        let holder = self.locks.holder(name, lease.token)?;
        (holder.lease == lease && holder.is_live(self.now.store)).then_some(holder)
    }

    /// Whether a live holder has this token.
    pub(in crate::engine) fn holds_lock(&self, name: &Name, token: Token) -> bool {
        self.locks.holder(name, token).is_some_and(|holder| holder.is_live(self.now.store))
    }
}
