//! The log: numbers without gaps, in the order of commits, read from anywhere.

use mainstay_core::{
    event::{Event, EventData, EventOp, LogBudget, Position, Publish},
    op::{Op, Reason, Reply},
    store::Batch,
};

use crate::world::{World, filter, name, publish_op, published, topic_name};

pub(super) async fn an_event_comes_back_as_it_was_published(w: &mut World) {
    let event = Event {
        source: "/shop/7".into(),
        kind: "order.created".into(),
        subject: Some("order 5 \u{1f980}".into()),
        time: Some("2026-01-02T03:04:05.678901+02:00".into()),
        partition_key: Some("customer 1".into()),
        content_type: Some("application/json".into()),
        data_schema: Some("https://example.com/order.json".into()),
        extensions: vec![("traceparent".into(), "\"00-ab-cd-01\"".into()), ("count".into(), "7".into())],
        ..w.event("orders.created", r#"{"b": 1.50, "a": [ ]}"#)
    };
    let seq = w.publish_event("orders.created", event.clone()).await;
    let log = w.log(&["orders.*"], Position::Earliest).await;
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].seq, &log[0].topic), (seq, &topic_name("orders.created")));
    assert_eq!((&*log[0].event, log[0].published_at), (&event, w.now()));
}

pub(super) async fn data_may_be_bytes_or_nothing(w: &mut World) {
    for data in [EventData::Binary([0, 255, 10].as_slice().into()), EventData::None] {
        let event = Event { data: data.clone(), ..w.event("t", "") };
        let seq = w.publish_event("t", event).await;
        let log = w.log(&[], Position::Seq(seq)).await;
        assert_eq!(log[0].event.data, data);
    }
}

pub(super) async fn numbers_begin_at_one_and_have_no_gaps(w: &mut World) {
    for n in 1..=5 {
        assert_eq!(w.publish(&format!("t{n}"), "{}").await, n);
    }
    assert_eq!(w.log_seqs(&[]).await, [1, 2, 3, 4, 5]);
}

pub(super) async fn a_commit_that_was_refused_leaves_no_gap(w: &mut World) {
    w.publish("t", "1").await;
    let refused = Op::DeleteQueue { queue: name("nobody") };
    for _ in 0..3 {
        let commit = w.ops([
            publish_op("t", w.event("t", "lost")),
            publish_op("new", w.event("new", "lost")),
            refused.clone(),
        ]);
        w.commit(commit).await.expect_err("the last op is refused");
    }
    assert_eq!(w.publish("t", "2").await, 2);
    assert_eq!(w.log_seqs(&[]).await, [1, 2]);
    assert!(w.try_topic("new").await.is_none(), "its topic was never made");
    assert_eq!(w.topic("t").await.count, 2);
}

pub(super) async fn events_of_one_commit_stand_together(w: &mut World) {
    let commits =
        (0..4).map(|n| w.ops((0..3).map(|i| publish_op(&format!("t{i}"), w.event("t", &format!("{n}{i}"))))));
    let commits: Vec<_> = commits.collect();
    let answers = w.submit(commits).await;
    let seqs: Vec<u64> = answers
        .into_iter()
        .flat_map(|answer| answer.expect("a publish").replies)
        .map(|reply| published(&reply).0)
        .collect();
    assert_eq!(seqs, (1..=12).collect::<Vec<_>>());
}

pub(super) async fn a_batch_numbers_its_commits_in_order(w: &mut World) {
    let commits = (0..50).map(|n| w.ops([publish_op("t", w.event("t", &n.to_string()))])).collect();
    let batch = Batch { commits, within: None };
    let answers = w.store().submit(batch).await.expect("submit");
    let seqs: Vec<u64> =
        answers.into_iter().map(|answer| published(&answer.expect("a publish").replies[0]).0).collect();
    assert_eq!(seqs, (1..=50).collect::<Vec<_>>());
}

