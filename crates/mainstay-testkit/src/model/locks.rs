//! Locks in a sequence: what may be asked, and what must hold of every lock.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::{
    LeaseId, Timestamp, Token,
    lock::{Acquire, LockMode, LockOp, LockRecord, LockReply, Owner, Ticket},
    name::Name,
    op::{Op, Reply, Require},
};
use proptest::{option, prelude::*};

use super::{
    play::Outcomes,
    step::{Pick, pick, time},
};
use crate::world::name;

/// How many locks, and how many tickets, there are in the world of a sequence.
pub(super) const LOCKS: u8 = 2;
pub(super) const TICKETS: u8 = 4;

#[derive(Clone, Debug)]
pub(super) enum DoLock {
    Acquire {
        lock: u8,
        mode: u8,
        ttl_ms: u64,
        delay_ms: u64,
        ticket: Option<u8>,
        body: u8,
        wait_ms: u64,
        visit: bool,
        again: bool,
        keep: bool,
    },
    Renew {
        grant: Pick,
        ttl_ms: Option<u64>,
    },
    Release {
        grant: Pick,
    },
    Break {
        lock: u8,
    },
    Withdraw {
        lock: u8,
        ticket: u8,
        visit: bool,
        may_return: bool,
    },
}

pub(super) fn op() -> impl Strategy<Value = DoLock> {
    let mode = prop_oneof![3 => Just(0_u8), 3 => Just(1), 3 => Just(2), 1 => Just(3)];
    let ttl = || prop_oneof![1 => 1..100_u64, 4 => 1_000..30_000_u64, 1 => Just(86_400_000)];
    let times = (ttl(), prop_oneof![5 => Just(0), 1 => 1..10_000_u64], prop_oneof![Just(0), 1..60_000_u64]);
    let ticket = (
        option::weighted(0.8, 0..TICKETS),
        prop_oneof![9 => Just(0_u8), 1 => Just(1)],
        any::<(bool, bool)>(),
    );
    let acquire =
        (0..LOCKS, mode, times, ticket).prop_map(|(lock, mode, times, (ticket, body, (keep, again)))| {
            let (ttl_ms, delay_ms, wait_ms) = times;
            let visit = keep && wait_ms % 2 == 1;
            DoLock::Acquire { lock, mode, ttl_ms, delay_ms, ticket, body, wait_ms, visit, again, keep }
        });
    let renewed = option::of(prop_oneof![9 => ttl(), 1 => time()]);
    prop_oneof![
        10 => acquire,
        3 => (pick(), renewed).prop_map(|(grant, ttl_ms)| DoLock::Renew { grant, ttl_ms }),
        6 => pick().prop_map(|grant| DoLock::Release { grant }),
        1 => (0..LOCKS).prop_map(|lock| DoLock::Break { lock }),
        2 => (0..LOCKS, 0..TICKETS, any::<bool>(), any::<bool>())
            .prop_map(|(lock, ticket, visit, may_return)| DoLock::Withdraw { lock, ticket, visit, may_return }),
    ]
}

/// One grant, as each side named it.
struct Granted {
    name: Name,
    tested: LeaseId,
    reference: LeaseId,
}

/// The grants of a sequence so far.
#[derive(Default)]
pub(super) struct Grants {
    all: Vec<Granted>,
    /// The tokens that were ever seen, a lock.
    seen: BTreeMap<Name, BTreeSet<Token>>,
}

impl Grants {
    /// The same op for both sides: they differ in the leases they know and, once one of them has `restarted`, in what
    /// they remember of withdrawals.
    pub(super) fn op(&self, op: &DoLock, restarted: bool) -> (Op, Op) {
        let both = |op: LockOp| (Op::Lock(op.clone()), Op::Lock(op));
        let sides = |grant: &Pick, make: &dyn Fn(Name, LeaseId) -> LockOp| {
            let (name, tested, reference) = self.grant(*grant);
            (Op::Lock(make(name.clone(), tested)), Op::Lock(make(name, reference)))
        };
        match op {
            DoLock::Acquire {
                lock,
                mode,
                ttl_ms,
                delay_ms,
                ticket: number,
                body,
                wait_ms,
                visit,
                again,
                keep,
            } => {
                let by = number.map_or("somebody".to_owned(), |n| format!("w{n}"));
                both(LockOp::Acquire(Box::new(Acquire {
                    name: lock_name(*lock),
                    owner: Owner::new(&by).expect("an owner"),
                    mode: MODES[usize::from(*mode)],
                    ttl_ms: *ttl_ms,
                    delay_ms: *delay_ms,
                    ticket: number.map(|n| ticket(n, *body)),
                    wait_ms: *wait_ms,
                    visit: u64::from(*visit),
                    again: *again && !restarted,
                    keep_place: *keep,
                })))
            }
            DoLock::Renew { grant, ttl_ms } => {
                sides(grant, &|name, lease| LockOp::Renew { name, lease, ttl_ms: *ttl_ms })
            }
            DoLock::Release { grant } => sides(grant, &|name, lease| LockOp::Release { name, lease }),
            DoLock::Break { lock } => both(LockOp::Break { name: lock_name(*lock) }),
            DoLock::Withdraw { lock, ticket: number, visit, may_return } => both(LockOp::Withdraw {
                name: lock_name(*lock),
                ticket: ticket(*number, 0),
                visit: u64::from(*visit),
                may_return: *may_return,
            }),
        }
    }

