//! A lock with a TTL, as its clients may rely on it: the smallest machine that knows who can hold it.
//!
//! A grant lives at least its TTL from the moment of the acquire or of its last renewal, and may live longer (a store
//! that was down gives live grants their full time again). So an expiry is a step of its own, possible from the
//! deadline on and never owed.

use mainstay_core::lock::LockMode;

use super::{Asked, Call, Got};

/// Who holds the lock at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Lock {
    pub(super) holders: Vec<Holder>,
    /// How many of the grants that were seen have happened: they happen in the order of their tokens.
    pub(super) granted: usize,
    /// The moment, in microseconds; the earliest it can be.
    pub(super) time: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Holder {
    /// `None`: of an acquire whose answer nobody saw.
    token: Option<u64>,
    mode: LockMode,
    deadline: u64,
}

impl Lock {
    /// The lock after a call, if it can have been answered like this now. `tokens` are all that were seen, in order.
    pub(super) fn after(&self, call: &Call, tokens: &[u64]) -> Option<Lock> {
        let mut next = self.clone();
        next.time = self.time.max(call.from);
        if call.to.is_some_and(|to| next.time > to) {
            return None;
        }
        let until = |ttl_ms: u64| next.time.saturating_add(ttl_ms.saturating_mul(1_000));
        let at = |token: u64| self.holders.iter().position(|holder| holder.token == Some(token));
        match (call.asked, call.got) {
            (Asked::Acquire { mode, ttl_ms }, Got::Granted(token)) => {
                let is_next = tokens.get(self.granted) == Some(&token)
                    && (self.granted == 0 || tokens[self.granted - 1] < token);
                if !self.has_room(mode) || !is_next {
                    return None;
                }
                next.granted += 1;
                next.holders.push(Holder { token: Some(token), mode, deadline: until(ttl_ms) });
            }
            (Asked::Acquire { mode, .. }, Got::Nothing) => {
                if !self.has_room(mode) {
                    return None;
                }
                // Whoever has it may give it back unseen at any time.
                next.holders.push(Holder { token: None, mode, deadline: next.time });
            }
            (Asked::Acquire { .. }, Got::Held) if self.holders.is_empty() => return None,
            (Asked::Acquire { .. }, Got::Held) => {}
            (Asked::Renew { token, ttl_ms }, Got::Done) => {
                let holder = &mut next.holders[at(token)?];
                holder.deadline = holder.deadline.max(until(ttl_ms));
            }
            (Asked::Release { token }, Got::Done | Got::Nothing) => {
                next.holders.remove(at(token)?);
            }
            (Asked::Use { token }, Got::Done) => {
                at(token)?;
            }
            (Asked::Renew { token, .. } | Asked::Release { token } | Asked::Use { token }, Got::Lost) => {
                if at(token).is_some() {
                    return None;
                }
            }
            (Asked::Check { token }, Got::Checked { valid, current }) => {
                if valid != at(token).is_some() || !self.shows(current) {
                    return None;
                }
            }
            // A renewal that nobody saw, or a check, has no part in what others see.
            _ => return None,
        }
        Some(next)
    }

    /// The lock after the time of a holder has run out.
    pub(super) fn after_expiry(&self, at: usize) -> Lock {
        let mut next = self.clone();
        let holder = next.holders.remove(at);
        next.time = next.time.max(holder.deadline);
        next
    }

    fn has_room(&self, mode: LockMode) -> bool {
        self.holders.first().is_none_or(|holder| mode.fits(holder.mode, self.holders.len()))
    }

    fn shows(&self, current: Option<u64>) -> bool {
        let known = self.holders.iter().filter_map(|holder| holder.token).max();
        let unseen = self.holders.iter().any(|holder| holder.token.is_none());
        known == current || unseen && current.is_some_and(|current| known.is_none_or(|known| current > known))
    }
}
