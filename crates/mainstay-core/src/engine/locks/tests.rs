//! What nobody sees from outside: indexes that agree with what they index, and commits that leave no trace.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, Lock, Locks};
use crate::{
    engine::{Engine, nothing::Nothing},
    id::JobIds,
    lease::{LeaseId, Token},
    lock::{Acquire, LockMode, LockOp, LockReply, Owner, Ticket},
    name::Name,
    op::{Commit, Op, Reply},
    rules::mix,
    store::Budget,
    time::{Now, StoreTime, Timestamp},
};

struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = mix(self.0, 1);
        self.0 % limit
    }
}

/// Everything about locks, to be compared.
fn picture(locks: &Locks) -> String {
    let holder =
        |h: &super::Holder| format!("{:?} {:?} {:?} {}", h.lease.token, h.mode, h.until, h.collected);
    let waiter = |w: &super::Waiter| format!("{:?} {:?} {:?}", w.ticket.scope[0], w.mode, w.visits);
    let lock = |(name, lock): (&Name, &Lock)| {
        let holders: Vec<_> = lock.holders.iter().map(|h| holder(h)).collect();
        let waiters: Vec<_> =
            lock.waiters.iter().map(|(place, w)| format!("{place} {}", waiter(w))).collect();
        format!("{name}: {holders:?} {waiters:?}")
    };
    let tickets: BTreeMap<_, _> = locks.tickets.iter().collect();
    let locks_are: Vec<_> = locks.by_name.iter().map(lock).collect();
    let (ends, withdrawn) = (&locks.ends, locks.withdrawn.picture());
    format!("{locks_are:?} {tickets:?} {ends:?} {withdrawn} {} {}", locks.grants, locks.waiters)
}

fn is_sound(locks: &Locks, now: StoreTime) {
    let (mut ends, mut tickets, mut counts) = (BTreeSet::new(), BTreeMap::new(), (0, 0));
    for (name, lock) in &locks.by_name {
        assert!(!lock.is_empty(), "a lock that nobody has or wants is forgotten");
        for holder in &lock.holders {
            let entry = Entry::Holder(holder.lease.token);
            ends.insert((holder.free_at(), name.clone(), entry));
            tickets.extend(holder.ticket.map(|ticket| ((name.clone(), ticket.scope), entry)));
            counts.0 += 1;
        }
        for (place, waiter) in &lock.waiters {
            let entry = Entry::Waiter(*place);
            ends.insert((waiter.timer, name.clone(), entry));
            tickets.insert((name.clone(), waiter.ticket.scope), entry);
            counts.1 += 1;
        }
        let mode = lock.holders.first().map(|holder| holder.mode);
        let holders = lock.holders.len();
        assert!(lock.holders.iter().all(|holder| Some(holder.mode) == mode));
        assert!(mode.is_none_or(|mode| mode.fits(mode, holders - 1)), "more holders than there may be");
        let next = lock.waiters.values().find(|waiter| waiter.is_present(now));
        assert!(next.is_none_or(|next| !lock.admits(next.mode)), "whose turn it is does not wait");
    }
    assert_eq!(locks.ends, ends);
    assert_eq!(
        locks.tickets.iter().map(|(key, entry)| (key.clone(), *entry)).collect::<BTreeMap<_, _>>(),
        tickets
    );
    assert_eq!((locks.grants, locks.waiters), counts);
    locks.withdrawn.is_sound();
}

