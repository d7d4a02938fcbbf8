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
    token: u64,
    mode: LockMode,
    deadline: u64,
}

impl Lock {
    /// The lock after a call, if it can have been answered like this now.
    pub(super) fn after(&self, call: &Call, known: &Known) -> Option<Lock> {
        let mut next = self.clone();
        next.time = self.time.max(call.from);
        if call.to.is_some_and(|to| next.time > to) {
            return None;
        }
        let until = |ttl_ms: u64| next.time.saturating_add(ttl_ms.saturating_mul(1_000));
        let at = |token: u64| self.holders.iter().position(|holder| holder.token == token);
        match (call.asked, call.got) {
            (Asked::Acquire { mode, ttl_ms, .. }, Got::Granted(token)) => {
                let is_next = known.tokens.get(self.granted) == Some(&token)
                    && (self.granted == 0 || known.tokens[self.granted - 1] < token);
                if !self.has_room(mode) || !is_next {
                    return None;
                }
                next.granted += 1;
                next.holders.push(Holder { token, mode, deadline: until(ttl_ms) });
            }
            (Asked::Acquire { .. }, Got::Held) => {
                if self.holders.is_empty() {
                    next.time = known.held_unseen(next.time, call.to)?;
                }
            }
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
                if valid != at(token).is_some() {
                    return None;
                }
                let highest = self.holders.iter().map(|holder| holder.token).max();
                if current != highest {
                    let is_unseen = current.is_some_and(|current| {
                        known.tokens.binary_search(&current).is_err() && Some(current) > highest
                    });
                    next.time = known.held_unseen(next.time, call.to).filter(|_| is_unseen)?;
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
}

/// What is known of the whole history of a lock.
pub(super) struct Known {
    /// The tokens that were seen, in order.
    pub(super) tokens: Vec<u64>,
    /// From when to when somebody may have had the lock without having heard so: from the sending of an acquire to the
    /// end of its wait, its time, and what the service may take on top.
    pub(super) unseen: Vec<(u64, u64)>,
}

impl Known {
    /// The first moment from `from` to `to` at which somebody may have the lock without having heard so, and may give
    /// it back unseen. Who tries to place each of these acquires has a choice for each at every moment; as one of them
    /// keeps out nobody who got the lock, it is enough that they explain why somebody did not.
    fn held_unseen(&self, from: u64, to: Option<u64>) -> Option<u64> {
        let first = |(begin, end): &(u64, u64)| {
            let at = from.max(*begin);
            (at <= *end && to.is_none_or(|to| at <= to)).then_some(at)
        };
        self.unseen.iter().filter_map(first).min()
    }
}
