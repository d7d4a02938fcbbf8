//! What a durable store still knows of events when it is opened again.

use mainstay_core::{
    Timestamp,
    event::{
        DEDUP_MS, DeadEvent, Event, EventData, EventItem, EventOp, EventQuery, LoggedEvent, Position,
        Settled, TopicRetention,
    },
    job::Retry,
    op::{Op, Reason},
    store::{Query, Record},
};

use crate::world::{ACK_WAIT_MS, World, ack_all, name, publish_op, seqs_of, topic_name};

type Everything = (Vec<LoggedEvent>, Vec<Record>, Vec<Record>, Vec<Vec<DeadEvent>>);

async fn everything(w: &World) -> Everything {
    let groups = w.list_by(&Query::Event(EventQuery::Groups), 1_000).await;
    let mut dead = vec![];
    for group in &groups {
        if let Record::Event(EventItem::Group(group)) = group {
            dead.push(w.dead_events(group.name.as_str()).await);
        }
    }
    let topics = w.list_by(&Query::Event(EventQuery::Topics), 1_000).await;
    (w.log(&[], Position::Earliest).await, topics, groups, dead)
}

pub(super) async fn everything_of_events_is_as_it_was_after_a_restart(w: &mut World) {
    w.put_topic("a.b", TopicRetention { count: Some(4), ..Default::default() }).await;
    w.group("g", &["a.*"]).await;
    w.group_with("keys", &[">"], |config| config.ordered_by_key = true).await;
    for n in 0..6 {
        w.advance(10);
        w.publish_keyed("a.b", "k", &n.to_string()).await;
        let whole = Event {
            subject: Some("s".into()),
            time: Some("2026-01-01T00:00:00Z".into()),
            content_type: Some("text/plain".into()),
            data_schema: Some("d".into()),
            extensions: vec![("x".into(), "\"y\"".into()), ("n".into(), "-1".into())],
            data: EventData::Binary([1, 0, 2].as_slice().into()),
            ..w.event("c", "")
        };
        w.publish_event("c", whole).await;
    }
    w.publish("gone", "{}").await;
    w.op(Op::Event(EventOp::DeleteTopic { topic: topic_name("gone") })).await;
    w.pass(10_000).await;
    w.group("dead", &["a.*", "c"]).await;
    let taken = w.fetch("dead", 10).await;
    for delivery in &taken[..4] {
        w.nack("dead", delivery, Retry::Never).await;
    }
    let numbers: Vec<u64> = w.dead_events("dead").await.iter().map(|dead| dead.number).collect();
    w.requeue_events("dead", numbers[..2].to_vec()).await;
    let again = w.fetch("dead", 1).await;
    w.nack("dead", &again[0], Retry::Never).await;
    w.ack("dead", &taken[5]).await;
    w.nack("dead", &taken[6], Retry::After(100_000)).await;
    w.fetch("keys", 3).await;
    w.consume("g").await;
    let before = everything(w).await;
    w.reopen().await;
    assert_eq!(everything(w).await, before);
    w.reopen().await;
    assert_eq!(everything(w).await, before, "and after another one");
}

pub(super) async fn numbers_go_on_after_a_restart(w: &mut World) {
    w.put_topic("t", TopicRetention { count: Some(0), ..Default::default() }).await;
    w.publish("t", "1").await;
    w.publish("t", "2").await;
    w.pass(10_000).await;
    w.reopen().await;
    assert_eq!(w.publish("t", "3").await, 3, "though nothing was left of those before");
    w.op(Op::Event(EventOp::DeleteTopic { topic: topic_name("t") })).await;
    w.reopen().await;
    assert_eq!(w.publish("t", "4").await, 4);
}

pub(super) async fn the_dedup_window_survives_a_restart(w: &mut World) {
    let event = Event { id: "1".into(), ..w.event("t", "{}") };
    w.publish_event("t", event.clone()).await;
    let gone = Event { id: "2".into(), ..w.event("u", "{}") };
    w.publish_event("u", gone.clone()).await;
    w.op(Op::Event(EventOp::DeleteTopic { topic: topic_name("u") })).await;
    w.reopen().await;
    assert_eq!(w.published("t", event.clone()).await, (1, true));
    assert_eq!(w.published("u", gone).await, (3, false), "of the topic that was deleted");
    w.pass(DEDUP_MS).await;
    w.reopen().await;
    assert_eq!(w.published("t", event).await, (4, false));
}

pub(super) async fn a_delivery_that_lived_gets_its_full_time_again(w: &mut World) {
    w.group("g", &["t"]).await;
    w.publish("t", "1").await;
    w.publish("t", "2").await;
    let taken = w.fetch("g", 2).await;
    w.prolong("g", &taken[1], 90_000).await;
    w.advance(ACK_WAIT_MS - 1_000);
    w.publish("other", "{}").await;
    w.reopen().await;
    w.advance(ACK_WAIT_MS - 1);
    w.ack("g", &taken[0]).await;
    w.advance(90_000 - ACK_WAIT_MS);
    w.ack("g", &taken[1]).await;
}

