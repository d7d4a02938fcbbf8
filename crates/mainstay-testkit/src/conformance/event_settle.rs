//! Deliveries end: acknowledged, refused, prolonged, or out of time.

use mainstay_core::{
    LeaseId,
    event::{Delivery, EventOp, Nack, Prolong, SettleDeliveries, Settled},
    job::{Backoff, Jitter, JobFailure, Retry},
    op::{Op, Reason, Reply},
};

use crate::world::{ACK_WAIT_MS, World, ack_all, boom, count, name, seqs_of, settle_nothing};

pub(super) async fn an_acknowledged_event_does_not_come_again(w: &mut World) {
    w.group("g", &["t"]).await;
    w.publish("t", "1").await;
    let delivery = w.fetch_one("g").await;
    w.ack("g", &delivery).await;
    w.pass(10 * ACK_WAIT_MS).await;
    assert!(w.fetch("g", 1).await.is_empty());
}

pub(super) async fn answers_stand_in_the_order_ack_nack_extend(w: &mut World) {
    w.group("g", &["t"]).await;
    for n in 0..4 {
        w.publish("t", &n.to_string()).await;
    }
    let taken = w.fetch("g", 4).await;
    let lost = LeaseId { nonce: taken[3].lease.nonce ^ 1, ..taken[3].lease };
    let settle = SettleDeliveries {
        group: name("g"),
        ack: vec![lost, taken[0].lease],
        nack: vec![Nack { lease: taken[1].lease, retry: Retry::After(5_000), error: None }],
        extend: vec![
            Prolong { lease: taken[2].lease, extend_ms: 90_000 },
            Prolong { lease: lost, extend_ms: 1 },
        ],
    };
    let now = w.now();
    assert_eq!(
        w.settle_events(settle).await,
        [
            Settled::LeaseLost,
            Settled::Acked,
            Settled::Nacked { due: now.plus_ms(5_000) },
            Settled::Extended { expires_at: now.plus_ms(90_000) },
            Settled::LeaseLost,
        ],
        "each item stands alone"
    );
}

pub(super) async fn a_late_ack_is_refused_even_if_nobody_took_over(w: &mut World) {
    w.group("g", &["t"]).await;
    w.publish("t", "1").await;
    let first = w.fetch_one("g").await;
    w.advance(ACK_WAIT_MS);
    assert_eq!(w.try_ack("g", first.lease).await, Settled::LeaseLost);
    w.pass(1_000).await;
    let second = w.fetch_one("g").await;
    assert_eq!((second.seq, second.attempt), (1, 2));
    assert!(second.lease.token > first.lease.token);
    assert_eq!(w.try_ack("g", first.lease).await, Settled::LeaseLost, "judged by the delivery");
    assert!(matches!(w.nack("g", &first, Retry::Auto).await, Settled::LeaseLost));
    assert_eq!(w.prolong("g", &first, 1_000).await, Settled::LeaseLost);
    w.ack("g", &second).await;
}

pub(super) async fn a_lease_of_another_group_proves_nothing(w: &mut World) {
    w.group("g", &["t"]).await;
    w.group("h", &["t"]).await;
    w.publish("t", "1").await;
    let (g, h) = (w.fetch_one("g").await, w.fetch_one("h").await);
    assert_eq!(w.try_ack("g", h.lease).await, Settled::LeaseLost);
    w.ack("h", &h).await;
    assert_eq!(w.group_record("g").await.in_flight, 1);
    w.ack("g", &g).await;
}

pub(super) async fn the_same_settle_again_is_answered_again(w: &mut World) {
    w.group("g", &["t"]).await;
    w.publish("t", "1").await;
    w.publish("t", "2").await;
    let taken = w.fetch("g", 2).await;
    w.ack("g", &taken[0]).await;
    w.ack("g", &taken[0]).await;
    assert!(
        matches!(w.nack("g", &taken[0], Retry::Auto).await, Settled::LeaseLost),
        "another verb is too late"
    );
    assert!(matches!(w.nack("g", &taken[1], Retry::After(1_000)).await, Settled::Nacked { .. }));
    assert!(matches!(w.nack("g", &taken[1], Retry::After(1_000)).await, Settled::Nacked { .. }));
    assert_eq!(w.try_ack("g", taken[1].lease).await, Settled::LeaseLost);
    w.pass(1_000).await;
    let again = w.fetch_one("g").await;
    assert_eq!((again.seq, again.attempt), (2, 2), "the repeat counted for nothing");
}

pub(super) async fn a_nack_waits_for_the_back_off(w: &mut World) {
    w.group("g", &["t"]).await;
    w.publish("t", "1").await;
    for (attempt, wait) in [(1, 1_000), (2, 2_000), (3, 4_000), (4, 8_000)] {
        let delivery = w.fetch_one("g").await;
        assert_eq!(delivery.attempt, attempt);
        assert_eq!(w.nack("g", &delivery, Retry::Auto).await, Settled::Nacked { due: w.now().plus_ms(wait) });
        w.pass(wait - 1).await;
        assert!(w.fetch("g", 1).await.is_empty(), "{attempt}");
        w.pass(1).await;
    }
    assert_eq!(w.fetch_one("g").await.attempt, 5);
}

