//! Retrying and deleting by hand.

use mainstay_core::{
    JobId,
    job::{JobState, NewJob, Retry, When},
    op::{Op, Reason, Reply},
};

use crate::world::{LEASE_MS, World, fail};

async fn retried(w: &World, id: JobId) {
    let now = w.now();
    assert_eq!(w.op(Op::Retry { id }).await, Reply::Retried { state: JobState::Available, run_at: now });
    let job = w.get(id).await;
    assert_eq!((job.state, job.attempt, job.run_at), (JobState::Available, 0, now));
    assert_eq!((job.finished_at, job.reason), (None, None));
    let grant = w.claim(job.queue.as_str()).await;
    assert_eq!((grant.id, grant.attempt), (id, 1));
    w.complete(&grant).await;
}

pub(super) async fn a_dead_job_can_be_retried(w: &mut World) {
    let id = w.dead("q").await;
    w.advance(5);
    retried(w, id).await;
}

pub(super) async fn a_job_that_crashed_too_often_can_be_retried(w: &mut World) {
    let id = w.enqueue(w.job_with("q", |policy| policy.max_crashes = Some(1))).await;
    w.claim("q").await;
    w.lose(LEASE_MS).await;
    assert_eq!(w.state(id).await, JobState::Dead);
    retried(w, id).await;
}

pub(super) async fn a_cancelled_job_can_be_retried(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    w.op(Op::Cancel { id }).await;
    w.advance(5);
    retried(w, id).await;
}

pub(super) async fn a_job_cancelled_while_it_ran_forgets_the_request_when_retried(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.op(Op::Cancel { id }).await;
    w.fail(&grant).await;
    w.op(Op::Retry { id }).await;
    assert!(!w.get(id).await.cancel_requested);
    let grant = w.claim("q").await;
    assert_eq!(w.fail(&grant).await.0, JobState::Retryable);
}

pub(super) async fn a_completed_job_can_be_retried(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.complete(&grant).await;
    w.advance(5);
    retried(w, id).await;
}

pub(super) async fn a_scheduled_job_can_be_hurried(w: &mut World) {
    let id = w.enqueue(NewJob { run_at: Some(When::In(60_000)), ..w.job("q") }).await;
    w.advance(5);
    retried(w, id).await;
}

pub(super) async fn a_retryable_job_can_be_hurried(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.settle(&grant, fail(Retry::After(60_000))).await.expect("fail");
    w.advance(5);
    retried(w, id).await;
}

pub(super) async fn retrying_an_available_job_changes_nothing(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let before = w.get(id).await;
    w.advance(5);
    let reply = w.op(Op::Retry { id }).await;
    assert_eq!(reply, Reply::Retried { state: JobState::Available, run_at: before.run_at });
    assert_eq!(w.get(id).await, before);
}

pub(super) async fn a_running_job_can_be_neither_retried_nor_deleted(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    let before = w.get(id).await;
    for op in [Op::Retry { id }, Op::Delete { id }] {
        assert!(matches!(w.refused(op).await, Reason::StateConflict(_)));
    }
    assert_eq!(w.get(id).await, before);
    w.complete(&grant).await;
}

pub(super) async fn a_deleted_job_is_forgotten(w: &mut World) {
    let available = w.enqueue(w.job("q")).await;
    let scheduled = w.enqueue(NewJob { run_at: Some(When::In(10)), ..w.job("q") }).await;
    let dead = w.dead("q").await;
    for id in [available, scheduled, dead] {
        assert_eq!(w.op(Op::Delete { id }).await, Reply::Deleted);
        assert_eq!(w.try_get(id).await, None);
    }
    w.advance(10);
    assert_eq!(w.try_claim("q").await, None);
    assert_eq!(w.jobs(Default::default()).await, []);
    assert_eq!(w.queue("q").await.depth, Default::default());
}
