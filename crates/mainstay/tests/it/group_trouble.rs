//! Handlers of the log when there is trouble: with the store, with what they call, with their service. In virtual time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use mainstay::core::event::{EventOp, Position};
use mainstay::core::op::{Committed, Failure, Op};
use mainstay::core::queue::QueueConfig;
use mainstay::core::store::{Batch, Over, Store};
use mainstay::core::{Error, ErrorKind, GroupName, MemoryStore};
use mainstay::event::EventContext;
use mainstay::testing::{Runtime, block_on_virtual};
use mainstay::{Client, Job, JobError, millis, secs};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::bus::{Placed, Seen};
use crate::group::{Left, Ship, at_once, dead, lives, publish};

/// A store in RAM that can be cut off.
struct Wire {
    store: MemoryStore,
    /// Nothing gets through.
    cut: AtomicBool,
    /// No ack does.
    deaf: AtomicBool,
}

impl Wire {
    fn client(runtime: &Runtime) -> (Client, Arc<Wire>) {
        let store = MemoryStore::new(runtime.clock());
        let wire = Arc::new(Wire { store, cut: AtomicBool::new(false), deaf: AtomicBool::new(false) });
        (Client::on(wire.clone(), runtime.clock()), wire)
    }
}

#[async_trait]
impl Over for Wire {
    fn below(&self) -> &dyn Store {
        &self.store
    }

    async fn submit(&self, batch: Batch) -> Result<Vec<Result<Committed, Failure>>, Error> {
        let acks = |op: &Op| matches!(op, Op::Event(EventOp::Settle(settle)) if !settle.ack.is_empty());
        let has_acks = batch.commits.iter().flat_map(|commit| &commit.ops).any(acks);
        if self.cut.load(Ordering::SeqCst) || has_acks && self.deaf.load(Ordering::SeqCst) {
            sleep(millis(300)).await;
            return Err(Error::new(ErrorKind::Unavailable, "no route to the store"));
        }
        self.below().submit(batch).await
    }
}

fn with_wire<F: Future<Output = ()>>(test: impl FnOnce(Client, Arc<Wire>) -> F) {
    let runtime = Runtime::paused();
    let (client, wire) = Wire::client(&runtime);
    runtime.block_on(test(client, wire));
    runtime.end();
}

fn group(name: &str) -> GroupName {
    GroupName::new(name).unwrap()
}

#[test]
fn a_handler_that_gives_up_because_its_service_stops_spends_no_delivery() {
    async fn leave(event: Placed, cx: EventContext<Left>) -> Result<(), JobError> {
        cx.one();
        cx.cancelled().await;
        match event.order {
            0 => Err(JobError::retry("told to stop")),
            1 => Err(JobError::retry_after(secs(60), "told to stop")),
            2 => panic!("told to stop"),
            _ => Err(JobError::permanent("no such street")),
        }
    }
    async fn note(event: Placed, cx: EventContext<(Seen, Left)>) -> Result<(), JobError> {
        cx.0.add(format!("{}.{}", event.order, cx.attempt()));
        cx.1.one();
        Ok(())
    }
    block_on_virtual(async {
        let (store, left, seen) = (Client::memory(), Left::new(4), Seen::default());
        let (theirs, state) = (store.clone(), left.clone());
        lives(
            &[("grace_ms", "3000"), ("drain_ms", "100")],
            async move |b| {
                let notes = theirs.group("notes").with(state).on(leave);
                b.subscribe(notes.max_deliver(1).time_limit(secs(600)));
                Ok(())
            },
            async {
                publish(&store, 0..4).await;
                left.none().await;
            },
        )
        .await;
        let letters = dead(&store, "notes").await;
        assert_eq!(letters.iter().map(|letter| letter.seq).collect::<Vec<_>>(), [4], "what is hopeless is");
        let left = Left::new(3);
        let (theirs, state) = (store.clone(), (seen.clone(), left.clone()));
        lives(
            &[],
            async move |b| {
                b.subscribe(theirs.group("notes").with(state).on(note).concurrency(1).max_deliver(1));
                Ok(())
            },
            left.none(),
        )
        .await;
        assert_eq!(seen.all(), ["0.1", "1.1", "2.1"], "at once, and as the first attempt");
    });
}

#[test]
fn a_handler_that_says_not_now_spends_no_delivery() {
    async fn later(_: Placed, cx: EventContext<(Seen, Left)>) -> Result<(), JobError> {
        cx.0.add(cx.attempt().to_string());
        cx.1.one();
        if cx.0.all().len() < 5 { Err(JobError::snooze(secs(1))) } else { Ok(()) }
    }
    block_on_virtual(async {
        let (store, seen, left) = (Client::memory(), Seen::default(), Left::new(5));
        let (theirs, state) = (store.clone(), (seen.clone(), left.clone()));
        let began = Instant::now();
        lives(
            &[],
            async move |b| {
                b.subscribe(theirs.group("notes").with(state).on(later).max_deliver(1));
                Ok(())
            },
            async {
                publish(&store, 0..1).await;
                left.none().await;
                assert!(began.elapsed() >= secs(4), "{:?}", began.elapsed());
            },
        )
        .await;
        assert_eq!(seen.all(), ["1"; 5]);
        assert!(dead(&store, "notes").await.is_empty());
    });
}

