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

    pub(super) fn withdraw(&mut self, name: &Name, ticket: &Ticket, may_return: bool) -> LockReply {
        let now = self.now.store;
        match self.locks.tickets.get(&(name.clone(), ticket.scope)).copied() {
            None => return LockReply::Withdrawn,
            Some(Entry::Holder(token)) => {
                let holder = self.locks.holder(name, token).cloned();
                match holder.filter(|_| may_return) {
                    Some(holder) if !holder.collected => {
                        let until = now.plus_ms(COLLECT_MS);
                        self.note_holder(name, token, Some(Box::new(Holder { until, ..holder })));
                    }
                    // The answer may have arrived: its time runs.
                    Some(_) => {}
                    None => self.set_holder(name, token, None),
                }
            }
            Some(Entry::Waiter(place)) => {
                let waiter =
                    self.locks.lock(name.as_str()).and_then(|lock| lock.waiters.get(&place)).cloned();
                match waiter.filter(|waiter| may_return && waiter.keep_place) {
                    // Not longer than it would have: it may have been withdrawn before.
                    Some(waiter) if waiter.is_present(now) => {
                        self.note_waiter(name, place, Some(waiter.present(now, 0)));
                    }
                    Some(_) => {}
                    None => self.set_waiter(name, place, None),
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
