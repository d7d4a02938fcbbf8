//! Dead letters of groups.

use mainstay_core::{
    event::{DEAD_KEPT_MS, DeadEventFilter, EventOp, EventQuery, Position, Settled, TopicRetention},
    job::{DeadReason, JobFailure, Retry},
    op::Op,
    store::Query,
};

use crate::world::{ACK_WAIT_MS, World, boom, count, dead_events, name, seqs_of, settle_nothing, topic_name};

pub(super) async fn an_event_is_dead_after_max_deliver(w: &mut World) {
    w.group_with("g", &["t"], |config| config.max_deliver = 3).await;
    let event = w.event("t", "[1]");
    let seq = w.publish_event("t", event.clone()).await;
    let published = w.now();
    for attempt in 1..=3 {
        w.advance(10_000);
        let delivery = w.fetch_one("g").await;
        let settled = w.nack("g", &delivery, Retry::After(0)).await;
        assert_eq!(settled == Settled::Dead, attempt == 3);
    }
    assert!(w.fetch("g", 1).await.is_empty());
    let dead = w.dead_events("g").await;
    assert_eq!(dead.len(), 1);
    let dead = &dead[0];
    assert_eq!((dead.seq, &dead.topic, &*dead.event), (seq, &topic_name("t"), &event));
    assert_eq!((dead.attempts, dead.reason, &dead.error), (3, DeadReason::Exhausted, &Some(boom())));
    assert_eq!((dead.published_at, dead.died_at), (published, w.now()));
    let group = w.group_record("g").await;
    assert_eq!((group.dead, group.lag, group.floor), (1, 0, 2));
}

pub(super) async fn the_last_time_out_is_dead_as_crashed(w: &mut World) {
    w.group_with("g", &["t"], |config| config.max_deliver = 1).await;
    w.publish("t", "1").await;
    w.fetch_one("g").await;
    w.pass(ACK_WAIT_MS).await;
    let dead = w.dead_events("g").await;
    assert_eq!((dead[0].reason, &dead[0].error), (DeadReason::Crashed, &None));
}

pub(super) async fn a_consumer_may_give_an_event_up(w: &mut World) {
    w.group("g", &["t"]).await;
    w.publish("t", "1").await;
    let delivery = w.fetch_one("g").await;
    assert_eq!(w.nack("g", &delivery, Retry::Never).await, Settled::Dead);
    let dead = w.dead_events("g").await;
    assert_eq!((dead[0].reason, dead[0].attempts), (DeadReason::Permanent, 1));
}

pub(super) async fn dead_letters_are_of_one_group(w: &mut World) {
    w.group("g", &["t"]).await;
    w.group("h", &["t"]).await;
    w.dead_event("g", "t").await;
    assert!(w.dead_events("h").await.is_empty());
    assert_eq!(w.consume("h").await, [1]);
}

pub(super) async fn dead_letters_are_listed_newest_first_and_filtered(w: &mut World) {
    w.group("g", &[">"]).await;
    for topic in ["a", "b", "a", "b", "a"] {
        w.advance(1);
        w.dead_event("g", topic).await;
    }
    let delivery = {
        w.publish("a", "{}").await;
        w.fetch_one("g").await
    };
    let error = JobFailure { kind: Some("Other".into()), message: "m".into(), backtrace: None };
    let nack = mainstay_core::event::Nack { lease: delivery.lease, retry: Retry::Never, error: Some(error) };
    let settle = mainstay_core::event::SettleDeliveries { nack: vec![nack], ..settle_nothing("g") };
    assert_eq!(w.settle_event(settle).await, Settled::Dead);
    let list = async |kind: Option<&str>, error_type: Option<&str>| {
        let filter = DeadEventFilter {
            group: name("g"),
            kind: kind.map(str::to_owned),
            error_type: error_type.map(str::to_owned),
        };
        let records = w.list_by(&Query::Event(EventQuery::Dead(filter)), 2).await;
        dead_events(records).iter().map(|dead| dead.seq).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None).await, [6, 5, 4, 3, 2, 1]);
    assert_eq!(list(Some("b"), None).await, [4, 2]);
    assert_eq!(list(Some("a"), Some("Boom")).await, [5, 3, 1]);
    assert_eq!(list(None, Some("Other")).await, [6]);
    assert_eq!(list(Some("b"), Some("Other")).await, [0_u64; 0]);
}

