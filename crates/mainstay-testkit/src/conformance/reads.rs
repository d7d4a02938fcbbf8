//! What a look at a job shows, and that a read sees the writes before it.

use std::sync::Arc;

use mainstay_core::{
    Store,
    clock::Clock,
    job::{JobBody, JobKeys, JobRecord, JobState, NewJob, When},
    op::Op,
};

use crate::world::{COMPLETE, World, settle_op};

pub(super) async fn a_job_is_shown_as_it_was_enqueued(w: &mut World) {
    let tags = vec!["b".into(), "a".into()];
    let meta = Some(r#"{"z":1, "a":2}"#.into());
    let body = Arc::new(JobBody { tags, meta, ..JobBody::new("mail", "[1,  2.50]") });
    let keys = JobKeys { concurrency: Some("c".into()), fairness: Some("f".into()) };
    let job = NewJob {
        body: body.clone(),
        priority: 7,
        run_at: Some(When::In(500)),
        expires: Some(When::In(9_000)),
        keys: keys.clone(),
        ..w.job_with("q", |policy| {
            policy.max_attempts = 4;
            policy.max_crashes = Some(2);
            policy.timeout_ms = Some(1_234);
            policy.retain_ms = Some(77);
        })
    };
    let (id, queue, policy, now) = (job.id, job.queue.clone(), job.policy, w.now());
    let answer = w.enqueued(job).await;
    assert_eq!((answer.id, &answer.queue, answer.kind.as_deref()), (id, &queue, Some("mail")));
    assert_eq!((answer.state, answer.priority, answer.deduplicated), (JobState::Scheduled, 7, false));
    assert_eq!((answer.run_at, answer.created_at), (now.plus_ms(500), now));
    let expected = JobRecord {
        id,
        queue,
        state: JobState::Scheduled,
        body,
        priority: 7,
        run_at: now.plus_ms(500),
        attempt: 0,
        crashes: 0,
        policy,
        created_at: now,
        expires_at: Some(now.plus_ms(9_000)),
        unique_key: None,
        waiting_for: 0,
        keys,
        token: None,
        lease_expires_at: None,
        worker: None,
        cancel_requested: false,
        progress: None,
        result: None,
        failures: vec![],
        finished_at: None,
        reason: None,
    };
    assert_eq!(w.get(id).await, expected);
}

pub(super) async fn an_unknown_job_is_none(w: &mut World) {
    assert_eq!(w.try_get(w.id("q")).await, None);
}

pub(super) async fn a_read_sees_every_write_answered_before(w: &mut World) {
    for round in 0..50 {
        let id = w.enqueue(w.job("q")).await;
        assert_eq!(w.state(id).await, JobState::Available);
        let grant = w.claim("q").await;
        assert_eq!(w.state(id).await, JobState::Running);
        w.op(settle_op(&grant, COMPLETE)).await;
        assert_eq!(w.state(id).await, JobState::Completed);
        if round % 2 == 0 {
            w.op(Op::Delete { id }).await;
            assert_eq!(w.try_get(id).await, None);
        }
    }
    assert_eq!(w.jobs(Default::default()).await.len(), 25);
}

pub(super) async fn the_store_reads_the_clock_it_was_given(w: &mut World) {
    let store: &dyn Store = w.store().as_ref();
    let before = store.now().await.expect("now");
    assert_eq!(before.wall, w.clock().now().wall);
    w.advance(1_234);
    let after = store.now().await.expect("now");
    assert_eq!(after.wall, w.clock().now().wall);
    assert_eq!(after.store, before.store.plus_ms(1_234));
    store.ping().await.expect("ping");
}
