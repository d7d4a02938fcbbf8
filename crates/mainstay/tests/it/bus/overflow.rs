//! A full queue.

use std::sync::Arc;

use mainstay::bus::{Bus, ListenError, Overflow, PublishError};
use mainstay::event::EventContext;
use mainstay::{Context, JobError, secs};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Paid, Placed, Seen, note};

/// A handler that is as slow as the test wants it.
struct Slow {
    began: Arc<Semaphore>,
    open: Arc<Semaphore>,
    seen: Seen,
}

impl Slow {
    fn new() -> (Self, Arc<Semaphore>, Arc<Semaphore>, Seen) {
        let (began, open, seen) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)), Seen::default());
        (Self { began: began.clone(), open: open.clone(), seen: seen.clone() }, began, open, seen)
    }
}

async fn slow(event: Placed, cx: EventContext<Slow>) -> Result<(), JobError> {
    cx.began.add_permits(1);
    cx.open.acquire().await?.forget();
    cx.seen.add(format!("{} missed {}", event.order, cx.missed()));
    Ok(())
}

/// Publishes so many; the first is in hand.
async fn publish(bus: &Bus, began: &Semaphore, orders: std::ops::Range<u32>) {
    for order in orders {
        bus.publish(&Placed { order }).await.unwrap();
        if order == 0 {
            began.acquire().await.unwrap().forget();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_publisher_waits_for_room_and_the_others_have_the_event_before_it_does() {
    let (state, began, open, seen) = Slow::new();
    let (bus, quick) = (Bus::new(), Seen::default());
    let _subs = [
        bus.with(state).on(slow).queue(2).start().unwrap(),
        bus.with(quick.clone()).on(note).start().unwrap(),
    ];
    publish(&bus, &began, 0..3).await;
    let publishing = bus.publish(&Placed { order: 3 });
    let opening = async {
        tokio::time::sleep(secs(1)).await;
        assert_eq!(quick.all(), ["0", "1", "2", "3"], "whoever has room has it");
        open.add_permits(1);
        Instant::now()
    };
    let began_at = Instant::now();
    let (published, opened) = tokio::join!(publishing, opening);
    assert_eq!(published.unwrap().subscribers, 2);
    assert_eq!(opened - began_at, secs(1));
    open.add_permits(9);
    bus.idle().await;
    assert_eq!(seen.all(), ["0 missed 0", "1 missed 0", "2 missed 0", "3 missed 0"], "nothing was lost");
}

#[tokio::test(start_paused = true)]
async fn a_publisher_does_not_wait_for_ever_and_is_told_for_whom_it_waited() {
    let (state, began, _open, _seen) = Slow::new();
    let bus = Bus::new();
    let _sub = bus.with(state).on(slow).queue(2).start().unwrap();
    publish(&bus, &began, 0..3).await;
    let at = Instant::now();
    let late = bus.publish(&Placed { order: 3 }).await.unwrap_err();
    assert_eq!(at.elapsed(), secs(5));
    assert!(matches!(&late, PublishError::TimedOut { subscriber, .. } if subscriber == "slow"), "{late}");

    let hurried = Context::new().with_time_limit(secs(1));
    let at = Instant::now();
    let late = hurried.scope(bus.publish(&Placed { order: 4 })).await.unwrap_err();
    assert_eq!(at.elapsed(), secs(1), "the context's deadline holds");
    assert!(matches!(late, PublishError::TimedOut { .. }));

    let full = bus.try_publish(&Placed { order: 5 }).unwrap_err();
    assert!(matches!(&full, PublishError::Full { subscriber, .. } if subscriber == "slow"), "{full}");
}

#[tokio::test(start_paused = true)]
async fn full_queues_are_waited_for_together() {
    let bus = Bus::new();
    let mut subs = Vec::new();
    for name in ["first", "second", "third"] {
        let (state, began, ..) = Slow::new();
        subs.push((bus.with(state).on(slow).name(name).queue(1).start().unwrap(), began));
    }
    bus.publish(&Placed { order: 0 }).await.unwrap();
    for (_, began) in &subs {
        began.acquire().await.unwrap().forget();
    }
    bus.publish(&Placed { order: 1 }).await.unwrap();
    let at = Instant::now();
    let late = bus.publish(&Placed { order: 2 }).await.unwrap_err();
    assert_eq!(at.elapsed(), secs(5), "all limits begin when the event is published");
    assert!(matches!(&late, PublishError::TimedOut { subscriber, .. } if subscriber == "first"), "{late}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_does_not_come_back_in_the_place_of_another_event() {
    async fn picky(event: Placed, cx: EventContext<Slow>) -> Result<(), JobError> {
        if event.order == 9 && cx.seen.count() == 0 {
            return Err(JobError::permanent("not today"));
        }
        slow(event, cx).await
    }
    let (state, began, open, seen) = Slow::new();
    let bus = Bus::new();
    let _sub = bus.with(state).on(picky).queue(2).overflow(Overflow::DropOldest).start().unwrap();
    bus.publish(&Placed { order: 9 }).await.unwrap();
    bus.idle().await;
    publish(&bus, &began, 0..3).await;
    let done = bus.requeue(|_| true);
    assert_eq!((done.matched, done.changed, bus.dead().len()), (1, 0, 1), "its queue is full: it stays");
    open.add_permits(9);
    bus.idle().await;
    assert_eq!(seen.all(), ["0 missed 0", "1 missed 0", "2 missed 0"], "nothing went for it");
    assert_eq!(bus.requeue(|_| true).changed, 1);
    bus.idle().await;
    assert_eq!((seen.all()[3].as_str(), bus.dead().len()), ("9 missed 0", 0));
}

#[tokio::test(start_paused = true)]
async fn handlers_that_publish_to_each_other_do_not_wait_for_each_other_for_ever() {
    async fn ping(event: Placed, cx: EventContext<Bus>) -> Result<(), JobError> {
        for _ in 0..3 {
            cx.publish(&Paid { order: event.order }).await?;
        }
        Ok(())
    }
    async fn pong(event: Paid, cx: EventContext<Bus>) -> Result<(), JobError> {
        if event.order < 3 {
            cx.publish(&Placed { order: event.order + 1 }).await?;
        }
        Ok(())
    }
    let bus = Bus::new();
    let both = bus.with(bus.clone());
    let _subs = [both.on(ping).queue(1).start().unwrap(), both.on(pong).queue(1).start().unwrap()];
    bus.publish(&Placed { order: 0 }).await.unwrap();
    bus.idle().await; // ends: with failures, but it ends
}

#[tokio::test(start_paused = true)]
async fn the_oldest_go_are_counted_and_the_next_delivery_knows() {
    let (state, began, open, seen) = Slow::new();
    let bus = Bus::new();
    let _sub = bus.with(state).on(slow).queue(2).overflow(Overflow::DropOldest).start().unwrap();
    publish(&bus, &began, 0..3).await;
    let at = Instant::now();
    let dropped: Vec<_> = futures_util::future::join_all(
        (3..6).map(async |order| bus.publish(&Placed { order }).await.unwrap().dropped),
    )
    .await;
    assert_eq!((dropped, at.elapsed()), (vec![1, 1, 1], secs(0)), "nobody waits");
    open.add_permits(9);
    bus.idle().await;
    assert_eq!(seen.all(), ["0 missed 0", "4 missed 3", "5 missed 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_to_end_ends_and_handles_what_it_has() {
    let (state, began, open, seen) = Slow::new();
    let (bus, quick) = (Bus::new(), Seen::default());
    let sub = bus.with(state).on(slow).queue(2).overflow(Overflow::Disconnect).start().unwrap();
    let _quick = bus.with(quick.clone()).on(note).start().unwrap();
    publish(&bus, &began, 0..3).await;
    let published = bus.publish(&Placed { order: 3 }).await.unwrap();
    assert_eq!(published.subscribers, 1);
    assert!(sub.is_ended());
    assert_eq!(bus.publish(&Placed { order: 4 }).await.unwrap().subscribers, 1);
    open.add_permits(9);
    let drained = sub.stop_by(Instant::now() + secs(1)).await;
    assert!(drained.is_complete());
    assert_eq!(seen.all(), ["0 missed 0", "1 missed 0", "2 missed 0"]);
    assert_eq!(quick.count(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_listener_hears_the_newest_and_is_told_of_the_gap() {
    let bus = Bus::new();
    let mut orders = bus.listen::<Placed>("orders.placed", 2).unwrap();
    for order in 0..5 {
        bus.publish(&Placed { order }).await.unwrap();
    }
    assert_eq!(orders.recv().await, Err(ListenError::Lagged(3)));
    assert_eq!(orders.recv().await, Ok(Placed { order: 3 }));
    assert_eq!(orders.recv().await, Ok(Placed { order: 4 }));
    let mut all = bus.listen::<Placed>("orders.>", 2).unwrap();
    bus.publish(&Paid { order: 5 }).await.unwrap();
    assert_eq!(all.recv().await, Ok(Placed { order: 5 }), "it reads what fits");
    bus.close();
    assert_eq!(orders.recv().await, Err(ListenError::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_listener_is_gone_and_nobody_waits_for_one_that_does_not_listen() {
    let bus = Bus::new();
    let orders = bus.listen::<Placed>("orders.placed", 1).unwrap();
    assert_eq!(bus.publish(&Placed { order: 1 }).await.unwrap().subscribers, 1);
    bus.idle().await;
    drop(orders);
    assert_eq!(bus.publish(&Placed { order: 1 }).await.unwrap().subscribers, 0);
    let unheard = bus.listen::<Placed>("orders.placed", 1).unwrap();
    bus.publish(&Placed { order: 1 }).await.unwrap();
    assert!(bus.drain_by(Instant::now() + secs(1)).await.is_complete());
    drop(unheard);
}
