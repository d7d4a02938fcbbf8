//! Guards on a wire that is slow, silent or broken, and in processes that are paused.

use std::sync::atomic::Ordering;

use mainstay::{Client, core::op::Reason, lock::Loss, millis, secs, testing::Metrics};
use tokio::time::{Instant, advance, sleep};

use super::with_wire;

#[test]
fn a_store_that_does_not_answer_is_a_lost_lock_before_its_time_is_over_there() {
    with_wire(async |client, wire| {
        let began = Instant::now();
        let guard = client.lock("l").unwrap().ttl(secs(30)).acquire().await.unwrap();
        wire.cut();
        let work = guard.run(sleep(secs(3600))).await;
        assert_eq!(work.unwrap_err().why(), Loss::Expired);
        // The first renewal at 10 s came through, its answer did not: that does not count.
        assert_eq!(began.elapsed(), millis(28_500));
        wire.delay_ms.store(0, Ordering::SeqCst);
        drop(guard);
        sleep(secs(60)).await;
    });
}

#[test]
fn a_renewal_that_is_lost_is_tried_again_in_time() {
    with_wire(async |client, wire| {
        let guard = client.lock("l").unwrap().ttl(secs(30)).acquire().await.unwrap();
        for _ in 0..20 {
            // Two tries in a row: 10 s + 5 s + 1 s + 5 s + 1 s is before 28.5 s.
            wire.drops.store(2, Ordering::SeqCst);
            sleep(secs(30)).await;
            assert!(guard.is_held());
        }
        assert!(wire.renewals.load(Ordering::SeqCst) >= 20);
        guard.release().await.unwrap();
    });
}

#[test]
fn the_time_an_answer_takes_counts_against_the_holder() {
    with_wire(async |client, wire| {
        wire.delay_ms.store(20_000, Ordering::SeqCst);
        let began = Instant::now();
        let guard = client.lock("l").unwrap().ttl(secs(30)).without_renewal().acquire().await.unwrap();
        assert_eq!(began.elapsed(), secs(20));
        guard.lost().await;
        assert_eq!(began.elapsed(), millis(28_500), "counted from before it was asked for");
        wire.delay_ms.store(0, Ordering::SeqCst);
    });
}

#[test]
fn a_paused_holder_finds_its_lock_lost_and_cannot_write() {
    with_wire(async |client, _| {
        let guard = client.lock("l").unwrap().ttl(secs(30)).acquire().await.unwrap();
        sleep(secs(60)).await;
        assert!(guard.is_held());
        // The process stands still: no timer of its own runs meanwhile.
        advance(secs(40)).await;
        assert!(!guard.is_held(), "known at the first look, before any timer has had its turn");
        assert_eq!(guard.lost().await.why(), Loss::Expired);
        let next = client.lock("l").unwrap().try_acquire().await.unwrap().expect("it is free");
        let write = client.commit().require_lock(&guard).await.unwrap_err();
        assert_eq!(write.reason(), Some(&Reason::LockLost));
        client.commit().require_lock(&next).await.unwrap();
        drop(guard);
        sleep(secs(60)).await;
        assert!(next.is_held(), "what it gives back is not what the other has");
    });
}

#[test]
fn a_loss_stays_one_whatever_an_answer_under_way_says() {
    with_wire(async |client, wire| {
        let guard = client.lock("l").unwrap().ttl(secs(30)).acquire().await.unwrap();
        sleep(secs(9)).await;
        wire.delay_ms.store(4_000, Ordering::SeqCst);
        sleep(secs(2)).await;
        // The renewal is in the store, its answer under way. Then the process stands still until it is too late.
        advance(secs(20)).await;
        assert!(!guard.is_held());
        wire.delay_ms.store(0, Ordering::SeqCst);
        sleep(secs(10)).await;
        assert!(!guard.is_held());
    });
}

#[test]
fn a_thousand_locks_are_renewed_in_a_few_calls() {
    with_wire(async |client, wire| {
        let mut guards = Vec::new();
        for n in 0..1_000 {
            guards.push(client.lock(&format!("l{n}")).unwrap().ttl(secs(30)).acquire().await.unwrap());
        }
        sleep(secs(300)).await;
        assert!(guards.iter().all(|guard| guard.is_held()));
        let calls = wire.renewals.load(Ordering::SeqCst);
        assert!((58..=60).contains(&calls), "{calls} calls for 30 rounds of 1,000");
        drop(guards);
        sleep(secs(1)).await;
        let left = client.locks(None, mainstay::core::store::Page { limit: 10, cursor: None }).await.unwrap();
        assert!(left.items.is_empty());
    });
}

#[test]
fn losses_are_counted_by_their_cause() {
    let metrics = Metrics::capture();
    with_wire(async |client, _| {
        let expired = client.lock("a").unwrap().ttl(secs(1)).without_renewal().acquire().await.unwrap();
        let taken = client.lock("b").unwrap().acquire().await.unwrap();
        client.break_lock(taken.name()).await.unwrap();
        let given_back = client.lock("c").unwrap().acquire().await.unwrap();
        given_back.release().await.unwrap();
        expired.lost().await;
        taken.lost().await;
    });
    assert_eq!(metrics.counter("mainstay.lock.lost", &[("cause", "expired")]), 1);
    assert_eq!(metrics.counter("mainstay.lock.lost", &[("cause", "taken")]), 1);
    assert_eq!(metrics.gauge("mainstay.lock.held", &[]), Some(0.0));
}

#[test]
fn a_renewal_that_comes_behind_the_release_is_no_loss() {
    let metrics = Metrics::capture();
    with_wire(async |client, wire| {
        let guard = client.lock("l").unwrap().ttl(secs(30)).acquire().await.unwrap();
        sleep(millis(9_500)).await;
        // The release is in the store at 9.5 s, its answer comes at 13.5 s; the renewal is due at 10 s.
        wire.delay_ms.store(4_000, Ordering::SeqCst);
        tokio::join!(async { guard.release().await.unwrap() }, async {
            sleep(millis(100)).await;
            wire.delay_ms.store(0, Ordering::SeqCst);
        });
        assert!(wire.renewals.load(Ordering::SeqCst) > 0, "one was on its way");
    });
    assert_eq!(metrics.counter("mainstay.lock.lost", &[("cause", "taken")]), 0);
}

#[test]
fn a_client_outlives_the_runtime_its_locks_were_kept_on() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::memory();
    let first = runtime();
    let guard = first.block_on(async { client.lock("a").unwrap().acquire().await.unwrap() });
    drop(first);
    runtime().block_on(async {
        drop(guard);
        // Given back here, long before its TTL is over.
        let again = client.lock("a").unwrap().wait(secs(20)).acquire().await.unwrap();
        again.release().await.unwrap();
    });
}