    /// The same requirement for both sides.
    pub(super) fn require(&self, grant: Pick) -> (Require, Require) {
        let (name, tested, reference) = self.grant(grant);
        let require = |lease: LeaseId| Require::Lock { name: name.clone(), token: lease.token };
        (require(tested), require(reference))
    }

    fn grant(&self, pick: Pick) -> (Name, LeaseId, LeaseId) {
        match self.all.len().checked_sub(pick.0 + 1).map(|at| &self.all[at]) {
            Some(granted) => (granted.name.clone(), granted.tested, granted.reference),
            None => {
                let none = LeaseId { token: Token(1), nonce: 1 };
                (lock_name(0), none, none)
            }
        }
    }

    /// Notes what both sides have granted.
    pub(super) fn note(&mut self, tested: &Reply, reference: &Reply) {
        let (Reply::Lock(LockReply::Granted(tested)), Reply::Lock(LockReply::Granted(reference))) =
            (tested, reference)
        else {
            return;
        };
        if self.all.iter().all(|granted| granted.tested != tested.lease) {
            let name = tested.name.clone();
            self.all.push(Granted { name, tested: tested.lease, reference: reference.lease });
        }
    }

    /// How both sides came to the same grants, at a moment when all have been collected.
    pub(super) fn picks(&self) -> impl Iterator<Item = Pick> + use<> {
        (0..self.all.len()).map(Pick)
    }

    /// Tokens of a lock only grow, and no lock is held by more than it may be, or free for one who waits.
    pub(super) fn hold(&mut self, locks: &[LockRecord], now: Timestamp) -> Outcomes {
        let mut tokens = BTreeSet::new();
        for lock in locks {
            well_formed(lock, now).map_err(|what| format!("{what}: {lock:?}"))?;
            if !lock.holders.iter().all(|holder| tokens.insert(holder.token)) {
                return Err(format!("a token was granted twice: {lock:?}"));
            }
            let seen = self.seen.entry(lock.name.clone()).or_default();
            let last = seen.last().copied().unwrap_or_default();
            let shown: BTreeSet<_> = lock.holders.iter().map(|holder| holder.token).collect();
            if let Some(token) = shown.difference(seen).find(|token| **token < last) {
                return Err(format!("token {token:?} was granted after {last:?}: {lock:?}"));
            }
            seen.extend(shown);
        }
        Ok(())
    }
}

fn well_formed(lock: &LockRecord, now: Timestamp) -> Outcomes {
    let holders = lock.holders.len();
    let most = match lock.mode {
        LockMode::Exclusive => 1,
        LockMode::Shared => usize::MAX,
        LockMode::Semaphore { permits } => permits as usize,
    };
    let delayed = lock.delayed_until.is_some();
    let next = lock.waiters.iter().find(|waiter| waiter.present);
    let rules = [
        (holders > 0 || delayed, "a lock that is shown is held"),
        (holders <= most, "a lock has no more holders than it may have"),
        (lock.holders.is_sorted_by(|a, b| a.token < b.token), "holders are shown by their tokens"),
        (lock.holders.iter().all(|holder| holder.expires_at > now), "a grant that ran out is no grant"),
        (lock.delayed_until.is_none_or(|at| at > now), "a delay that is over is none"),
        (lock.waiters.iter().zip(1..).all(|(waiter, n)| waiter.position == n), "the line has no gaps"),
        (lock.waiting == lock.waiters.len() as u64, "all who wait are shown"),
        (
            delayed || next.is_none_or(|next| !next.mode.fits(lock.mode, holders)),
            "whose turn it is does not wait",
        ),
    ];
    rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what.to_owned()))
}

/// After a release, the lock is held by those who held it besides, and by those in front of the line who fit.
pub(super) fn release_was_right(
    before: &LockRecord,
    released: Token,
    after: Option<&LockRecord>,
) -> Outcomes {
    if before.delayed_until.is_some() {
        return Ok(()); // who keeps others out is not shown
    }
    let rest = before.holders.iter().filter(|holder| holder.token != released);
    let mut expected: Vec<Owner> = rest.map(|holder| holder.owner.clone()).collect();
    let mut mode = before.mode;
    for next in before.waiters.iter().filter(|waiter| waiter.present) {
        if !next.mode.fits(mode, expected.len()) {
            break;
        }
        mode = next.mode;
        expected.push(next.owner.clone());
    }
    let holders = after.map(|lock| &lock.holders[..]).unwrap_or_default();
    let holders: Vec<Owner> = holders.iter().map(|holder| holder.owner.clone()).collect();
    if holders == expected {
        return Ok(());
    }
    Err(format!(
        "{holders:?} hold the lock after a release; by the line before it was {expected:?}'s turn: {before:?}"
    ))
}

const MODES: [LockMode; 4] = [
    LockMode::Exclusive,
    LockMode::Shared,
    LockMode::Semaphore { permits: 2 },
    LockMode::Semaphore { permits: 3 },
];

pub(super) fn lock_name(lock: u8) -> Name {
    name(["l", "l:2"][usize::from(lock)])
}

fn ticket(number: u8, body: u8) -> Ticket {
    Ticket { scope: [number; 16], fingerprint: [body; 16] }
}

/// Leaves out what a restarted store numbers in its own way.
pub(super) fn forget_numbers(reply: &mut LockReply) {
    match reply {
        LockReply::Granted(grant) => grant.lease = LeaseId { token: Token(0), nonce: 0 },
        LockReply::Broken(holders) => holders.iter_mut().for_each(|holder| holder.token = Token(0)),
        _ => {}
    }
}