pub(super) async fn a_requeued_dead_letter_is_delivered_again_and_the_cursor_stays(w: &mut World) {
    w.group("g", &["t"]).await;
    let seq = w.dead_event("g", "t").await;
    w.publish("t", "2").await;
    assert_eq!(w.consume("g").await, [2]);
    let cursor = w.group_record("g").await.cursor;
    let number = w.dead_events("g").await[0].number;
    assert_eq!(w.requeue_events("g", vec![number, number + 1_000]).await, 1);
    assert!(w.dead_events("g").await.is_empty());
    let group = w.group_record("g").await;
    assert_eq!((group.cursor, group.dead, group.lag), (cursor, 0, 1));
    let delivery = w.fetch_one("g").await;
    assert_eq!((delivery.seq, delivery.attempt, delivery.dead), (seq, 1, Some(number)));
    assert!(delivery.event.is_some());
    w.ack("g", &delivery).await;
    let group = w.group_record("g").await;
    assert_eq!((group.cursor, group.dead, group.lag, group.in_flight), (cursor, 0, 0, 0));
    assert_eq!(w.requeue_events("g", vec![number]).await, 0);
}

pub(super) async fn a_requeued_dead_letter_may_die_again(w: &mut World) {
    w.group("g", &["t"]).await;
    let seq = w.dead_event("g", "t").await;
    for _ in 0..3 {
        let number = w.dead_events("g").await[0].number;
        assert_eq!(w.requeue_events("g", vec![number]).await, 1);
        let delivery = w.fetch_one("g").await;
        assert_eq!(w.nack("g", &delivery, Retry::Never).await, Settled::Dead);
        let dead = w.dead_events("g").await;
        assert_eq!((dead.len(), dead[0].seq, dead[0].attempts), (1, seq, 1));
        assert!(dead[0].number > number);
    }
    assert_eq!(w.group_record("g").await.dead, 1);
}

pub(super) async fn a_dead_letter_outlives_its_event_and_its_topic(w: &mut World) {
    w.group("g", &["t"]).await;
    let event = w.event("t", "[7]");
    w.publish_event("t", event.clone()).await;
    let delivery = w.fetch_one("g").await;
    w.nack("g", &delivery, Retry::Never).await;
    w.put_topic("t", TopicRetention { count: Some(0), ..Default::default() }).await;
    w.pass(10_000).await;
    assert!(w.log_seqs(&[]).await.is_empty());
    assert_eq!(*w.dead_events("g").await[0].event, event);
    w.op(Op::Event(EventOp::DeleteTopic { topic: topic_name("t") })).await;
    w.maintain().await;
    let dead = w.dead_events("g").await;
    assert_eq!((&*dead[0].event, &dead[0].topic), (&event, &topic_name("t")));
    w.requeue_events("g", vec![dead[0].number]).await;
    let delivery = w.fetch_one("g").await;
    assert_eq!((delivery.event.as_deref(), &delivery.topic), (Some(&event), &topic_name("t")));
    w.nack("g", &delivery, Retry::After(1_000)).await;
    w.pass(1_000).await;
    let delivery = w.fetch_one("g").await;
    assert_eq!((delivery.event.as_deref(), delivery.attempt), (Some(&event), 2));
    assert_eq!(w.nack("g", &delivery, Retry::Never).await, Settled::Dead);
    assert_eq!(*w.dead_events("g").await[0].event, event);
}

pub(super) async fn dead_letters_of_a_group_can_be_deleted(w: &mut World) {
    w.group("g", &["t"]).await;
    for _ in 0..3 {
        w.dead_event("g", "t").await;
    }
    let numbers: Vec<u64> = w.dead_events("g").await.iter().map(|dead| dead.number).collect();
    let delete = EventOp::DeleteDead { group: name("g"), numbers: vec![numbers[0], numbers[2], 1 << 40] };
    assert_eq!(count(w.op(Op::Event(delete)).await), 2);
    assert_eq!(w.dead_events("g").await.iter().map(|dead| dead.seq).collect::<Vec<_>>(), [2]);
    assert_eq!(w.group_record("g").await.dead, 1);
}

