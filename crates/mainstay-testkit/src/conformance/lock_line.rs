//! The line of a lock: first come, first served, and nobody waits for the dead.

use std::time::Duration;

use mainstay_core::{
    lock::{Acquire, COLLECT_MS, LockInterest, LockMode, LockReply},
    op::Reply,
    store::Interest,
};

use super::waits::{LONG, Waiters};
use crate::world::{
    LEASE_MS, World,
    locks::{TWO, ask, ask_in, last_look, release_op, ticket, wait, withdraw_op},
    name,
};

const SHARED: LockMode = LockMode::Shared;

fn reader(owner: &str) -> Acquire {
    wait(ask_in(SHARED, "l", owner))
}

fn writer(owner: &str) -> Acquire {
    wait(ask("l", owner))
}

fn granted(owner: &str) -> [Interest; 1] {
    [Interest::Lock(LockInterest::Granted { name: name("l"), scope: ticket(owner).scope })]
}

pub(super) async fn waiters_are_served_in_the_order_they_came(w: &mut World) {
    let mut held = w.lock(ask("l", "a")).await;
    for (n, owner) in ["b", "c", "d"].into_iter().enumerate() {
        let waiting = w.queue_up(writer(owner)).await;
        assert_eq!((waiting.position, waiting.waiters), (Some(n as u64 + 1), n as u64 + 1));
    }
    assert_eq!(w.line("l").await, ["b", "c", "d"]);
    for owner in ["b", "c", "d"] {
        w.unlock(&held).await;
        let next = w.lock(writer(owner)).await;
        assert!(next.token() > held.token());
        held = next;
    }
    w.unlock(&held).await;
    assert_eq!(w.show_lock("l").await, None);
}

pub(super) async fn a_release_hands_over_in_the_same_commit(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    w.queue_up(writer("b")).await;
    let commit = w.ops([release_op(&held)]);
    w.commit(commit).await.expect("release");
    assert_eq!(w.holders("l").await, ["b"]);
    w.held(ask("l", "c")).await;
}

pub(super) async fn a_reader_behind_a_waiting_writer_waits(w: &mut World) {
    let read = w.lock(ask_in(SHARED, "l", "a")).await;
    w.queue_up(writer("b")).await;
    w.held(ask_in(SHARED, "l", "c")).await;
    w.queue_up(reader("c")).await;
    w.unlock(&read).await;
    assert_eq!(w.holders("l").await, ["b"], "the writer is not starved");
}

pub(super) async fn those_in_front_who_fit_together_are_granted_together(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    for ask in [reader("b"), reader("c"), writer("d"), reader("e")] {
        w.queue_up(ask).await;
    }
    w.unlock(&held).await;
    assert_eq!(
        (w.holders("l").await, w.line("l").await),
        (vec!["b".into(), "c".into()], vec!["d".into(), "e".into()])
    );
    for ask in [reader("b"), reader("c"), writer("d")] {
        let held = w.lock(ask).await;
        w.unlock(&held).await;
    }
    assert_eq!(w.holders("l").await, ["e"]);
}

pub(super) async fn a_semaphore_hands_on_each_permit(w: &mut World) {
    let permit = |owner| wait(ask_in(TWO, "l", owner));
    let one = w.lock(permit("a")).await;
    let two = w.lock(permit("b")).await;
    for owner in ["c", "d"] {
        w.queue_up(permit(owner)).await;
    }
    w.queue_up(writer("e")).await;
    w.unlock(&one).await;
    assert_eq!(w.holders("l").await, ["b", "c"]);
    w.unlock(&two).await;
    assert_eq!((w.holders("l").await, w.line("l").await), (vec!["c".into(), "d".into()], vec!["e".into()]));
}

pub(super) async fn nobody_overtakes_one_who_waits(w: &mut World) {
    let held = w.lock(ask_in(TWO, "l", "a")).await;
    w.queue_up(writer("b")).await;
    // There is a permit left, but somebody was there first.
    w.held(ask_in(TWO, "l", "c")).await;
    w.queue_up(wait(ask_in(TWO, "l", "c"))).await;
    w.unlock(&held).await;
    assert_eq!((w.holders("l").await, w.line("l").await), (vec!["b".into()], vec!["c".into()]));
}

pub(super) async fn a_hand_over_wakes_the_one_it_is_for(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    w.queue_up(writer("b")).await;
    w.queue_up(writer("c")).await;
    let mut b = Waiters::on(w, 1, &granted("b"), LONG).await;
    let mut c = Waiters::on(w, 1, &granted("c"), LONG).await;
    w.unlock(&held).await;
    assert!(b.next().await.is_woken());
    assert!(c.ended(w).await.is_empty(), "it is not its turn");
    let late = w.store().wait(&granted("b"), LONG).await.expect("wait");
    assert!(late.is_woken(), "it has been handed over already");
    let held = w.lock(writer("b")).await;
    w.unlock(&held).await;
    assert!(c.next().await.is_woken());
}

pub(super) async fn one_who_does_not_wait_is_not_waited_for(w: &mut World) {
    w.lock(ask("l", "a")).await;
    let none = w.store().wait(&granted("nobody"), LONG).await.expect("wait");
    assert!(none.is_woken());
    w.queue_up(writer("b")).await;
    let mut waiters = Waiters::on(w, 1, &granted("b"), Duration::from_millis(500)).await;
    w.advance(500);
    assert!(!waiters.next().await.is_woken());
}

