//! Tickets: an acquire that is sent again is the same acquire.

use mainstay_core::{
    lock::{
        Acquire, COLLECT_MS, LockInterest, LockOp, LockReply, MAX_WAITERS, PLACE_KEPT_MS, Ticket, WAIT_MS,
    },
    op::{Op, Reason, Reply},
    store::Interest,
};

use super::waits::{LONG, Waiters};
use crate::world::{
    LEASE_MS, World,
    locks::{ask, poll, ticket, wait, withdraw_op},
    name,
};

pub(super) async fn a_ticket_sent_again_gets_the_same_grant(w: &mut World) {
    let first = w.lock(poll(ask("l", "a"))).await;
    w.advance(10);
    assert_eq!(w.lock(poll(ask("l", "a"))).await, first);
    w.held(ask("l", "a")).await;
    assert_eq!(w.holders("l").await, ["a"]);
    w.unlock(&first).await;
}

pub(super) async fn a_ticket_whose_grant_has_ended_is_an_ordinary_acquire(w: &mut World) {
    let first = w.lock(poll(ask("l", "a"))).await;
    w.unlock(&first).await;
    let second = w.lock(poll(ask("l", "a"))).await;
    assert!(second.token() > first.token());
    w.advance(LEASE_MS);
    let third = w.lock(poll(ask("l", "a"))).await;
    assert!(third.token() > second.token());
    w.advance(LEASE_MS);
    w.lock(ask("l", "b")).await;
    assert_eq!(w.queue_up(poll(ask("l", "a"))).await.position, Some(1));
}

pub(super) async fn the_same_ticket_with_another_body_is_a_mistake(w: &mut World) {
    let other =
        |ask: Acquire| Acquire { ticket: ask.ticket.map(|t| Ticket { fingerprint: [2; 16], ..t }), ..ask };
    let held = w.lock(poll(ask("l", "a"))).await;
    w.queue_up(poll(ask("l", "b"))).await;
    for owner in ["a", "b"] {
        assert_eq!(w.try_lock(other(poll(ask("l", owner)))).await, Err(Reason::IdempotencyMismatch));
    }
    w.unlock(&held).await;
    w.lock(poll(ask("l", "b"))).await;
    w.queue_up(other(poll(ask("l", "a")))).await;
}

pub(super) async fn a_ticket_is_the_business_of_its_lock(w: &mut World) {
    let here = w.lock(poll(ask("here", "a"))).await;
    let there = w.lock(poll(ask("there", "a"))).await;
    assert_ne!(here.token(), there.token());
}

pub(super) async fn a_ticket_without_a_wait_gets_a_place_too(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    let waiting = w.queue_up(poll(ask("l", "b"))).await;
    assert_eq!((waiting.position, waiting.waiters), (Some(1), 1));
    assert_eq!(w.held(ask("l", "c")).await.waiters, 1, "it counts while it keeps its place");
    let shown = w.show_lock("l").await.expect("held").waiters.remove(0);
    assert_eq!((shown.position, shown.present, shown.since), (1, false, w.now()));
    w.unlock(&held).await;
    w.lock(poll(ask("l", "b"))).await;
}

pub(super) async fn a_ticket_keeps_its_place_for_ten_seconds(w: &mut World) {
    w.lock(Acquire { ttl_ms: 100_000, ..ask("l", "a") }).await;
    w.queue_up(poll(ask("l", "b"))).await;
    w.queue_up(wait(ask("l", "c"))).await;
    w.advance(PLACE_KEPT_MS - 1);
    assert_eq!(w.queue_up(poll(ask("l", "b"))).await.position, Some(1));
    w.advance(PLACE_KEPT_MS);
    assert_eq!(w.line("l").await, ["c"]);
    assert_eq!(w.queue_up(poll(ask("l", "b"))).await.position, Some(2), "it starts again");
}

