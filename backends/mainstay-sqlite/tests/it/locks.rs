//! What the embedded store promises of locks beyond what every store does.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use mainstay_core::{
    Store,
    lock::{Acquire, LockGrant, LockInterest, LockOp, LockRecord, LockReply},
    op::{Op, Reply},
    store::{Interest, Key, Record},
};
use mainstay_sqlite::SqliteStore;
use mainstay_testkit::{
    faults::{Disk, Survival},
    world::{
        LEASE_MS,
        locks::{ask, poll, release_op, renew_op, ticket, wait},
        name,
    },
};

use crate::harness::{Jobs, Place, Tell, batch, close, figure, journal_on, on};

fn acquire(ask: Acquire) -> Op {
    Op::Lock(LockOp::Acquire(Box::new(ask)))
}

async fn granted(store: &SqliteStore, ask: Acquire) -> LockGrant {
    match store.ops([acquire(ask)]).await.remove(0) {
        Reply::Lock(LockReply::Granted(grant)) => grant,
        other => panic!("{other:?}"),
    }
}

async fn shown(store: &SqliteStore, lock: &str) -> Option<LockRecord> {
    match store.get(&Key::Lock(name(lock))).await.expect("get") {
        Some(Record::Lock(lock)) => Some(*lock),
        _ => None,
    }
}

fn granted_to(owner: &str) -> [Interest; 1] {
    [Interest::Lock(LockInterest::Granted { name: name("l"), scope: ticket(owner).scope })]
}

#[tokio::test]
async fn an_expiry_hands_over_by_the_stores_own_timer() {
    let place = Place::new();
    let store = place.try_open(|options| options.housekeeping = true).unwrap();
    granted(&store, ask("l", "a")).await;
    store.ops([acquire(wait(ask("l", "b")))]).await;
    let interests = granted_to("b");
    let mut waiting = pin!(store.wait(&interests, Duration::from_secs(3_600)));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    // The registration has been looked at.
    store.ping().await.unwrap();
    place.clock.advance(LEASE_MS);
    // Nobody asks for anything.
    let wake = tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it is handed over");
    assert!(wake.expect("wait").is_woken());
    close(&store).await;
}

#[tokio::test]
async fn what_a_hand_over_costs_is_one_sync() {
    let place = Place::new();
    let store = place.open_store();
    let held = granted(&store, ask("l", "a")).await;
    store.ops([acquire(wait(ask("l", "b")))]).await;
    let syncs = figure(&store, "syncs_total");
    store.ops([release_op(&held)]).await;
    assert_eq!(figure(&store, "syncs_total"), syncs + 1.0);
    let next = granted(&store, wait(ask("l", "b"))).await;
    assert_eq!(figure(&store, "syncs_total"), syncs + 1.0, "collecting a grant needs none");
    store.ops([renew_op(&next, None)]).await;
    assert_eq!(figure(&store, "syncs_total"), syncs + 2.0);
    close(&store).await;
}

/// What is left of a store when the power fails now: only what was synced.
fn after_power_failure(disk: &Disk) -> Place {
    let mut replay = disk.replay();
    while replay.advance() {}
    let after = Place::new();
    let folder = after.path();
    replay.survivors(Survival::None).write_to(folder.parent().expect("a folder")).expect("an image");
    after
}

#[tokio::test]
async fn locks_are_there_again_after_a_crash() {
    let (place, disk) = (Place::new(), Disk::new());
    let store = SqliteStore::open(on(&disk, place.options())).expect("open");
    // Some of it is in the tables by the time of the crash, some in the journal alone.
    let old = granted(&store, poll(ask("old", "a"))).await;
    let gone = granted(&store, ask("gone", "a")).await;
    store.ops([acquire(poll(ask("old", "b")))]).await;
    store.ops([acquire(poll(ask("old", "c")))]).await;
    store.tables_follow().await;
    let held = granted(&store, ask("l", "a")).await;
    store.ops([acquire(wait(ask("l", "handed over")))]).await;
    store.ops([release_op(&held)]).await;
    store.ops([renew_op(&old, Some(3 * LEASE_MS)), release_op(&gone)]).await;
    store.ops([acquire(poll(ask("old", "d")))]).await;
    let owner = |lock: &LockRecord| lock.holders.iter().map(|h| h.owner.to_string()).collect::<Vec<_>>();
    let line = |lock: &LockRecord| lock.waiters.iter().map(|w| w.owner.to_string()).collect::<Vec<_>>();
    let place_after = after_power_failure(&disk);
    let after = place_after.open_store();
    let lock = shown(&after, "old").await.expect("held");
    assert_eq!((owner(&lock), line(&lock)), (vec!["a".into()], vec!["b".into(), "c".into(), "d".into()]));
    assert_eq!(lock.holders[0].token, old.token());
    assert_eq!(lock.holders[0].expires_at, crate::harness::now(&place_after).wall.plus_ms(3 * LEASE_MS));
    assert_eq!(shown(&after, "gone").await, None);
    assert_eq!(owner(&shown(&after, "l").await.expect("held")), ["handed over"]);
    assert_eq!(granted(&after, poll(ask("old", "a"))).await.lease, old.lease);
    assert!(granted(&after, ask("gone", "a")).await.token() > gone.token());
    close(&after).await;
    close(&store).await;
}

#[tokio::test]
async fn tokens_of_a_restored_copy_do_not_go_back() {
    let place = Place::new();
    let store = place.open_store();
    let before = granted(&store, ask("l", "a")).await;
    let copy = place.file("copy.db");
    store.backup(&copy).await.expect("backup");
    store.ops([release_op(&before)]).await;
    let lost = granted(&store, ask("l", "b")).await;
    close(&store).await;
    // What was granted after the copy is not in it; a second is enough that its tokens are passed.
    place.clock.advance(1_000);
    let restored = place.try_open(|options| options.path = copy).expect("it opens as a store of its own");
    assert_eq!(shown(&restored, "l").await.expect("as it was").holders[0].token, before.token());
    restored.ops([release_op(&before)]).await;
    assert!(granted(&restored, ask("l", "c")).await.token() > lost.token());
    close(&restored).await;
}

#[tokio::test]
async fn a_lock_whose_grant_reached_nobody_is_free() {
    let (place, disk) = (Place::new(), Disk::new());
    let store = place.try_open(journal_on(&disk)).unwrap();
    store.enqueue(&mut Jobs::default(), "1").await;
    for kept in [false, true] {
        disk.hold(true);
        let asked = if kept { wait(ask("l", "a")) } else { ask("l", "a") };
        let mut lost = Box::pin(store.submit(batch([acquire(asked)])));
        assert!(lost.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        disk.hold(false);
        store.ping().await.unwrap();
        drop(lost);
        store.ping().await.unwrap();
        // Its ticket may come for it.
        assert_eq!(shown(&store, "l").await.is_some(), kept);
    }
    assert_eq!(figure(&store, "given_back_total"), 1.0);
    close(&store).await;
}
