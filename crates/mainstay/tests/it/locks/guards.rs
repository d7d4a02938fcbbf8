//! Guards: taking, keeping, giving back.

use std::{future::poll_fn, sync::atomic::Ordering, task::Poll};

use mainstay::{
    Client,
    core::{
        lock::LockOp,
        op::{Op, Reason},
    },
    lock::Loss,
    millis, secs,
    testing::block_on_virtual,
};
use tokio::time::{Instant, sleep, timeout};

use super::with_wire;

/// The owners in line, as anybody may see them.
async fn line(store: &Client, name: &str) -> Vec<String> {
    let lock = store.lock_record(&name.parse().unwrap()).await.unwrap();
    lock.map_or(Vec::new(), |lock| lock.waiters.iter().map(|waiter| waiter.owner.to_string()).collect())
}

async fn is_free(store: &Client, name: &str) -> bool {
    store.lock_record(&name.parse().unwrap()).await.unwrap().is_none()
}

#[test]
fn a_guard_keeps_its_lock_for_as_long_as_it_lives() {
    block_on_virtual(async {
        let store = Client::memory();
        let guard = store.lock("l").unwrap().ttl(secs(30)).acquire().await.unwrap();
        sleep(secs(3600)).await;
        assert!(guard.is_held());
        assert!(store.lock("l").unwrap().try_acquire().await.unwrap().is_none());
        drop(guard);
        // In the background, at once.
        let next = store.lock("l").unwrap().wait(millis(1)).acquire().await.unwrap();
        next.release().await.unwrap();
        assert!(is_free(&store, "l").await);
    });
}

#[test]
fn a_lock_that_was_given_back_stays_free_whatever_is_under_way() {
    with_wire(async |client, wire| {
        let guard = client.lock("l").unwrap().ttl(secs(30)).acquire().await.unwrap();
        let renew = LockOp::Renew { name: guard.name().clone(), lease: guard.lease(), ttl_ms: None };
        sleep(secs(9)).await;
        // The renewal's answer is under way when the lock is given back.
        wire.delay_ms.store(3_000, Ordering::SeqCst);
        sleep(secs(2)).await;
        drop(guard);
        sleep(secs(10)).await;
        wire.delay_ms.store(0, Ordering::SeqCst);
        assert!(is_free(&client, "l").await);
        let late = client.apply(Op::Lock(renew)).await.unwrap_err();
        assert_eq!(late.reason(), Some(&Reason::LockLost));
        let renewals = wire.renewals.load(Ordering::SeqCst);
        sleep(secs(600)).await;
        assert!(is_free(&client, "l").await && wire.renewals.load(Ordering::SeqCst) == renewals);
    });
}

#[test]
fn a_release_waits_and_the_next_waiter_has_the_lock_at_once() {
    block_on_virtual(async {
        let store = Client::memory();
        let first = store.lock("l").unwrap().acquire().await.unwrap();
        let token = first.token();
        let lock = store.lock("l").unwrap();
        let began = Instant::now();
        let (next, ()) = tokio::join!(lock.acquire(), async {
            sleep(secs(5)).await;
            first.release().await.unwrap();
        });
        let next = next.unwrap();
        assert!(next.token() > token && next.is_held());
        assert_eq!(began.elapsed(), secs(5));
        next.release().await.unwrap();
    });
}

#[test]
fn one_who_stops_waiting_leaves_the_line() {
    block_on_virtual(async {
        let store = Client::memory();
        let held = store.lock("l").unwrap().acquire().await.unwrap();
        let waiter = store.lock("l").unwrap().owner("gone").wait(secs(600));
        assert!(timeout(secs(1), waiter.acquire()).await.is_err());
        sleep(millis(1)).await;
        assert_eq!(line(&store, "l").await, Vec::<String>::new());
        held.release().await.unwrap();
        assert!(is_free(&store, "l").await, "nothing was granted to whoever had left");

        // At the very moment of the grant, too.
        for _ in 0..10 {
            let mut asked = Box::pin(waiter.acquire());
            poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx).is_pending())).await;
            drop(asked);
            sleep(millis(1)).await;
            assert!(is_free(&store, "l").await);
        }
    });
}

#[test]
fn a_wait_has_an_end_and_says_who_holds_the_lock() {
    block_on_virtual(async {
        let store = Client::memory();
        let held = store.lock("l").unwrap().owner("ada").acquire().await.unwrap();
        let began = Instant::now();
        let error = store.lock("l").unwrap().wait(secs(90)).acquire().await.unwrap_err();
        assert_eq!(began.elapsed(), secs(90));
        let Some(Reason::LockHeld(held_by)) = error.reason() else { panic!("{error}") };
        assert_eq!(held_by.holder.as_str(), "ada");
        assert!(error.is_retryable() && error.to_string().contains("`ada`"), "{error}");
        held.release().await.unwrap();
    });
}

