//! Groups are moved.

use mainstay_core::{
    Timestamp,
    event::{EventOp, Position, Settled, TopicRetention},
    job::Retry,
    op::Op,
};

use crate::world::{World, name, seqs_of};

pub(super) async fn a_seek_goes_anywhere(w: &mut World) {
    w.group("g", &["t"]).await;
    for n in 1..=5 {
        w.advance(1_000);
        w.publish("t", &n.to_string()).await;
    }
    assert_eq!(w.consume("g").await.len(), 5);
    let now = w.now();
    for (to, cursor, expected) in [
        (Position::Earliest, 1, vec![1, 2, 3, 4, 5]),
        (Position::Seq(4), 4, vec![4, 5]),
        (Position::Time(Timestamp(now.0 - 2_500)), 3, vec![3, 4, 5]),
        (Position::Latest, 6, vec![]),
        (Position::Seq(2), 2, vec![2, 3, 4, 5]),
    ] {
        assert_eq!(w.seek("g", to).await, cursor, "{to:?}");
        assert_eq!(w.group_record("g").await.lag, expected.len() as u64, "{to:?}");
        assert_eq!(w.consume("g").await, expected, "{to:?}");
    }
}

pub(super) async fn a_seek_voids_open_leases(w: &mut World) {
    w.group("g", &["t"]).await;
    for n in 0..4 {
        w.publish("t", &n.to_string()).await;
    }
    let taken = w.fetch("g", 3).await;
    w.nack("g", &taken[0], Retry::After(5_000)).await;
    w.seek("g", Position::Seq(3)).await;
    let group = w.group_record("g").await;
    assert_eq!((group.in_flight, group.lag, group.waiting), (0, 2, 0));
    for delivery in &taken[1..] {
        assert_eq!(w.try_ack("g", delivery.lease).await, Settled::LeaseLost);
        assert_eq!(w.prolong("g", delivery, 1_000).await, Settled::LeaseLost);
    }
    let again = w.fetch("g", 10).await;
    assert_eq!(again.iter().map(|d| (d.seq, d.attempt)).collect::<Vec<_>>(), [(3, 1), (4, 1)]);
    w.pass(60_000).await;
    assert!(!seqs_of(&w.fetch("g", 10).await).contains(&1), "what waited for another try is forgotten");
}

pub(super) async fn a_seek_that_was_refused_has_moved_nothing(w: &mut World) {
    w.group("g", &["t"]).await;
    for n in 0..4 {
        w.publish("t", &n.to_string()).await;
    }
    let taken = w.fetch("g", 2).await;
    let before = w.group_record("g").await;
    let seek = Op::Event(EventOp::Seek { group: name("g"), to: Position::Latest });
    let commit = w.ops([seek, Op::DeleteQueue { queue: name("nobody") }]);
    w.commit(commit).await.expect_err("the last op is refused");
    assert_eq!(w.group_record("g").await, before);
    w.ack("g", &taken[0]).await;
    w.ack("g", &taken[1]).await;
    assert_eq!(w.consume("g").await, [3, 4]);
}

pub(super) async fn a_seek_behind_retention_begins_with_what_is_left(w: &mut World) {
    w.put_topic("t", TopicRetention { count: Some(2), ..Default::default() }).await;
    w.group("g", &["t"]).await;
    for n in 0..5 {
        w.publish("t", &n.to_string()).await;
    }
    assert_eq!(w.consume("g").await, [1, 2, 3, 4, 5]);
    w.pass(10_000).await;
    w.seek("g", Position::Earliest).await;
    let group = w.group_record("g").await;
    assert_eq!((group.lag, group.skipped), (2, 0), "what went before the seek was not missed");
    assert_eq!(w.consume("g").await, [4, 5]);
}