pub(super) async fn dead_letters_are_forgotten_after_thirty_days(w: &mut World) {
    w.group("g", &["t"]).await;
    w.dead_event("g", "t").await;
    w.advance(86_400_000);
    w.dead_event("g", "t").await;
    w.pass(DEAD_KEPT_MS - 86_400_001).await;
    assert_eq!(w.dead_events("g").await.len(), 2);
    w.pass(1_000).await;
    assert_eq!(w.dead_events("g").await.iter().map(|dead| dead.seq).collect::<Vec<_>>(), [2]);
    assert_eq!(w.group_record("g").await.dead, 1);
}

pub(super) async fn a_dead_letter_of_another_group_is_none_of_this_one(w: &mut World) {
    w.group("g", &["t"]).await;
    w.group("h", &["t"]).await;
    w.dead_event("g", "t").await;
    let number = w.dead_events("g").await[0].number;
    assert_eq!(w.requeue_events("h", vec![number]).await, 0);
    let delete = EventOp::DeleteDead { group: name("h"), numbers: vec![number] };
    assert_eq!(count(w.op(Op::Event(delete)).await), 0);
    assert_eq!(w.dead_events("g").await.len(), 1);
}

pub(super) async fn a_key_that_is_busy_makes_a_requeued_one_wait(w: &mut World) {
    w.group_with("g", &["t"], |config| config.ordered_by_key = true).await;
    w.publish_keyed("t", "a", "1").await;
    let first = w.fetch_one("g").await;
    w.nack("g", &first, Retry::Never).await;
    w.publish_keyed("t", "a", "2").await;
    let second = w.fetch_one("g").await;
    let number = w.dead_events("g").await[0].number;
    assert_eq!(w.requeue_events("g", vec![number]).await, 1);
    assert!(w.fetch("g", 5).await.is_empty());
    w.ack("g", &second).await;
    assert_eq!(seqs_of(&w.fetch("g", 5).await), [1]);
}

pub(super) async fn a_seek_puts_a_requeued_one_back(w: &mut World) {
    w.group("g", &["t"]).await;
    w.dead_event("g", "t").await;
    let number = w.dead_events("g").await[0].number;
    w.requeue_events("g", vec![number]).await;
    let delivery = w.fetch_one("g").await;
    w.seek("g", Position::Latest).await;
    assert_eq!(w.try_ack("g", delivery.lease).await, Settled::LeaseLost);
    let dead = w.dead_events("g").await;
    assert_eq!((dead.len(), dead[0].number, w.group_record("g").await.dead), (1, number, 1));
    assert_eq!(w.requeue_events("g", vec![number]).await, 1);
    assert_eq!(w.consume("g").await, [1]);
}

pub(super) async fn a_death_that_was_refused_has_not_happened(w: &mut World) {
    w.group_with("g", &["t"], |config| config.ordered_by_key = true).await;
    w.publish_keyed("t", "a", "1").await;
    w.publish_keyed("t", "a", "2").await;
    let first = w.fetch_one("g").await;
    let nack = mainstay_core::event::Nack { lease: first.lease, retry: Retry::Never, error: Some(boom()) };
    let settle = mainstay_core::event::SettleDeliveries { nack: vec![nack], ..settle_nothing("g") };
    let commit = w.ops([
        Op::Event(EventOp::Settle(Box::new(settle))),
        crate::world::fetch_op("g", 5),
        Op::DeleteQueue { queue: name("nobody") },
    ]);
    let before = w.group_record("g").await;
    w.commit(commit).await.expect_err("the last op is refused");
    assert_eq!(w.group_record("g").await, before);
    assert!(w.dead_events("g").await.is_empty());
    w.ack("g", &first).await;
    assert_eq!(w.consume("g").await, [2]);
}
