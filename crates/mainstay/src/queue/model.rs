//! Both ends under a model checker: loom runs every interleaving of a few threads (up to three preemptions) over the
//! same source, compiled over loom's locks.

#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the same source over other locks; the model uses what it needs"
)]

#[path = "blocks.rs"]
mod blocks;
#[path = "core.rs"]
mod core;
#[path = "front.rs"]
mod front;
#[path = "lanes.rs"]
mod lanes;
#[path = "line.rs"]
mod line;
#[path = "room.rs"]
mod room;
#[path = "state.rs"]
mod state;
#[path = "wait.rs"]
mod wait;
#[path = "whole.rs"]
mod whole;
mod sync {
    pub(super) use loom::sync::atomic::{AtomicUsize, Ordering};
    pub(super) use loom::sync::{Mutex, MutexGuard};

    pub(super) fn lock<M>(mutex: &Mutex<M>) -> MutexGuard<'_, M> {
        mutex.lock().unwrap()
    }
}

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;

use self::core::Core;
use self::lanes::Entry;
use self::state::{Denied, Load};
use self::wait::Looks;

type Queue = Arc<Core<u32, u32>>;

fn check(model: impl Fn() + Sync + Send + 'static) {
    check_with(3, model);
}

/// With up to so many preemptions, where three would take minutes.
fn check_with(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn queue(capacity: usize) -> Queue {
    Arc::new(Core::new(Load { items: capacity, weight: u64::MAX }, false))
}

fn entry(item: u32) -> Entry<u32, u32> {
    Entry { item, weight: 0, expires: None, since: None }
}

fn offer(queue: &Queue, item: u32) {
    assert!(queue.offer(0, entry(item), || 0).is_ok(), "there is room");
}

async fn send(queue: &Core<u32, u32>, item: u32) -> Result<(), Denied> {
    send_entry(queue, entry(item)).await
}

async fn send_entry(queue: &Core<u32, u32>, entry: Entry<u32, u32>) -> Result<(), Denied> {
    let Err(missed) = queue.enter(0, entry, || 0) else { return Ok(()) };
    let put = queue.put(missed, 0, || 0).map_err(|(denied, _)| denied)?;
    let Some(mut put) = put else { return Ok(()) };
    poll_fn(|cx| put.poll(|| 0, cx)).await.map_err(|(denied, _)| denied)
}

async fn receive(queue: &Core<u32, u32>, held: &mut usize) -> Option<u32> {
    if let Ok(got) = queue.pop(held) {
        return got.map(|entry| entry.item);
    }
    receive_many(queue, held, 1, Looks::Turn).await.pop()
}

async fn receive_many(queue: &Core<u32, u32>, held: &mut usize, max: usize, looks: Looks) -> Vec<u32> {
    let mut wait = queue.wait(looks);
    let mut got = Vec::new();
    poll_fn(|cx| wait.poll_take(held, max, |_| true, |entry| got.push(entry.item), &mut Vec::new(), cx))
        .await;
    got
}

/// Polls so many times and drops it: a future that is cancelled wherever it is. The first time somebody who waits only
/// gives others their turn, the second time it is to be woken.
fn poll_and_drop<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    (0..polls).find_map(|_| match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    })
}

#[test]
fn what_waiting_senders_send_arrives_in_order() {
    check_with(2, || {
        let queue = queue(1);
        let sender = queue.clone();
        let sending = thread::spawn(move || {
            block_on(async {
                for item in 0..3 {
                    send(&sender, item).await.unwrap();
                }
            });
            sender.remove_sender();
        });
        let mut held = 0;
        let got: Vec<_> = block_on(async {
            let mut got = Vec::new();
            while let Some(item) = receive(&queue, &mut held).await {
                got.push(item);
            }
            got
        });
        assert_eq!(got, [0, 1, 2]);
        sending.join().unwrap();
    });
}

#[test]
fn a_place_that_a_cancelled_sender_got_goes_to_the_next() {
    cancel_a_sender(2);
}

#[test]
fn a_place_goes_to_the_next_when_a_sender_is_cancelled_that_only_gave_others_their_turn() {
    cancel_a_sender(1);
}

fn cancel_a_sender(polls: usize) {
    check_with(2, move || {
        let queue = queue(1);
        offer(&queue, 1);
        let (cancelled, patient) = (queue.clone(), queue.clone());
        let cancelling = thread::spawn(move || {
            // In line, perhaps called, perhaps not: gone in any case.
            if let Some(got) = poll_and_drop(polls, cancelled.reserve(0)) {
                got.unwrap();
                cancelled.give_back(0);
            }
        });
        let waiting = thread::spawn(move || block_on(send(&patient, 2)).unwrap());
        let mut held = 0;
        assert_eq!(block_on(receive(&queue, &mut held)), Some(1));
        assert_eq!(block_on(receive(&queue, &mut held)), Some(2));
        cancelling.join().unwrap();
        waiting.join().unwrap();
    });
}

