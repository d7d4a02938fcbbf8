//! Bounded queues.

use mainstay_core::{
    job::{JobState, NewJob, Retry, When},
    op::{Op, Place, Reason},
    queue::{Depth, Overflow, QueueConfig},
};

use super::after::after;
use crate::world::{World, fail, name};

async fn bounded(w: &World, max_depth: u64, overflow: Overflow) {
    w.configure("q", QueueConfig { max_depth: Some(max_depth), overflow, ..QueueConfig::default() }).await;
}

fn full(max_depth: u64) -> Reason {
    Reason::QueueFull { queue: name("q"), max_depth }
}

fn add(job: NewJob) -> Op {
    Op::Enqueue(Box::new(job))
}

pub(super) async fn a_full_queue_refuses(w: &mut World) {
    bounded(w, 2, Overflow::Reject).await;
    w.enqueue(w.job("q")).await;
    w.enqueue(w.job("q")).await;
    let job = w.job("q");
    let id = job.id;
    assert_eq!(w.refused(add(job)).await, full(2));
    assert_eq!(w.try_get(id).await, None);
    w.enqueue(w.job("other")).await;
}

pub(super) async fn the_bound_counts_what_is_neither_running_nor_finished(w: &mut World) {
    bounded(w, 2, Overflow::Reject).await;
    w.dead("q").await;
    w.enqueue(w.job("q")).await;
    let running = w.claim("q").await;
    w.enqueue(w.job("q")).await;
    let retryable = w.claim("q").await;
    w.settle(&retryable, fail(Retry::After(1_000))).await.expect("fail");
    w.enqueue(NewJob { run_at: Some(When::In(1_000)), ..w.job("q") }).await;
    let expected = Depth { dead: 1, running: 1, retryable: 1, scheduled: 1, ..Depth::default() };
    assert_eq!(w.queue("q").await.depth, expected);
    assert_eq!(w.refused(add(w.job("q"))).await, full(2));
    w.complete(&running).await;
    assert_eq!(w.refused(add(w.job("q"))).await, full(2), "a running job took no room");
    w.op(Op::Cancel { id: retryable.id }).await;
    w.enqueue(w.job("q")).await;
}

pub(super) async fn what_runs_may_always_come_back(w: &mut World) {
    bounded(w, 1, Overflow::Reject).await;
    w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.enqueue(w.job("q")).await;
    assert_eq!(w.release(&grant, 0).await, JobState::Available, "a full queue loses nothing it had");
    assert_eq!(w.queue("q").await.depth.available, 2);
}

pub(super) async fn a_full_queue_may_drop_its_oldest(w: &mut World) {
    bounded(w, 2, Overflow::DropOldest).await;
    let mut ids = vec![];
    for _ in 0..4 {
        ids.push(w.enqueue(w.job("q")).await);
        w.advance(10);
    }
    for id in &ids[..2] {
        assert_eq!(w.state(*id).await, JobState::Cancelled);
    }
    assert_eq!(w.drain("q").await, ids[2..]);
}

pub(super) async fn a_commit_that_does_not_fit_leaves_nothing(w: &mut World) {
    bounded(w, 3, Overflow::Reject).await;
    let first = w.enqueue(w.job("q")).await;
    let jobs: Vec<_> = (0..4).map(|_| w.job("q")).collect();
    let commit = w.ops(jobs.iter().cloned().map(add));
    let refused = w.commit(commit).await.expect_err("four do not fit beside one in three");
    assert_eq!((refused.at, refused.reason), (Place::Op(2), full(3)));
    for job in jobs {
        assert_eq!(w.try_get(job.id).await, None);
    }
    assert_eq!(w.drain("q").await, [first]);
}

pub(super) async fn a_refused_commit_drops_nobody(w: &mut World) {
    bounded(w, 1, Overflow::DropOldest).await;
    let oldest = w.enqueue(w.job("q")).await;
    let unknown = Op::Delete { id: w.id("q") };
    let commit = w.ops([add(w.job("q")), unknown]);
    w.commit(commit).await.expect_err("the second op finds nothing");
    assert_eq!(w.state(oldest).await, JobState::Available);
    assert_eq!(w.drain("q").await, [oldest]);
}

pub(super) async fn a_duplicate_is_no_overflow(w: &mut World) {
    bounded(w, 1, Overflow::Reject).await;
    let job = NewJob { caller_id: true, ..w.job("q") };
    let id = w.enqueue(job.clone()).await;
    let again = w.enqueued(job).await;
    assert_eq!((again.id, again.deduplicated), (id, true));
}

pub(super) async fn jobs_that_wait_for_others_count_and_may_be_dropped(w: &mut World) {
    let first = w.enqueue(w.job("other")).await;
    bounded(w, 2, Overflow::Reject).await;
    let oldest = w.enqueue(after(w, "q", &[first])).await;
    w.enqueue(w.job("q")).await;
    assert_eq!(w.refused(add(w.job("q"))).await, full(2));
    bounded(w, 1, Overflow::DropOldest).await;
    // Those that could run go first, then those that wait; what waits for one that goes, goes too.
    let behind = w.enqueued(after(w, "q", &[oldest])).await;
    assert_eq!(behind.state, JobState::Cancelled);
    assert_eq!(w.state(oldest).await, JobState::Cancelled);
}

pub(super) async fn a_queue_that_is_too_far_behind_refuses(w: &mut World) {
    w.configure("q", QueueConfig { max_age_ms: Some(1_000), ..QueueConfig::default() }).await;
    w.enqueue(w.job("q")).await;
    w.enqueue(NewJob { run_at: Some(When::In(60_000)), ..w.job("q") }).await;
    w.advance(1_000);
    w.enqueue(w.job("q")).await;
    w.advance(1);
    let behind = Reason::QueueBehind { queue: name("q"), age_ms: 1_001, max_age_ms: 1_000 };
    assert_eq!(w.refused(add(w.job("q"))).await, behind);
    let grant = w.claim("q").await;
    w.enqueue(w.job("q")).await; // the oldest that is left is a millisecond old
    w.release(&grant, 0).await;
    assert_eq!(w.refused(add(w.job("q"))).await, behind, "a released job has its old age");
}

pub(super) async fn an_answer_tells_how_close_the_queue_is_to_refusing(w: &mut World) {
    let none = w.enqueued(w.job("free")).await;
    assert_eq!(none.pressure, None);
    w.configure("q", QueueConfig { max_depth: Some(4), max_age_ms: Some(1_000), ..QueueConfig::default() })
        .await;
    assert_eq!(w.enqueued(w.job("q")).await.pressure, Some(250));
    w.advance(700);
    assert_eq!(w.enqueued(w.job("q")).await.pressure, Some(700), "the larger of both");
    w.enqueue(w.job("q")).await;
    let job = NewJob { caller_id: true, ..w.job("q") };
    assert_eq!(w.enqueued(job.clone()).await.pressure, Some(1_000));
    assert_eq!(w.enqueued(job).await.pressure, Some(1_000), "a duplicate is told too");
}
