//! Asking for a job's end.

use mainstay_core::{
    JobId,
    job::{Grant, JobState, NewJob, Outcome, Retry, When},
    op::{Op, Reason, Reply},
};

use crate::world::{COMPLETE, LEASE_MS, World, extend_op, fail};

async fn cancel(w: &World, id: JobId) -> (JobState, bool) {
    match w.op(Op::Cancel { id }).await {
        Reply::Cancelled { state, cancel_requested } => (state, cancel_requested),
        other => panic!("a cancel was answered with {other:?}"),
    }
}

async fn cancelled_while_running(w: &World) -> Grant {
    let id = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    assert_eq!(cancel(w, id).await, (JobState::Running, true));
    let job = w.get(id).await;
    assert_eq!((job.state, job.cancel_requested), (JobState::Running, true));
    grant
}

pub(super) async fn a_waiting_job_is_cancelled_at_once(w: &mut World) {
    let available = w.enqueue(w.job("available")).await;
    let scheduled = w.enqueue(NewJob { run_at: Some(When::In(1_000)), ..w.job("scheduled") }).await;
    let retryable = w.enqueue(w.job("retryable")).await;
    let grant = w.claim("retryable").await;
    w.settle(&grant, fail(Retry::After(1_000))).await.expect("fail");
    for id in [available, scheduled, retryable] {
        assert_eq!(cancel(w, id).await.0, JobState::Cancelled);
        let job = w.get(id).await;
        assert_eq!((job.state, job.finished_at), (JobState::Cancelled, Some(w.now())));
    }
    w.advance(2_000);
    for queue in ["available", "scheduled", "retryable"] {
        assert_eq!(w.try_claim(queue).await, None);
    }
}

pub(super) async fn a_running_job_is_told_at_its_next_extend(w: &mut World) {
    let grant = cancelled_while_running(w).await;
    match w.op(extend_op(&grant, LEASE_MS)).await {
        Reply::Extended { cancel_requested, .. } => assert!(cancel_requested),
        other => panic!("{other:?}"),
    }
}

pub(super) async fn a_cancelled_attempt_ends_cancelled_whatever_it_reports(w: &mut World) {
    for outcome in [
        fail(Retry::Auto),
        fail(Retry::Never),
        Outcome::Release { delay_ms: 0 },
        Outcome::Cancel { error: None },
    ] {
        let grant = cancelled_while_running(w).await;
        let answer = w.settle(&grant, outcome.clone()).await;
        assert_eq!(answer, Ok((JobState::Cancelled, None)), "{outcome:?}");
        assert_eq!(w.get(grant.id).await.reason, None, "no dead letter");
    }
}

pub(super) async fn a_cancelled_attempt_that_crashes_ends_cancelled(w: &mut World) {
    let grant = cancelled_while_running(w).await;
    w.lose(LEASE_MS).await;
    assert_eq!(w.try_claim("q").await, None);
    let job = w.get(grant.id).await;
    assert_eq!((job.state, job.crashes), (JobState::Cancelled, 1), "and the crash is counted");
}

pub(super) async fn completion_wins_over_a_cancel_request(w: &mut World) {
    let grant = cancelled_while_running(w).await;
    assert_eq!(w.settle(&grant, COMPLETE).await, Ok((JobState::Completed, None)));
    assert_eq!(w.state(grant.id).await, JobState::Completed);
}

pub(super) async fn cancelling_twice_is_no_error(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    cancel(w, id).await;
    let before = w.get(id).await;
    assert_eq!(cancel(w, id).await.0, JobState::Cancelled);
    assert_eq!(w.get(id).await, before);
    let grant = cancelled_while_running(w).await;
    assert_eq!(cancel(w, grant.id).await, (JobState::Running, true));
}

pub(super) async fn a_job_that_finished_otherwise_cannot_be_cancelled(w: &mut World) {
    let completed = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.complete(&grant).await;
    let dead = w.dead("q").await;
    for id in [completed, dead] {
        let before = w.get(id).await;
        assert!(matches!(w.refused(Op::Cancel { id }).await, Reason::StateConflict(_)));
        assert_eq!(w.get(id).await, before);
    }
}

pub(super) async fn an_unknown_job_can_be_neither_cancelled_nor_retried_nor_deleted(w: &mut World) {
    let id = w.id("q");
    for op in [Op::Cancel { id }, Op::Retry { id }, Op::Delete { id }] {
        assert!(matches!(w.refused(op).await, Reason::NotFound(_)));
    }
}
