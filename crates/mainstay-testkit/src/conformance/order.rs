//! Order inside a queue: priority, then `run_at`, then id. Between queues: the order of the claim.

use mainstay_core::{
    Timestamp,
    job::{NewJob, When},
};

use crate::world::{World, claim_of, ids};

pub(super) async fn lower_priorities_are_handed_out_first(w: &mut World) {
    let mut expected = vec![];
    for priority in [5, 0, 9, 3] {
        expected.push((priority, w.enqueue(NewJob { priority, ..w.job("q") }).await));
    }
    expected.sort();
    let expected: Vec<_> = expected.into_iter().map(|(_, id)| id).collect();
    assert_eq!(w.drain("q").await, expected);
}

pub(super) async fn what_is_due_earlier_is_handed_out_first(w: &mut World) {
    let late = w.enqueue(NewJob { run_at: Some(When::In(200)), ..w.job("q") }).await;
    let early = w.enqueue(NewJob { run_at: Some(When::In(100)), ..w.job("q") }).await;
    let now = w.enqueue(w.job("q")).await;
    w.advance(300);
    assert_eq!(w.drain("q").await, [now, early, late]);
}

pub(super) async fn priority_goes_before_time(w: &mut World) {
    let early = w.enqueue(w.job("q")).await;
    let urgent = w.enqueue(NewJob { run_at: Some(When::In(100)), priority: 4, ..w.job("q") }).await;
    w.advance(100);
    assert_eq!(w.drain("q").await, [urgent, early]);
}

pub(super) async fn ids_decide_between_equals(w: &mut World) {
    let (first, second, third) = (w.job("q"), w.job("q"), w.job("q"));
    let expected = [first.id, second.id, third.id];
    for job in [second, third, first] {
        w.enqueue(job).await;
    }
    assert_eq!(w.drain("q").await, expected);
}

pub(super) async fn a_run_at_in_the_past_means_now(w: &mut World) {
    let first = w.enqueue(w.job("q")).await;
    w.advance(1_000);
    let long_ago = Some(When::At(Timestamp(w.now().0 - 3_600_000)));
    let second = w.enqueue(NewJob { run_at: long_ago, ..w.job("q") }).await;
    assert_eq!(w.get(second).await.run_at, w.now(), "`run_at` is when it came");
    assert_eq!(w.drain("q").await, [first, second], "the past does not jump the queue");
}

pub(super) async fn queues_are_served_in_order_of_preference(w: &mut World) {
    let second = w.enqueue(NewJob { priority: 0, ..w.job("second") }).await;
    w.advance(10);
    let first = [w.enqueue(w.job("first")).await, w.enqueue(w.job("first")).await];
    let grants = w.claims(claim_of(&["first", "second"], 10)).await;
    assert_eq!(ids(&grants), [first[0], first[1], second]);
    let queues: Vec<_> = grants.iter().map(|grant| grant.queue.as_str()).collect();
    assert_eq!(queues, ["first", "first", "second"]);
}
