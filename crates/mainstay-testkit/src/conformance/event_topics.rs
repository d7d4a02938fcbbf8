//! Topics and their retention.

use mainstay_core::{
    Timestamp,
    event::{EventItem, EventOp, EventQuery, Position, TopicConfig, TopicRetention},
    op::{Op, Reason, Reply},
    store::{Query, Record},
};

use crate::world::{World, name, publish_op, topic_name};

/// Retention acts within this time.
const ACTS_WITHIN_MS: u64 = 10_000;

fn at_most(count: u64) -> TopicRetention {
    TopicRetention { count: Some(count), ..TopicRetention::default() }
}

async fn delete(w: &World, topic: &str) {
    assert_eq!(w.op(Op::Event(EventOp::DeleteTopic { topic: topic_name(topic) })).await, Reply::Done);
}

pub(super) async fn a_topic_exists_from_its_first_event_or_its_configuration(w: &mut World) {
    assert!(w.try_topic("a").await.is_none());
    w.publish("a", "{}").await;
    let topic = w.topic("a").await;
    assert_eq!((topic.count, topic.last_seq, topic.removed_up_to), (1, 1, 0));
    assert_eq!(topic.config, TopicConfig::default());
    let config = TopicConfig { retention: at_most(7), schema: Some(r#"{"type":"object"}"#.into()) };
    let op = EventOp::PutTopic { topic: topic_name("b"), config: config.clone() };
    assert_eq!(w.op(Op::Event(op)).await, Reply::Done);
    let topic = w.topic("b").await;
    assert_eq!((topic.config, topic.count, topic.last_seq), (config, 0, 0));
}

pub(super) async fn topics_are_listed_by_name(w: &mut World) {
    for topic in ["b", "a.z", "a", "c"] {
        w.publish(topic, "{}").await;
    }
    let name_of = |record| match record {
        Record::Event(EventItem::Topic(topic)) => topic.name.to_string(),
        other => panic!("a list of topics held {other:?}"),
    };
    for limit in [1, 3, 100] {
        let topics = w.list_by(&Query::Event(EventQuery::Topics), limit).await;
        assert_eq!(topics.into_iter().map(name_of).collect::<Vec<_>>(), ["a", "a.z", "b", "c"]);
    }
}

pub(super) async fn a_put_replaces_the_whole_configuration(w: &mut World) {
    w.put_topic("t", TopicRetention { age_ms: Some(5), count: Some(6), bytes: Some(7) }).await;
    w.put_topic("t", at_most(9)).await;
    assert_eq!(w.topic("t").await.config, TopicConfig { retention: at_most(9), schema: None });
}

pub(super) async fn without_retention_everything_stays(w: &mut World) {
    for n in 0..20 {
        w.publish("t", &n.to_string()).await;
    }
    w.pass(400 * 86_400_000).await;
    assert_eq!(w.log_seqs(&[]).await.len(), 20);
}

pub(super) async fn a_count_keeps_exactly_the_newest(w: &mut World) {
    w.put_topic("t", at_most(3)).await;
    for n in 0..10 {
        w.publish("t", &n.to_string()).await;
        w.publish("other", "{}").await;
    }
    w.pass(ACTS_WITHIN_MS).await;
    assert_eq!(w.log_seqs(&["t"]).await, [15, 17, 19]);
    assert_eq!(w.log_seqs(&["other"]).await.len(), 10, "another topic's are its own");
    let topic = w.topic("t").await;
    assert_eq!((topic.count, topic.removed_up_to, topic.last_seq), (3, 13, 19));
}

pub(super) async fn an_age_removes_exactly_what_is_older(w: &mut World) {
    w.put_topic("t", TopicRetention { age_ms: Some(60_000), ..Default::default() }).await;
    for n in 0..6 {
        w.publish("t", &n.to_string()).await;
        w.advance(20_000);
    }
    // The ages are 20, 40, … 120 seconds, and what is as old as the bound goes.
    w.pass(ACTS_WITHIN_MS).await;
    let now = w.now();
    let kept = w.log(&["t"], Position::Earliest).await;
    assert!(kept.iter().all(|event| now.ms_since(event.published_at) < 60_000), "{kept:?}");
    assert_eq!(kept.iter().map(|event| event.seq).collect::<Vec<_>>(), [5, 6]);
}

pub(super) async fn bytes_keep_the_newest_that_fit(w: &mut World) {
    w.publish("t", &"x".repeat(1_000)).await;
    let each = w.topic("t").await.bytes;
    for _ in 0..9 {
        w.publish("t", &"x".repeat(1_000)).await;
    }
    assert_eq!(w.topic("t").await.bytes, 10 * each);
    w.put_topic("t", TopicRetention { bytes: Some(3 * each + each / 2), ..Default::default() }).await;
    w.pass(ACTS_WITHIN_MS).await;
    let topic = w.topic("t").await;
    assert_eq!((topic.count, topic.bytes), (3, 3 * each));
    assert_eq!(w.log_seqs(&[]).await, [8, 9, 10]);
    w.put_topic("t", TopicRetention { bytes: Some(each - 1), ..Default::default() }).await;
    w.pass(ACTS_WITHIN_MS).await;
    assert_eq!(w.topic("t").await.count, 0, "one that alone is too large does not fit either");
}

pub(super) async fn numbers_go_on_when_nothing_is_left(w: &mut World) {
    w.put_topic("t", at_most(0)).await;
    w.publish("t", "1").await;
    w.pass(ACTS_WITHIN_MS).await;
    assert_eq!(w.log_seqs(&[]).await, [0_u64; 0]);
    assert_eq!(w.publish("t", "2").await, 2);
}

pub(super) async fn much_is_removed_in_steps(w: &mut World) {
    w.put_topic("t", at_most(10)).await;
    for _ in 0..30 {
        let commit = w.ops((0..100).map(|n| publish_op("t", w.event("t", &n.to_string()))));
        w.commit(commit).await.expect("publish");
    }
    w.pass(ACTS_WITHIN_MS).await;
    assert_eq!(w.log_seqs(&[]).await, (2_991..=3_000).collect::<Vec<_>>());
}

pub(super) async fn a_reader_hears_of_what_is_gone(w: &mut World) {
    w.put_topic("short", at_most(2)).await;
    for n in 0..5 {
        w.publish("short", &n.to_string()).await;
        w.publish("long", &n.to_string()).await;
    }
    w.pass(ACTS_WITHIN_MS).await;
    // 1, 3 and 5 are gone.
    for (filters, from, removed) in [
        (vec!["short"], 1, 5),
        (vec!["short"], 5, 5),
        (vec!["short"], 6, 0),
        (vec!["long"], 1, 0),
        (vec![], 2, 5),
        (vec!["*"], 6, 0),
    ] {
        let slice = w.read_log(&filters, Position::Seq(from), 100).await;
        assert_eq!(slice.removed_up_to, removed, "{filters:?} from {from}");
    }
    let slice = w.read_log(&["short"], Position::Seq(6), 100).await;
    assert_eq!(slice.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [7, 9]);
    // Each topic for itself: what goes below the highest number is heard of, too.
    w.put_topic("long", at_most(4)).await;
    w.pass(ACTS_WITHIN_MS).await;
    let both = w.read_log(&[], Position::Seq(2), 100).await;
    let mut removed: Vec<_> = both.removed.iter().map(|(_, up_to)| *up_to).collect();
    removed.sort_unstable();
    assert_eq!((both.removed_up_to, removed), (5, vec![2, 5]));
    assert_eq!(w.read_log(&[], Position::Seq(3), 100).await.removed.len(), 1);
}

pub(super) async fn a_topic_that_is_deleted_is_gone_with_its_events(w: &mut World) {
    w.put_topic("t", at_most(2)).await;
    for n in 0..4 {
        w.publish("t", &n.to_string()).await;
    }
    w.publish("other", "{}").await;
    w.pass(ACTS_WITHIN_MS).await;
    delete(w, "t").await;
    assert!(w.try_topic("t").await.is_none());
    assert_eq!(w.log_seqs(&[]).await, [5]);
    w.maintain().await;
    assert_eq!(w.log_seqs(&[]).await, [5]);
    // It forgets the range that was removed, too.
    assert_eq!(w.read_log(&["t"], Position::Seq(1), 10).await.removed_up_to, 0);
    assert_eq!(w.publish("t", "new").await, 6);
    let topic = w.topic("t").await;
    assert_eq!((topic.count, topic.removed_up_to, topic.config), (1, 0, TopicConfig::default()));
    assert_eq!(w.log_seqs(&["t"]).await, [6]);
}

pub(super) async fn an_unknown_topic_cannot_be_deleted(w: &mut World) {
    let op = EventOp::DeleteTopic { topic: topic_name("t") };
    assert_eq!(w.refused_event(op).await, Reason::NotFound("topic"));
}

pub(super) async fn a_deletion_that_was_refused_has_deleted_nothing(w: &mut World) {
    w.publish("t", "{}").await;
    let delete = Op::Event(EventOp::DeleteTopic { topic: topic_name("t") });
    let commit = w.ops([delete, Op::DeleteQueue { queue: name("nobody") }]);
    w.commit(commit).await.expect_err("the last op is refused");
    w.maintain().await;
    assert_eq!((w.topic("t").await.count, w.log_seqs(&[]).await), (1, vec![1]));
}

pub(super) async fn a_step_of_the_wall_clock_does_not_upset_the_log(w: &mut World) {
    w.publish("t", "1").await;
    let now = w.now();
    w.clock().step_wall(-3_600_000);
    w.publish("t", "2").await;
    w.clock().step_wall(7_200_000);
    w.publish("t", "3").await;
    assert_eq!(w.log_seqs(&[]).await, [1, 2, 3]);
    let late = Position::Time(Timestamp(now.0 + 3_600_000 - 1));
    assert_eq!(w.read_log(&[], late, 10).await.from, 3);
}
