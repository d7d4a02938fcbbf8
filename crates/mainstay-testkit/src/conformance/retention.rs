//! How long finished jobs stay readable.

use mainstay_core::{
    JobId,
    job::JobState,
    op::Op,
    queue::{QueueConfig, Retention},
};

use crate::world::{World, claim_of};

const DAY_MS: u64 = 86_400_000;

async fn completed(w: &World, queue: &str) -> JobId {
    let id = w.enqueue(w.job(queue)).await;
    let grant = w.claim(queue).await;
    w.complete(&grant).await;
    id
}

async fn cancelled(w: &World, queue: &str) -> JobId {
    let id = w.enqueue(w.job(queue)).await;
    w.op(Op::Cancel { id }).await;
    id
}

async fn keep(w: &World, retention: Retention) {
    w.configure("q", QueueConfig { retention, ..QueueConfig::default() }).await;
}

async fn known(w: &World, ids: &[JobId]) -> Vec<bool> {
    let mut known = vec![];
    for id in ids {
        known.push(w.try_get(*id).await.is_some());
    }
    known
}

pub(super) async fn finished_jobs_stay_a_day_and_dead_ones_a_month(w: &mut World) {
    let ids = [completed(w, "q").await, cancelled(w, "q").await, w.dead("q").await];
    w.advance(DAY_MS - 1_000);
    w.maintain().await;
    assert_eq!(known(w, &ids).await, [true, true, true]);
    w.advance(2_000);
    assert_eq!(w.maintain().await.forgotten, 2);
    assert_eq!(known(w, &ids).await, [false, false, true]);
    w.advance(29 * DAY_MS - 2_000);
    w.maintain().await;
    assert_eq!(known(w, &ids).await, [false, false, true]);
    w.advance(2_000);
    w.maintain().await;
    assert_eq!(known(w, &ids).await, [false, false, false]);
    assert_eq!(w.jobs(Default::default()).await, []);
    assert_eq!(w.queue("q").await.depth.dead, 0);
}

pub(super) async fn a_queue_keeps_the_newest_so_many(w: &mut World) {
    keep(w, Retention { completed_count: 2, ..Retention::default() }).await;
    let dead = [w.dead("q").await, w.dead("q").await, w.dead("q").await];
    let done = [completed(w, "q").await, cancelled(w, "q").await, completed(w, "q").await];
    let other = [completed(w, "other").await, completed(w, "other").await, completed(w, "other").await];
    w.maintain().await;
    assert_eq!(known(w, &done).await, [false, true, true]);
    assert_eq!(known(w, &dead).await, [true; 3], "dead letters are not counted");
    assert_eq!(known(w, &other).await, [true; 3]);
}

pub(super) async fn a_new_retention_holds_for_old_jobs(w: &mut World) {
    let ids = [completed(w, "q").await, w.dead("q").await];
    w.advance(10_000);
    keep(w, Retention { completed_ms: 5_000, dead_ms: 20_000, ..Retention::default() }).await;
    w.maintain().await;
    assert_eq!(known(w, &ids).await, [false, true]);
    w.advance(10_001);
    w.maintain().await;
    assert_eq!(known(w, &ids).await, [false, false]);
}

pub(super) async fn a_job_may_have_a_retention_of_its_own(w: &mut World) {
    keep(w, Retention { completed_count: 1, ..Retention::default() }).await;
    let own = async |w: &World, retain_ms| {
        let id = w.enqueue(w.job_with("q", |policy| policy.retain_ms = Some(retain_ms))).await;
        let grant = w.claim("q").await;
        w.complete(&grant).await;
        id
    };
    let long = own(w, 3 * DAY_MS).await;
    let short = own(w, 1_000).await;
    let plain = [completed(w, "q").await, completed(w, "q").await];
    w.maintain().await;
    assert_eq!(known(w, &[long, short]).await, [true, true], "the queue's count is not about them");
    assert_eq!(known(w, &plain).await, [false, true]);
    w.advance(1_001);
    w.maintain().await;
    assert_eq!(known(w, &[long, short]).await, [true, false]);
    w.advance(3 * DAY_MS - 1_000);
    w.maintain().await;
    assert_eq!(known(w, &[long]).await, [false]);
}

pub(super) async fn jobs_to_be_forgotten_at_one_instant_stay_two(w: &mut World) {
    // Whatever number a store gives to the end of a job: it comes round no sooner than it must.
    const BETWEEN: usize = (1 << 14) - 1;
    let own = async |w: &World, retain_ms| {
        let id = w.enqueue(w.job_with("q", |policy| policy.retain_ms = Some(retain_ms))).await;
        w.op(Op::Cancel { id }).await;
        id
    };
    let first = own(w, 1_000).await;
    w.advance(500);
    let between: Vec<_> = (0..BETWEEN).map(|_| w.job("other")).collect();
    for jobs in between.chunks(4_000) {
        let cancels = jobs.iter().map(|job| Op::Cancel { id: job.id });
        let enqueues = jobs.iter().map(|job| Op::Enqueue(Box::new(job.clone())));
        w.commit(w.ops(enqueues.chain(cancels))).await.expect("a commit that is done");
    }
    let ids = [first, own(w, 500).await];
    assert_eq!(known(w, &ids).await, [true, true]);
    if w.harness().durable() {
        w.reopen().await;
        assert_eq!(known(w, &ids).await, [true, true]);
    }
    w.advance(502);
    w.maintain().await;
    assert_eq!(known(w, &ids).await, [false, false]);
}

