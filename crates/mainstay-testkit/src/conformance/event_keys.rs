//! Groups that are ordered by key.

use mainstay_core::{
    event::{EventOp, GROUP_WAITING, Position, Settled},
    job::Retry,
    op::{Op, Reason},
};

use crate::world::{ACK_WAIT_MS, World, count, name, plain_group, publish_op, seqs_of};

async fn ordered(w: &World, group: &str) {
    w.group_with(group, &["t"], |config| config.ordered_by_key = true).await;
}

pub(super) async fn one_event_of_a_key_is_handed_out_at_a_time(w: &mut World) {
    ordered(w, "g").await;
    for (key, n) in [("a", 1), ("a", 2), ("b", 3), ("a", 4), ("b", 5)] {
        w.publish_keyed("t", key, &n.to_string()).await;
    }
    let first = w.fetch("g", 10).await;
    assert_eq!(seqs_of(&first), [1, 3]);
    assert!(w.fetch("g", 10).await.is_empty());
    w.ack("g", &first[0]).await;
    let second = w.fetch("g", 10).await;
    assert_eq!(seqs_of(&second), [2]);
    w.ack("g", &second[0]).await;
    w.ack("g", &first[1]).await;
    assert_eq!(seqs_of(&w.fetch("g", 10).await), [4, 5]);
}

pub(super) async fn a_key_that_fails_parks_only_itself(w: &mut World) {
    ordered(w, "g").await;
    for (key, n) in [("a", 1), ("b", 2), ("a", 3), ("b", 4)] {
        w.publish_keyed("t", key, &n.to_string()).await;
    }
    let first = w.fetch_one("g").await;
    w.nack("g", &first, Retry::After(60_000)).await;
    assert_eq!(w.consume("g").await, [2, 4]);
    let group = w.group_record("g").await;
    assert_eq!((group.lag, group.waiting, group.floor), (2, 2, 1));
    w.pass(60_000).await;
    assert_eq!(w.consume("g").await, [1, 3]);
}

pub(super) async fn a_key_goes_on_after_a_dead_letter(w: &mut World) {
    ordered(w, "g").await;
    w.publish_keyed("t", "a", "1").await;
    w.publish_keyed("t", "a", "2").await;
    let first = w.fetch_one("g").await;
    assert_eq!(w.nack("g", &first, Retry::Never).await, Settled::Dead);
    assert_eq!(w.consume("g").await, [2]);
}

pub(super) async fn a_key_waits_for_a_delivery_that_ran_out_of_time(w: &mut World) {
    ordered(w, "g").await;
    w.publish_keyed("t", "a", "1").await;
    w.publish_keyed("t", "a", "2").await;
    w.fetch_one("g").await;
    w.pass(ACK_WAIT_MS).await;
    assert!(w.fetch("g", 10).await.is_empty(), "the first waits for its back-off, the second for the first");
    w.pass(1_000).await;
    assert_eq!(w.consume("g").await, [1, 2]);
}

pub(super) async fn events_without_a_key_wait_for_nobody(w: &mut World) {
    ordered(w, "g").await;
    for n in 0..3 {
        w.publish("t", &n.to_string()).await;
    }
    assert_eq!(seqs_of(&w.fetch("g", 10).await), [1, 2, 3]);
}

pub(super) async fn each_group_orders_for_itself(w: &mut World) {
    ordered(w, "g").await;
    w.group("free", &["t"]).await;
    w.publish_keyed("t", "a", "1").await;
    w.publish_keyed("t", "a", "2").await;
    assert_eq!(seqs_of(&w.fetch("g", 10).await), [1]);
    assert_eq!(seqs_of(&w.fetch("free", 10).await), [1, 2]);
}

pub(super) async fn a_group_that_is_not_ordered_any_more_hands_out_what_was_parked(w: &mut World) {
    ordered(w, "g").await;
    for n in 0..3 {
        w.publish_keyed("t", "a", &n.to_string()).await;
    }
    let first = w.fetch("g", 10).await;
    assert_eq!(seqs_of(&first), [1]);
    w.put_group("g", plain_group(&["t"]), Position::Latest).await;
    assert_eq!(seqs_of(&w.fetch("g", 10).await), [2, 3]);
    // And the other way round: what is out stays out, what comes waits for all of it.
    let mut config = plain_group(&["t"]);
    config.ordered_by_key = true;
    w.put_group("g", config, Position::Latest).await;
    w.publish_keyed("t", "a", "4").await;
    assert!(w.fetch("g", 10).await.is_empty());
    w.ack("g", &first[0]).await;
    assert!(w.fetch("g", 10).await.is_empty());
    assert_eq!(w.group_record("g").await.in_flight, 2);
}

