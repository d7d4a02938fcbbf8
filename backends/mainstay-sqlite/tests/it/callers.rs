//! What callers can rely on when they, or others, do not do the ordinary thing.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use mainstay_core::{
    ErrorKind, Store,
    after::After,
    job::Grant,
    op::Op,
    store::{Batch, Interest},
};

use mainstay_testkit::faults::Disk;

use crate::harness::{Jobs, Place, Tell, batch, claim, close, figure, journal_on, queue};

/// Polls once; the future is still alive afterwards.
fn begin<F: Future>(future: &mut std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_grant_whose_caller_is_gone_is_given_back_without_spending_an_attempt() {
    let (place, disk) = (Place::new(), Disk::new());
    let store = place.try_open(journal_on(&disk)).unwrap();
    store.enqueue(&mut Jobs::default(), "1").await;
    {
        // Held up, it cannot be answered before it is looked at.
        disk.hold(true);
        let mut lost = pin!(store.submit(batch([claim(1)])));
        assert!(begin(&mut lost).is_pending());
        disk.hold(false);
        // When this is answered, the claim has been granted, and its answer lies where nobody will take it.
        store.ping().await.unwrap();
    }
    store.ping().await.unwrap();
    let grants = store.claim(1).await;
    assert_eq!((grants.len(), grants[0].attempt), (1, 1));
    assert_eq!(figure(&store, "given_back_total"), 1.0);
}

#[tokio::test]
async fn a_grant_goes_back_although_the_first_group_to_take_it_cannot_be_written() {
    let (place, disk) = (Place::new(), Disk::new());
    let journal = journal_on(&disk);
    let store =
        place.try_open(|options| (journal(options), options.max_file_bytes = Some(1 << 20)).1).unwrap();
    let mut jobs = Jobs::default();
    store.enqueue(&mut jobs, "1").await;
    disk.hold(true);
    let mut lost = Box::pin(store.submit(batch([claim(1)])));
    assert!(begin(&mut lost.as_mut()).is_pending());
    disk.hold(false);
    store.ping().await.unwrap();
    disk.hold(true);
    let mut first = pin!(store.submit(batch([jobs.next("2")])));
    assert!(begin(&mut first).is_pending());
    while figure(&store, "queue_bytes") > 0.0 {
        std::thread::yield_now();
    }
    drop(lost);
    // In one group with what goes back.
    let mut too_large = pin!(store.submit(batch([jobs.next(&"1".repeat(2 << 20))])));
    assert!(begin(&mut too_large).is_pending());
    disk.hold(false);
    first.await.unwrap();
    assert!(too_large.await.is_err());
    store.ping().await.unwrap();
    let attempts: Vec<_> = store.claim(10).await.iter().map(|grant| grant.attempt).collect();
    assert_eq!(attempts, [1, 1]);
    close(&store).await;
}

#[tokio::test]
async fn a_claim_whose_caller_left_before_its_turn_is_not_begun() {
    let (place, disk) = (Place::new(), Disk::new());
    let store = place.try_open(journal_on(&disk)).unwrap();
    let mut jobs = Jobs::default();
    store.enqueue(&mut jobs, "1").await;
    disk.hold(true);
    // The writer is held up by this one; what follows waits its turn.
    let mut first = pin!(store.submit(batch([jobs.next("2")])));
    assert!(begin(&mut first).is_pending());
    while figure(&store, "queue_bytes") > 0.0 {
        std::thread::yield_now();
    }
    {
        let mut lost = pin!(store.submit(batch([claim(1)])));
        assert!(begin(&mut lost).is_pending());
    }
    disk.hold(false);
    first.await.unwrap();
    assert_eq!(store.claim(1).await[0].attempt, 1);
    assert_eq!(figure(&store, "given_back_total"), 0.0);
}

#[tokio::test]
async fn a_full_queue_is_overloaded_and_a_late_batch_is_not_begun() {
    let (place, disk) = (Place::new(), Disk::new());
    let journal = journal_on(&disk);
    let store = place.try_open(|options| (journal(options), options.queue_bytes = 10_000).1).unwrap();
    let mut jobs = Jobs::default();
    store.enqueue(&mut jobs, "1").await;
    disk.hold(true);
    let mut first = pin!(store.submit(batch([jobs.next("2")])));
    assert!(begin(&mut first).is_pending());
    while figure(&store, "queue_bytes") > 0.0 {
        std::thread::yield_now();
    }
    let large = format!("\"{}\"", "x".repeat(8_000));
    let mut second =
        pin!(store.submit(Batch { within: Some(Duration::from_millis(50)), ..batch([jobs.next(&large)]) }));
    assert!(begin(&mut second).is_pending());
    let third = store.submit(batch([jobs.next(&large)])).await.unwrap_err();
    assert_eq!(third.kind(), ErrorKind::Overloaded);
    assert!(third.is_retryable());
    place.clock.advance(51);
    disk.hold(false);
    assert!(first.await.is_ok());
    assert_eq!(second.await.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(store.available().await, 2, "neither the late nor the refused one");
    store.enqueue(&mut jobs, &large).await;
}

#[tokio::test]
async fn bodies_that_are_not_cached_are_read_from_the_file() {
    let place = Place::new();
    let store = place.try_open(|options| options.body_cache_bytes = 0).unwrap();
    let mut jobs = Jobs::default();
    for i in 0..20 {
        store.enqueue(&mut jobs, &i.to_string()).await;
    }
    // Until the tables have them, they are in RAM, whatever the bound says.
    store.tables_follow().await;
    store.ops([]).await;
    let payloads: Vec<_> =
        store.claim(20).await.into_iter().map(|grant| grant.body.unwrap().payload.to_string()).collect();
    assert_eq!(payloads, (0..20).map(|i| i.to_string()).collect::<Vec<_>>());
    assert!(figure(&store, "bodies_read_total") > 0.0);
    assert_eq!(figure(&store, "body_cache_bytes"), 0.0);
}

#[tokio::test]
async fn bodies_of_a_backlog_are_read_before_they_are_asked_for() {
    let place = Place::new();
    let store = place.open_store();
    let mut jobs = Jobs::default();
    let all: Vec<_> = (0..500).map(|i| jobs.next(&i.to_string())).collect();
    store.try_ops(all).await.unwrap().unwrap();
    close(&store).await;
    let store = place.open_store();
    let payload = |grant: &Grant| grant.body.as_ref().unwrap().payload.parse::<u32>().unwrap();
    let mut payloads: Vec<_> = store.claim(10).await.iter().map(payload).collect();
    let read = figure(&store, "bodies_read_total");
    let (mut window, mut ahead) = (8, 8);
    loop {
        // Nobody is told when they are there.
        while figure(&store, "bodies_read_ahead_total") < f64::from(ahead) {
            std::thread::yield_now();
        }
        payloads.extend(store.claim(window).await.iter().map(payload));
        if ahead == 490 {
            break;
        }
        window *= 2;
        ahead = (ahead + window).min(490);
    }
    assert_eq!(payloads, (0..500).collect::<Vec<_>>());
    assert!(read > 0.0);
    assert_eq!(figure(&store, "bodies_read_total"), read, "only those of the first claim were waited for");
    close(&store).await;
}

#[tokio::test]
async fn concurrent_callers_share_a_group() {
    let (place, disk) = (Place::new(), Disk::new());
    let store = place.try_open(journal_on(&disk)).unwrap();
    let mut jobs = Jobs::default();
    store.enqueue(&mut jobs, "0").await;
    let before = figure(&store, "groups_total");
    disk.hold(true);
    let batches: Vec<_> = (0..50).map(|_| batch([jobs.next("1")])).collect();
    let mut answers: Vec<_> = batches.into_iter().map(|batch| Box::pin(store.submit(batch))).collect();
    for answer in &mut answers {
        assert!(begin(&mut answer.as_mut()).is_pending());
    }
    disk.hold(false);
    for answer in answers {
        answer.await.unwrap()[0].as_ref().unwrap();
    }
    let groups = figure(&store, "groups_total") - before;
    assert!((1.0..=2.0).contains(&groups), "one that was begun, and all the others: {groups}");
}

#[tokio::test]
async fn a_closed_store_says_so_and_frees_its_file() {
    let place = Place::new();
    let store = place.open_store();
    let on = [Interest::Queue(queue())];
    let mut waiter = pin!(store.wait(&on, Duration::from_secs(3_600)));
    assert!(begin(&mut waiter).is_pending());
    close(&store).await;
    assert_eq!(waiter.await.unwrap_err().kind(), ErrorKind::Closed);
    for error in [
        store.try_ops([claim(1)]).await.unwrap_err(),
        store.ping().await.unwrap_err(),
        store.now().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
    assert_eq!(place.file_bytes("jobs.db-wal"), 0, "everything is in the file");
    close(&place.open_store()).await;
}

#[tokio::test]
async fn a_store_tidies_up_by_itself_as_its_clock_goes() {
    let place = Place::new();
    let store = place.try_open(|options| options.housekeeping = true).unwrap();
    store.enqueue(&mut Jobs::default(), "1").await;
    let lost = store.claim(1).await.remove(0);
    let on = [Interest::Queue(queue())];
    let mut waiter = pin!(store.wait(&on, Duration::from_secs(3_600)));
    assert!(begin(&mut waiter).is_pending());
    place.clock.advance(31_000);
    assert!(waiter.await.unwrap().is_woken());
    let again = store.claim(1).await.remove(0);
    assert_eq!((again.id, again.attempt, again.crashes), (lost.id, 2, 1));
    assert!(again.lease.token > lost.lease.token);
    let lost = Op::Extend { id: lost.id, lease: lost.lease, extend_ms: 1_000, progress: None };
    assert!(store.try_ops([lost]).await.unwrap().is_err());
}

#[tokio::test]
async fn a_cascade_larger_than_a_commit_ends_without_anybody_asking() {
    let place = Place::new();
    let store = place.try_open(|options| options.housekeeping = true).unwrap();
    let mut jobs = Jobs::default();
    let root = store.enqueue(&mut jobs, "1").await;
    let mut last = root;
    for _ in 0..3 {
        let crowd = (0..8_000).map(|_| {
            let Op::Enqueue(mut job) = jobs.next("1") else { unreachable!() };
            job.after = vec![After::Job(root)];
            last = job.id;
            Op::Enqueue(job)
        });
        store.try_ops(crowd.collect::<Vec<_>>()).await.unwrap().unwrap();
    }
    let on = [Interest::Finished(last)];
    let mut waiter = pin!(store.wait(&on, Duration::from_secs(3_600)));
    assert!(begin(&mut waiter).is_pending());
    store.try_ops([Op::Cancel { id: root }]).await.unwrap().unwrap();
    // The clock stands still: nothing but the store's own work ends this.
    assert!(waiter.await.unwrap().is_woken());
    close(&store).await;
}