pub(super) async fn filters_choose_what_is_read(w: &mut World) {
    for topic in ["a", "a.b", "a.b.c", "b.b", "a.c"] {
        w.publish(topic, "{}").await;
    }
    for (filters, expected) in [
        (vec![], vec![1, 2, 3, 4, 5]),
        (vec![">"], vec![1, 2, 3, 4, 5]),
        (vec!["a.*"], vec![2, 5]),
        (vec!["a.>"], vec![2, 3, 5]),
        (vec!["*"], vec![1]),
        (vec!["*.b", "a"], vec![1, 2, 4]),
        (vec!["a.b", "a.>"], vec![2, 3, 5]),
        (vec!["nobody"], vec![]),
    ] {
        assert_eq!(w.log_seqs(&filters).await, expected, "{filters:?}");
    }
}

pub(super) async fn a_reading_begins_where_it_is_told(w: &mut World) {
    for n in 1..=4 {
        w.advance(1_000);
        w.publish("t", &n.to_string()).await;
    }
    let now = w.now();
    let ago = |ms| Position::Time(mainstay_core::Timestamp(now.0 - ms));
    for (from, position, seqs) in [
        (Position::Earliest, 1, vec![1, 2, 3, 4]),
        (Position::Latest, 5, vec![]),
        (Position::Seq(3), 3, vec![3, 4]),
        (Position::Seq(0), 1, vec![1, 2, 3, 4]),
        (Position::Seq(9), 9, vec![]),
        (ago(0), 4, vec![4]),
        (ago(1), 4, vec![4]),
        (ago(1_000), 3, vec![3, 4]),
        (ago(1_000_000), 1, vec![1, 2, 3, 4]),
        (ago(-1), 5, vec![]),
    ] {
        let slice = w.read_log(&[], from, 100).await;
        let found: Vec<u64> = slice.events.iter().map(|event| event.seq).collect();
        assert_eq!((slice.from, found), (position, seqs), "{from:?}");
        assert_eq!((slice.next, slice.head), (position.max(5), 4), "{from:?}");
    }
}

pub(super) async fn a_piece_of_the_log_keeps_its_budget_and_says_where_to_go_on(w: &mut World) {
    for n in 0..10 {
        w.publish(if n % 2 == 0 { "even" } else { "odd" }, &"x".repeat(100)).await;
    }
    let slice = w.read_log(&["odd"], Position::Earliest, 2).await;
    assert_eq!(slice.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [2, 4]);
    assert!((5..=6).contains(&slice.next), "{}", slice.next);
    let one = w.store().read_log(&[], Position::Earliest, LogBudget { events: 100, bytes: 1 }).await;
    assert_eq!(one.expect("read_log").events.len(), 1, "one event at least, however large");
    let some =
        w.store().read_log(&[filter(">")], Position::Earliest, LogBudget { events: 100, bytes: 700 }).await;
    let some = some.expect("read_log");
    assert!((2..10).contains(&some.events.len()), "{}", some.events.len());
    assert_eq!(some.next, some.events.last().map_or(0, |last| last.seq) + 1);
}

pub(super) async fn an_event_without_its_attributes_is_refused(w: &mut World) {
    let whole = w.event("t", "{}");
    for (field, event) in [
        ("id", Event { id: "".into(), ..whole.clone() }),
        ("source", Event { source: "".into(), ..whole.clone() }),
        ("type", Event { kind: "".into(), ..whole.clone() }),
    ] {
        let op = EventOp::Publish(Box::new(Publish::new(topic_name("t"), event)));
        match w.refused_event(op).await {
            Reason::Invalid { field: named, .. } => assert_eq!(named, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    assert!(w.try_topic("t").await.is_none());
}

pub(super) async fn a_publish_under_a_key_is_answered_once(w: &mut World) {
    let key = Some(mainstay_core::op::IdempotencyKey { scope: [1; 16], fingerprint: [2; 16] });
    let publish = || mainstay_core::op::Commit { key, ..w.ops([publish_op("t", w.event("t", "{}"))]) };
    let first = w.commit(publish()).await.expect("publish");
    let again = w.commit(publish()).await.expect("publish");
    assert!(again.repeated && !first.repeated);
    assert_eq!(again.replies, first.replies);
    assert_eq!(w.log_seqs(&[]).await, [1]);
    assert!(matches!(first.replies[..], [Reply::Event(_)]));
}
