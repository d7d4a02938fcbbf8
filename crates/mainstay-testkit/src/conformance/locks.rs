//! Who gets a lock, and who does not.

use mainstay_core::{
    LeaseId,
    lock::{Acquire, LockMode, LockReply},
    op::{Op, Reason, Reply, Require},
};

use crate::world::{
    LEASE_MS, World,
    locks::{TWO, ask, ask_in, break_op, poll, release_op, renew_op, tokens, wait},
    name,
};

const SHARED: LockMode = LockMode::Shared;

pub(super) async fn a_free_lock_is_granted_at_once(w: &mut World) {
    let grant = w.lock(ask("l", "a")).await;
    assert_eq!((grant.name.as_str(), grant.mode, grant.ttl_ms), ("l", LockMode::Exclusive, LEASE_MS));
    assert_eq!(grant.expires_at, w.now().plus_ms(LEASE_MS));
    let shown = w.show_lock("l").await.expect("it is held");
    assert_eq!((shown.holders.len(), shown.waiting, shown.delayed_until), (1, 0, None));
    let holder = &shown.holders[0];
    assert_eq!((holder.owner.as_str(), holder.token), ("a", grant.token()));
    assert_eq!((holder.acquired_at, holder.expires_at), (w.now(), grant.expires_at));
}

pub(super) async fn a_held_lock_is_refused_and_says_who_has_it(w: &mut World) {
    let grant = w.lock(ask("l", "a")).await;
    w.advance(10);
    let held = w.held(ask("l", "b")).await;
    assert_eq!((held.holder.as_str(), held.expires_at), ("a", grant.expires_at));
    assert_eq!((held.position, held.waiters), (None, 0));
    assert_eq!(w.line("l").await, [""; 0], "a try takes no place");
}

pub(super) async fn a_lock_is_not_reentrant(w: &mut World) {
    w.lock(ask("l", "a")).await;
    w.held(ask("l", "a")).await;
    let waiting = w.queue_up(wait(ask("l", "a"))).await;
    assert_eq!((waiting.position, waiting.holder.as_str()), (Some(1), "a"));
}

pub(super) async fn a_released_lock_is_free(w: &mut World) {
    let grant = w.lock(ask("l", "a")).await;
    w.unlock(&grant).await;
    assert_eq!(w.show_lock("l").await, None);
    w.is_lost(&grant).await;
    w.lock(ask("l", "b")).await;
}

pub(super) async fn a_release_that_is_repeated_does_not_free_the_next_holders_lock(w: &mut World) {
    let first = w.lock(ask("l", "a")).await;
    w.unlock(&first).await;
    let second = w.lock(ask("l", "b")).await;
    w.is_lost(&first).await;
    assert_eq!(w.holders("l").await, ["b"]);
    w.unlock(&second).await;
}

pub(super) async fn a_token_without_its_nonce_opens_no_lock(w: &mut World) {
    let grant = w.lock(ask("l", "a")).await;
    let guessed = LeaseId { nonce: grant.lease.nonce ^ 1, ..grant.lease };
    let guessed = mainstay_core::lock::LockGrant { lease: guessed, ..grant.clone() };
    w.is_lost(&guessed).await;
    let elsewhere = mainstay_core::lock::LockGrant { name: name("other"), ..grant.clone() };
    w.is_lost(&elsewhere).await;
    w.unlock(&grant).await;
}

pub(super) async fn locks_of_other_names_are_other_locks(w: &mut World) {
    let one = w.lock(ask("one", "a")).await;
    let other = w.lock(ask("other", "b")).await;
    w.unlock(&one).await;
    assert_eq!(w.holders("other").await, ["b"]);
    w.unlock(&other).await;
}

pub(super) async fn readers_share_a_lock(w: &mut World) {
    let one = w.lock(ask_in(SHARED, "l", "a")).await;
    let other = w.lock(ask_in(SHARED, "l", "b")).await;
    assert_eq!(w.holders("l").await, ["a", "b"]);
    assert_eq!(w.show_lock("l").await.expect("held").current_token(), Some(other.token()));
    w.unlock(&other).await;
    assert_eq!(w.show_lock("l").await.expect("held").current_token(), Some(one.token()));
    w.unlock(&one).await;
    assert_eq!(w.show_lock("l").await, None);
}

pub(super) async fn a_writer_excludes_all_others(w: &mut World) {
    let writer = w.lock(ask("l", "a")).await;
    w.held(ask_in(SHARED, "l", "b")).await;
    w.held(ask_in(TWO, "l", "b")).await;
    w.unlock(&writer).await;
    let reader = w.lock(ask_in(SHARED, "l", "b")).await;
    w.held(ask("l", "a")).await;
    w.held(ask_in(TWO, "l", "a")).await;
    w.unlock(&reader).await;
}

