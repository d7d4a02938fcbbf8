use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    event::EventInterest,
    hub::{Hub, Waiting},
    name::{GroupName, QueueName},
    store::{Interest, Wake},
    topic::{TopicFilter, TopicName},
};

fn queue() -> QueueName {
    QueueName::new("mail").unwrap()
}
fn woken(waiting: &mut Waiting) -> Option<Wake> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    match Pin::new(waiting).poll(&mut cx) {
        Poll::Ready(wake) => Some(wake),
        Poll::Pending => None,
    }
}

#[test]
fn as_many_are_woken_as_there_is_work_and_the_first_come_first() {
    let hub = Arc::new(Hub::default());
    let mut waiters: Vec<_> = (0..5).map(|_| hub.register(&[Interest::Queue(queue())])).collect();
    hub.publish(&queue(), 2);
    let wakes: Vec<_> = waiters.iter_mut().map(woken).collect();
    assert_eq!(wakes.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false, false, false]);
}

#[test]
fn an_unused_wake_up_is_passed_on() {
    let hub = Arc::new(Hub::default());
    let mut first = hub.register(&[Interest::Queue(queue())]);
    let mut second = hub.register(&[Interest::Queue(queue())]);
    let mut third = hub.register(&[Interest::Queue(queue())]);
    hub.publish(&queue(), 1);
    let wake = woken(&mut first);
    assert!(wake.is_some() && woken(&mut second).is_none());
    drop(wake);
    // Sent, but dropped before anybody polled it.
    drop(second);
    let wake = woken(&mut third);
    assert!(wake.is_some());
    hub.publish(&queue(), 0);
    drop(wake);
    assert_eq!(hub.waiting(), 0);
    assert!(hub.is_tidy(), "an idle queue leaves nothing behind");
}

#[test]
fn one_who_comes_when_there_is_work_is_woken_at_once_but_not_for_what_is_promised() {
    let hub = Arc::new(Hub::default());
    hub.publish(&queue(), 1);
    let mut first = hub.register(&[Interest::Queue(queue())]);
    let mut second = hub.register(&[Interest::Queue(queue())]);
    assert!(woken(&mut first).is_some());
    // The wake-up above was dropped at once, so the job was passed on.
    assert!(woken(&mut second).is_some());
}

#[test]
fn a_waiter_on_two_queues_is_woken_once() {
    let hub = Arc::new(Hub::default());
    let other = QueueName::new("other").unwrap();
    let mut both = hub.register(&[Interest::Queue(queue()), Interest::Queue(other.clone())]);
    let mut one = hub.register(&[Interest::Queue(other.clone())]);
    hub.publish(&queue(), 1);
    hub.publish(&other, 1);
    assert!(woken(&mut both).is_some());
    assert!(woken(&mut one).is_some());
}

#[test]
fn readers_of_the_log_are_woken_by_what_they_read_and_by_nothing_else() {
    let hub = Arc::new(Hub::default());
    let wait = |filters: &[&str], from| {
        let filters = filters.iter().map(|text| TopicFilter::new(text).unwrap()).collect();
        hub.register(&[Interest::Event(EventInterest::Log { filters, from })])
    };
    let topic = |text| TopicName::new(text).unwrap();
    let (mut orders, mut all, mut mail) = (wait(&["orders.*"], 1), wait(&[], 1), wait(&["mail.>", "x"], 1));
    assert!([&mut orders, &mut all, &mut mail].into_iter().all(|waiting| woken(waiting).is_none()));
    hub.log_has_grown(&[topic("orders.created")], 3);
    assert!(woken(&mut orders).is_some() && woken(&mut all).is_some() && woken(&mut mail).is_none());
    drop((orders, all, mail));
    // One that comes too late for it does not wait for the next.
    assert!(woken(&mut wait(&["orders.*"], 3)).is_some());
    assert!(woken(&mut wait(&["orders.*"], 4)).is_none());
    assert!(hub.is_tidy() && hub.waiting() == 0);
}

#[test]
fn as_many_consumers_of_a_group_are_woken_as_there_are_events() {
    let hub = Arc::new(Hub::default());
    let group = GroupName::new("mail").unwrap();
    let interest = [Interest::Event(EventInterest::Group(group.clone()))];
    let mut waiters = [hub.register(&interest), hub.register(&interest)];
    // A queue of the same name is something else.
    hub.publish(&queue(), 2);
    assert!(waiters.iter_mut().all(|waiting| woken(waiting).is_none()));
    hub.publish_group(&group, Some(1));
    let wakes = [woken(&mut waiters[0]), woken(&mut waiters[1])];
    assert!(wakes[0].is_some() && wakes[1].is_none());
}

#[test]
fn a_group_that_is_gone_wakes_its_whole_line_and_leaves_nothing_behind() {
    let hub = Arc::new(Hub::default());
    let group = GroupName::new("mail").unwrap();
    let interest = [Interest::Event(EventInterest::Group(group.clone()))];
    let mut waiters = [hub.register(&interest), hub.register(&interest), hub.register(&interest)];
    hub.publish_group(&group, Some(1));
    hub.publish_group(&group, None);
    assert!(waiters.iter_mut().all(|waiting| woken(waiting).is_some()));
    drop(waiters);
    assert!(hub.is_tidy() && hub.waiting() == 0);
}