pub(super) async fn a_poller_that_waits_longer_than_a_minute_keeps_its_place(w: &mut World) {
    let held = w.lock(Acquire { ttl_ms: 1_000_000, ..ask("l", "a") }).await;
    let long_poll = || Acquire { wait_ms: 60_000, ..poll(ask("l", "b")) };
    w.queue_up(long_poll()).await;
    w.queue_up(wait(ask("l", "c"))).await;
    for _ in 0..5 {
        // Its request ends after a minute, and it needs some seconds to come again.
        w.advance(60_000 + PLACE_KEPT_MS - 1);
        assert_eq!(w.queue_up(long_poll()).await.position, Some(1));
    }
    w.queue_up(wait(ask("l", "c"))).await;
    w.unlock(&held).await;
    assert_eq!(w.holders("l").await, ["b"]);
}

pub(super) async fn an_absent_ticket_is_passed_over_and_keeps_its_place(w: &mut World) {
    let held = w.lock(Acquire { ttl_ms: 100_000, ..ask("l", "a") }).await;
    w.queue_up(poll(ask("l", "b"))).await;
    w.queue_up(wait(ask("l", "c"))).await;
    w.queue_up(wait(ask("l", "d"))).await;
    w.unlock(&held).await;
    assert_eq!((w.holders("l").await, w.line("l").await), (vec!["c".into()], vec!["b".into(), "d".into()]));
    let held = w.lock(wait(ask("l", "c"))).await;
    assert_eq!(w.queue_up(wait(ask("l", "b"))).await.position, Some(1));
    w.unlock(&held).await;
    assert_eq!(w.holders("l").await, ["b"], "it is there now");
}

pub(super) async fn an_absent_ticket_keeps_nobody_from_a_free_lock(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    w.queue_up(poll(ask("l", "b"))).await;
    w.unlock(&held).await;
    assert_eq!(w.show_lock("l").await, None, "it is free");
    let passing = w.lock(ask("l", "c")).await;
    assert_eq!(w.line("l").await, ["b"]);
    w.unlock(&passing).await;
    w.lock(poll(ask("l", "b"))).await;
}

pub(super) async fn a_ticket_without_a_connection_may_return(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    let b = Acquire { wait_ms: 60_000, ..poll(ask("l", "b")) };
    w.queue_up(b.clone()).await;
    w.op(withdraw_op(&b, true)).await;
    w.advance(PLACE_KEPT_MS - 1);
    assert_eq!(w.line("l").await, ["b"]);
    assert_eq!(w.queue_up(b.clone()).await.position, Some(1));
    w.op(withdraw_op(&b, true)).await;
    w.op(withdraw_op(&b, true)).await;
    w.advance(PLACE_KEPT_MS);
    assert_eq!(w.line("l").await, [""; 0]);
    // One that would not come again leaves at once.
    w.queue_up(wait(ask("l", "c"))).await;
    w.op(withdraw_op(&wait(ask("l", "c")), true)).await;
    assert_eq!(w.line("l").await, [""; 0]);
    w.unlock(&held).await;
}

/// One ticket over two connections.
fn visit(number: u64) -> Acquire {
    Acquire { wait_ms: 60_000, visit: number, ..poll(ask("l", "b")) }
}

pub(super) async fn the_end_of_an_old_connection_is_not_the_end_of_the_new_one(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    w.queue_up(visit(1)).await;
    w.queue_up(visit(2)).await;
    w.op(withdraw_op(&visit(1), true)).await;
    w.op(withdraw_op(&visit(3), true)).await;
    assert!(w.show_lock("l").await.expect("held").waiters[0].present, "the new one waits");
    w.unlock(&held).await;
    assert_eq!(w.holders("l").await, ["b"]);
    let held = w.lock(visit(2)).await;
    w.unlock(&held).await;
    // Without any it is passed over.
    let held = w.lock(ask("l", "a")).await;
    w.queue_up(visit(1)).await;
    w.queue_up(visit(2)).await;
    w.op(withdraw_op(&visit(2), true)).await;
    w.op(withdraw_op(&visit(1), true)).await;
    w.unlock(&held).await;
    assert_eq!(w.show_lock("l").await, None, "it is free");
    let held = w.lock(visit(3)).await;
    w.unlock(&held).await;
    // Of many at a time the latest count.
    let held = w.lock(ask("l", "a")).await;
    for number in 0..100 {
        w.queue_up(visit(number)).await;
    }
    for number in 0..99 {
        w.op(withdraw_op(&visit(number), true)).await;
    }
    w.unlock(&held).await;
    assert_eq!(w.holders("l").await, ["b"]);
}