pub(super) async fn a_group_that_becomes_ordered_parks_what_is_not_first_of_its_key(w: &mut World) {
    w.group("g", &["t"]).await;
    for key in ["a", "a", "b", "b", "a"] {
        w.publish_keyed("t", key, "{}").await;
    }
    let first = w.fetch("g", 10).await;
    assert_eq!(seqs_of(&first), [1, 2, 3, 4, 5]);
    // All wait but the second of `b`, which is out.
    for delivery in first.iter().filter(|delivery| delivery.seq != 4) {
        w.nack("g", delivery, Retry::After(0)).await;
    }
    let mut config = plain_group(&["t"]);
    config.ordered_by_key = true;
    w.put_group("g", config, Position::Latest).await;
    let mut seen = Vec::new();
    let out = w.fetch("g", 10).await;
    assert_eq!(seqs_of(&out), [1], "the first of `a`, and none of `b` while one is out");
    w.ack("g", &first[3]).await;
    w.ack("g", &out[0]).await;
    loop {
        let next = w.fetch("g", 10).await;
        if next.is_empty() {
            break;
        }
        seen.push(seqs_of(&next));
        for delivery in &next {
            w.ack("g", delivery).await;
        }
    }
    assert_eq!(seen, [vec![2, 3], vec![5]]);
}

pub(super) async fn what_is_requeued_stays_when_the_group_is_full_in_the_middle(w: &mut World) {
    ordered(w, "g").await;
    for _ in 0..2 {
        w.dead_event("g", "t").await;
    }
    let dead: Vec<u64> = w.dead_events("g").await.iter().map(|letter| letter.number).collect();
    // One is out, and all others but one that fit wait for it.
    for _ in 0..GROUP_WAITING / 500 {
        let event = || mainstay_core::event::Event { partition_key: Some("k".into()), ..w.event("t", "{}") };
        let commit = w.ops((0..500).map(|_| publish_op("t", event())));
        w.commit(commit).await.expect("publish");
    }
    assert_eq!(w.fetch("g", 1_000).await.len(), 1);
    while w.group_record("g").await.waiting < GROUP_WAITING as u64 - 1 {
        assert!(w.fetch("g", 1_000).await.is_empty());
    }
    let requeue =
        |numbers: &[u64]| Op::Event(EventOp::RequeueDead { group: name("g"), numbers: numbers.to_vec() });
    let replies = w.commit(w.ops([requeue(&dead[..1]), requeue(&dead[1..]), requeue(&[])])).await;
    let counts: Vec<u64> = replies.expect("one finds room").replies.into_iter().map(count).collect();
    assert_eq!(counts, [1, 0, 0]);
    let refused = w.refused(requeue(&dead[1..])).await;
    assert!(matches!(refused, Reason::StateConflict(_)), "{refused:?}");
    assert_eq!(w.dead_events("g").await.len(), 1);
}

pub(super) async fn too_much_that_waits_stalls_the_group_visibly(w: &mut World) {
    w.group_with("g", &["t"], |config| config.ordered_by_key = true).await;
    let event = |w: &World, key: &str| mainstay_core::event::Event {
        partition_key: Some(key.into()),
        ..w.event("t", "{}")
    };
    for _ in 0..=GROUP_WAITING / 500 {
        let commit = w.ops((0..500).map(|_| publish_op("t", event(w, "stuck"))));
        w.commit(commit).await.expect("publish");
    }
    w.publish_keyed("t", "free", "{}").await;
    let stuck = w.fetch("g", 1_000).await;
    assert_eq!(seqs_of(&stuck), [1]);
    while !w.group_record("g").await.stalled {
        assert!(w.fetch("g", 1_000).await.is_empty());
    }
    let group = w.group_record("g").await;
    assert_eq!(group.waiting, GROUP_WAITING as u64);
    assert!(w.fetch("g", 1_000).await.is_empty(), "nothing new is taken up, not even of another key");
    w.ack("g", &stuck[0]).await;
    let next = w.fetch("g", 1_000).await;
    assert_eq!(next[0].seq, 2);
    assert!(w.group_record("g").await.cursor > group.cursor, "it goes on as soon as there is room");
}
