//! What holds its thread, on virtual time: its workers here run nothing, and end a job only when they are let. To whoever
//! looks from outside, that is the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::super::slot::{Current, Slot};
use super::super::{Item, PoolBuilder, PoolError, WorkerPool};
use super::LOOK;
use crate::job::JobError;
use crate::queue::Receiver;
use crate::{millis, secs};

/// Longer than anything here takes.
const PATIENCE: Duration = secs(600);
const GRACE: Duration = millis(300);

/// A pool whose job `true` is held until the answer has a permit for it, and whose job `false` ends at once.
fn holding(workers: usize, limit: Option<Duration>) -> (WorkerPool<bool, ()>, Arc<Semaphore>) {
    let let_go = Arc::new(Semaphore::new(0));
    let build = WorkerPool::build("holding", async |_: bool, _| Ok::<_, JobError>(()));
    let mut build: PoolBuilder<bool, ()> = build.workers(workers).grace(GRACE);
    if let Some(limit) = limit {
        build = build.time_limit(limit);
    }
    let held = let_go.clone();
    build.spawn =
        Box::new(move |shared, slot: Arc<Slot<bool, ()>>, mut receiver: Receiver<Item<bool, ()>>| {
            let (tasks, held) = (shared.tasks.clone(), held.clone());
            tasks.spawn("worker", async move {
                while let Some(item) = receiver.recv().await {
                    let holds = item.begin().unwrap().job;
                    slot.begin(Current::of(item, holds, slot.number, Instant::now()));
                    if holds {
                        held.acquire().await.unwrap().forget();
                    }
                    let Some(current) = slot.end() else { break };
                    shared.ended(current, Ok(()), false);
                }
                slot.leave();
            })
        });
    (build.open().unwrap(), let_go)
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_lost_a_grace_after_its_job_should_have_been_cut() {
    let (pool, let_go) = holding(1, Some(secs(2)));
    let began = Instant::now();
    let stuck = pool.submit(true).await.unwrap();
    let next = pool.submit(false).await.unwrap();
    assert_eq!(timeout(PATIENCE, stuck).await.expect("it is noticed"), Err(PoolError::TimedOut(secs(2))));
    let took = began.elapsed();
    assert!((secs(2) + GRACE..=secs(2) + GRACE + millis(1)).contains(&took), "{took:?}");
    assert_eq!(timeout(PATIENCE, next).await.expect("another takes its place"), Ok(()));
    let status = pool.status();
    assert_eq!((status.workers, status.lost), (1, 1), "{status:?}");
    assert!(pool.dead()[0].stuck);
    // What it says in the end is nothing to anybody.
    let_go.add_permits(1);
    sleep(2 * LOOK).await;
    assert_eq!((pool.status().workers, pool.status().dead), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_told_to_stop_has_two_graces_from_when_that_is_seen() {
    let (pool, _let_go) = holding(1, None);
    let stuck = pool.submit(true).await.unwrap();
    sleep(secs(5)).await;
    stuck.cancel();
    let told = Instant::now();
    assert_eq!(timeout(PATIENCE, stuck).await.expect("it is noticed"), Err(PoolError::Cancelled));
    let took = told.elapsed();
    assert!((2 * GRACE..=2 * GRACE + LOOK).contains(&took), "{took:?}");
    assert_eq!(timeout(PATIENCE, pool.submit(false).await.unwrap()).await.expect("a new worker"), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_ends_in_time_keeps_its_slot() {
    let (pool, let_go) = holding(1, Some(secs(2)));
    let slow = pool.submit(true).await.unwrap();
    sleep(secs(2) + GRACE - millis(1)).await;
    let_go.add_permits(1);
    assert_eq!(timeout(PATIENCE, slow).await.expect("it ends"), Ok(()));
    sleep(secs(10)).await;
    assert_eq!((pool.status().workers, pool.status().lost), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn lost_slots_are_replaced_up_to_twice_the_ceiling_and_mended_when_one_comes_back() {
    let (pool, let_go) = holding(2, Some(secs(1)));
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(pool.submit(true).await.unwrap());
    }
    for job in jobs {
        assert_eq!(timeout(PATIENCE, job).await.expect("noticed"), Err(PoolError::TimedOut(secs(1))));
    }
    let fifth = pool.submit(false).await.unwrap();
    sleep(secs(60)).await;
    assert_eq!((pool.status().workers, pool.status().lost), (0, 4), "nobody is left, nobody comes");
    assert!(!fifth.is_finished());
    let_go.add_permits(1);
    let back = Instant::now();
    assert_eq!(timeout(PATIENCE, fifth).await.expect("one is back"), Ok(()));
    assert!(back.elapsed() <= LOOK, "{:?}", back.elapsed());
    assert_eq!(pool.status().workers, 1);
    let_go.add_permits(3);
    sleep(2 * LOOK).await;
    assert_eq!(pool.status().workers, 2, "as many as there were to be");
}