pub(super) async fn a_last_look_does_not_end_the_wait_of_another_request(w: &mut World) {
    for keep_place in [true, false] {
        let held = w.lock(ask("l", "a")).await;
        let new = || Acquire { keep_place, ..visit(2) };
        w.queue_up(new()).await;
        let last_look = Acquire { wait_ms: 0, keep_place, ..visit(1) };
        assert_eq!(w.queue_up(last_look).await.position, Some(1), "keeps: {keep_place}");
        w.unlock(&held).await;
        assert_eq!(w.holders("l").await, ["b"], "keeps: {keep_place}");
        let held = w.lock(new()).await;
        w.unlock(&held).await;
    }
}

pub(super) async fn who_asked_something_else_under_the_same_key_withdraws_nothing(w: &mut World) {
    let other =
        || Acquire { ticket: visit(1).ticket.map(|t| Ticket { fingerprint: [2; 16], ..t }), ..visit(1) };
    let held = w.lock(ask("l", "a")).await;
    w.queue_up(visit(1)).await;
    for may_return in [true, false] {
        w.op(withdraw_op(&other(), may_return)).await;
    }
    w.unlock(&held).await;
    assert_eq!(w.holders("l").await, ["b"]);
    let held = w.lock(visit(1)).await;
    w.op(withdraw_op(&other(), false)).await;
    w.unlock(&held).await;
}

/// The same request asks again, as one does that waits on.
fn again(number: u64) -> Op {
    Op::Lock(LockOp::Acquire(Box::new(Acquire { again: true, ..visit(number) })))
}

/// [`visit`] is refused, and leaves nothing behind.
async fn is_over(w: &World, number: u64) {
    let before = w.show_lock("l").await;
    assert!(matches!(w.refused(again(number)).await, Reason::StateConflict(_)));
    assert_eq!(w.show_lock("l").await, before);
}

pub(super) async fn a_request_that_waits_is_over_when_its_ticket_is_withdrawn(w: &mut World) {
    // While it waits: the lock goes to the next, and then to nobody.
    let held = w.lock(ask("l", "a")).await;
    w.queue_up(visit(1)).await;
    w.queue_up(wait(ask("l", "c"))).await;
    w.op(withdraw_op(&visit(9), false)).await;
    is_over(w, 1).await;
    w.unlock(&held).await;
    assert_eq!((w.holders("l").await, w.line("l").await), (vec!["c".into()], vec![]));
    let held = w.lock(wait(ask("l", "c"))).await;
    w.unlock(&held).await;
    is_over(w, 1).await;
    // When it was handed the lock, whether another request has collected that or not.
    for collects in [false, true] {
        let held = w.lock(ask("l", "a")).await;
        w.queue_up(visit(3)).await;
        w.queue_up(visit(4)).await;
        w.unlock(&held).await;
        if collects {
            w.lock(visit(4)).await;
        }
        w.op(withdraw_op(&visit(9), false)).await;
        assert_eq!(w.show_lock("l").await, None, "it is free");
        is_over(w, 3).await;
    }
    // For as long as any may wait without saying so again.
    w.advance(WAIT_MS - 1);
    is_over(w, 3).await;
    // One whose end was noticed before may come again.
    let held = w.lock(ask("l", "a")).await;
    w.queue_up(visit(5)).await;
    w.op(withdraw_op(&visit(5), true)).await;
    w.queue_up(visit(6)).await;
    w.unlock(&held).await;
    w.op(again(6)).await;
}

pub(super) async fn who_comes_anew_under_a_withdrawn_ticket_waits_as_usual(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    w.queue_up(visit(1)).await;
    w.op(withdraw_op(&visit(9), false)).await;
    w.queue_up(visit(2)).await;
    // The old request neither speaks for the new one nor takes what is handed to it.
    is_over(w, 1).await;
    w.unlock(&held).await;
    is_over(w, 1).await;
    assert!(matches!(w.op(again(2)).await, Reply::Lock(LockReply::Granted(_))));
    // Withdrawn once more, both are over.
    w.op(withdraw_op(&visit(9), false)).await;
    for number in [1, 2] {
        is_over(w, number).await;
    }
    let held = w.lock(visit(3)).await;
    w.unlock(&held).await;
}