#[test]
fn a_lock_without_renewal_is_lost_with_its_ttl_also_one_of_a_millisecond() {
    block_on_virtual(async {
        let store = Client::memory();
        for ttl in [1, 2, 50, 1_000] {
            let lock = store.lock("l").unwrap().ttl(millis(ttl)).without_renewal();
            let guard = lock.acquire().await.unwrap();
            assert!(guard.is_held(), "{ttl}");
            let began = Instant::now();
            let lost = guard.lost().await;
            assert_eq!((lost.why(), lost.token(), guard.is_held()), (Loss::Expired, guard.token(), false));
            assert!(began.elapsed() <= millis(ttl), "{ttl}: {:?}", began.elapsed());
            // The next has it when the time is over in the store, not a poll later.
            let next = lock.acquire().await.unwrap();
            assert_eq!(began.elapsed(), millis(ttl), "{ttl}");
            let stale = guard.release().await.unwrap_err();
            assert_eq!(stale.reason(), Some(&Reason::LockLost));
            assert!(next.is_held(), "a stale release changes nothing");
            next.release().await.unwrap();
        }
    });
}

#[test]
fn readers_share_and_a_semaphore_counts() {
    block_on_virtual(async {
        let store = Client::memory();
        let reader = store.lock("l").unwrap().shared();
        let (one, two) = (reader.acquire().await.unwrap(), reader.acquire().await.unwrap());
        let writer = store.lock("l").unwrap();
        assert!(writer.try_acquire().await.unwrap().is_none());
        one.release().await.unwrap();
        two.release().await.unwrap();
        writer.try_acquire().await.unwrap().unwrap().release().await.unwrap();

        let permits = store.lock("s").unwrap().semaphore(2);
        let (one, _two) = (permits.acquire().await.unwrap(), permits.acquire().await.unwrap());
        assert!(permits.try_acquire().await.unwrap().is_none());
        drop(one);
        permits.wait(millis(1)).acquire().await.unwrap().release().await.unwrap();
        let other = store.lock("s").unwrap().semaphore(3).try_acquire().await.unwrap_err();
        assert!(matches!(other.reason(), Some(Reason::StateConflict(_))), "{other}");
    });
}

#[test]
fn only_who_has_a_lock_alone_has_a_token_to_compare() {
    block_on_virtual(async {
        let store = Client::memory();
        let lock = |name: &str| store.lock(name).unwrap();
        let alone = [lock("a").acquire().await.unwrap(), lock("b").semaphore(1).acquire().await.unwrap()];
        for guard in &alone {
            assert_eq!(guard.fence().unwrap().token(), guard.token());
        }
        let together =
            [lock("c").shared().acquire().await.unwrap(), lock("d").semaphore(2).acquire().await.unwrap()];
        for guard in together {
            let error = guard.fence().unwrap_err();
            assert_eq!(error.lock(), guard.name());
            assert!(error.to_string().contains("require it in the commit"), "{error}");
            // That is judged by who lives, not by who is the newest.
            let commit = store.commit().require_lock(&guard).await;
            assert!(commit.is_ok(), "{commit:?}");
        }
    });
}

#[test]
fn what_cannot_be_asked_for_is_named() {
    block_on_virtual(async {
        let store = Client::memory();
        assert!(store.lock("a b").unwrap_err().to_string().contains("name"));
        let lock = || store.lock("l").unwrap();
        for (wrong, field) in [
            (lock().ttl(millis(0)), "ttl_ms"),
            (lock().ttl(secs(86_401)), "ttl_ms"),
            (lock().owner(""), "owner"),
            (lock().semaphore(0), "permits"),
            (lock().delay_after_expiry(secs(61)), "delay_ms"),
        ] {
            let error = wrong.acquire().await.unwrap_err();
            assert!(error.to_string().contains(field), "{field}: {error}");
        }
        assert!(is_free(&store, "l").await);
    });
}

#[test]
fn work_under_a_lock_ends_with_it() {
    block_on_virtual(async {
        let store = Client::memory();
        let guard = store.lock("l").unwrap().ttl(secs(30)).acquire().await.unwrap();
        assert_eq!(guard.run(async { 7 }).await.unwrap(), 7);
        let began = Instant::now();
        let (work, _) = tokio::join!(guard.run(sleep(secs(3600))), async {
            sleep(secs(1)).await;
            store.break_lock(guard.name()).await.unwrap()
        });
        let lost = work.unwrap_err();
        assert_eq!((lost.why(), lost.name().as_str()), (Loss::Taken, "l"));
        assert!(began.elapsed() <= secs(10), "told at its next renewal: {:?}", began.elapsed());
        // And is not begun any more.
        let not_begun = guard.run(async { unreachable!("the lock is lost") });
        not_begun.await.unwrap_err();
    });
}

#[test]
fn a_lock_can_be_given_back_with_a_commit() {
    block_on_virtual(async {
        let store = Client::memory();
        let guard = store.lock("l").unwrap().acquire().await.unwrap();
        store.commit().require_lock(&guard).release_lock(&guard).await.unwrap();
        assert!(is_free(&store, "l").await);
        let error = store.commit().require_lock(&guard).await.unwrap_err();
        assert_eq!(error.reason(), Some(&Reason::LockLost));
    });
}
