//! Bounded queues.

use mainstay_core::{
    after::After,
    job::{JobState, NewJob, Retry, When},
    op::{Op, Place, Reason},
    queue::{Depth, Overflow, QueueConfig},
};

use super::after::after;
use crate::world::{World, fail, name, timeless};

async fn bounded(w: &World, max_depth: u64, overflow: Overflow) {
    w.configure("q", QueueConfig { max_depth: Some(max_depth), overflow, ..QueueConfig::default() }).await;
}

fn full(max_depth: u64) -> Reason {
    Reason::QueueFull { queue: name("q"), max_depth, retry_ms: 0 }
}

async fn refused(w: &World, op: Op) -> Reason {
    timeless(w.refused(op).await)
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
    assert_eq!(refused(w, add(job)).await, full(2));
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
    assert_eq!(refused(w, add(w.job("q"))).await, full(2));
    w.complete(&running).await;
    assert_eq!(refused(w, add(w.job("q"))).await, full(2), "a running job took no room");
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
    assert_eq!((refused.at, timeless(refused.reason)), (Place::Op(2), full(3)));
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
    assert_eq!(refused(w, add(w.job("q"))).await, full(2));
    bounded(w, 1, Overflow::DropOldest).await;
    // Those that could run go first, then those that wait; what waits for one that goes, goes too.
    let behind = w.enqueued(after(w, "q", &[oldest])).await;
    assert_eq!(behind.state, JobState::Cancelled);
    assert_eq!(w.state(oldest).await, JobState::Cancelled);
}

/// Adds so many jobs to `q` that wait for so many others each.
async fn heavy(w: &World, count: usize, others: u32) {
    let mut ops: Vec<_> = (0..others).map(|_| add(w.job("other"))).collect();
    ops.extend((0..count).map(|_| add(NewJob { after: (0..others).map(After::Op).collect(), ..w.job("q") })));
    w.commit(w.ops(ops)).await.expect("a batch");
}

pub(super) async fn what_makes_room_in_one_commit_is_bounded(w: &mut World) {
    heavy(w, 6, 5_000).await;
    bounded(w, 6, Overflow::DropOldest).await;
    // What could run would go first, so these wait as well. The fourth fills it up, the fifth is too much.
    let other = w.enqueue(w.job("other")).await;
    let light = || add(after(w, "q", &[other]));
    let commit = w.ops((0..5).map(|_| light()));
    let refused = w.commit(commit).await.expect_err("25,000 edges");
    assert_eq!(refused.at, Place::Op(4));
    assert!(matches!(refused.reason, Reason::StateConflict(_)), "{refused:?}");
    assert_eq!(w.queue("q").await.depth.blocked, 6, "nothing has happened");
    w.commit(w.ops((0..4).map(|_| light()))).await.expect("four at a time");
    assert_eq!(w.queue("q").await.depth.blocked, 6);
    for heavy in 0..2 {
        w.enqueue(after(w, "q", &[other])).await;
        assert_eq!(w.queue("q").await.depth.blocked, 6, "{heavy}");
    }
}

pub(super) async fn a_bound_that_was_lowered_is_reached_in_several_commits(w: &mut World) {
    heavy(w, 6, 5_000).await;
    bounded(w, 1, Overflow::DropOldest).await;
    w.enqueue(w.job("q")).await;
    assert_eq!(w.queue("q").await.depth, Depth { blocked: 2, available: 1, ..Depth::default() });
    w.enqueue(w.job("q")).await;
    assert_eq!(w.queue("q").await.depth, Depth { available: 1, ..Depth::default() });
}

pub(super) async fn a_queue_that_is_too_far_behind_refuses(w: &mut World) {
    w.configure("q", QueueConfig { max_age_ms: Some(1_000), ..QueueConfig::default() }).await;
    w.enqueue(w.job("q")).await;
    w.enqueue(NewJob { run_at: Some(When::In(60_000)), ..w.job("q") }).await;
    w.advance(1_000);
    w.enqueue(w.job("q")).await;
    w.advance(1);
    let behind = Reason::QueueBehind { queue: name("q"), age_ms: 1_001, max_age_ms: 1_000, retry_ms: 0 };
    assert_eq!(refused(w, add(w.job("q"))).await, behind);
    let grant = w.claim("q").await;
    w.enqueue(w.job("q")).await; // the oldest that is left is a millisecond old
    w.release(&grant, 0).await;
    assert_eq!(refused(w, add(w.job("q"))).await, behind, "a released job has its old age");
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

/// When whoever finds the queue full is to come back, in milliseconds.
async fn told_when(w: &World, jobs: usize) -> u64 {
    let refused = w.commit(w.ops((0..jobs).map(|_| add(w.job("q"))))).await.expect_err("the queue is full");
    match refused.reason {
        Reason::QueueFull { retry_ms, .. } | Reason::QueueBehind { retry_ms, .. } => retry_ms,
        other => panic!("{other}"),
    }
}

pub(super) async fn who_is_refused_is_told_when_there_may_be_room(w: &mut World) {
    bounded(w, 10, Overflow::Reject).await;
    for _ in 0..10 {
        w.enqueue(w.job("q")).await;
    }
    assert_eq!(told_when(w, 1).await, 1_000, "nothing is known yet");
    for _ in 0..4 {
        w.advance(2_000);
        let grant = w.claim("q").await;
        w.complete(&grant).await;
        w.enqueue(w.job("q")).await;
    }
    assert_eq!(told_when(w, 1).await, 2_000, "a job ends every two seconds");
    assert_eq!(told_when(w, 5).await, 10_000, "and there has to be room for all of them");
    w.advance(30_000);
    assert_eq!(told_when(w, 1).await, 30_000, "nothing has ended since");
    w.advance(3_600_000);
    assert_eq!(told_when(w, 1).await, 60_000, "but nobody stays away for longer than a minute");
}

pub(super) async fn who_finds_a_queue_behind_is_told_when_it_may_have_caught_up(w: &mut World) {
    w.configure("q", QueueConfig { max_age_ms: Some(1_000), ..QueueConfig::default() }).await;
    for _ in 0..6 {
        w.enqueue(w.job("q")).await;
    }
    w.advance(3_000);
    for _ in 0..3 {
        let grant = w.claim("q").await;
        w.complete(&grant).await;
    }
    // A second for each, and they are as old as it takes to be through with them.
    assert_eq!(told_when(w, 1).await, 3_000);
}