pub(super) async fn a_delivery_that_ran_out_before_a_restart_stays_lost(w: &mut World) {
    w.group("g", &["t"]).await;
    w.publish("t", "1").await;
    let first = w.fetch_one("g").await;
    w.advance(ACK_WAIT_MS);
    w.publish("other", "{}").await;
    w.reopen().await;
    assert_eq!(w.try_ack("g", first.lease).await, Settled::LeaseLost);
    w.pass(1_000).await;
    w.pass(1_000).await;
    let second = w.fetch_one("g").await;
    assert_eq!(second.attempt, 2);
    assert!(second.lease.token > first.lease.token);
}

pub(super) async fn redelivery_goes_on_after_a_restart(w: &mut World) {
    w.group_with("g", &["t"], |config| config.max_deliver = 3).await;
    w.publish("t", "1").await;
    for attempt in 1..=3 {
        let delivery = w.fetch_one("g").await;
        assert_eq!(delivery.attempt, attempt);
        w.nack("g", &delivery, Retry::After(5_000)).await;
        w.reopen().await;
        assert!(w.fetch("g", 1).await.is_empty());
        w.pass(5_000).await;
    }
    assert_eq!(w.dead_events("g").await[0].attempts, 3);
}

pub(super) async fn a_settled_lease_is_recognised_after_a_restart(w: &mut World) {
    w.group("g", &["t"]).await;
    for _ in 0..3 {
        let commit = w.ops((0..500).map(|n| publish_op("t", w.event("t", &n.to_string()))));
        w.commit(commit).await.expect("publish");
    }
    let taken = w.fetch("g", 1_000).await;
    w.settle_events(ack_all("g", &taken)).await;
    let more = w.fetch("g", 10).await;
    w.settle_events(ack_all("g", &more)).await;
    w.reopen().await;
    let ack = |lease| Op::Event(EventOp::Ack { group: name("g"), lease });
    assert_eq!(w.refused(ack(more[9].lease)).await, Reason::AlreadySettled);
    assert_eq!(w.refused(ack(taken[10].lease)).await, Reason::AlreadySettled);
    assert_eq!(w.refused(ack(taken[9].lease)).await, Reason::LeaseLost, "a thousand were settled since");
}

pub(super) async fn a_group_reads_what_was_published_before_a_restart(w: &mut World) {
    w.group("g", &["t"]).await;
    w.group("wide", &[">"]).await;
    for n in 0..10 {
        w.publish(if n % 2 == 0 { "t" } else { "u" }, &n.to_string()).await;
    }
    w.reopen().await;
    let delivery = w.fetch_one("g").await;
    assert!(delivery.event.is_some());
    w.ack("g", &delivery).await;
    w.publish("t", "10").await;
    assert_eq!(w.consume("g").await, [3, 5, 7, 9, 11]);
    assert_eq!(w.consume("wide").await, (1..=11).collect::<Vec<_>>());
    w.seek("g", Position::Seq(8)).await;
    assert_eq!(w.group_record("g").await.lag, 2);
    assert_eq!(w.consume("g").await, [9, 11]);
}

pub(super) async fn keys_are_parked_again_after_a_restart(w: &mut World) {
    w.group_with("g", &["t"], |config| config.ordered_by_key = true).await;
    for key in ["a", "a", "b", "a"] {
        w.publish_keyed("t", key, "{}").await;
    }
    let taken = w.fetch("g", 10).await;
    assert_eq!(seqs_of(&taken), [1, 3]);
    w.reopen().await;
    assert!(w.fetch("g", 10).await.is_empty());
    w.ack("g", &taken[0]).await;
    assert_eq!(seqs_of(&w.fetch("g", 10).await), [2]);
    w.ack("g", &taken[1]).await;
    assert_eq!(w.group_record("g").await.waiting, 1);
}

pub(super) async fn retention_of_topics_goes_on_after_a_restart(w: &mut World) {
    w.put_topic("t", TopicRetention { age_ms: Some(60_000), count: Some(5), bytes: None }).await;
    for n in 0..3 {
        w.publish("t", &n.to_string()).await;
    }
    w.reopen().await;
    for n in 3..8 {
        w.publish("t", &n.to_string()).await;
    }
    w.pass(10_000).await;
    assert_eq!(w.log_seqs(&[]).await, [4, 5, 6, 7, 8]);
    w.reopen().await;
    assert_eq!(w.read_log(&[], Position::Seq(1), 10).await.removed_up_to, 3);
    w.pass(60_000).await;
    assert!(w.log_seqs(&[]).await.is_empty());
}

pub(super) async fn a_time_without_events_is_the_end_before_and_after_a_restart(w: &mut World) {
    w.group("g", &[">"]).await;
    w.publish("gone", "1").await;
    w.publish("gone", "2").await;
    w.op(Op::Event(EventOp::DeleteTopic { topic: topic_name("gone") })).await;
    w.advance(1_000);
    for _ in 0..2 {
        for to in [Position::Time(w.now()), Position::Time(Timestamp(0))] {
            assert_eq!(w.seek("g", to).await, 3, "{to:?}");
        }
        w.reopen().await;
    }
    let seq = w.publish("a", "3").await;
    assert_eq!(w.seek("g", Position::Time(Timestamp(0))).await, seq);
}
