//! One commit across jobs and events.

use mainstay_core::{
    JobId,
    event::{EventOp, Settled},
    job::{JobState, NewJob, Retry},
    op::{Commit, Op, Place, Reason, Require, Settle},
};

use crate::world::{ACK_WAIT_MS, COMPLETE, LEASE_MS, World, enqueued, name, publish_op, published};

fn ack(group: &str, lease: mainstay_core::LeaseId) -> Op {
    Op::Event(EventOp::Ack { group: name(group), lease })
}

fn complete(id: JobId, lease: mainstay_core::LeaseId) -> Op {
    Op::Settle(Settle { id, lease, outcome: COMPLETE, repeat_is_ok: false })
}

pub(super) async fn a_job_ends_starts_others_and_publishes_in_one_commit(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    let next = w.job("q");
    let next_id = next.id;
    let commit = Commit {
        require: vec![Require::Job { id, lease: grant.lease }],
        ..w.ops([
            complete(id, grant.lease),
            Op::Enqueue(Box::new(next)),
            publish_op("done", w.event("done", r#"{"job":1}"#)),
        ])
    };
    let replies = w.commit(commit).await.expect("the whole").replies;
    assert_eq!(enqueued(replies[1].clone()).id, next_id);
    assert_eq!(published(&replies[2]), (1, false));
    assert_eq!(w.state(id).await, JobState::Completed);
    assert_eq!(w.claim("q").await.id, next_id);
    assert_eq!(w.log_seqs(&["done"]).await, [1]);
}

pub(super) async fn a_stale_worker_publishes_nothing(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let stale = w.claim("q").await;
    w.lose(LEASE_MS).await;
    w.claim("q").await;
    let event = |w: &World| publish_op("done", w.event("done", "{}"));
    let refused = w.commit(w.ops([event(w), complete(id, stale.lease)])).await.expect_err("too late");
    assert_eq!((refused.at, refused.reason), (Place::Op(1), Reason::LeaseLost));
    let guarded = Commit { require: vec![Require::Job { id, lease: stale.lease }], ..w.ops([event(w)]) };
    let refused = w.commit(guarded).await.expect_err("too late");
    assert_eq!(refused.at, Place::Require(0));
    assert!(w.log_seqs(&[]).await.is_empty());
    assert!(w.try_topic("done").await.is_none());
}

pub(super) async fn an_event_becomes_a_job_exactly_once(w: &mut World) {
    w.group("bridge", &["orders.*"]).await;
    w.publish("orders.created", r#"{"order":1}"#).await;
    let delivery = w.fetch_one("bridge").await;
    let bridge = |w: &World, job: NewJob| w.ops([ack("bridge", delivery.lease), Op::Enqueue(Box::new(job))]);
    w.commit(bridge(w, w.job("orders"))).await.expect("ack and enqueue");
    // The answer was lost, and the bridge tries again.
    let again = w.commit(bridge(w, w.job("orders"))).await.expect_err("the job is there already");
    assert_eq!((again.at, again.reason), (Place::Op(0), Reason::AlreadySettled));
    assert_eq!(w.drain("orders").await.len(), 1);
    assert!(w.fetch("bridge", 5).await.is_empty());
}

pub(super) async fn a_bridge_that_was_too_slow_enqueues_nothing(w: &mut World) {
    w.group("bridge", &["t"]).await;
    w.publish("t", "1").await;
    let slow = w.fetch_one("bridge").await;
    w.pass(ACK_WAIT_MS).await;
    w.pass(1_000).await;
    let quick = w.fetch_one("bridge").await;
    let late = w.ops([Op::Enqueue(Box::new(w.job("q"))), ack("bridge", slow.lease)]);
    let refused = w.commit(late).await.expect_err("too late");
    assert_eq!((refused.at, refused.reason), (Place::Op(1), Reason::LeaseLost));
    w.commit(w.ops([Op::Enqueue(Box::new(w.job("q"))), ack("bridge", quick.lease)])).await.expect("in time");
    assert_eq!(w.drain("q").await.len(), 1);
}

pub(super) async fn a_refused_commit_leaves_groups_as_they_were(w: &mut World) {
    w.group_with("g", &[">"], |config| config.ordered_by_key = true).await;
    for key in ["a", "a", "b"] {
        w.publish_keyed("t", key, "{}").await;
    }
    let taken = w.fetch("g", 10).await;
    w.nack("g", &taken[1], Retry::After(1_000)).await;
    let before = (w.group_record("g").await, w.topic("t").await);
    let commit = w.ops([
        ack("g", taken[0].lease),
        publish_op("t", w.event("t", "{}")),
        publish_op("u", w.event("u", "{}")),
        crate::world::fetch_op("g", 10),
        ack("g", taken[1].lease),
    ]);
    let refused = w.commit(commit).await.expect_err("that lease was settled");
    assert_eq!((refused.at, refused.reason), (Place::Op(4), Reason::AlreadySettled));
    assert_eq!((w.group_record("g").await, w.topic("t").await), before);
    assert_eq!(w.log_seqs(&[]).await, [1, 2, 3]);
    assert_eq!(w.try_ack("g", taken[0].lease).await, Settled::Acked);
    assert_eq!(w.consume("g").await, [2]);
    w.pass(1_000).await;
    assert_eq!(w.consume("g").await, [3]);
}