pub(super) async fn a_time_out_waits_for_the_back_off_too(w: &mut World) {
    w.group("g", &["t"]).await;
    w.publish("t", "1").await;
    for (attempt, wait) in [(1, 1_000), (2, 2_000), (3, 4_000)] {
        assert_eq!(w.fetch_one("g").await.attempt, attempt);
        w.pass(ACK_WAIT_MS).await;
        assert_eq!(w.group_record("g").await.in_flight, 0);
        w.pass(wait - 1).await;
        assert!(w.fetch("g", 1).await.is_empty(), "{attempt}");
        w.pass(1).await;
    }
    assert_eq!(w.fetch_one("g").await.attempt, 4);
}

pub(super) async fn a_nack_may_name_its_delay(w: &mut World) {
    w.group("g", &["t"]).await;
    w.publish("t", "1").await;
    let delivery = w.fetch_one("g").await;
    w.nack("g", &delivery, Retry::After(90_000)).await;
    w.pass(89_999).await;
    assert!(w.fetch("g", 1).await.is_empty());
    w.pass(1).await;
    let delivery = w.fetch_one("g").await;
    w.nack("g", &delivery, Retry::After(0)).await;
    assert_eq!(w.fetch_one("g").await.attempt, 3);
}

pub(super) async fn a_nack_does_not_block_those_behind_it(w: &mut World) {
    w.group("g", &["t"]).await;
    for n in 0..4 {
        w.publish("t", &n.to_string()).await;
    }
    let first = w.fetch_one("g").await;
    w.nack("g", &first, Retry::After(60_000)).await;
    assert_eq!(w.consume("g").await, [2, 3, 4]);
    w.pass(60_000).await;
    assert_eq!(w.consume("g").await, [1]);
}