pub(super) async fn a_semaphore_admits_as_many_as_it_has_permits(w: &mut World) {
    let one = w.lock(ask_in(TWO, "l", "a")).await;
    w.lock(ask_in(TWO, "l", "a")).await;
    assert_eq!(w.held(ask_in(TWO, "l", "c")).await.holder.as_str(), "a");
    assert_eq!(w.show_lock("l").await.expect("held").mode, TWO);
    w.unlock(&one).await;
    w.lock(ask_in(TWO, "l", "c")).await;
    w.held(ask_in(TWO, "l", "d")).await;
}

pub(super) async fn another_number_of_permits_is_a_conflict_while_it_is_held(w: &mut World) {
    let three = || ask_in(LockMode::Semaphore { permits: 3 }, "l", "c");
    let conflict = |reply| matches!(reply, Err(Reason::StateConflict(_)));
    let held = w.lock(ask_in(TWO, "l", "a")).await;
    assert!(conflict(w.try_lock(three()).await));
    assert!(conflict(w.try_lock(wait(three())).await));
    w.held(ask("l", "b")).await;
    w.unlock(&held).await;
    let held = w.lock(three()).await;
    assert!(conflict(w.try_lock(ask_in(TWO, "l", "a")).await));
    w.unlock(&held).await;
}

pub(super) async fn another_number_of_permits_waits_behind_those_who_wait(w: &mut World) {
    let three = |owner| ask_in(LockMode::Semaphore { permits: 3 }, "l", owner);
    let held = w.lock(ask("l", "a")).await;
    w.queue_up(wait(ask_in(TWO, "l", "b"))).await;
    w.queue_up(wait(three("c"))).await;
    w.unlock(&held).await;
    assert_eq!((w.holders("l").await, w.line("l").await), (vec!["b".into()], vec!["c".into()]));
    let held = w.lock(wait(ask_in(TWO, "l", "b"))).await;
    w.queue_up(poll(ask_in(TWO, "l", "absent"))).await;
    w.unlock(&held).await;
    let held = w.lock(wait(three("c"))).await;
    w.unlock(&held).await;
    assert_eq!(w.show_lock("l").await, None, "it is free: one that only keeps its place is not there");
    w.lock(three("d")).await;
}

pub(super) async fn other_modes_wait_for_a_semaphore(w: &mut World) {
    let permit = w.lock(ask_in(TWO, "l", "a")).await;
    w.queue_up(wait(ask("l", "writer"))).await;
    w.queue_up(wait(ask_in(SHARED, "l", "reader"))).await;
    w.unlock(&permit).await;
    let writer = w.lock(wait(ask("l", "writer"))).await;
    w.unlock(&writer).await;
    assert_eq!(w.holders("l").await, ["reader"]);
}

pub(super) async fn every_grant_of_a_lock_has_a_higher_token(w: &mut World) {
    let mut grants = vec![];
    for mode in [LockMode::Exclusive, SHARED, TWO, LockMode::Exclusive] {
        let grant = w.lock(ask_in(mode, "l", "a")).await;
        w.op(renew_op(&grant, None)).await;
        assert_eq!(w.show_lock("l").await.expect("held").current_token(), Some(grant.token()), "{mode:?}");
        w.unlock(&grant).await;
        grants.push(grant);
    }
    grants.push(w.lock(ask_in(SHARED, "l", "a")).await);
    grants.push(w.lock(ask_in(SHARED, "l", "b")).await);
    assert!(tokens(&grants).is_sorted_by(|a, b| a < b), "{:?}", tokens(&grants));
    assert!(grants.iter().all(|grant| grant.token().0 < mainstay_core::Token::LIMIT));
}

pub(super) async fn what_is_out_of_range_is_refused_and_names_its_field(w: &mut World) {
    let sound = || ask("l", "a");
    let permits = |permits| ask_in(LockMode::Semaphore { permits }, "l", "a");
    for (bad, named) in [
        (Acquire { ttl_ms: 0, ..sound() }, "ttl_ms"),
        (Acquire { ttl_ms: 86_400_001, ..sound() }, "ttl_ms"),
        (Acquire { wait_ms: 60_001, ..wait(sound()) }, "wait_ms"),
        (Acquire { delay_ms: 60_001, ..sound() }, "delay_ms"),
        (permits(0), "permits"),
        (permits(10_001), "permits"),
    ] {
        match w.try_lock(bad.clone()).await {
            Err(Reason::Invalid { field, .. }) => assert_eq!(field, named, "{bad:?}"),
            other => panic!("{bad:?} was answered with {other:?}"),
        }
    }
    let grant = w.lock(Acquire { ttl_ms: 86_400_000, delay_ms: 60_000, ..sound() }).await;
    for ttl_ms in [0, 86_400_001] {
        assert!(matches!(w.refused(renew_op(&grant, Some(ttl_ms))).await, Reason::Invalid { .. }));
    }
    w.unlock(&grant).await;
}

