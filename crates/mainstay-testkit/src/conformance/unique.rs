//! Unique keys.

use std::sync::Arc;

use mainstay_core::{
    job::{Grant, JobBody, JobState, NewJob, Retry, Unique},
    op::Op,
};

use crate::world::{LEASE_MS, World, enqueued, fail, name, settle_op};

fn keyed(w: &World, queue: &str, key: &str, for_ms: Option<u64>) -> NewJob {
    NewJob { unique: Some(Unique { key: key.into(), for_ms }), ..w.job(queue) }
}

pub(super) async fn a_key_is_held_until_the_job_has_finished(w: &mut World) {
    let job = NewJob { priority: 3, ..keyed(w, "q", "k", None) };
    let created_at = w.now();
    let id = w.enqueue(job).await;
    assert_eq!(w.get(id).await.unique_key.as_deref(), Some("k"));
    w.advance(10);
    let duplicate = w.enqueued(keyed(w, "q", "k", None)).await;
    assert_eq!((duplicate.id, duplicate.deduplicated), (id, true));
    assert_eq!((duplicate.priority, duplicate.created_at), (3, created_at), "it describes the first job");
    assert_eq!((duplicate.kind.as_deref(), duplicate.state), (Some("work"), JobState::Available));
    let grant = w.claim("q").await;
    let running = w.enqueued(keyed(w, "q", "k", None)).await;
    assert_eq!((running.id, running.state), (id, JobState::Running));
    w.release(&grant, 1_000).await;
    assert!(w.enqueued(keyed(w, "q", "k", None)).await.deduplicated);
    w.op(Op::Retry { id }).await;
    let grant = w.claim("q").await;
    w.complete(&grant).await;
    w.enqueue(keyed(w, "q", "k", None)).await;
}

pub(super) async fn every_end_of_a_job_frees_its_key(w: &mut World) {
    let complete = async |w: &World, grant: Grant| w.complete(&grant).await;
    let id = w.enqueue(keyed(w, "q", "k", None)).await;
    w.op(Op::Cancel { id }).await;
    let id = w.enqueue(keyed(w, "q", "k", None)).await;
    w.op(Op::Delete { id }).await;
    let crashing = NewJob {
        policy: w.job_with("q", |policy| policy.max_crashes = Some(1)).policy,
        ..keyed(w, "q", "k", None)
    };
    w.enqueue(crashing).await;
    w.claim("q").await;
    w.lose(LEASE_MS).await;
    w.enqueue(keyed(w, "q", "k", None)).await;
    complete(w, w.claim("q").await).await;
    w.enqueue(keyed(w, "q", "k", None)).await;
}

pub(super) async fn another_body_under_the_same_key_is_still_a_duplicate(w: &mut World) {
    let id = w.enqueue(keyed(w, "q", "k", None)).await;
    let body = Arc::new(JobBody::new("other", "[1]"));
    let duplicate = w.enqueued(NewJob { body, priority: 0, ..keyed(w, "q", "k", None) }).await;
    assert_eq!((duplicate.id, duplicate.deduplicated), (id, true));
    assert_eq!(w.get(id).await.body.kind.as_ref(), "work");
    assert_eq!(w.drain("q").await, [id]);
}

pub(super) async fn a_key_is_the_business_of_its_queue(w: &mut World) {
    w.enqueue(keyed(w, "a", "k", None)).await;
    w.enqueue(keyed(w, "b", "k", None)).await;
    w.enqueue(keyed(w, "a", "k2", None)).await;
}

pub(super) async fn a_key_with_a_time_is_held_for_that_time(w: &mut World) {
    let id = w.enqueue(keyed(w, "q", "k", Some(1_000))).await;
    assert_eq!(w.get(id).await.body.unique_for_ms, Some(1_000));
    let grant = w.claim("q").await;
    w.complete(&grant).await;
    let done = w.get(id).await;
    assert_eq!((done.unique_key.as_deref(), done.body.unique_for_ms), (Some("k"), Some(1_000)));
    w.advance(999);
    let duplicate = w.enqueued(keyed(w, "q", "k", Some(1_000))).await;
    assert_eq!((duplicate.id, duplicate.deduplicated), (id, true), "longer than its job");
    assert_eq!(duplicate.state, JobState::Completed);
    w.advance(2);
    let second = w.enqueue(keyed(w, "q", "k", Some(1_000))).await;
    w.advance(1_001);
    w.enqueue(keyed(w, "q", "k", Some(1_000))).await;
    assert_eq!(w.state(second).await, JobState::Available, "and shorter than its job");
}

pub(super) async fn a_job_that_is_deleted_undone_takes_its_key_along(w: &mut World) {
    let job = |w: &World| keyed(w, "q", "k", Some(60_000));
    let waiting = w.enqueue(job(w)).await;
    w.op(Op::Delete { id: waiting }).await;
    w.enqueue(job(w)).await;
    w.op(Op::Purge { queue: name("q"), limit: 10 }).await;
    let cancelled = w.enqueue(job(w)).await;
    w.op(Op::Cancel { id: cancelled }).await;
    let duplicate = w.enqueued(job(w)).await;
    assert_eq!(
        (duplicate.id, duplicate.state),
        (cancelled, JobState::Cancelled),
        "it is known that it was not done"
    );
    w.op(Op::Delete { id: cancelled }).await;
    let dead = w.enqueue(job(w)).await;
    let grant = w.claim("q").await;
    w.op(settle_op(&grant, fail(Retry::Never))).await;
    w.op(Op::DeleteDead { queue: name("q"), ids: vec![dead] }).await;
    let done = w.enqueue(job(w)).await;
    let grant = w.claim("q").await;
    w.complete(&grant).await;
    w.op(Op::Delete { id: done }).await;
    let duplicate = w.enqueued(job(w)).await;
    assert_eq!(
        (duplicate.id, duplicate.state),
        (done, JobState::Completed),
        "what was done is not done again"
    );
}

pub(super) async fn a_key_is_free_again_when_its_commit_was_refused(w: &mut World) {
    w.enqueue(w.job("there")).await;
    // In a queue that goes with the commit, and in one that stays.
    for queue in ["made", "there"] {
        let unknown = Op::Delete { id: w.id(queue) };
        let commit = w.ops([Op::Enqueue(Box::new(keyed(w, queue, "k", None))), unknown]);
        w.commit(commit).await.expect_err("the second op finds nothing");
        w.enqueue(keyed(w, queue, "k", None)).await;
    }
}

pub(super) async fn the_newer_holder_keeps_its_key_when_the_older_one_ends(w: &mut World) {
    let old = w.enqueue(keyed(w, "q", "k", Some(1_000))).await;
    w.advance(1_001);
    let new = w.enqueue(keyed(w, "q", "k", None)).await;
    w.op(Op::Cancel { id: old }).await;
    let duplicate = w.enqueued(keyed(w, "q", "k", None)).await;
    assert_eq!((duplicate.id, duplicate.deduplicated), (new, true));
}

pub(super) async fn a_key_counts_within_one_commit(w: &mut World) {
    let job = |w: &World, key| Op::Enqueue(Box::new(keyed(w, "q", key, None)));
    let done = w.commit(w.ops([job(w, "a"), job(w, "b"), job(w, "a")])).await.expect("a commit");
    let answers: Vec<_> = done.replies.into_iter().map(enqueued).collect();
    assert_eq!(answers.iter().map(|answer| answer.deduplicated).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(answers[2].id, answers[0].id);
    assert_eq!(w.queue("q").await.depth.available, 2);
}
