//! What a claim takes and shows.

use std::sync::Arc;

use mainstay_core::{
    Timestamp,
    job::{JobBody, JobState, NewJob, When},
    op::Claim,
};

use crate::world::{LEASE_MS, World, claim_of, ids, name};

pub(super) async fn a_claim_shows_the_whole_job(w: &mut World) {
    let body = JobBody {
        meta: Some(r#"{"who":"me"}"#.into()),
        tags: vec!["red".into(), "blue".into()],
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        ..JobBody::new("mail", r#"{"b":1,"a":1e2}"#)
    };
    let created_at = w.now();
    let mut job = w.job_with("q", |policy| policy.timeout_ms = Some(5_000));
    job.body = Arc::new(body.clone());
    job.priority = 2;
    let policy = job.policy;
    let id = w.enqueue(job).await;
    w.advance(10);
    let grant = w.claim("q").await;
    assert_eq!((grant.id, grant.queue.as_str(), grant.priority), (id, "q", 2));
    assert_eq!((grant.attempt, grant.crashes), (1, 0));
    assert_eq!((grant.policy, grant.created_at), (policy, created_at));
    assert_eq!(grant.expires_at, w.now().plus_ms(LEASE_MS));
    assert_eq!(grant.body.as_deref(), Some(&body), "byte for byte");
}

pub(super) async fn a_job_is_handed_out_once(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    assert_eq!(w.drain("q").await, [id]);
    assert_eq!(w.state(id).await, JobState::Running);
}

pub(super) async fn a_claim_takes_at_most_max(w: &mut World) {
    for _ in 0..5 {
        w.enqueue(w.job("q")).await;
    }
    assert_eq!(w.claims(claim_of(&["q"], 3)).await.len(), 3);
    assert_eq!(w.claims(claim_of(&["q"], 3)).await.len(), 2);
    assert_eq!(w.claims(claim_of(&["q"], 3)).await.len(), 0);
}

pub(super) async fn a_claim_stops_at_max_bytes(w: &mut World) {
    let payload = format!("\"{}\"", "x".repeat(1_000));
    for _ in 0..3 {
        let body = Arc::new(JobBody::new("work", &payload));
        w.enqueue(NewJob { body, ..w.job("q") }).await;
    }
    let claim = Claim { max_bytes: 2_500, ..claim_of(&["q"], 10) };
    assert_eq!(w.claims(claim.clone()).await.len(), 2);
    assert_eq!(w.claims(claim).await.len(), 1);
}

pub(super) async fn a_claim_takes_one_job_however_large(w: &mut World) {
    let body = Arc::new(JobBody::new("work", &format!("\"{}\"", "x".repeat(1_000))));
    let id = w.enqueue(NewJob { body, ..w.job("q") }).await;
    w.enqueue(w.job("q")).await;
    let claim = Claim { max_bytes: 10, ..claim_of(&["q"], 10) };
    assert_eq!(ids(&w.claims(claim).await), [id]);
}

pub(super) async fn unknown_queues_are_empty_and_stay_unknown(w: &mut World) {
    let id = w.enqueue(w.job("known")).await;
    let grants = w.claims(claim_of(&["nobody", "known", "no-one"], 10)).await;
    assert_eq!(ids(&grants), [id]);
    assert_eq!(w.try_queue("nobody").await, None);
    assert_eq!(w.try_queue("no-one").await, None);
}

pub(super) async fn a_scheduled_job_becomes_available_by_time(w: &mut World) {
    let at = Timestamp(w.now().0 + 500);
    let id = w.enqueue(NewJob { run_at: Some(When::At(at)), ..w.job("q") }).await;
    assert_eq!(w.state(id).await, JobState::Scheduled);
    w.advance(499);
    assert_eq!(w.try_claim("q").await, None);
    w.advance(1);
    assert_eq!(w.state(id).await, JobState::Available);
    assert_eq!(w.claim("q").await.id, id);
}

pub(super) async fn the_worker_of_a_running_job_is_known(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let worker = Some(name("worker-7"));
    let grant = w.claims(Claim { worker: worker.clone(), ..claim_of(&["q"], 1) }).await.remove(0);
    let job = w.get(id).await;
    assert_eq!((job.worker, job.token), (worker, Some(grant.lease.token)));
    assert_eq!(job.lease_expires_at, Some(grant.expires_at));
}
