//! What is over is over, whether or not anybody has tidied up: stores do so before each commit, so that nobody sees it
//! from outside.

use super::{Engine, nothing::Nothing};
use crate::{
    id::JobIds,
    job::{JobBody, NewJob, Outcome, When},
    lock::{Acquire, LockMode, LockOp, LockReply, Owner, Ticket},
    name::Name,
    op::{Claim, Commit, Op, Reason, Reply, Settle},
    time::{Now, StoreTime, Timestamp},
};

const MS: u64 = 1_000;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// One op at that time, and nothing else.
fn at(engine: &mut Engine, ms: u64, op: Op) -> Result<Reply, Reason> {
    let now = Now { wall: Timestamp(ms as i64), store: StoreTime(ms) };
    let applied =
        engine.apply(&Commit::of(op, 1), now, &mut Nothing).expect("the archive has nothing to fail");
    applied.map(|mut committed| committed.replies.remove(0)).map_err(|refused| refused.reason)
}

fn claim(engine: &mut Engine, ms: u64) -> Vec<crate::job::Grant> {
    let queues = vec![name("q")];
    let claim = Claim { queues, max: 9, max_bytes: 1 << 20, lease_ms: MS, worker: None };
    match at(engine, ms, Op::Claim(claim)) {
        Ok(Reply::Claimed(grants)) => grants,
        other => panic!("{other:?}"),
    }
}

fn enqueue(engine: &mut Engine, expires: Option<When>) {
    let id = JobIds::default().next(0, &name("q"), 0);
    let job = NewJob { expires, ..NewJob::new(id, name("q"), JobBody::new("work", "1")) };
    at(engine, 0, Op::Enqueue(Box::new(job))).unwrap();
}

#[test]
fn an_expired_job_is_not_handed_out_though_nobody_has_tidied_up() {
    for (ms, granted) in [(MS - 1, 1), (MS, 0)] {
        let mut engine = Engine::new();
        enqueue(&mut engine, Some(When::In(MS)));
        assert_eq!(claim(&mut engine, ms).len(), granted, "at {ms}");
    }
}

#[test]
fn a_lease_that_ran_out_ends_no_job_though_nobody_has_tidied_up() {
    for (ms, is_late) in [(MS - 1, false), (MS, true)] {
        let mut engine = Engine::new();
        enqueue(&mut engine, None);
        let grant = claim(&mut engine, 0).remove(0);
        let outcome = Outcome::Complete { result: None };
        let settle = Settle { id: grant.id, lease: grant.lease, outcome, repeat_is_ok: true };
        let settled = at(&mut engine, ms, Op::Settle(settle));
        assert_eq!(settled.err(), is_late.then_some(Reason::LeaseLost), "at {ms}");
    }
}

/// Asks for a lock as one of two, who waits for a moment.
fn acquire(who: u8, wait_ms: u64) -> Op {
    let ticket = Some(Ticket { scope: [who; 16], fingerprint: [0; 16] });
    Op::Lock(LockOp::Acquire(Box::new(Acquire {
        name: name("l"),
        owner: Owner::new(&format!("{who}")).unwrap(),
        mode: LockMode::Exclusive,
        ttl_ms: 100 * MS,
        delay_ms: 0,
        ticket,
        wait_ms,
        visit: 0,
        again: false,
        keep_place: false,
    })))
}

#[test]
fn a_waiter_that_is_gone_is_handed_nothing_though_nobody_has_tidied_up() {
    for (ms, owner) in [(MS - 1, Some("2")), (MS, None)] {
        let mut engine = Engine::new();
        let Ok(Reply::Lock(LockReply::Granted(held))) = at(&mut engine, 0, acquire(1, 0)) else { panic!() };
        at(&mut engine, 0, acquire(2, MS)).unwrap();
        let release = LockOp::Release { name: name("l"), lease: held.lease };
        at(&mut engine, ms, Op::Lock(release)).unwrap();
        let now = Now { wall: Timestamp(ms as i64), store: StoreTime(ms) };
        let holder = engine.lock("l", now).map(|lock| lock.holders[0].owner.to_string());
        assert_eq!(holder.as_deref(), owner, "at {ms}");
    }
}

#[test]
fn a_lock_that_ran_out_is_renewed_by_nobody_though_nobody_has_tidied_up() {
    for (ms, is_late) in [(100 * MS - 1, false), (100 * MS, true)] {
        let mut engine = Engine::new();
        let Ok(Reply::Lock(LockReply::Granted(held))) = at(&mut engine, 0, acquire(1, 0)) else { panic!() };
        let renew = LockOp::Renew { name: name("l"), lease: held.lease, ttl_ms: None };
        assert_eq!(
            at(&mut engine, ms, Op::Lock(renew)).err(),
            is_late.then_some(Reason::LockLost),
            "at {ms}"
        );
    }
}