pub(super) async fn jitter_stays_below_the_back_off(w: &mut World) {
    let backoff = Backoff { base_ms: 10_000, jitter: Jitter::Full, ..Backoff::default() };
    w.group_with("g", &["t"], |config| config.backoff = backoff).await;
    let mut waits = vec![];
    for n in 0..20 {
        w.publish("t", &n.to_string()).await;
        let delivery = w.fetch_one("g").await;
        match w.nack("g", &delivery, Retry::Auto).await {
            Settled::Nacked { due } => waits.push(due.ms_since(w.now())),
            other => panic!("{other:?}"),
        }
    }
    assert!(waits.iter().all(|wait| *wait <= 10_000), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
}

pub(super) async fn an_extended_delivery_lives_on(w: &mut World) {
    w.group("g", &["t"]).await;
    w.publish("t", "1").await;
    let delivery = w.fetch_one("g").await;
    w.advance(ACK_WAIT_MS - 1);
    let until = w.now().plus_ms(50_000);
    assert_eq!(w.prolong("g", &delivery, 50_000).await, Settled::Extended { expires_at: until });
    w.pass(49_999).await;
    w.ack("g", &delivery).await;
}

pub(super) async fn a_lease_lives_as_long_as_its_group_says(w: &mut World) {
    w.group_with("g", &["t"], |config| config.ack_wait_ms = 5_000).await;
    w.publish("t", "1").await;
    let delivery = w.fetch_one("g").await;
    assert_eq!(delivery.expires_at, w.now().plus_ms(5_000));
    w.pass(4_999).await;
    w.ack("g", &delivery).await;
}

pub(super) async fn a_step_of_the_wall_clock_does_not_touch_deliveries(w: &mut World) {
    w.group("g", &["t"]).await;
    w.publish("t", "1").await;
    w.publish("t", "2").await;
    let taken = w.fetch("g", 2).await;
    w.nack("g", &taken[1], Retry::After(5_000)).await;
    w.clock().step_wall(3_600_000);
    w.maintain().await;
    assert!(w.fetch("g", 2).await.is_empty());
    w.clock().step_wall(-7_200_000);
    w.pass(5_000).await;
    assert_eq!(seqs_of(&w.fetch("g", 2).await), [2]);
    w.ack("g", &taken[0]).await;
}

pub(super) async fn a_delivery_that_goes_back_costs_no_attempt(w: &mut World) {
    w.group("g", &["t"]).await;
    w.publish("t", "1").await;
    w.publish("t", "2").await;
    let taken = w.fetch("g", 2).await;
    let leases: Vec<_> = taken.iter().map(|delivery| delivery.lease).collect();
    assert_eq!(count(w.op(Op::Event(EventOp::Release { leases: leases.clone(), delay_ms: 0 })).await), 2);
    assert_eq!(w.try_ack("g", leases[0]).await, Settled::LeaseLost);
    let again = w.fetch("g", 2).await;
    assert_eq!(again.iter().map(|d| (d.seq, d.attempt)).collect::<Vec<_>>(), [(1, 1), (2, 1)]);
    assert_eq!(
        count(w.op(Op::Event(EventOp::Release { leases, delay_ms: 0 })).await),
        0,
        "those leases are gone"
    );
    assert_eq!(w.group_record("g").await.in_flight, 2);
}

pub(super) async fn a_delivery_that_is_put_off_costs_no_attempt_and_holds_its_key(w: &mut World) {
    w.group_with("g", &["t"], |config| config.ordered_by_key = true).await;
    for n in 0..2 {
        w.publish_keyed("t", "k", &n.to_string()).await;
    }
    w.publish("t", "2").await;
    for round in 0..10 {
        let taken = w.fetch("g", 2).await;
        let put_off = &taken[0];
        assert_eq!((put_off.seq, put_off.attempt), (1, 1), "round {round}: no delivery is spent");
        let release = EventOp::Release { leases: vec![put_off.lease], delay_ms: 60_000 };
        assert_eq!(count(w.op(Op::Event(release)).await), 1);
        if round == 0 {
            assert_eq!(taken[1].seq, 3);
            w.ack("g", &taken[1]).await;
        }
        w.pass(59_999).await;
        assert!(w.fetch("g", 2).await.is_empty(), "round {round}: its key waits with it");
        assert_eq!(w.group_record("g").await.floor, 1, "and so does the floor");
        w.pass(1).await;
    }
    assert_eq!(w.consume("g").await, [1, 2]);
}

pub(super) async fn a_thousand_are_settled_at_once(w: &mut World) {
    w.group("g", &["t"]).await;
    for _ in 0..10 {
        let commit = w.ops((0..100).map(|n| crate::world::publish_op("t", w.event("t", &n.to_string()))));
        w.commit(commit).await.expect("publish");
    }
    let taken = w.fetch("g", 1_000).await;
    assert_eq!(seqs_of(&taken), (1..=1_000).collect::<Vec<_>>());
    let settle = ack_all("g", &taken);
    for round in 0..2 {
        let settled = w.settle_events(settle.clone()).await;
        assert!(settled.iter().all(|settled| *settled == Settled::Acked), "round {round}");
    }
}

pub(super) async fn an_ack_in_a_commit_is_refused_when_it_is_a_repeat(w: &mut World) {
    w.group("g", &["t"]).await;
    w.publish("t", "1").await;
    let delivery = w.fetch_one("g").await;
    let ack = |lease| Op::Event(EventOp::Ack { group: name("g"), lease });
    assert_eq!(w.op(ack(delivery.lease)).await, Reply::Done);
    assert_eq!(w.refused(ack(delivery.lease)).await, Reason::AlreadySettled);
    w.publish("t", "2").await;
    let late = w.fetch_one("g").await;
    w.pass(ACK_WAIT_MS).await;
    assert_eq!(w.refused(ack(late.lease)).await, Reason::LeaseLost);
}

pub(super) async fn what_was_said_at_the_last_nack_is_kept(w: &mut World) {
    w.group_with("g", &["t"], |config| config.max_deliver = 2).await;
    w.publish("t", "1").await;
    let delivery = w.fetch_one("g").await;
    w.nack("g", &delivery, Retry::After(0)).await;
    w.fetch_one("g").await;
    // The second delivery runs out of time without a word.
    w.pass(ACK_WAIT_MS).await;
    let dead = w.dead_events("g").await;
    assert_eq!(dead[0].error, Some(boom()));
    assert_eq!(w.settle_events(settle_nothing("g")).await, []);
}

pub(super) async fn long_words_are_kept_in_full_by_the_nack_that_kills(w: &mut World) {
    w.group_with("g", &["t"], |config| config.max_deliver = 2).await;
    let error = JobFailure {
        kind: Some("Long".into()),
        message: "m".repeat(900).into(),
        backtrace: Some("b".repeat(16 << 10).into()),
    };
    let nack = |delivery: &Delivery| SettleDeliveries {
        nack: vec![Nack { lease: delivery.lease, retry: Retry::After(0), error: Some(error.clone()) }],
        ..settle_nothing("g")
    };
    for n in 0..2 {
        w.publish("t", &n.to_string()).await;
    }
    for delivery in w.fetch("g", 2).await {
        w.settle_events(nack(&delivery)).await;
    }
    if w.harness().durable() {
        w.reopen().await;
    }
    let again = w.fetch("g", 2).await;
    assert_eq!(w.settle_events(nack(&again[0])).await, [Settled::Dead]);
    // The other runs out of time without a word.
    w.pass(ACK_WAIT_MS).await;
    let dead = w.dead_events("g").await;
    let said = |seq| dead.iter().find(|letter| letter.seq == seq).and_then(|letter| letter.error.clone());
    assert_eq!(said(1), Some(error.clone()));
    let cut = JobFailure { backtrace: Some("b".repeat(124).into()), ..error };
    assert_eq!(said(2), Some(cut), "the first 1,024 bytes of both");
}
