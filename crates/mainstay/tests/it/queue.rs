//! The bounded queue as a program sees it.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use mainstay::context::Context;
use mainstay::queue::{Bounded, Overflow, Refused, TryRecvError};
use mainstay::{millis, secs};
use tokio::time::{Instant, advance, timeout};
use tokio::{join, task::yield_now};

#[tokio::test(start_paused = true)]
async fn a_sender_waits_for_room_and_says_how_long() {
    let (tx, mut rx) = Bounded::new("t", 1).open();
    assert_eq!(tx.send(1).await.unwrap().waited(), None);
    let slow = async {
        tokio::time::sleep(millis(30)).await;
        rx.recv().await
    };
    let (sent, got) = join!(tx.send(2), slow);
    assert_eq!((sent.unwrap().waited(), got), (Some(millis(30)), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_wait_and_keeps_the_item() {
    let (tx, _rx) = Bounded::new("t", 1).open();
    tx.send("first").await.unwrap();
    let began = Instant::now();
    let late = tx.send_by("second", began + millis(50)).await.unwrap_err();
    assert_eq!((late.reason(), late.into_item()), (Refused::TimedOut, "second"));
    assert_eq!((began.elapsed(), tx.waiting(), tx.depth()), (millis(50), 0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_contexts_deadline_ends_the_wait() {
    let (tx, _rx) = Bounded::new("t", 1).open();
    let began = Instant::now();
    let work = async {
        tx.send(1).await.unwrap();
        (tx.reserve().await.unwrap_err(), tx.send_by(2, began + secs(9)).await.unwrap_err().reason())
    };
    let refused = Context::new().with_time_limit(millis(20)).scope(work).await;
    assert_eq!((refused, began.elapsed()), ((Refused::TimedOut, Refused::TimedOut), millis(20)));
}

#[tokio::test]
async fn each_rule_for_a_full_queue_does_what_it_says() {
    for (rule, refused, evicted, inside) in [
        (Overflow::Reject, Some(Refused::Full), vec![], vec![1, 2]),
        (Overflow::DropOldest, None, vec![1], vec![2, 3]),
        (Overflow::DropNewest, None, vec![3], vec![1, 2]),
    ] {
        let (tx, mut rx) = Bounded::new("t", 2).overflow(rule).open();
        for item in [1, 2] {
            assert!(tx.send(item).await.unwrap().evicted().is_empty());
        }
        let third = tx.send(3).await;
        assert_eq!(third.as_ref().err().map(|e| e.reason()), refused, "{rule:?}");
        assert_eq!(third.map_or_else(|_| Vec::new(), |sent| sent.into_evicted()), evicted, "{rule:?}");
        let mut got = Vec::new();
        assert_eq!(rx.recv_many(&mut got, 10).await, 2);
        assert_eq!(got, inside, "{rule:?}");
    }
}

#[tokio::test]
async fn bytes_are_a_bound_of_their_own() {
    let plan = |rule| Bounded::new("t", 100).max_bytes(10, |item: &&str| item.len() as u64).overflow(rule);
    let (tx, mut rx) = plan(Overflow::Reject).open();
    tx.try_send("12345678").unwrap();
    assert_eq!(tx.try_send("123").unwrap_err().reason(), Refused::Full);
    tx.try_send("12").unwrap();
    assert_eq!(tx.try_send("12345678901").unwrap_err().reason(), Refused::TooLarge);
    assert_eq!(rx.recv().await, Some("12345678"));
    tx.try_send("87654321").unwrap();

    let (tx, _rx) = plan(Overflow::DropOldest).open();
    for item in ["1234", "5678"] {
        tx.try_send(item).unwrap();
    }
    assert_eq!(tx.try_send("12345678").unwrap().into_evicted(), ["1234", "5678"]);
}

#[tokio::test]
async fn a_heavy_item_is_not_overtaken_by_light_ones() {
    let (tx, mut rx) = Bounded::new("t", 100).max_bytes(10, |item: &u64| *item).open();
    tx.send(8).await.unwrap();
    let consumer = async {
        yield_now().await;
        assert_eq!(tx.waiting(), 2);
        let mut got = Vec::new();
        while got.len() < 3 {
            got.push(rx.recv().await.unwrap());
        }
        got
    };
    let (heavy, light, got) = join!(tx.send(9), tx.send(1), consumer);
    heavy.and(light).unwrap();
    assert_eq!(got, [8, 9, 1]);
}

#[tokio::test]
async fn the_urgent_goes_first_and_is_dropped_last() {
    let plan = || Bounded::new("t", 4).priority(|(priority, _): &(u8, char)| *priority);
    let (tx, mut rx) = plan().open();
    for item in [(9, 'a'), (5, 'b'), (0, 'c'), (5, 'd')] {
        tx.send(item).await.unwrap();
    }
    let mut got = Vec::new();
    rx.recv_many(&mut got, 10).await;
    assert_eq!(got.iter().map(|(_, name)| *name).collect::<String>(), "cbda");

    let (tx, _rx) = plan().overflow(Overflow::DropOldest).open();
    for item in [(5, 'a'), (5, 'b'), (0, 'c'), (5, 'd')] {
        tx.try_send(item).unwrap();
    }
    assert_eq!(tx.try_send((5, 'e')).unwrap().into_evicted(), [(5, 'a')]);
    assert_eq!(tx.try_send((0, 'f')).unwrap().into_evicted(), [(5, 'b')]);
    // Everything inside is more urgent than this one.
    assert_eq!(tx.try_send((9, 'g')).unwrap().into_evicted(), [(9, 'g')]);
}

#[tokio::test]
async fn a_priority_beyond_the_last_is_the_last_and_the_bound_holds() {
    let plan = Bounded::new("t", 2).priority(|_: &u32| 200).overflow(Overflow::DropOldest);
    let (tx, _rx) = plan.open();
    (0..5).for_each(|item| drop(tx.try_send(item).unwrap()));
    assert_eq!(tx.depth(), 2);
}

#[tokio::test]
async fn room_that_a_heavy_one_leaves_goes_to_who_waits_for_it() {
    let plan = Bounded::new("t", 10).max_bytes(10, |weight: &u64| *weight).overflow(Overflow::DropOldest);
    let (tx, _rx) = plan.open();
    tx.try_send(9).unwrap();
    let mut waits = std::pin::pin!(tx.reserve_bytes(5));
    assert!(waits.as_mut().now_or_never().is_none());
    // It takes the place of the nine.
    tx.try_send(2).unwrap();
    assert!(waits.as_mut().now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_time_that_no_clock_reaches_is_no_limit() {
    let forever = std::time::Duration::MAX;
    let (tx, mut rx) = Bounded::new("t", 2).time_to_live(forever).service_time(millis(1)).open();
    tx.send(1).await.unwrap();
    assert_eq!(rx.recv().await, Some(1));
    let context = Context::new();
    assert_eq!(context.clone().with_time_limit(forever).deadline(), None);
    assert_eq!(context.with_time_limit(secs(1)).detach(forever).deadline(), None);
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_what_expired_inside() {
    let thrown = Arc::new(Mutex::new(Vec::new()));
    let hook = thrown.clone();
    let began = Instant::now();
    let (tx, mut rx) = Bounded::new("t", 10)
        .expires(move |ms: &u64| Some(began + millis(*ms)))
        .service_time(millis(10))
        .on_expired(move |item| hook.lock().unwrap().push(item))
        .open();
    for ms in [20, 100, 35, 200] {
        tx.send(ms).await.unwrap();
    }
    advance(millis(30)).await;
    // 35 is not over yet, but would be before the work on it is.
    assert_eq!(
        (rx.recv().await, rx.try_recv(), rx.try_recv()),
        (Some(100), Ok(200), Err(TryRecvError::Empty))
    );
    assert_eq!(*thrown.lock().unwrap(), [20, 35]);

    let (tx, mut rx) = Bounded::new("t", 1).time_to_live(secs(1)).open();
    tx.send('a').await.unwrap();
    advance(secs(1)).await;
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
}

#[tokio::test]
async fn a_reserved_place_is_there_whatever_comes() {
    let (tx, mut rx) = Bounded::new("t", 2).overflow(Overflow::DropOldest).open();
    let permit = tx.reserve().await.unwrap();
    for item in [1, 2, 3] {
        tx.send(item).await.unwrap();
    }
    permit.send(4).unwrap();
    let mut got = Vec::new();
    rx.recv_many(&mut got, 10).await;
    assert_eq!(got, [3, 4]);
    let unused = [tx.try_reserve(0).unwrap(), tx.try_reserve(0).unwrap()];
    assert_eq!(tx.try_reserve(0).unwrap_err(), Refused::Full);
    drop(unused);
    tx.try_reserve(0).unwrap().send(5).unwrap();
}

#[tokio::test]
async fn a_cancelled_receive_loses_nothing() {
    let (tx, mut rx) = Bounded::new("t", 8).open();
    let sending = async {
        for item in 0..200 {
            tx.send(item).await.unwrap();
            yield_now().await;
        }
        drop(tx);
    };
    let receiving = async {
        let mut got = Vec::new();
        loop {
            // Whichever is ready first: the other is dropped halfway.
            tokio::select! {
                biased;
                () = yield_now() => {}
                item = rx.recv() => match item { Some(item) => got.push(item), None => break got },
            }
            tokio::select! {
                item = rx.recv() => match item { Some(item) => got.push(item), None => break got },
                () = yield_now() => {}
            }
        }
    };
    let ((), got) = join!(sending, receiving);
    assert!(got.into_iter().eq(0..200));
}

#[tokio::test]
async fn a_cancelled_send_has_sent_nothing_and_a_reservation_keeps_the_item() {
    let (tx, mut rx) = Bounded::new("t", 1).open();
    tx.send("first".to_owned()).await.unwrap();
    let kept = "second".to_owned();
    for _ in 0..100 {
        assert!(timeout(millis(0), tx.send("lost".to_owned())).await.is_err());
        assert!(timeout(millis(0), tx.reserve()).await.is_err());
    }
    assert_eq!(rx.recv().await.unwrap(), "first");
    tx.reserve().await.unwrap().send(kept).unwrap();
    assert_eq!((rx.recv().await.unwrap(), tx.depth(), tx.waiting()), ("second".to_owned(), 0, 0));
}

#[tokio::test]
async fn a_spent_budget_is_no_refusal() {
    // tower's buffer under its load shedding refuses from the 128th call on.
    let (tx, _rx) = Bounded::new("t", 100_000).overflow(Overflow::Reject).open();
    for item in 0..2_000 {
        tx.send(item).await.unwrap();
    }
}

#[tokio::test]
async fn draining_a_full_queue_lets_others_run() {
    let (tx, mut rx) = Bounded::new("t", 10_000).open();
    for item in 0..10_000 {
        tx.try_send(item).unwrap();
    }
    let ticks = AtomicUsize::new(0);
    let ticker = async {
        loop {
            ticks.fetch_add(1, Relaxed);
            yield_now().await;
        }
    };
    let receive = async {
        for _ in 0..10_000 {
            rx.recv().await.unwrap();
        }
    };
    tokio::select! { biased; () = receive => {} () = ticker => {} }
    assert!(ticks.load(Relaxed) > 50, "{ticks:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_says_what_was_done_and_what_is_left() {
    let (tx, rx) = Bounded::new("t", 20).open();
    for item in 0..10 {
        tx.send(item).await.unwrap();
    }
    let consumer = |mut rx: mainstay::queue::Receiver<i32>| async move {
        while rx.recv().await.is_some() {
            tokio::time::sleep(millis(10)).await;
        }
    };
    let (a, b) = (consumer(rx.clone()), consumer(rx));
    let drain = async {
        yield_now().await;
        let late = tx.send(99);
        let drained = tx.drain_by(Instant::now() + millis(35)).await;
        assert_eq!(late.await.unwrap_err().reason(), Refused::Closed);
        drained
    };
    let (drained, (), ()) = join!(drain, a, b);
    assert_eq!((drained.done, drained.unfinished, drained.expired), (6, 2, 0));
    assert_eq!(drained.left, [8, 9]);
    assert_eq!(drained.to_string(), "6 done, 2 left, 0 expired, 2 unfinished");
}

#[tokio::test(start_paused = true)]
async fn an_idle_queue_drains_at_once() {
    let (tx, mut rx) = Bounded::new("t", 4).open();
    tx.send(1).await.unwrap();
    rx.recv().await.unwrap();
    let idle = async { tx.idle().await };
    let working = async {
        tokio::time::sleep(secs(1)).await;
        rx.done();
    };
    let began = Instant::now();
    join!(idle, working);
    assert_eq!(began.elapsed(), secs(1), "idle means done, not only taken");
    assert!(tx.drain_by(began + secs(60)).await.is_complete());
    assert_eq!(began.elapsed(), secs(1));
}

#[tokio::test]
async fn nobody_waits_for_an_end_that_is_gone() {
    let (tx, rx) = Bounded::new("t", 1).open();
    tx.send(1).await.unwrap();
    let (refused, ()) = join!(tx.send(2), async { drop(rx) });
    assert_eq!(refused.unwrap_err().reason(), Refused::Closed);
    // What was inside is not lost with the receiver.
    assert_eq!(tx.drain_by(Instant::now()).await.left, [1]);

    let (tx, mut rx) = Bounded::new("t", 1).open();
    tx.send(1).await.unwrap();
    drop(tx);
    assert_eq!((rx.recv().await, rx.recv().await), (Some(1), None));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
}
