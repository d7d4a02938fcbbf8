//! Waiting for events.

use std::{sync::Arc, time::Duration};

use mainstay_core::{
    event::{EventInterest, EventOp, TopicRetention},
    job::Retry,
    op::Op,
    store::Interest,
};

use super::waits::{LONG, Waiters};
use crate::world::{ACK_WAIT_MS, World, filter, name};

fn group(group: &str) -> [Interest; 1] {
    [Interest::Event(EventInterest::Group(name(group)))]
}

fn log(filters: &[&str], from: u64) -> [Interest; 1] {
    let filters: Arc<[_]> = filters.iter().map(|text| filter(text)).collect();
    [Interest::Event(EventInterest::Log { filters, from })]
}

pub(super) async fn a_publish_wakes_a_consumer(w: &mut World) {
    w.group("g", &["t"]).await;
    let mut waiters = Waiters::on(w, 1, &group("g"), LONG).await;
    w.publish("other", "{}").await;
    assert!(waiters.ended(w).await.is_empty(), "an event of another topic");
    w.publish("t", "{}").await;
    assert!(waiters.next().await.is_woken());
    assert_eq!(w.consume("g").await, [2]);
}

pub(super) async fn a_consumer_that_comes_late_does_not_wait(w: &mut World) {
    w.group("g", &["t"]).await;
    w.publish("t", "{}").await;
    assert!(w.store().wait(&group("g"), LONG).await.expect("wait").is_woken());
}

pub(super) async fn as_many_consumers_are_woken_as_there_are_events(w: &mut World) {
    w.group("g", &["t"]).await;
    let mut waiters = Waiters::on(w, 5, &group("g"), LONG).await;
    w.publish("t", "1").await;
    w.publish("t", "2").await;
    let woken = waiters.ended(w).await;
    assert_eq!(woken.len(), 2);
}

pub(super) async fn the_end_of_a_back_off_wakes_a_consumer(w: &mut World) {
    w.group("g", &["t"]).await;
    w.publish("t", "1").await;
    let delivery = w.fetch_one("g").await;
    let mut waiters = Waiters::on(w, 1, &group("g"), LONG).await;
    w.nack("g", &delivery, Retry::After(5_000)).await;
    w.advance(4_999);
    assert!(waiters.ended(w).await.is_empty());
    w.advance(1);
    assert!(waiters.next().await.is_woken());
    assert_eq!(w.fetch_one("g").await.attempt, 2);
}

pub(super) async fn a_delivery_that_ran_out_of_time_wakes_a_consumer(w: &mut World) {
    w.group_with("g", &["t"], |config| config.backoff.base_ms = 0).await;
    w.publish("t", "1").await;
    w.fetch_one("g").await;
    let mut waiters = Waiters::on(w, 1, &group("g"), LONG).await;
    w.pass(ACK_WAIT_MS).await;
    assert!(waiters.next().await.is_woken());
    assert_eq!(w.fetch_one("g").await.attempt, 2);
}

pub(super) async fn room_in_a_group_wakes_a_consumer(w: &mut World) {
    w.group_with("g", &["t"], |config| config.max_in_flight = 1).await;
    w.publish("t", "1").await;
    w.publish("t", "2").await;
    let first = w.fetch_one("g").await;
    let mut waiters = Waiters::on(w, 1, &group("g"), LONG).await;
    assert!(waiters.ended(w).await.is_empty());
    w.ack("g", &first).await;
    assert!(waiters.next().await.is_woken());
}

pub(super) async fn a_key_that_comes_free_wakes_a_consumer(w: &mut World) {
    w.group_with("g", &["t"], |config| config.ordered_by_key = true).await;
    w.publish_keyed("t", "a", "1").await;
    w.publish_keyed("t", "a", "2").await;
    let first = w.fetch("g", 5).await.remove(0);
    let mut waiters = Waiters::on(w, 1, &group("g"), LONG).await;
    assert!(waiters.ended(w).await.is_empty(), "what is parked is nothing to look for");
    w.ack("g", &first).await;
    assert!(waiters.next().await.is_woken());
}

