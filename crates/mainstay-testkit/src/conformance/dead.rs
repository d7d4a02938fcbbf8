//! Dead letters.

use std::sync::Arc;

use mainstay_core::{
    JobId,
    job::{DeadReason, JobBody, JobFailure, JobState, NewJob, Outcome, Retry},
    op::{Op, Reply},
    store::{DeadFilter, Query},
};

use crate::world::{World, jobs, name};

async fn dead_of(w: &World, queue: &str, kind: &str, error: &str) -> JobId {
    let body = Arc::new(JobBody::new(kind, "null"));
    let id = w.enqueue(NewJob { body, ..w.job(queue) }).await;
    let grant = w.claim(queue).await;
    let error = JobFailure { kind: Some(error.into()), ..JobFailure::default() };
    w.settle(&grant, Outcome::Fail { error, retry: Retry::Never }).await.expect("fail");
    id
}

async fn found(w: &World, queue: &str, kind: Option<&str>, error_type: Option<&str>) -> Vec<JobId> {
    let filter = DeadFilter {
        queue: name(queue),
        kind: kind.map(str::to_owned),
        error_type: error_type.map(str::to_owned),
    };
    jobs(w.list_by(&Query::Dead(filter), 2).await).into_iter().map(|job| job.id).collect()
}

pub(super) async fn dead_letters_are_listed_newest_first_with_their_reason(w: &mut World) {
    let first = w.dead("q").await;
    w.advance(10);
    let second = w.dead("q").await;
    w.dead("other").await;
    w.enqueue(w.job("q")).await;
    let letters = w.dead_letters("q").await;
    assert_eq!(letters.iter().map(|job| job.id).collect::<Vec<_>>(), [second, first]);
    for letter in letters {
        assert_eq!((letter.state, letter.reason), (JobState::Dead, Some(DeadReason::Permanent)));
        assert_eq!(letter.failures.last().map(|record| record.failure.message.as_ref()), Some("boom"));
    }
}

pub(super) async fn dead_letters_can_be_filtered(w: &mut World) {
    let a = dead_of(w, "q", "mail", "Timeout").await;
    let b = dead_of(w, "q", "mail", "Refused").await;
    let c = dead_of(w, "q", "report", "Timeout").await;
    let d = dead_of(w, "q", "mail", "Timeout").await;
    assert_eq!(found(w, "q", None, None).await, [d, c, b, a]);
    assert_eq!(found(w, "q", Some("mail"), None).await, [d, b, a]);
    assert_eq!(found(w, "q", None, Some("Timeout")).await, [d, c, a]);
    assert_eq!(found(w, "q", Some("mail"), Some("Timeout")).await, [d, a]);
    assert_eq!(found(w, "q", Some("nothing"), None).await, []);
    assert_eq!(found(w, "unknown", None, None).await, [], "a list of something unknown is empty");
}

pub(super) async fn dead_letters_can_be_requeued(w: &mut World) {
    let (a, b) = (w.dead("q").await, w.dead("q").await);
    let elsewhere = w.dead("other").await;
    let alive = w.enqueue(NewJob { priority: 9, ..w.job("q") }).await;
    w.advance(10);
    let ids = vec![a, elsewhere, alive, w.id("q")];
    assert_eq!(w.op(Op::RequeueDead { queue: name("q"), ids }).await, Reply::Count(1));
    let job = w.get(a).await;
    assert_eq!((job.state, job.attempt, job.reason), (JobState::Available, 0, None));
    assert_eq!(w.state(b).await, JobState::Dead);
    assert_eq!(w.state(elsewhere).await, JobState::Dead);
    assert_eq!(found(w, "q", None, None).await, [b]);
    assert_eq!(w.drain("q").await, [a, alive]);
}

pub(super) async fn dead_letters_can_be_deleted(w: &mut World) {
    let (a, b) = (w.dead("q").await, w.dead("q").await);
    let elsewhere = w.dead("other").await;
    let alive = w.enqueue(w.job("q")).await;
    let ids = vec![a, elsewhere, alive, w.id("q")];
    assert_eq!(w.op(Op::DeleteDead { queue: name("q"), ids }).await, Reply::Count(1));
    assert_eq!(w.try_get(a).await, None);
    assert_eq!(found(w, "q", None, None).await, [b]);
    assert_eq!(found(w, "other", None, None).await, [elsewhere]);
    assert_eq!(w.state(alive).await, JobState::Available);
}