pub(super) async fn a_broken_lock_is_lost_and_free(w: &mut World) {
    let readers = [w.lock(ask_in(SHARED, "l", "a")).await, w.lock(ask_in(SHARED, "l", "b")).await];
    let Reply::Lock(LockReply::Broken(had)) = w.op(break_op("l")).await else { panic!("an answer") };
    assert_eq!(had.iter().map(|holder| holder.token).collect::<Vec<_>>(), tokens(&readers));
    assert_eq!(w.show_lock("l").await, None);
    for reader in &readers {
        w.is_lost(reader).await;
    }
    assert_eq!(w.refused(break_op("l")).await, Reason::NotFound("lock"), "it is free");
}

pub(super) async fn the_next_token_after_a_break_is_higher(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    w.queue_up(wait(ask("l", "b"))).await;
    w.op(break_op("l")).await;
    assert_eq!(w.holders("l").await, ["b"], "it is handed on");
    let next = w.lock(wait(ask("l", "b"))).await;
    assert!(next.token() > held.token());
    w.is_lost(&held).await;
}

pub(super) async fn a_token_guards_a_commit(w: &mut World) {
    let stale = w.lock(ask("l", "a")).await;
    w.advance(LEASE_MS);
    let live = w.lock(ask("l", "b")).await;
    let write = |grant: &mainstay_core::lock::LockGrant| {
        let require = vec![Require::Lock { name: name("l"), token: grant.token() }];
        let op = Op::Enqueue(Box::new(w.job("q")));
        mainstay_core::op::Commit { require, ..w.ops([op]) }
    };
    let refused = w.commit(write(&stale)).await.expect_err("the token is too low");
    assert_eq!(refused.reason, Reason::LockLost);
    assert_eq!(refused.at, mainstay_core::op::Place::Require(0));
    assert_eq!(w.try_queue("q").await, None, "nothing has happened");
    w.commit(write(&live)).await.expect("the holder may");
    w.unlock(&live).await;
    w.commit(write(&live)).await.expect_err("it is free: nobody's token holds");
    assert_eq!(w.queue("q").await.depth.available, 1);
}

pub(super) async fn the_end_of_a_lock_belongs_to_its_commit(w: &mut World) {
    let held = w.lock(ask("l", "a")).await;
    w.queue_up(wait(ask("l", "b"))).await;
    let bad = w.ops([release_op(&held), Op::Delete { id: w.id("q") }]);
    w.commit(bad).await.expect_err("there is no such job");
    assert_eq!((w.holders("l").await, w.line("l").await), (vec!["a".into()], vec!["b".into()]));
    // Requires are judged before the ops.
    let require = vec![Require::Lock { name: name("l"), token: held.token() }];
    let good = w.ops([Op::Enqueue(Box::new(w.job("q"))), release_op(&held)]);
    w.commit(mainstay_core::op::Commit { require, ..good }).await.expect("all of it");
    assert_eq!((w.holders("l").await, w.queue("q").await.depth.available), (vec!["b".into()], 1));
}

pub(super) async fn a_refused_commit_leaves_no_trace_of_a_lock(w: &mut World) {
    let acquire = |ask| Op::Lock(mainstay_core::lock::LockOp::Acquire(Box::new(ask)));
    let commit = w.ops([acquire(ask("l", "a")), acquire(poll(ask("l", "b"))), Op::Delete { id: w.id("q") }]);
    w.commit(commit).await.expect_err("there is no such job");
    assert_eq!(w.show_lock("l").await, None);
    w.lock(poll(ask("l", "b"))).await;
}

pub(super) async fn locks_are_listed_by_name_and_prefix(w: &mut World) {
    for lock in ["b", "a:2", "a:1", "c", "a"] {
        w.lock(ask(lock, "me")).await;
    }
    let names = |locks: Vec<mainstay_core::lock::LockRecord>| -> Vec<String> {
        locks.iter().map(|lock| lock.name.to_string()).collect()
    };
    for limit in [1, 2, 1_000] {
        assert_eq!(names(w.locks(None, limit).await), ["a", "a:1", "a:2", "b", "c"]);
        assert_eq!(names(w.locks(Some("a:"), limit).await), ["a:1", "a:2"]);
        assert_eq!(names(w.locks(Some("x"), limit).await), [""; 0]);
    }
    w.advance(LEASE_MS);
    assert_eq!(w.locks(None, 10).await, [], "what ran out is free");
}