fn op(chance: &mut Chance, leases: &[(Name, LeaseId)]) -> LockOp {
    let name = Name::new(["a", "b"][chance.below(2) as usize]).unwrap();
    let ticket = Ticket { scope: [chance.below(5) as u8; 16], fingerprint: [0; 16] };
    let lease = leases.get(chance.below(leases.len().max(1) as u64) as usize).cloned();
    match (chance.below(9), lease) {
        (0..=1, Some((name, lease))) => LockOp::Release { name, lease },
        (2, Some((name, lease))) => LockOp::Renew { name, lease, ttl_ms: None },
        (3, _) => LockOp::Withdraw { name, ticket, visit: chance.below(3), may_return: chance.below(2) == 0 },
        (4, _) if chance.below(4) == 0 => LockOp::Break { name },
        _ => LockOp::Acquire(Box::new(Acquire {
            name,
            owner: Owner::new("me").unwrap(),
            mode: [LockMode::Exclusive, LockMode::Shared, LockMode::Semaphore { permits: 2 }]
                [chance.below(3) as usize],
            ttl_ms: 1 + chance.below(3_000),
            delay_ms: chance.below(2) * chance.below(500),
            ticket: (chance.below(5) > 0).then_some(ticket),
            wait_ms: chance.below(2) * chance.below(5_000),
            visit: chance.below(3),
            again: chance.below(2) == 0,
            keep_place: chance.below(2) == 0,
        })),
    }
}

#[test]
fn indexes_agree_and_what_did_not_happen_leaves_no_trace() {
    for seed in 0..40 {
        let (mut chance, mut engine) = (Chance(seed), Engine::new());
        let (mut leases, mut last, mut changes) = (Vec::new(), Token(0), Vec::new());
        let unknown = JobIds::default().next(0, &Name::new("q").unwrap(), 0);
        let mut now = Now { wall: Timestamp(1_000_000), store: StoreTime(0) };
        for _ in 0..400 {
            now.store = now.store.plus_ms(chance.below(4) * chance.below(2_000));
            if chance.below(3) > 0 {
                while engine.maintain(Budget { rows: 3 }, now, &mut Nothing).unwrap().more {}
                engine.commit_group();
                is_sound(&engine.locks, now.store);
            }
            let before = picture(&engine.locks);
            let mut ops: Vec<Op> =
                (0..1 + chance.below(4)).map(|_| Op::Lock(op(&mut chance, &leases))).collect();
            let entropy = chance.below(u64::MAX);
            if chance.below(3) == 0 {
                ops.push(Op::Delete { id: unknown });
            }
            let commit = Commit { ops, entropy, ..Commit::default() };
            match engine.apply(&commit, now, &mut Nothing).unwrap() {
                Err(_) => assert_eq!(picture(&engine.locks), before, "seed {seed}"),
                Ok(_) if chance.below(6) == 0 => {
                    engine.rollback_group();
                    assert_eq!(picture(&engine.locks), before, "seed {seed}");
                }
                Ok(done) => {
                    engine.take_changes(&mut changes);
                    for reply in done.replies {
                        let Reply::Lock(LockReply::Granted(grant)) = reply else { continue };
                        if !leases.iter().any(|(_, lease)| *lease == grant.lease) {
                            leases.push((grant.name, grant.lease));
                        }
                        last = last.max(grant.lease.token);
                    }
                }
            }
            engine.commit_group();
            assert!(engine.counters().token >= last.0);
        }
        assert!(leases.len() > 20, "hardly anything was granted");
    }
}

#[test]
fn nothing_is_left_of_a_lock_that_nobody_wants() {
    let mut engine = Engine::new();
    let now = |ms| Now { wall: Timestamp(0), store: StoreTime(ms) };
    let acquire = |ticket: u8| {
        Op::Lock(LockOp::Acquire(Box::new(Acquire {
            name: Name::new("l").unwrap(),
            owner: Owner::new("me").unwrap(),
            mode: LockMode::Exclusive,
            ttl_ms: 10,
            delay_ms: 0,
            ticket: Some(Ticket { scope: [ticket; 16], fingerprint: [0; 16] }),
            wait_ms: 5,
            visit: 0,
            again: false,
            keep_place: true,
        })))
    };
    for ticket in 0..3 {
        engine.apply(&Commit::of(acquire(ticket), 1), now(0), &mut Nothing).unwrap().unwrap();
    }
    engine.commit_group();
    while let Some(at) = engine.next_lease_end() {
        engine.maintain(Budget::default(), now(at.0), &mut Nothing).unwrap();
        engine.commit_group();
    }
    assert_eq!(picture(&engine.locks), picture(&Locks::default()));
}