/// Jobs of many rules come, end in every way and go, and others come: each has its own as long as it is there.
pub(super) async fn a_job_keeps_its_rules_whatever_becomes_of_others(w: &mut World) {
    let timeout = |n: usize| 1_000 + n as u64;
    let many = async |w: &World, from: usize, count: usize| {
        let jobs =
            (from..from + count).map(|n| (n, w.job_with("q", |policy| policy.timeout_ms = Some(timeout(n)))));
        let jobs: Vec<_> = jobs.collect();
        let ops = jobs.iter().map(|(_, job)| Op::Enqueue(Box::new(job.clone())));
        w.commit(w.ops(ops)).await.expect("they come");
        jobs.into_iter().map(|(n, job)| (n, job.id)).collect::<Vec<_>>()
    };
    let have_their_own = async |w: &World, jobs: &[(usize, JobId)]| {
        for (n, id) in jobs {
            assert_eq!(w.get(*id).await.policy.timeout_ms, Some(timeout(*n)), "job {n}");
        }
    };
    let delete = async |w: &World, jobs: &[(usize, JobId)]| {
        w.commit(w.ops(jobs.iter().map(|(_, id)| Op::Delete { id: *id }))).await.expect("they go");
        w.maintain().await;
    };
    keep(w, Retention { completed_count: 40, ..Retention::default() }).await;
    // More than a store may be tempted to keep for good.
    let mut jobs = many(w, 0, 1_300).await;
    for grant in w.claims(claim_of(&["q"], 100)).await {
        w.complete(&grant).await;
    }
    w.maintain().await;
    jobs.drain(..60);
    have_their_own(w, &jobs[..60]).await;
    let waiting = jobs.split_off(40);
    delete(w, &waiting[50..]).await;
    jobs.extend(&waiting[..50]);
    have_their_own(w, &jobs).await;
    jobs.extend(many(w, 2_000, 50).await);
    have_their_own(w, &jobs).await;
    for round in 0..2 {
        if w.harness().durable() {
            w.reopen().await;
        }
        have_their_own(w, &jobs).await;
        let gone = jobs.split_off(jobs.len() - 40);
        delete(w, &gone).await;
        jobs.extend(many(w, 3_000 + 100 * round, 40).await);
        have_their_own(w, &jobs).await;
    }
    // One that has finished comes back with its own.
    let (n, id) = jobs[0];
    w.op(Op::Retry { id }).await;
    assert_eq!(w.claim("q").await.policy.timeout_ms, Some(timeout(n)), "the first of all");
}

pub(super) async fn unfinished_jobs_are_never_forgotten(w: &mut World) {
    keep(w, Retention { completed_ms: 0, completed_count: 0, dead_ms: 0 }).await;
    let running = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    let waiting = w.enqueue(w.job("q")).await;
    w.advance(1_000);
    w.maintain().await;
    assert_eq!(known(w, &[running, waiting]).await, [true, true]);
    w.complete(&grant).await;
    w.advance(1);
    w.maintain().await;
    assert_eq!(known(w, &[running, waiting]).await, [false, true]);
}

pub(super) async fn a_retried_job_is_not_forgotten_for_its_past(w: &mut World) {
    let id = completed(w, "q").await;
    w.advance(DAY_MS / 2);
    w.op(Op::Retry { id }).await;
    w.advance(DAY_MS);
    w.maintain().await;
    assert_eq!(w.state(id).await, JobState::Available);
    let grant = w.claim("q").await;
    w.complete(&grant).await;
    w.advance(DAY_MS - 1_000);
    w.maintain().await;
    assert_eq!(w.state(id).await, JobState::Completed, "the time counts from its last end");
}

pub(super) async fn housekeeping_keeps_to_its_budget(w: &mut World) {
    for (completed_count, age_ms) in [(0, 0), (100, DAY_MS)] {
        keep(w, Retention { completed_count, ..Retention::default() }).await;
        for _ in 0..5 {
            cancelled(w, "q").await;
        }
        w.advance(age_ms);
        let mut forgotten = 0;
        for _ in 0..100 {
            let done = w.store().maintain(mainstay_core::store::Budget { rows: 2 }).await.expect("maintain");
            assert!(done.forgotten <= 2, "{done:?}");
            forgotten += done.forgotten;
            if !done.more {
                break;
            }
        }
        assert_eq!(forgotten, 5, "of {completed_count}, after {age_ms} ms");
    }
}
