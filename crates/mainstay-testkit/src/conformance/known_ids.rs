//! Ids that the caller chose.

use mainstay_core::{
    job::{JobState, NewJob, Unique},
    op::{Op, Reason},
};

use crate::world::{World, name};

pub(super) async fn the_same_id_again_is_a_duplicate(w: &mut World) {
    let job = NewJob { caller_id: true, ..w.job("q") };
    let id = w.enqueue(job.clone()).await;
    for state in [JobState::Available, JobState::Running, JobState::Completed] {
        if state == JobState::Completed {
            let grant = w.claim("q").await;
            w.complete(&grant).await;
        }
        let again = w.enqueued(job.clone()).await;
        assert_eq!((again.id, again.deduplicated), (id, true));
        let expected = if state == JobState::Completed { state } else { JobState::Available };
        assert_eq!(again.state, expected);
    }
    assert_eq!(w.drain("q").await, [], "it was added once");
}

pub(super) async fn a_made_id_is_known_after_its_job_has_finished(w: &mut World) {
    let job = w.job("q");
    let id = w.enqueue(job.clone()).await;
    let grant = w.claim("q").await;
    w.complete(&grant).await;
    for reopened in [false, true] {
        if reopened && w.harness().durable() {
            w.reopen().await;
        }
        let again = w.enqueued(job.clone()).await;
        assert_eq!((again.id, again.deduplicated, again.state), (id, true, JobState::Completed));
        assert_eq!(w.state(id).await, JobState::Completed);
    }
    assert_eq!(w.drain("q").await, [], "it ran once");
}

pub(super) async fn an_id_of_another_queue_is_refused(w: &mut World) {
    let job = NewJob { caller_id: true, ..w.job("a") };
    let id = w.enqueue(job.clone()).await;
    let elsewhere = NewJob { queue: name("b"), ..job };
    let refused = || w.refused(Op::Enqueue(Box::new(elsewhere.clone())));
    assert_eq!(refused().await, Reason::IdInOtherQueue(name("a")));
    let grant = w.claim("a").await;
    w.complete(&grant).await;
    assert_eq!(refused().await, Reason::IdInOtherQueue(name("a")), "finished jobs are known too");
    assert_eq!(w.try_queue("b").await, None);
    w.op(Op::Delete { id }).await;
    w.enqueue(elsewhere).await;
}

pub(super) async fn the_id_goes_before_the_unique_key(w: &mut World) {
    let unique = |key: &str| Some(Unique { key: key.into(), for_ms: None });
    let by_key = w.enqueue(NewJob { unique: unique("u"), ..w.job("q") }).await;
    let first = NewJob { caller_id: true, ..w.job("q") };
    let by_id = w.enqueue(first.clone()).await;
    let both = w.enqueued(NewJob { unique: unique("u"), ..first }).await;
    assert_eq!((both.id, both.deduplicated), (by_id, true));
    assert_ne!(by_id, by_key);
}
