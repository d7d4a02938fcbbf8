//! How fast jobs are handed out: `rate`.

use mainstay_core::{
    job::Retry,
    op::Op,
    queue::{QueueConfig, Rate},
    store::Interest,
};

use super::waits::{LONG, Waiters};
use crate::world::{COMPLETE, World, claim_of, claimed, fail, name, settle_op};

async fn rate(w: &World, queue: &str, per_ms: u64, count: u64) {
    let rate = Some(Rate { per_ms, count });
    w.configure(queue, QueueConfig { rate, ..QueueConfig::default() }).await;
}

async fn fill(w: &World, queue: &str, count: usize) {
    for _ in 0..count {
        w.enqueue(w.job(queue)).await;
    }
}

async fn claims(w: &World, queue: &str) -> usize {
    w.claims(claim_of(&[queue], 1_000)).await.len()
}

pub(super) async fn a_queue_hands_out_no_more_than_its_rate(w: &mut World) {
    rate(w, "q", 1_000, 3).await;
    fill(w, "q", 20).await;
    assert_eq!(claims(w, "q").await, 3);
    assert_eq!(claims(w, "q").await, 0, "an empty claim, not an error");
    w.advance(999);
    assert_eq!(claims(w, "q").await, 0);
    w.advance(1);
    assert_eq!(claims(w, "q").await, 3);
    assert_eq!(w.queue("q").await.depth.available, 14);
}

/// A counter that is reset at the full second lets twice the rate through around it.
pub(super) async fn no_span_sees_more_than_the_rate_wherever_it_begins(w: &mut World) {
    rate(w, "q", 1_000, 4).await;
    fill(w, "q", 40).await;
    let mut handed = vec![];
    for step in 0..60 {
        w.advance(if step % 7 == 0 { 450 } else { 90 });
        let count = w.claims(claim_of(&["q"], 1 + step % 4)).await.len();
        handed.push((w.now().0, count));
        let from = w.now().0 - 1_000;
        let sum: usize = handed.iter().filter(|(at, _)| *at > from).map(|(_, count)| count).sum();
        assert!(sum <= 4, "{sum} in the last second: {handed:?}");
    }
    let all: usize = handed.iter().map(|(_, count)| count).sum();
    assert!(all >= 24, "and the rate is used: {all}");
}

pub(super) async fn a_waiter_is_woken_when_the_rate_allows_more(w: &mut World) {
    rate(w, "q", 5_000, 2).await;
    fill(w, "q", 6).await;
    assert_eq!(claims(w, "q").await, 2);
    let mut waiters = Waiters::on(w, 4, &[Interest::Queue(name("q"))], LONG).await;
    assert!(waiters.ended(w).await.is_empty(), "work above the rate wakes nobody");
    w.advance(4_999);
    assert!(waiters.ended(w).await.is_empty());
    w.advance(1);
    let wakes = [waiters.next().await, waiters.next().await];
    assert!(waiters.ended(w).await.is_empty(), "as many as the rate allows");
    assert_eq!(claims(w, "q").await, 2);
    drop(wakes);
    assert!(waiters.ended(w).await.is_empty());
}

pub(super) async fn a_job_that_was_given_back_has_counted(w: &mut World) {
    rate(w, "q", 1_000, 2).await;
    fill(w, "q", 1).await;
    for _ in 0..2 {
        let grant = w.claim("q").await;
        w.release(&grant, 0).await;
    }
    assert_eq!(claims(w, "q").await, 0, "the rate is about hand-outs");
    w.advance(1_000);
    let grant = w.claim("q").await;
    w.settle(&grant, fail(Retry::After(0))).await.expect("fail");
    assert_eq!(claims(w, "q").await, 1);
}

pub(super) async fn another_queue_of_the_claim_goes_on(w: &mut World) {
    rate(w, "slow", 1_000, 1).await;
    fill(w, "slow", 3).await;
    fill(w, "quick", 3).await;
    let grants = w.claims(claim_of(&["slow", "quick"], 10)).await;
    let queues: Vec<_> = grants.iter().map(|grant| grant.queue.as_str()).collect();
    assert_eq!(queues, ["slow", "quick", "quick", "quick"]);
}

pub(super) async fn a_new_rate_counts_what_was_handed_out_under_the_old(w: &mut World) {
    rate(w, "q", 1_000, 5).await;
    fill(w, "q", 20).await;
    assert_eq!(claims(w, "q").await, 5);
    rate(w, "q", 1_000, 7).await;
    assert_eq!(claims(w, "q").await, 2);
    rate(w, "q", 1_000, 3).await;
    assert_eq!(claims(w, "q").await, 0);
    w.configure("q", QueueConfig::default()).await;
    assert_eq!(claims(w, "q").await, 13, "without a rate, at once");
}

pub(super) async fn a_refused_commit_uses_no_rate(w: &mut World) {
    rate(w, "q", 1_000, 1).await;
    fill(w, "q", 2).await;
    let commit = w.ops([Op::Claim(claim_of(&["q"], 5)), Op::Cancel { id: w.id("q") }]);
    assert!(w.commit(commit).await.is_err());
    let grant = w.claim("q").await;
    let commit = w.ops([settle_op(&grant, COMPLETE), Op::Claim(claim_of(&["q"], 5))]);
    let mut replies = w.commit(commit).await.expect("a settle with a claim").replies;
    assert_eq!(claimed(replies.remove(1)), [], "an end gives nothing back to the rate");
}

pub(super) async fn a_step_of_the_wall_clock_changes_no_rate(w: &mut World) {
    rate(w, "q", 20_000, 1).await;
    fill(w, "q", 3).await;
    assert_eq!(claims(w, "q").await, 1);
    w.clock().step_wall(600_000);
    assert_eq!(claims(w, "q").await, 0);
    w.clock().step_wall(-1_200_000);
    w.advance(20_000);
    assert_eq!(w.queue("q").await.depth.running, 1);
    w.clock().step_wall(1_200_000);
    assert_eq!(claims(w, "q").await, 1);
}
