//! A grant of a lock proves something while it lives, and nothing after.

use mainstay_core::{
    Token,
    lock::{Acquire, LockReply},
    op::Reply,
};

use crate::world::{
    LEASE_MS, World,
    locks::{ask, break_op, poll, renew_op, wait, withdraw_op},
};

pub(super) async fn a_lock_lives_its_whole_time(w: &mut World) {
    let grant = w.lock(ask("l", "a")).await;
    w.advance(LEASE_MS - 1);
    w.held(ask("l", "b")).await;
    w.unlock(&grant).await;
}

pub(super) async fn a_lock_that_ran_out_is_lost_even_if_nobody_took_over(w: &mut World) {
    let grant = w.lock(ask("l", "a")).await;
    w.advance(LEASE_MS);
    w.is_lost(&grant).await;
    w.maintain().await;
    w.is_lost(&grant).await;
    assert_eq!(w.show_lock("l").await, None);
}

pub(super) async fn a_stale_holder_cannot_do_anything_after_a_takeover(w: &mut World) {
    let stale = w.lock(ask("l", "a")).await;
    w.advance(LEASE_MS);
    let live = w.lock(ask("l", "b")).await;
    assert!(live.token() > stale.token());
    w.is_lost(&stale).await;
    w.unlock(&live).await;
    w.is_lost(&stale).await;
}

pub(super) async fn a_renewed_lock_lives_on(w: &mut World) {
    let grant = w.lock(ask("l", "a")).await;
    for _ in 0..4 {
        w.advance(LEASE_MS - 1);
        let expires_at = w.now().plus_ms(LEASE_MS);
        let renewed = Reply::Lock(LockReply::Renewed { expires_at });
        assert_eq!(w.op(renew_op(&grant, None)).await, renewed);
        let holder = w.show_lock("l").await.expect("held").holders.remove(0);
        assert_eq!((holder.token, holder.expires_at), (grant.token(), expires_at));
    }
    w.advance(LEASE_MS);
    w.is_lost(&grant).await;
}

pub(super) async fn a_renewal_without_a_time_takes_the_acquires(w: &mut World) {
    let grant = w.lock(ask("l", "a")).await;
    w.op(renew_op(&grant, Some(3 * LEASE_MS))).await;
    w.advance(3 * LEASE_MS - 1);
    let expires_at = w.now().plus_ms(LEASE_MS);
    assert_eq!(w.op(renew_op(&grant, None)).await, Reply::Lock(LockReply::Renewed { expires_at }));
}

pub(super) async fn a_renewal_never_shortens(w: &mut World) {
    let grant = w.lock(ask("l", "a")).await;
    w.advance(10);
    let renewed = Reply::Lock(LockReply::Renewed { expires_at: grant.expires_at });
    assert_eq!(w.op(renew_op(&grant, Some(1))).await, renewed, "one that was overtaken by a longer one");
    w.advance(LEASE_MS - 11);
    w.held(ask("l", "b")).await;
    w.advance(1);
    w.lock(ask("l", "b")).await;
}

pub(super) async fn a_lock_may_live_for_a_millisecond(w: &mut World) {
    let grant = w.lock(Acquire { ttl_ms: 1, ..ask("l", "a") }).await;
    w.held(ask("l", "b")).await;
    w.advance(1);
    w.lock(ask("l", "b")).await;
    w.is_lost(&grant).await;
}

pub(super) async fn a_step_of_the_wall_clock_neither_kills_nor_prolongs_a_lock(w: &mut World) {
    for step in [86_400_000, -86_400_000] {
        let grant = w.lock(ask("l", "a")).await;
        w.clock().step_wall(step);
        w.maintain().await;
        w.advance(LEASE_MS - 1);
        w.held(ask("l", "b")).await;
        w.op(renew_op(&grant, None)).await;
        w.advance(LEASE_MS);
        w.is_lost(&grant).await;
    }
}

pub(super) async fn the_delay_after_an_expiry_keeps_others_out(w: &mut World) {
    let slow = w.lock(Acquire { delay_ms: 5_000, ..ask("l", "a") }).await;
    w.queue_up(wait(ask("l", "b"))).await;
    w.lose(LEASE_MS - 1_000).await;
    w.is_lost(&slow).await;
    let shown = w.show_lock("l").await.expect("it is not free yet");
    assert_eq!((shown.holders, shown.waiting), (vec![], 1), "but nobody holds it");
    assert_eq!(shown.delayed_until, Some(w.now().plus_ms(5_000)));
    let held = w.held(ask("l", "c")).await;
    assert_eq!((held.holder.as_str(), held.expires_at), ("a", w.now().plus_ms(5_000)));
    w.advance(4_999);
    w.queue_up(wait(ask("l", "b"))).await;
    w.lose(0).await;
    assert_eq!(w.holders("l").await, ["b"]);
}

pub(super) async fn a_grant_that_ran_out_is_not_collected_while_it_keeps_others_out(w: &mut World) {
    let slow = || Acquire { delay_ms: 5_000, ..poll(ask("l", "a")) };
    let first = w.lock(slow()).await;
    w.advance(LEASE_MS);
    w.is_lost(&first).await;
    w.op(withdraw_op(&slow(), false)).await;
    w.held(ask("l", "b")).await;
    assert_eq!(w.queue_up(slow()).await.position, Some(1), "it is a newcomer");
    assert_eq!(w.queue_up(slow()).await.position, Some(1));
    w.advance(5_000);
    assert!(w.lock(slow()).await.token() > first.token());
}

pub(super) async fn there_is_no_delay_after_a_release_or_a_break(w: &mut World) {
    let slow = || Acquire { delay_ms: 5_000, ..ask("l", "a") };
    let grant = w.lock(slow()).await;
    w.unlock(&grant).await;
    w.lock(slow()).await;
    w.op(break_op("l")).await;
    w.lock(slow()).await;
    w.advance(LEASE_MS + 1);
    assert_eq!(w.op(break_op("l")).await, Reply::Lock(LockReply::Broken(vec![])), "a delay can be ended");
    w.lock(slow()).await;
}

pub(super) async fn a_check_knows_who_holds_and_who_held(w: &mut World) {
    let stale = w.lock(ask("l", "a")).await;
    w.advance(LEASE_MS);
    let live = w.lock(ask("l", "b")).await;
    let shown = w.show_lock("l").await.expect("held");
    assert!(shown.is_valid(live.token()) && !shown.is_valid(stale.token()));
    assert!(!shown.is_valid(Token(live.token().0 + 1)), "nor one that never was");
    assert_eq!(shown.current_token(), Some(live.token()));
    w.advance(LEASE_MS);
    assert_eq!(
        w.show_lock("l").await,
        None,
        "one that ran out is nobody's, also before anybody has tidied up"
    );
}