pub(super) async fn an_expiry_hands_over(w: &mut World) {
    w.lock(ask("l", "a")).await;
    w.queue_up(writer("b")).await;
    let mut b = Waiters::on(w, 1, &granted("b"), LONG).await;
    w.lose(LEASE_MS).await;
    assert!(b.next().await.is_woken());
    assert_eq!(w.holders("l").await, ["b"]);
}

pub(super) async fn who_watches_a_lock_hears_of_every_new_holder(w: &mut World) {
    let changed = |seen| [Interest::Lock(LockInterest::Changed { name: name("l"), seen })];
    let mut free = Waiters::on(w, 1, &changed(None), LONG).await;
    let held = w.lock(ask("l", "a")).await;
    assert!(free.next().await.is_woken());
    assert!(w.store().wait(&changed(None), LONG).await.expect("wait").is_woken());
    let mut same = Waiters::on(w, 1, &changed(Some(held.token())), LONG).await;
    w.lock(ask("other", "a")).await;
    assert!(same.ended(w).await.is_empty());
    w.lose(LEASE_MS).await;
    assert!(same.next().await.is_woken(), "nobody holds it any more");
}

pub(super) async fn a_dead_waiter_is_skipped(w: &mut World) {
    let held = w.lock(Acquire { ttl_ms: 100_000, ..ask("l", "a") }).await;
    w.queue_up(writer("dead")).await;
    w.advance(30_000);
    w.queue_up(writer("alive")).await;
    w.advance(30_000);
    w.unlock(&held).await;
    assert_eq!(w.holders("l").await, ["alive"], "the other has not been there for a minute");
    assert_eq!(w.line("l").await, [""; 0]);
}

pub(super) async fn a_waiter_that_comes_again_in_time_keeps_its_place(w: &mut World) {
    let held = w.lock(Acquire { ttl_ms: 200_000, ..ask("l", "a") }).await;
    w.queue_up(writer("b")).await;
    w.queue_up(writer("c")).await;
    for _ in 0..3 {
        w.advance(50_000);
        assert_eq!(w.queue_up(writer("b")).await.position, Some(1));
        w.queue_up(writer("c")).await;
    }
    w.unlock(&held).await;
    assert_eq!(w.holders("l").await, ["b"]);
}

pub(super) async fn the_last_look_leaves_the_line(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    w.queue_up(writer("b")).await;
    assert_eq!(w.queue_up(last_look(ask("l", "b"))).await.position, None);
    assert_eq!(w.line("l").await, [""; 0]);
    w.queue_up(writer("c")).await;
    w.unlock(&held).await;
    w.lock(last_look(ask("l", "c"))).await;
}

pub(super) async fn those_behind_a_waiter_that_leaves_pass(w: &mut World) {
    w.lock(ask_in(SHARED, "l", "a")).await;
    w.queue_up(writer("b")).await;
    w.queue_up(reader("c")).await;
    w.op(withdraw_op(&writer("b"), false)).await;
    assert_eq!((w.holders("l").await, w.line("l").await), (vec!["a".into(), "c".into()], vec![]));
    w.queue_up(writer("d")).await;
    w.queue_up(reader("e")).await;
    w.queue_up(last_look(ask("l", "d"))).await;
    assert_eq!(w.holders("l").await, ["a", "c", "e"]);
}

pub(super) async fn those_behind_a_waiter_that_dies_pass(w: &mut World) {
    w.lock(Acquire { ttl_ms: 100_000, ..ask_in(SHARED, "l", "a") }).await;
    w.queue_up(Acquire { wait_ms: 5_000, ..writer("b") }).await;
    w.queue_up(reader("c")).await;
    let mut c = Waiters::on(w, 1, &granted("c"), LONG).await;
    w.advance(4_999);
    assert!(c.ended(w).await.is_empty());
    w.lose(0).await;
    assert!(c.next().await.is_woken());
    assert_eq!(w.holders("l").await, ["a", "c"]);
}

pub(super) async fn a_grant_that_nobody_collects_goes_to_the_next(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    w.queue_up(Acquire { ttl_ms: 86_400_000, ..writer("b") }).await;
    w.queue_up(writer("c")).await;
    w.unlock(&held).await;
    w.advance(COLLECT_MS - 1);
    assert_eq!(w.holders("l").await, ["b"]);
    w.lose(0).await;
    assert_eq!(w.holders("l").await, ["c"]);
}

pub(super) async fn the_time_of_a_handed_over_grant_begins_when_it_is_collected(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    let short = Acquire { ttl_ms: 5, ..writer("b") };
    w.queue_up(short.clone()).await;
    w.unlock(&held).await;
    w.advance(1_000);
    let grant = w.lock(short.clone()).await;
    assert_eq!(grant.expires_at, w.now().plus_ms(5));
    w.advance(4);
    assert_eq!(w.lock(short.clone()).await.expires_at, w.now().plus_ms(1), "once");
    w.advance(1);
    w.is_lost(&grant).await;
}

pub(super) async fn one_who_gives_up_gives_back_what_it_was_handed(w: &mut World) {
    for collected in [false, true] {
        let held = w.lock(ask("l", "a")).await;
        w.queue_up(writer("b")).await;
        w.queue_up(writer("c")).await;
        w.unlock(&held).await;
        if collected {
            w.lock(writer("b")).await;
        }
        assert_eq!(w.op(withdraw_op(&writer("b"), false)).await, Reply::Lock(LockReply::Withdrawn));
        assert_eq!(w.holders("l").await, ["c"], "collected: {collected}");
        w.op(withdraw_op(&writer("c"), false)).await;
        assert_eq!(w.show_lock("l").await, None);
        w.op(withdraw_op(&writer("c"), false)).await;
    }
}