#[test]
fn an_event_whose_queue_is_full_is_no_dead_letter() {
    /// By hand, what `enqueue` does.
    async fn by_hand(event: Placed, cx: EventContext) -> Result<(), JobError> {
        cx.commit()?.enqueue(Ship { order: event.order }).await?;
        Ok(())
    }
    for hand in [false, true] {
        block_on_virtual(async {
            let store = Client::memory();
            let queue = || Ship::QUEUE.parse().unwrap();
            let config = QueueConfig { max_depth: Some(1), ..QueueConfig::default() };
            store.put_queue(queue(), config).await.unwrap();
            let theirs = store.clone();
            lives(
                &[],
                async move |b| {
                    let group = theirs.group("ships").with(());
                    let ships = match hand {
                        true => group.on(by_hand),
                        false => group.enqueue(|event: Placed, ()| Ship { order: event.order }),
                    };
                    b.subscribe(ships.max_deliver(1));
                    Ok(())
                },
                async {
                    publish(&store, 0..3).await;
                    for left in [2, 1, 0] {
                        let waiting = async || {
                            let jobs = store.queue(&queue()).await.unwrap().unwrap().depth.available;
                            let record = store.group_record(&group("ships")).await.unwrap().unwrap();
                            (jobs, record.waiting, record.in_flight, record.lag)
                        };
                        while waiting().await != (1, left, 0, left) {
                            sleep(millis(10)).await;
                        }
                        store.apply(Op::Purge { queue: queue(), limit: 10 }).await.unwrap();
                    }
                },
            )
            .await;
            assert!(dead(&store, "ships").await.is_empty());
        });
    }
}

#[test]
fn an_attempt_that_outlives_its_lease_is_cut_though_the_store_does_not_answer() {
    struct Cut(Arc<Semaphore>);
    impl Drop for Cut {
        fn drop(&mut self) {
            self.0.add_permits(1);
        }
    }
    async fn stuck(_: Placed, cx: EventContext<(Arc<Semaphore>, Left)>) -> Result<(), JobError> {
        let _cut = Cut(cx.0.clone());
        cx.1.one();
        std::future::pending().await
    }
    with_wire(async |store, wire| {
        let (cut, left) = (Arc::new(Semaphore::new(0)), Left::new(1));
        let (theirs, state) = (store.clone(), (cut.clone(), left.clone()));
        lives(
            &[],
            async move |b| {
                let notes = theirs.group("notes").with(state).on(stuck).concurrency(1);
                b.subscribe(notes.lease(secs(3)).time_limit(secs(600)));
                Ok(())
            },
            async {
                publish(&store, 0..1).await;
                left.none().await;
                // It is renewed as long as the store answers.
                sleep(secs(8)).await;
                assert_eq!(cut.available_permits(), 0);
                wire.cut.store(true, Ordering::SeqCst);
                let began = Instant::now();
                let _ = cut.acquire().await.unwrap();
                let lived = began.elapsed();
                assert!(lived > secs(1) && lived <= secs(3), "by its own clock: {lived:?}");
                wire.cut.store(false, Ordering::SeqCst);
            },
        )
        .await;
    });
}

#[test]
fn an_event_whose_lease_lived_on_at_the_store_goes_back_when_it_answers_again() {
    async fn stuck_once(_: Placed, cx: EventContext<(Seen, Left)>) -> Result<(), JobError> {
        cx.0.add(cx.attempt().to_string());
        cx.1.one();
        if cx.0.all().len() == 1 { std::future::pending().await } else { Ok(()) }
    }
    with_wire(async |store, wire| {
        let (seen, done) = (Seen::default(), Left::new(2));
        let (theirs, state) = (store.clone(), (seen.clone(), done.clone()));
        lives(
            &[],
            async move |b| {
                let notes = theirs.group("notes").with(state).on(stuck_once).max_deliver(1);
                b.subscribe(notes.lease(secs(3)).time_limit(secs(600)));
                Ok(())
            },
            async {
                // The store gives more time than the service knows of.
                let name = group("notes");
                let mut config = store.group_record(&name).await.unwrap().unwrap().config;
                config.ack_wait_ms = 600_000;
                store.put_group(name, config, Position::Latest).await.unwrap();
                publish(&store, 0..1).await;
                while seen.all().is_empty() {
                    sleep(millis(10)).await;
                }
                wire.cut.store(true, Ordering::SeqCst);
                sleep(secs(5)).await;
                wire.cut.store(false, Ordering::SeqCst);
                done.none().await;
            },
        )
        .await;
        assert_eq!(seen.all(), ["1", "1"], "soon, and no delivery is spent");
        assert!(dead(&store, "notes").await.is_empty());
    });
}

#[test]
fn a_handled_event_is_acknowledged_once_the_store_takes_it_again() {
    async fn note(_: Placed, cx: EventContext<(Seen, Left)>) -> Result<(), JobError> {
        cx.0.add(cx.attempt().to_string());
        cx.1.one();
        Ok(())
    }
    with_wire(async |store, wire| {
        let (seen, left) = (Seen::default(), Left::new(1));
        let (theirs, state) = (store.clone(), (seen.clone(), left.clone()));
        wire.deaf.store(true, Ordering::SeqCst);
        lives(
            &[],
            async move |b| {
                let notes = theirs.group("notes").with(state).on(note);
                b.subscribe(notes.lease(secs(2)).max_deliver(1).backoff(at_once()));
                Ok(())
            },
            async {
                publish(&store, 0..1).await;
                left.none().await;
                sleep(secs(10)).await;
                let record = store.group_record(&group("notes")).await.unwrap().unwrap();
                assert_eq!((record.in_flight, record.dead), (1, 0), "it is renewed until then");
                wire.deaf.store(false, Ordering::SeqCst);
                while store.group_record(&group("notes")).await.unwrap().unwrap().in_flight > 0 {
                    sleep(millis(100)).await;
                }
            },
        )
        .await;
        assert_eq!(seen.all(), ["1"]);
        assert!(dead(&store, "notes").await.is_empty());
    });
}