pub(super) async fn who_was_late_is_not_taken_for_withdrawn(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    w.queue_up(visit(1)).await;
    w.op(withdraw_op(&visit(9), false)).await;
    // It comes after that, is handed the lock, and away for a moment: the lock goes to the next.
    w.queue_up(visit(2)).await;
    let next = || Acquire { ttl_ms: 1_000_000, ..wait(ask("l", "c")) };
    w.queue_up(next()).await;
    w.unlock(&held).await;
    w.advance(COLLECT_MS);
    let held = w.lock(next()).await;
    w.op(again(2)).await;
    assert_eq!(w.line("l").await, ["b"], "it waits on");
    // Away for so long that its place is lost.
    w.advance(WAIT_MS + PLACE_KEPT_MS - 1);
    w.queue_up(wait(ask("l", "d"))).await;
    w.advance(1);
    w.op(again(2)).await;
    assert_eq!(w.line("l").await, ["d", "b"], "at the end of the line");
    w.unlock(&held).await;
}

pub(super) async fn who_waits_is_woken_when_its_place_is_gone(w: &mut World) {
    w.lock(ask("l", "a")).await;
    w.queue_up(visit(1)).await;
    let granted = LockInterest::Granted { name: name("l"), scope: ticket("b").scope };
    let mut b = Waiters::on(w, 1, &[Interest::Lock(granted)], LONG).await;
    w.op(withdraw_op(&visit(2), false)).await;
    assert!(b.next().await.is_woken());
}

pub(super) async fn a_ticket_collects_what_it_was_handed_when_its_connection_broke(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    let b = Acquire { wait_ms: 60_000, ..poll(ask("l", "b")) };
    w.queue_up(b.clone()).await;
    w.unlock(&held).await;
    w.op(withdraw_op(&b, true)).await;
    w.advance(9_999);
    let grant = w.lock(b.clone()).await;
    assert_eq!(grant.expires_at, w.now().plus_ms(LEASE_MS));
    w.op(withdraw_op(&b, true)).await;
    assert_eq!(w.lock(b).await, grant, "the answer may have been lost, its time runs all the same");
}

pub(super) async fn a_commit_that_has_to_wait_is_not_kept_under_a_key(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    let key = Some(ticket("commit"));
    let commit = |w: &World| {
        let acquire = Op::Lock(LockOp::Acquire(Box::new(wait(ask("l", "b")))));
        mainstay_core::op::Commit { key, ..w.ops([acquire]) }
    };
    assert!(!w.commit(commit(w)).await.expect("it waits").repeated);
    w.unlock(&held).await;
    let done = w.commit(commit(w)).await.expect("it is granted");
    assert!(matches!(&done.replies[..], [Reply::Lock(LockReply::Granted(_))]));
    assert!(w.commit(commit(w)).await.expect("again").repeated);
}

pub(super) async fn the_line_of_a_lock_is_bounded(w: &mut World) {
    w.lock(ask("l", "a")).await;
    let acquire = |n: usize| {
        let ask = Acquire { ticket: Some(ticket(&format!("{n:016}"))), ..wait(ask("l", "w")) };
        Op::Lock(LockOp::Acquire(Box::new(ask)))
    };
    let commit = w.ops((0..MAX_WAITERS).map(acquire));
    w.commit(commit).await.expect("as many as there may be");
    match w.refused(acquire(MAX_WAITERS)).await {
        Reason::LocksFull { what, limit, .. } => assert_eq!((what, limit), ("waiters", 10_000)),
        other => panic!("{other:?}"),
    }
    w.op(acquire(7)).await;
    w.held(ask("l", "a try")).await;
    let shown = w.show_lock("l").await.expect("held");
    assert_eq!((shown.waiters.len(), shown.waiting), (1_000, MAX_WAITERS as u64));
    w.lock(ask("other", "a")).await;
}
