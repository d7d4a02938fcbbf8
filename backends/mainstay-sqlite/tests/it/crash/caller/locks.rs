//! What a caller does to its two locks.

use mainstay_core::{
    lease::LeaseId,
    lock::{Acquire, LockMode, LockOp, Owner, Ticket},
    name::Name,
    op::Op,
    rules::mix,
};
use mainstay_testkit::world::LEASE_MS;

use super::{Caller, name_of};

/// No line grows longer.
const MOST_WAITERS: usize = 3;

impl Caller {
    /// The `what`-th of the things there are to do.
    pub(super) fn lock(&mut self, what: usize) -> Option<Vec<Op>> {
        let mut known: Vec<(Name, LeaseId)> = vec![];
        let (mut untold, mut waiting) = (vec![], 0);
        for (name, line) in &self.ledger.locks.lines {
            known.extend(line.holders.iter().filter_map(|holder| Some((name.clone(), holder.lease?))));
            untold.extend(line.holders.iter().filter(|h| h.lease.is_none()).map(|holder| holder.ask.clone()));
            untold.extend(line.waiters.iter().map(|waiter| waiter.ask.clone()));
            waiting += line.waiters.len();
        }
        let a_known = known.get(self.chance.below(known.len().max(1))).cloned();
        let an_untold = untold.get(self.chance.below(untold.len().max(1))).cloned();
        let op = match what {
            0 | 1 if waiting < MOST_WAITERS => LockOp::Acquire(Box::new(self.ask())),
            2 => LockOp::Acquire(Box::new(an_untold?)),
            3 => a_known.map(|(name, lease)| LockOp::Renew { name, lease, ttl_ms: None })?,
            4 => a_known.map(|(name, lease)| LockOp::Release { name, lease })?,
            5 => an_untold.and_then(|ask| {
                let Acquire { name, ticket, visit, .. } = ask;
                Some(LockOp::Withdraw { name, ticket: ticket?, visit, may_return: false })
            })?,
            6 => a_known.map(|(name, _)| LockOp::Break { name })?,
            _ => return None,
        };
        Some(vec![Op::Lock(op)])
    }

    /// Gives a lock back together with what was done under it.
    pub(super) fn release(&mut self) -> Option<Op> {
        let (name, lease) = self.ledger.locks.held()?;
        Some(Op::Lock(LockOp::Release { name: name.clone(), lease }))
    }

    /// A caller that waits is there until the leases run out, and keeps its place when its connection breaks.
    fn ask(&mut self) -> Acquire {
        let (what, mode) = match self.chance.below(2) {
            0 => ("alone", LockMode::Exclusive),
            _ => ("two", LockMode::Semaphore { permits: 2 }),
        };
        let ttl_ms = if self.chance.below(2) == 0 { LEASE_MS } else { 86_400_000 };
        let mut scope = [0; 16];
        scope[..8].copy_from_slice(&self.chance.next().to_le_bytes());
        scope[8..].copy_from_slice(&mix(self.acts, 0).to_le_bytes());
        Acquire {
            name: name_of(&self.ledger.queue, what),
            owner: Owner::new(&format!("act {}", self.acts)).expect("an owner"),
            mode,
            ttl_ms,
            delay_ms: 0,
            ticket: Some(Ticket { scope, fingerprint: [3; 16] }),
            wait_ms: LEASE_MS,
            visit: 1,
            again: false,
            keep_place: true,
        }
    }
}