pub(super) async fn a_requeue_wakes_a_consumer(w: &mut World) {
    w.group("g", &["t"]).await;
    w.dead_event("g", "t").await;
    let mut waiters = Waiters::on(w, 1, &group("g"), LONG).await;
    let number = w.dead_events("g").await[0].number;
    w.requeue_events("g", vec![number]).await;
    assert!(waiters.next().await.is_woken());
}

pub(super) async fn a_group_that_is_deleted_wakes_all_its_consumers(w: &mut World) {
    w.group("g", &["t"]).await;
    w.group("other", &["t"]).await;
    let mut waiters = Waiters::on(w, 3, &group("g"), LONG).await;
    let mut others = Waiters::on(w, 1, &group("other"), LONG).await;
    w.op(Op::Event(EventOp::DeleteGroup { group: name("g") })).await;
    for _ in 0..3 {
        assert!(waiters.next().await.is_woken());
    }
    assert!(others.ended(w).await.is_empty());
    // A new one of its name is a group like any other.
    w.group("g", &["t"]).await;
    let mut waiters = Waiters::on(w, 1, &group("g"), LONG).await;
    assert!(waiters.ended(w).await.is_empty());
    w.publish("t", "{}").await;
    assert!(waiters.next().await.is_woken());
}

pub(super) async fn who_comes_when_the_group_is_gone_does_not_wait(w: &mut World) {
    w.group("g", &["t"]).await;
    w.op(Op::Event(EventOp::DeleteGroup { group: name("g") })).await;
    for gone in ["g", "never"] {
        assert!(w.store().wait(&group(gone), LONG).await.expect("wait").is_woken(), "{gone}");
    }
}

pub(super) async fn readers_of_the_log_are_woken_all(w: &mut World) {
    let mut orders = Waiters::on(w, 3, &log(&["orders.*", "x"], 1), LONG).await;
    let mut all = Waiters::on(w, 1, &log(&[], 1), LONG).await;
    let mut mail = Waiters::on(w, 1, &log(&["mail.>"], 1), LONG).await;
    w.publish("orders.created", "{}").await;
    assert_eq!(orders.ended(w).await.len(), 3);
    assert!(all.next().await.is_woken());
    assert!(mail.ended(w).await.is_empty());
    w.publish("mail.sent.now", "{}").await;
    assert!(mail.next().await.is_woken());
}

pub(super) async fn a_reader_that_is_behind_does_not_wait(w: &mut World) {
    w.publish("t", "1").await;
    w.publish("t", "2").await;
    assert!(w.store().wait(&log(&["t"], 2), LONG).await.expect("wait").is_woken());
    let mut waiters = Waiters::on(w, 1, &log(&["t"], 3), LONG).await;
    assert!(waiters.ended(w).await.is_empty());
    w.publish("t", "3").await;
    assert!(waiters.next().await.is_woken());
}

pub(super) async fn a_refused_publish_wakes_nobody(w: &mut World) {
    w.group("g", &["t"]).await;
    let mut waiters = Waiters::on(w, 1, &group("g"), LONG).await;
    let commit =
        w.ops([crate::world::publish_op("t", w.event("t", "{}")), Op::DeleteQueue { queue: name("nobody") }]);
    w.commit(commit).await.expect_err("the last op is refused");
    assert!(waiters.ended(w).await.is_empty());
}

pub(super) async fn a_wait_for_events_ends_in_time(w: &mut World) {
    w.group("g", &["t"]).await;
    for interest in [group("g"), log(&[], 1)] {
        let mut waiters = Waiters::on(w, 1, &interest, Duration::from_secs(5)).await;
        w.advance(4_999);
        assert!(waiters.ended(w).await.is_empty());
        w.advance(1);
        assert!(!waiters.next().await.is_woken());
    }
}

pub(super) async fn what_retention_took_is_nothing_to_wait_for(w: &mut World) {
    w.group("g", &["t"]).await;
    w.publish("t", "1").await;
    w.put_topic("t", TopicRetention { count: Some(0), ..Default::default() }).await;
    w.pass(10_000).await;
    assert!(w.fetch("g", 1).await.is_empty());
    let mut waiters = Waiters::on(w, 1, &group("g"), LONG).await;
    assert!(waiters.ended(w).await.is_empty());
    w.op(Op::Event(EventOp::DeleteGroup { group: name("g") })).await;
}
