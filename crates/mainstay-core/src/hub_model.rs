//! The hub under a model checker: every interleaving of a few threads over the same source. Whoever is not woken for ever
//! is a deadlock, which is reported.

#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the same source over other locks; the model uses what it needs"
)]

#[path = "hub.rs"]
mod hub;
mod sync {
    pub(super) use mainstay_loom::{Mutex, MutexGuard, oneshot};
}

use std::sync::Arc;

use mainstay_loom::{Mutex, block_on, check, check_with, poll_and_drop, thread};

use self::hub::Hub;
use crate::{
    event::EventInterest,
    lock::LockInterest,
    name::{GroupName, Name, QueueName},
    store::Interest,
    topic::TopicName,
};

fn queue() -> QueueName {
    QueueName::new("mail").unwrap()
}

fn on_the_queue() -> [Interest; 1] {
    [Interest::Queue(queue())]
}

/// A store with one queue: what it has is told in the order in which it changes.
#[derive(Default)]
struct Jobs {
    there: Mutex<u64>,
    hub: Arc<Hub>,
}

impl Jobs {
    fn put(&self) {
        let mut there = self.there.lock().unwrap();
        *there += 1;
        self.hub.publish(&queue(), *there);
    }

    fn take(&self) -> bool {
        let mut there = self.there.lock().unwrap();
        let got = *there > 0;
        *there -= u64::from(got);
        self.hub.publish(&queue(), *there);
        got
    }

    /// As every claimer does.
    fn claim(&self) {
        loop {
            let waiting = self.hub.register(&on_the_queue());
            if self.take() {
                return;
            }
            let wake = block_on(waiting);
            let got = self.take();
            drop(wake);
            if got {
                return;
            }
        }
    }
}

#[test]
fn every_claimer_gets_a_job_if_there_is_one_for_each() {
    check_with(2, || {
        let jobs = Arc::new(Jobs::default());
        let (first, puts) = (jobs.clone(), jobs.clone());
        let claiming = thread::spawn(move || first.claim());
        let putting = thread::spawn(move || (0..2).for_each(|_| puts.put()));
        jobs.claim();
        claiming.join().unwrap();
        putting.join().unwrap();
        assert!(*jobs.there.lock().unwrap() == 0 && jobs.hub.is_tidy());
    });
}

#[test]
fn a_wake_up_of_one_who_goes_is_passed_on() {
    check(|| {
        let hub = Arc::new(Hub::default());
        let (goes, tells) = (hub.clone(), hub.clone());
        // In line or not, woken or not, and then gone.
        let going = thread::spawn(move || drop(poll_and_drop(goes.register(&on_the_queue()))));
        let telling = thread::spawn(move || tells.publish(&queue(), 1));
        drop(block_on(hub.register(&on_the_queue())));
        going.join().unwrap();
        telling.join().unwrap();
        hub.publish(&queue(), 0);
        assert!(hub.is_tidy());
    });
}

#[test]
fn one_who_waits_for_two_takes_no_wake_up_of_another_along() {
    check_with(2, || {
        let hub = Arc::new(Hub::default());
        let other = QueueName::new("other").unwrap();
        let both = hub.register(&[Interest::Queue(queue()), Interest::Queue(other.clone())]);
        let one = hub.register(&[Interest::Queue(other.clone())]);
        let (tells, tells_too, name) = (hub.clone(), hub.clone(), other.clone());
        let telling = [
            thread::spawn(move || tells.publish(&queue(), 1)),
            thread::spawn(move || tells_too.publish(&name, 1)),
        ];
        // It takes one job, of whichever queue, and is done.
        drop(block_on(both));
        hub.publish(&queue(), 0);
        drop(block_on(one));
        telling.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_group_that_goes_wakes_its_whole_line() {
    check(|| {
        let hub = Arc::new(Hub::default());
        let group = GroupName::new("mail").unwrap();
        let interest = [Interest::Event(EventInterest::Group(group.clone()))];
        let (first, second) = (hub.register(&interest), hub.register(&interest));
        let (tells, ends, named) = (hub.clone(), hub.clone(), group.clone());
        let telling = thread::spawn(move || tells.publish_group(&named, Some(1)));
        let ending = thread::spawn(move || ends.publish_group(&group, None));
        let wake = block_on(first);
        drop(block_on(second));
        drop(wake);
        telling.join().unwrap();
        ending.join().unwrap();
    });
}

#[test]
fn a_reader_of_the_log_hears_of_what_it_has_not_seen_whenever_it_comes() {
    check(|| {
        let hub = Arc::new(Hub::default());
        let tells = hub.clone();
        let topic = TopicName::new("orders.paid").unwrap();
        let telling = thread::spawn(move || tells.log_has_grown(&[topic], 1));
        drop(block_on(
            hub.register(&[Interest::Event(EventInterest::Log { filters: Arc::default(), from: 1 })]),
        ));
        telling.join().unwrap();
        assert!(hub.is_tidy());
    });
}

#[test]
fn one_who_registers_and_then_looks_misses_no_hand_over_of_a_lock() {
    check(|| {
        let hub = Arc::new(Hub::default());
        let granted = Arc::new(Mutex::new(false));
        let name = Name::new("door").unwrap();
        let (tells, grants, named) = (hub.clone(), granted.clone(), name.clone());
        let telling = thread::spawn(move || {
            *grants.lock().unwrap() = true;
            tells.lock_changed(&named, Some([7; 16]));
        });
        let waiting = hub.register(&[Interest::Lock(LockInterest::Granted { name, scope: [7; 16] })]);
        let is_granted = *granted.lock().unwrap();
        if is_granted {
            drop(waiting)
        } else {
            drop(block_on(waiting))
        }
        telling.join().unwrap();
        assert!(hub.is_tidy());
    });
}