#[test]
fn an_item_that_a_cancelled_receiver_was_called_for_goes_to_the_next() {
    cancel_a_receiver(2);
}

#[test]
fn an_item_goes_to_the_next_when_a_receiver_is_cancelled_that_only_gave_others_their_turn() {
    cancel_a_receiver(1);
}

fn cancel_a_receiver(polls: usize) {
    check(move || {
        let queue = queue(2);
        queue.add_receiver();
        let (cancelled, patient) = (queue.clone(), queue.clone());
        let cancelling = thread::spawn(move || {
            let mut held = 0;
            let got = poll_and_drop(polls, receive(&cancelled, &mut held)).flatten();
            cancelled.remove_receiver(held);
            got
        });
        let waiting = thread::spawn(move || {
            let mut held = 0;
            let got = block_on(receive(&patient, &mut held));
            patient.remove_receiver(held);
            got
        });
        // The last item ends whoever is left.
        offer(&queue, 1);
        queue.close();
        let got = [cancelling.join().unwrap(), waiting.join().unwrap()];
        assert_eq!(got.into_iter().flatten().collect::<Vec<_>>(), [1]);
    });
}

#[test]
fn a_send_that_meets_a_close_is_refused_or_received() {
    check_with(2, || {
        let queue = queue(1);
        offer(&queue, 1);
        let (sender, closer) = (queue.clone(), queue.clone());
        let sending = thread::spawn(move || block_on(send(&sender, 2)));
        let closing = thread::spawn(move || closer.close());
        let mut held = 0;
        let got: Vec<_> = block_on(async {
            let mut got = Vec::new();
            while let Some(item) = receive(&queue, &mut held).await {
                got.push(item);
            }
            got
        });
        closing.join().unwrap();
        match sending.join().unwrap() {
            Ok(()) => assert_eq!(got, [1, 2]),
            Err(denied) => assert_eq!((denied, got), (Denied::Closed, vec![1])),
        }
    });
}

#[test]
fn a_sweep_gets_what_no_receiver_got_and_the_weight_of_both_is_given_back() {
    check(|| {
        let queue: Queue = Arc::new(Core::new(Load { items: 2, weight: 3 }, true));
        let heavy = |item, weight| Entry { item, weight, expires: Some(item), since: None };
        let (sender, receiver) = (queue.clone(), queue.clone());
        let sending = thread::spawn(move || {
            block_on(async {
                let first = send_entry(&sender, heavy(1, 2)).await;
                // Has to wait for the weight of the first.
                [first, send_entry(&sender, heavy(2, 2)).await]
            })
        });
        let receiving = thread::spawn(move || {
            let mut got = None;
            receiver.take(
                &mut 0,
                1,
                |entry| entry.expires == Some(entry.item),
                |entry| got = Some(entry.item),
                &mut Vec::new(),
            );
            got
        });
        let mut all = queue.sweep();
        all.extend(receiving.join().unwrap());
        queue.close();
        let sent = sending.join().unwrap();
        all.extend(queue.sweep());
        all.sort_unstable();
        let taken: Vec<_> = (1..).zip(sent).filter(|(_, sent)| sent.is_ok()).map(|(item, _)| item).collect();
        assert_eq!(all, taken);
        assert_eq!((queue.view().depth, queue.view().weight), (0, 0));
    });
}

#[test]
fn a_waiting_sender_is_refused_when_the_queue_closes() {
    check(|| {
        let queue = queue(1);
        offer(&queue, 1);
        let sender = queue.clone();
        let sending = thread::spawn(move || block_on(send(&sender, 2)));
        queue.close();
        assert_eq!(sending.join().unwrap(), Err(Denied::Closed));
        assert_eq!(queue.sweep(), [1]);
    });
}

#[test]
fn idleness_is_seen_when_the_last_item_is_done() {
    check(|| {
        let queue = queue(2);
        // Another one stays, so that the end of this one is not the end of the queue.
        queue.add_receiver();
        offer(&queue, 1);
        let receiver = queue.clone();
        let receiving = thread::spawn(move || {
            let mut held = 0;
            assert_eq!(block_on(receive(&receiver, &mut held)), Some(1));
            receiver.remove_receiver(held);
        });
        block_on(async {
            let mut wait = queue.idle();
            poll_fn(|cx| wait.poll_idle(cx)).await;
        });
        let view = queue.view();
        assert_eq!((view.depth, view.busy), (0, 0));
        receiving.join().unwrap();
    });
}

