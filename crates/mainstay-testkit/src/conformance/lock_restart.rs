//! What a durable store still knows of locks when it is opened again.

use mainstay_core::{lock::Acquire, op::Reply};

use crate::world::{
    LEASE_MS, World,
    locks::{TWO, ask, ask_in, poll, renew_op, wait},
};

pub(super) async fn a_lock_survives_a_restart_with_its_full_time(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    let permits = [w.lock(ask_in(TWO, "s", "b")).await, w.lock(ask_in(TWO, "s", "c")).await];
    w.op(renew_op(&permits[0], Some(2 * LEASE_MS))).await;
    w.advance(LEASE_MS - 1_000);
    w.enqueue(w.job("q")).await;
    w.reopen().await;
    assert_eq!(w.holders("s").await, ["b", "c"]);
    let holder = w.show_lock("l").await.expect("held").holders.remove(0);
    assert_eq!((holder.token, holder.expires_at), (held.token(), w.now().plus_ms(LEASE_MS)));
    w.reopen().await;
    w.advance(LEASE_MS - 1);
    w.held(ask("l", "b")).await;
    w.unlock(&held).await;
    w.advance(1);
    w.is_lost(&permits[1]).await;
    w.advance(LEASE_MS - 1);
    w.unlock(&permits[0]).await;
}

pub(super) async fn a_lock_that_was_lost_stays_lost_after_a_restart(w: &mut World) {
    let lost = w.lock(ask("l", "a")).await;
    let released = w.lock(ask("r", "a")).await;
    w.unlock(&released).await;
    w.advance(LEASE_MS);
    w.maintain().await;
    w.reopen().await;
    w.is_lost(&lost).await;
    w.is_lost(&released).await;
    assert_eq!(w.locks(None, 10).await, []);
}

pub(super) async fn tokens_of_locks_grow_over_a_restart(w: &mut World) {
    let mut last = w.lock(ask("l", "a")).await;
    w.unlock(&last).await;
    // The lock is forgotten, its tokens are not; nor does a wall clock that was set back take them back.
    for step in [0, -86_400_000] {
        w.clock().step_wall(step);
        w.reopen().await;
        let next = w.lock(ask("l", "a")).await;
        assert!(next.token() > last.token());
        w.unlock(&next).await;
        last = next;
    }
}

pub(super) async fn places_are_kept_over_a_restart(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    for owner in ["b", "c"] {
        w.queue_up(poll(ask("l", owner))).await;
    }
    w.queue_up(wait(ask("l", "gone"))).await;
    w.advance(9_000);
    w.reopen().await;
    assert_eq!(w.line("l").await, ["b", "c"], "one that would not come again has left with its connection");
    w.advance(9_000);
    assert_eq!(w.queue_up(poll(ask("l", "b"))).await.position, Some(1));
    w.advance(1_000);
    assert_eq!(w.line("l").await, ["b"]);
    w.queue_up(poll(ask("l", "d"))).await;
    assert_eq!(w.line("l").await, ["b", "d"]);
    w.unlock(&held).await;
    w.lock(poll(ask("l", "b"))).await;
}

pub(super) async fn a_ticket_collects_its_grant_after_a_restart(w: &mut World) {
    let direct = w.lock(poll(ask("direct", "a"))).await;
    let held = w.lock(ask("l", "a")).await;
    let b = Acquire { wait_ms: 60_000, ..poll(ask("l", "b")) };
    w.queue_up(b.clone()).await;
    w.unlock(&held).await;
    w.reopen().await;
    assert_eq!(w.lock(poll(ask("direct", "a"))).await.lease, direct.lease);
    let grant = w.lock(b.clone()).await;
    assert_eq!(grant.expires_at, w.now().plus_ms(LEASE_MS), "its time runs since the restart");
    w.advance(1);
    assert_eq!(w.lock(b).await, grant);
}

pub(super) async fn a_grant_that_was_collected_unseen_lives_on_after_a_restart(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    w.queue_up(wait(ask("l", "b"))).await;
    w.unlock(&held).await;
    // Nothing is written for this, and its holder is at work.
    let grant = w.lock(wait(ask("l", "b"))).await;
    w.reopen().await;
    w.advance(LEASE_MS - 1);
    w.held(ask("l", "c")).await;
    assert!(matches!(w.op(renew_op(&grant, None)).await, Reply::Lock(_)));
}

pub(super) async fn the_delay_after_an_expiry_survives_a_restart(w: &mut World) {
    let slow = w.lock(Acquire { delay_ms: 5_000, ..ask("l", "a") }).await;
    w.advance(LEASE_MS + 1_000);
    w.enqueue(w.job("q")).await;
    w.reopen().await;
    w.is_lost(&slow).await;
    w.advance(3_999);
    w.held(ask("l", "b")).await;
    w.advance(1);
    w.lock(ask("l", "b")).await;
}
