//! The same event again.

use mainstay_core::{
    event::{DEDUP_MS, Event, EventOp, Publish, TopicRetention},
    op::Op,
};

use crate::world::{World, publish_op, published, topic_name};

fn named(w: &World, id: &str, source: &str) -> Event {
    Event { id: id.into(), source: source.into(), ..w.event("t", "{}") }
}

pub(super) async fn the_same_event_again_is_not_stored(w: &mut World) {
    let first = w.published("t", named(w, "1", "/a")).await;
    w.publish("t", "other").await;
    assert_eq!(w.published("t", named(w, "1", "/a")).await, (first.0, true));
    assert_eq!(w.log_seqs(&[]).await, [1, 2]);
}

pub(super) async fn topic_source_and_id_all_count(w: &mut World) {
    w.publish_event("t", named(w, "1", "/a")).await;
    w.publish_event("t", named(w, "2", "/a")).await;
    w.publish_event("t", named(w, "1", "/b")).await;
    w.publish_event("u", named(w, "1", "/a")).await;
    assert_eq!(w.log_seqs(&[]).await, [1, 2, 3, 4]);
}

pub(super) async fn after_two_minutes_it_is_a_new_event(w: &mut World) {
    w.publish_event("t", named(w, "1", "/a")).await;
    w.pass(DEDUP_MS - 1).await;
    assert_eq!(w.published("t", named(w, "1", "/a")).await, (1, true));
    w.pass(1).await;
    assert_eq!(w.published("t", named(w, "1", "/a")).await, (2, false));
    w.pass(DEDUP_MS - 1).await;
    assert_eq!(
        w.published("t", named(w, "1", "/a")).await,
        (2, true),
        "the window of the second begins with it"
    );
}

pub(super) async fn twice_in_one_commit_is_once(w: &mut World) {
    let twice = w.ops([publish_op("t", named(w, "1", "/a")), publish_op("t", named(w, "1", "/a"))]);
    let replies = w.commit(twice).await.expect("publish").replies;
    assert_eq!(replies.iter().map(published).collect::<Vec<_>>(), [(1, false), (1, true)]);
}

pub(super) async fn what_was_refused_is_not_remembered(w: &mut World) {
    let nobody = Op::DeleteQueue { queue: crate::world::name("nobody") };
    let commit = w.ops([publish_op("t", named(w, "1", "/a")), nobody]);
    w.commit(commit).await.expect_err("the last op is refused");
    assert_eq!(w.published("t", named(w, "1", "/a")).await, (1, false));
}

pub(super) async fn an_id_that_was_made_for_the_call_is_not_looked_up(w: &mut World) {
    let fresh = || {
        let publish = Publish::with_fresh_id(topic_name("t"), named(w, "1", "/a"));
        Op::Event(EventOp::Publish(Box::new(publish)))
    };
    assert_eq!(published(&w.op(fresh()).await), (1, false));
    assert_eq!(published(&w.op(fresh()).await), (2, false));
}

pub(super) async fn what_retention_has_removed_is_still_recognised(w: &mut World) {
    w.put_topic("t", TopicRetention { count: Some(1), ..Default::default() }).await;
    w.publish_event("t", named(w, "1", "/a")).await;
    w.publish("t", "2").await;
    w.pass(5_000).await;
    assert_eq!(w.log_seqs(&[]).await, [2]);
    assert_eq!(w.published("t", named(w, "1", "/a")).await, (1, true));
}

pub(super) async fn a_topic_that_was_deleted_remembers_nothing(w: &mut World) {
    w.publish_event("t", named(w, "1", "/a")).await;
    w.op(Op::Event(EventOp::DeleteTopic { topic: topic_name("t") })).await;
    assert_eq!(w.published("t", named(w, "1", "/a")).await, (2, false));
}
