//! Groups: every event once to one of its consumers.

use mainstay_core::{
    Timestamp,
    event::{EventItem, EventOp, EventQuery, Fetch, GroupConfig, Position, Settled, TopicRetention},
    job::Retry,
    op::{Commit, IdempotencyKey, Op, Reason, Reply},
    store::{Query, Record},
};

use crate::world::{
    ACK_WAIT_MS, World, fetch_op, fetched, name, plain_group, publish_op, seqs_of, topic_name,
};

pub(super) async fn a_group_gets_every_event_that_matches(w: &mut World) {
    w.group("g", &["a.*", "c"]).await;
    for topic in ["a.b", "b", "c", "a", "a.c", "a.b"] {
        w.publish(topic, "{}").await;
    }
    assert_eq!(w.consume("g").await, [1, 3, 5, 6]);
    assert_eq!(w.consume("g").await, [0_u64; 0]);
}

pub(super) async fn a_delivery_shows_the_whole_event(w: &mut World) {
    w.group("g", &["t"]).await;
    let event = w.event("t", r#"{"a":1}"#);
    let seq = w.publish_event("t", event.clone()).await;
    let at = w.now();
    w.advance(7);
    let delivery = w.fetch_one("g").await;
    assert_eq!((delivery.seq, delivery.attempt, &delivery.topic), (seq, 1, &topic_name("t")));
    assert_eq!(delivery.event.as_deref(), Some(&event));
    assert_eq!((delivery.published_at, delivery.dead), (at, None));
    assert_eq!(delivery.expires_at, w.now().plus_ms(ACK_WAIT_MS));
}

pub(super) async fn an_event_is_handed_to_one_consumer_of_a_group_and_to_every_group(w: &mut World) {
    w.group("g", &["t"]).await;
    w.group("h", &["t"]).await;
    for n in 0..4 {
        w.publish("t", &n.to_string()).await;
    }
    let (first, second) = (w.fetch("g", 3).await, w.fetch("g", 3).await);
    assert_eq!((seqs_of(&first), seqs_of(&second)), (vec![1, 2, 3], vec![4]));
    assert_eq!(w.consume("h").await, [1, 2, 3, 4]);
}

pub(super) async fn a_new_group_begins_where_it_is_told(w: &mut World) {
    w.advance(1_000);
    for n in 1..=4 {
        w.publish("t", &n.to_string()).await;
        w.advance(1_000);
    }
    let half = Timestamp(w.now().0 - 2_500);
    let starts = [
        ("latest", Position::Latest, vec![5]),
        ("earliest", Position::Earliest, vec![1, 2, 3, 4, 5]),
        ("seq", Position::Seq(3), vec![3, 4, 5]),
        ("ahead", Position::Seq(6), vec![6]),
        ("time", Position::Time(half), vec![3, 4, 5]),
    ];
    for (group, start, _) in &starts {
        w.put_group(group, plain_group(&["t"]), *start).await;
    }
    w.publish("t", "5").await;
    w.publish("other", "6").await;
    for (group, _, expected) in &starts {
        if *group != "ahead" {
            assert_eq!(w.group_record(group).await.lag, expected.len() as u64, "{group}");
            assert_eq!(&w.consume(group).await, expected, "{group}");
        }
    }
    assert_eq!(w.group_record("ahead").await.lag, 0);
    w.publish("t", "7").await;
    assert_eq!(w.consume("ahead").await, [7]);
}

pub(super) async fn a_put_on_an_existing_group_leaves_it_where_it_is(w: &mut World) {
    w.group("g", &["a"]).await;
    for topic in ["a", "b", "a", "b"] {
        w.publish(topic, "{}").await;
    }
    let first = w.fetch_one("g").await;
    let mut config = plain_group(&["b"]);
    config.max_deliver = 9;
    w.put_group("g", config.clone(), Position::Latest).await;
    let group = w.group_record("g").await;
    // It had passed the second event, which was none of its business then.
    assert_eq!((group.config, group.cursor, group.lag, group.in_flight), (config, 3, 1, 1));
    w.ack("g", &first).await;
    assert_eq!(w.consume("g").await, [4]);
}

pub(super) async fn what_makes_no_sense_is_refused(w: &mut World) {
    type Spoil = fn(&mut GroupConfig);
    let cases: [(&str, Spoil); 4] = [
        ("topics", |config| config.topics.clear()),
        ("ack_wait_ms", |config| config.ack_wait_ms = 0),
        ("max_deliver", |config| config.max_deliver = 0),
        ("max_in_flight", |config| config.max_in_flight = 0),
    ];
    for (field, spoil) in cases {
        let mut config = Box::new(plain_group(&["t"]));
        spoil(&mut config);
        let op = EventOp::PutGroup { group: name("g"), config, start: Position::Latest };
        match w.refused_event(op).await {
            Reason::Invalid { field: named, .. } => assert_eq!(named, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    assert!(w.try_group("g").await.is_none());
    w.group("g", &["t"]).await;
    let fetch = Fetch { group: name("g"), max: 0, max_bytes: 1, consumer: None };
    assert!(matches!(w.refused_event(EventOp::Fetch(fetch)).await, Reason::Invalid { field: "max", .. }));
}

pub(super) async fn an_unknown_group_is_not_found(w: &mut World) {
    let nobody = || name("nobody");
    for op in [
        EventOp::DeleteGroup { group: nobody() },
        EventOp::Seek { group: nobody(), to: Position::Latest },
        EventOp::RequeueDead { group: nobody(), numbers: vec![1] },
        EventOp::DeleteDead { group: nobody(), numbers: vec![1] },
        EventOp::Settle(Box::new(crate::world::settle_nothing("nobody"))),
    ] {
        assert_eq!(w.refused_event(op).await, Reason::NotFound("group"));
    }
    assert_eq!(w.refused(fetch_op("nobody", 1)).await, Reason::NotFound("group"));
    assert!(w.try_group("nobody").await.is_none());
    assert!(w.dead_events("nobody").await.is_empty());
}

pub(super) async fn groups_are_listed_by_name(w: &mut World) {
    for group in ["b", "a:z", "c"] {
        w.group(group, &["t"]).await;
    }
    let name_of = |record| match record {
        Record::Event(EventItem::Group(group)) => group.name.to_string(),
        other => panic!("a list of groups held {other:?}"),
    };
    for limit in [1, 2, 100] {
        let groups = w.list_by(&Query::Event(EventQuery::Groups), limit).await;
        assert_eq!(groups.into_iter().map(name_of).collect::<Vec<_>>(), ["a:z", "b", "c"]);
    }
}

pub(super) async fn a_group_that_is_deleted_is_gone_with_everything(w: &mut World) {
    w.group("g", &["t"]).await;
    w.dead_event("g", "t").await;
    w.publish("t", "2").await;
    let delivery = w.fetch_one("g").await;
    w.op(Op::Event(EventOp::DeleteGroup { group: name("g") })).await;
    assert!(w.try_group("g").await.is_none());
    assert!(w.dead_events("g").await.is_empty());
    w.pass(ACK_WAIT_MS + 1_000).await;
    w.group("g", &["t"]).await;
    let group = w.group_record("g").await;
    assert_eq!((group.lag, group.in_flight, group.dead), (2, 0, 0));
    assert_eq!(w.try_ack("g", delivery.lease).await, Settled::LeaseLost);
    assert_eq!(w.consume("g").await, [1, 2]);
}

pub(super) async fn a_deletion_of_a_group_that_was_refused_leaves_it_as_it_was(w: &mut World) {
    w.group("g", &["t"]).await;
    for n in 0..3 {
        w.publish("t", &n.to_string()).await;
    }
    let first = w.fetch_one("g").await;
    let second = w.fetch_one("g").await;
    w.nack("g", &second, Retry::After(5_000)).await;
    let before = w.group_record("g").await;
    let delete = Op::Event(EventOp::DeleteGroup { group: name("g") });
    let commit = w.ops([delete, Op::DeleteQueue { queue: name("nobody") }]);
    w.commit(commit).await.expect_err("the last op is refused");
    assert_eq!(w.group_record("g").await, before);
    w.ack("g", &first).await;
    w.publish("t", "4").await;
    w.pass(5_000).await;
    assert_eq!(w.consume("g").await, [2, 3, 4]);
}

pub(super) async fn at_most_max_in_flight_are_handed_out(w: &mut World) {
    w.group_with("g", &["t"], |config| config.max_in_flight = 2).await;
    for n in 0..4 {
        w.publish("t", &n.to_string()).await;
    }
    let first = w.fetch("g", 10).await;
    assert_eq!(seqs_of(&first), [1, 2]);
    assert!(w.fetch("g", 10).await.is_empty());
    w.ack("g", &first[0]).await;
    assert_eq!(seqs_of(&w.fetch("g", 10).await), [3]);
    let group = w.group_record("g").await;
    assert_eq!((group.in_flight, group.lag), (2, 1));
}

pub(super) async fn a_fetch_stops_at_max_bytes_but_takes_one(w: &mut World) {
    w.group("g", &["t"]).await;
    for _ in 0..5 {
        w.publish("t", &"x".repeat(1_000)).await;
    }
    let fetch = |max_bytes| {
        let fetch = Fetch { group: name("g"), max: 10, max_bytes, consumer: None };
        Op::Event(EventOp::Fetch(fetch))
    };
    assert_eq!(seqs_of(&fetched(w.op(fetch(2_500)).await)), [1, 2]);
    assert_eq!(seqs_of(&fetched(w.op(fetch(1)).await)), [3]);
    assert_eq!(seqs_of(&fetched(w.op(fetch(1 << 20)).await)), [4, 5]);
}

pub(super) async fn lag_and_what_is_in_flight_add_up(w: &mut World) {
    w.group("g", &["t"]).await;
    for n in 0..10 {
        w.publish("t", &n.to_string()).await;
        w.publish("other", "{}").await;
        w.advance(1_000);
    }
    let taken = w.fetch("g", 4).await;
    let group = w.group_record("g").await;
    assert_eq!((group.lag, group.in_flight, group.waiting), (6, 4, 0));
    assert_eq!(group.oldest_unacked_age_ms, Some(10_000));
    assert_eq!(group.floor, 1);
    w.ack("g", &taken[0]).await;
    w.ack("g", &taken[2]).await;
    w.nack("g", &taken[3], Retry::After(60_000)).await;
    let group = w.group_record("g").await;
    assert_eq!((group.lag, group.in_flight, group.waiting), (7, 1, 1));
    assert_eq!((group.oldest_unacked_age_ms, group.floor), (Some(9_000), 3));
    w.ack("g", &taken[1]).await;
    assert_eq!(w.group_record("g").await.floor, 7, "the nacked one is not settled");
    assert_eq!(w.consume("g").await, [9, 11, 13, 15, 17, 19]);
    w.pass(60_000).await;
    assert_eq!(w.consume("g").await, [7]);
    let group = w.group_record("g").await;
    assert_eq!((group.lag, group.in_flight, group.oldest_unacked_age_ms), (0, 0, None));
}

pub(super) async fn the_ack_floor_never_passes_an_event_that_is_not_acknowledged(w: &mut World) {
    w.group("g", &["t"]).await;
    for n in 0..20 {
        w.publish("t", &n.to_string()).await;
    }
    let mut open = w.fetch("g", 20).await;
    // In an order that leaves holes.
    while !open.is_empty() {
        let next = open.remove(open.len() * 7 % 5 % open.len());
        w.ack("g", &next).await;
        let lowest = open.iter().map(|delivery| delivery.seq).min().unwrap_or(21);
        assert_eq!(w.group_record("g").await.floor, lowest);
    }
}

pub(super) async fn a_group_that_falls_behind_retention_jumps_ahead_and_counts_what_it_missed(w: &mut World) {
    w.group("g", &["t"]).await;
    for n in 0..10 {
        w.publish("t", &n.to_string()).await;
        w.publish("other", "{}").await;
    }
    w.put_topic("t", TopicRetention { count: Some(3), ..Default::default() }).await;
    w.pass(10_000).await;
    let group = w.group_record("g").await;
    assert_eq!((group.lag, group.skipped), (3, 7));
    assert_eq!(w.consume("g").await, [15, 17, 19]);
    assert_eq!(w.group_record("g").await.skipped, 7);
}

pub(super) async fn what_is_removed_while_it_is_handed_out_can_be_acknowledged(w: &mut World) {
    w.group("g", &["t"]).await;
    for n in 0..4 {
        w.publish("t", &n.to_string()).await;
    }
    let taken = w.fetch("g", 3).await;
    w.nack("g", &taken[2], Retry::After(20_000)).await;
    w.put_topic("t", TopicRetention { count: Some(0), ..Default::default() }).await;
    w.pass(10_000).await;
    // One waited for another try, one had not been seen.
    assert_eq!(w.group_record("g").await.skipped, 2);
    w.ack("g", &taken[0]).await;
    assert!(matches!(w.nack("g", &taken[1], Retry::Auto).await, Settled::Nacked { .. }));
    let group = w.group_record("g").await;
    assert_eq!((group.skipped, group.lag, group.in_flight, group.dead), (3, 0, 0, 0));
    w.pass(60_000).await;
    assert!(w.fetch("g", 10).await.is_empty());
}

pub(super) async fn a_topic_that_is_deleted_is_skipped(w: &mut World) {
    w.group("g", &[">"]).await;
    for topic in ["t", "t", "u", "t"] {
        w.publish(topic, "{}").await;
    }
    let first = w.fetch_one("g").await;
    w.op(Op::Event(EventOp::DeleteTopic { topic: topic_name("t") })).await;
    let group = w.group_record("g").await;
    assert_eq!((group.lag, group.skipped, group.in_flight), (1, 2, 1));
    w.ack("g", &first).await;
    assert_eq!(w.consume("g").await, [3]);
}

pub(super) async fn a_repeated_fetch_shows_what_still_lives(w: &mut World) {
    w.group("g", &["t"]).await;
    let key = Some(IdempotencyKey { scope: [1; 16], fingerprint: [1; 16] });
    let fetch = || Commit { key, ..w.ops([fetch_op("g", 3)]) };
    let again = w.commit(fetch()).await.expect("fetch");
    assert!(!again.repeated, "an empty fetch is tried anew");
    for n in 0..4 {
        w.publish("t", &n.to_string()).await;
    }
    let first = fetched(w.commit(fetch()).await.expect("fetch").replies.remove(0));
    assert_eq!(seqs_of(&first), [1, 2, 3]);
    w.ack("g", &first[1]).await;
    let again = w.commit(fetch()).await.expect("fetch");
    assert!(again.repeated);
    let again = fetched(again.replies.into_iter().next().expect("a reply"));
    assert_eq!(again, [first[0].clone(), first[2].clone()], "and nothing new");
    w.pass(ACK_WAIT_MS).await;
    let again = fetched(w.commit(fetch()).await.expect("fetch").replies.remove(0));
    assert!(again.is_empty());
}

pub(super) async fn a_fetch_in_the_commit_of_its_publish_gets_the_event(w: &mut World) {
    w.group("g", &["t"]).await;
    let commit = w.ops([publish_op("t", w.event("t", "[1]")), fetch_op("g", 5)]);
    let mut replies = w.commit(commit).await.expect("publish and fetch").replies;
    let deliveries = fetched(replies.remove(1));
    assert_eq!(seqs_of(&deliveries), [1]);
    assert!(deliveries[0].event.is_some());
    assert!(matches!(replies[0], Reply::Event(_)));
}