#[test]
fn room_that_the_front_gives_wakes_who_waits_for_it() {
    check(|| {
        let queue = queue(2);
        // Both lie in the front once the first is taken.
        (1..=2).for_each(|item| offer(&queue, item));
        let sender = queue.clone();
        let sending = thread::spawn(move || {
            block_on(async {
                for item in 3..=4 {
                    send(&sender, item).await.unwrap();
                }
            });
        });
        let mut held = 0;
        for item in 1..=4 {
            assert_eq!(block_on(receive(&queue, &mut held)), Some(item));
        }
        sending.join().unwrap();
    });
}

#[test]
fn room_that_the_front_gives_by_the_pair_wakes_who_waits_for_it() {
    check(|| {
        let queue = queue(3);
        // All lie in the front once the first is taken.
        (1..=3).for_each(|item| offer(&queue, item));
        let mut held = 0;
        assert_eq!(block_on(receive(&queue, &mut held)), Some(1));
        let sender = queue.clone();
        let sending = thread::spawn(move || {
            block_on(async {
                for item in 4..=6 {
                    send(&sender, item).await.unwrap();
                }
            });
        });
        let mut got = Vec::new();
        while got.len() < 5 {
            got.extend(block_on(receive_many(&queue, &mut held, 2, Looks::First)));
        }
        assert_eq!(got, [2, 3, 4, 5, 6]);
        sending.join().unwrap();
    });
}

#[test]
fn room_for_one_reaches_who_waits_though_nobody_takes_more() {
    check(|| {
        let queue = queue(2);
        (1..=2).for_each(|item| offer(&queue, item));
        let mut held = 0;
        assert_eq!(block_on(receive(&queue, &mut held)), Some(1));
        // The second lies in the front, this one behind it.
        offer(&queue, 3);
        let sender = queue.clone();
        let sending = thread::spawn(move || block_on(send(&sender, 4)).unwrap());
        assert_eq!(block_on(receive(&queue, &mut held)), Some(2));
        sending.join().unwrap();
        let rest: Vec<_> = (0..2).map(|_| block_on(receive(&queue, &mut held))).collect();
        assert_eq!(rest, [Some(3), Some(4)]);
    });
}

#[test]
fn room_reaches_each_of_those_who_wait_for_it() {
    check_with(1, || {
        let queue = queue(1);
        offer(&queue, 1);
        let senders = [2, 3].map(|item| {
            let sender = queue.clone();
            thread::spawn(move || block_on(send(&sender, item)).unwrap())
        });
        let mut held = 0;
        let mut got: Vec<_> = (0..3).filter_map(|_| block_on(receive(&queue, &mut held))).collect();
        got.sort_unstable();
        assert_eq!(got, [1, 2, 3]);
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn whoever_does_not_wait_gets_what_is_left_of_the_room() {
    check(|| {
        let queue = queue(2);
        (1..=2).for_each(|item| offer(&queue, item));
        let sender = queue.clone();
        // Perhaps it has a place, perhaps it only stands in line, and never comes again.
        let mut waits = Box::pin(async move { send(&sender, 3).await });
        let waiting = thread::spawn(move || {
            let polled = waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
            (waits, polled)
        });
        let mut held = 0;
        for item in 1..=2 {
            assert_eq!(block_on(receive(&queue, &mut held)), Some(item));
        }
        let (waits, _polled) = waiting.join().unwrap();
        offer(&queue, 4);
        drop(waits);
        queue.close();
        let mut got = Vec::new();
        while let Some(item) = block_on(receive(&queue, &mut held)) {
            got.push(item);
        }
        assert!(got == [4] || got == [3, 4], "{got:?}");
    });
}

#[test]
fn an_urgent_item_is_not_overlooked_behind_the_front() {
    check(|| {
        let queue = queue(4);
        (1..=2).for_each(|item| assert!(queue.offer(5, entry(item), || 0).is_ok()));
        let sender = queue.clone();
        let sending = thread::spawn(move || assert!(sender.offer(0, entry(9), || 0).is_ok()));
        let mut held = 0;
        let first = block_on(receive(&queue, &mut held));
        sending.join().unwrap();
        let rest: Vec<_> = (0..2).map(|_| block_on(receive(&queue, &mut held))).collect();
        match first {
            Some(9) => assert_eq!(rest, [Some(1), Some(2)]),
            first => assert_eq!((first, rest), (Some(1), vec![Some(9), Some(2)])),
        }
    });
}

#[test]
fn the_end_of_a_closed_queue_reaches_every_receiver() {
    check(|| {
        let queue = queue(2);
        queue.add_receiver();
        let patient = queue.clone();
        let waiting = thread::spawn(move || {
            let (mut held, mut got) = (0, 0);
            while block_on(receive(&patient, &mut held)).is_some() {
                got += 1;
            }
            patient.remove_receiver(held);
            got
        });
        (1..=2).for_each(|item| offer(&queue, item));
        queue.close();
        let (mut held, mut got) = (0, 0);
        while block_on(receive(&queue, &mut held)).is_some() {
            got += 1;
        }
        assert_eq!(got + waiting.join().unwrap(), 2);
    });
}
