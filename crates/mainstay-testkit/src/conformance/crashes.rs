//! A lease that runs out is a crash.

use mainstay_core::{
    job::{DeadReason, JobState, NewJob, Outcome, Retry, When},
    op::Op,
    queue::QueueConfig,
};

use crate::world::{COMPLETE, LEASE_MS, World, claim_of, extend_op, fail};

/// Crashes the job until it is not offered any more.
async fn crashes_until_dead(w: &World, queue: &str) -> u32 {
    let mut crashes = 0;
    while w.try_claim(queue).await.is_some() {
        crashes += 1;
        w.lose(LEASE_MS).await;
    }
    crashes
}

pub(super) async fn a_crashed_job_is_offered_again_within_a_second_and_counted(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    w.claim("q").await;
    w.lose(LEASE_MS).await;
    let job = w.get(id).await;
    assert_eq!((job.state, job.attempt, job.crashes), (JobState::Available, 1, 1), "without back-off");
    assert_eq!((job.token, job.worker, job.lease_expires_at), (None, None, None));
    let grant = w.claim("q").await;
    assert_eq!((grant.id, grant.attempt, grant.crashes), (id, 2, 1), "the attempt stays raised");
}

pub(super) async fn a_job_is_dead_after_three_crashes(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    assert_eq!(crashes_until_dead(w, "q").await, 3);
    let job = w.get(id).await;
    assert_eq!((job.state, job.reason), (JobState::Dead, Some(DeadReason::Crashed)));
    assert_eq!(job.crashes, 3);
}

pub(super) async fn the_queue_may_allow_other_numbers_of_crashes(w: &mut World) {
    w.configure("q", QueueConfig { max_crashes: Some(1), ..QueueConfig::default() }).await;
    w.enqueue(w.job("q")).await;
    assert_eq!(crashes_until_dead(w, "q").await, 1);
}

pub(super) async fn the_job_has_the_last_word_on_crashes(w: &mut World) {
    w.configure("q", QueueConfig { max_crashes: Some(1), ..QueueConfig::default() }).await;
    w.enqueue(w.job_with("q", |policy| policy.max_crashes = Some(4))).await;
    assert_eq!(crashes_until_dead(w, "q").await, 4);
}

pub(super) async fn a_crash_on_the_last_attempt_is_dead_as_crashed(w: &mut World) {
    let id = w.enqueue(w.job_with("q", |policy| policy.max_attempts = 2)).await;
    let grant = w.claim("q").await;
    let (_, due) = w.fail(&grant).await;
    w.advance(due.expect("it is tried again").ms_since(w.now()));
    w.claim("q").await;
    w.lose(LEASE_MS).await;
    assert_eq!(w.try_claim("q").await, None);
    assert_eq!(w.get(id).await.reason, Some(DeadReason::Crashed), "the reason follows the last event");
}

pub(super) async fn a_job_past_its_expiry_is_never_handed_out(w: &mut World) {
    let job = NewJob { run_at: Some(When::In(500)), expires: Some(When::In(1_000)), ..w.job("q") };
    let id = w.enqueue(job).await;
    w.advance(1_001);
    assert_eq!(w.try_claim("q").await, None, "not even before housekeeping");
    w.maintain().await;
    let job = w.get(id).await;
    assert_eq!((job.state, job.reason), (JobState::Dead, Some(DeadReason::Expired)));
}

pub(super) async fn a_job_that_runs_may_outlive_its_expiry(w: &mut World) {
    let id = w.enqueue(NewJob { expires: Some(When::In(1_000)), ..w.job("q") }).await;
    let grant = w.claim("q").await;
    w.advance(2_000);
    w.maintain().await;
    assert_eq!(w.state(id).await, JobState::Running);
    w.complete(&grant).await;
}

pub(super) async fn a_crash_after_the_expiry_is_dead_as_expired(w: &mut World) {
    let id = w.enqueue(NewJob { expires: Some(When::In(1_000)), ..w.job("q") }).await;
    w.claim("q").await;
    w.lose(LEASE_MS).await;
    assert_eq!(w.try_claim("q").await, None);
    w.maintain().await;
    let job = w.get(id).await;
    assert_eq!((job.state, job.reason), (JobState::Dead, Some(DeadReason::Expired)));
}

pub(super) async fn a_job_that_ended_is_not_rescued_when_its_lease_would_have_run_out(w: &mut World) {
    for _ in 0..4 {
        w.enqueue(w.job("q")).await;
    }
    let grants = w.claims(claim_of(&["q"], 4)).await;
    let ends = [COMPLETE, fail(Retry::Never), Outcome::Cancel { error: None }, fail(Retry::After(100_000))];
    for (grant, end) in grants.iter().zip(ends) {
        w.settle(grant, end).await.expect("settle");
    }
    let before = w.jobs(Default::default()).await;
    w.lose(LEASE_MS).await;
    assert_eq!(w.jobs(Default::default()).await, before);
}

pub(super) async fn leases_that_live_do_not_hide_those_that_ran_out(w: &mut World) {
    let jobs: Vec<_> = (0..3_000).map(|_| Op::Enqueue(Box::new(w.job("q")))).collect();
    w.commit(w.ops(jobs)).await.expect("jobs");
    let grants = w.claims(claim_of(&["q"], 3_000)).await;
    assert_eq!(grants.len(), 3_000);
    w.advance(LEASE_MS - 1);
    // The oldest are at work still: more of them than one piece of housekeeping looks at.
    w.commit(w.ops(grants[..1_500].iter().map(|grant| extend_op(grant, LEASE_MS)))).await.expect("extend");
    w.advance(1_001);
    w.maintain().await;
    let depth = w.queue("q").await.depth;
    assert_eq!((depth.running, depth.available), (1_500, 1_500));
}
