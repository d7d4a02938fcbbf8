//! Queues: configuration, pause, purge, deletion, and what can be seen of them.

use mainstay_core::{
    JobId,
    job::{JobState, NewJob, Retry, Unique, When},
    op::{Op, Reason, Reply},
    queue::{Depth, Overflow, QueueConfig, QueueRecord, Retention, Totals},
    store::{JobFilter, Query, Record},
};

use crate::world::{World, fail, name};

async fn purge(w: &World, queue: &str) -> u64 {
    let mut purged = 0;
    loop {
        match w.op(Op::Purge { queue: name(queue), limit: 2 }).await {
            Reply::Count(count) => {
                assert!(count <= 2, "a purge keeps its limit");
                purged += count;
                if count < 2 {
                    return purged;
                }
            }
            other => panic!("a purge was answered with {other:?}"),
        }
    }
}

async fn delete(w: &World, queue: &str) -> Result<Reply, Reason> {
    w.try_op(Op::DeleteQueue { queue: name(queue) }).await
}

pub(super) async fn a_queue_exists_from_its_first_job(w: &mut World) {
    assert_eq!(w.try_queue("q").await, None);
    w.enqueue(w.job("q")).await;
    let depth = Depth { available: 1, ..Depth::default() };
    let config = QueueConfig::default();
    let (name, oldest_available_age_ms) = (name("q"), Some(0));
    let totals = w.queue("q").await.totals;
    assert_eq!(
        w.queue("q").await,
        QueueRecord { name, paused: false, depth, oldest_available_age_ms, config, totals }
    );
}

pub(super) async fn what_comes_into_a_queue_and_leaves_it_is_counted(w: &mut World) {
    for _ in 0..4 {
        w.enqueue(w.job("q")).await;
    }
    if w.queue("q").await.totals.is_none() {
        return; // a store need not count
    }
    let grant = w.claim("q").await;
    w.complete(&grant).await;
    let grant = w.claim("q").await;
    w.release(&grant, 0).await;
    let dead = w.dead("q").await;
    w.op(Op::RequeueDead { queue: name("q"), ids: vec![dead] }).await;
    w.op(Op::Cancel { id: dead }).await;
    // What does not happen is not counted.
    let commit = w.ops([Op::Enqueue(Box::new(w.job("q"))), Op::Delete { id: w.id("q") }]);
    w.commit(commit).await.expect_err("there is no such job");
    let totals = Totals { enqueued: 5, completed: 1, cancelled: 1, dead: 1 };
    assert_eq!(w.queue("q").await.totals, Some(totals));
}

pub(super) async fn the_configuration_is_replaced_as_a_whole(w: &mut World) {
    let config = QueueConfig {
        max_depth: Some(7),
        max_age_ms: Some(60_000),
        overflow: Overflow::DropOldest,
        max_crashes: Some(9),
        retention: Retention { completed_ms: 1, completed_count: 2, dead_ms: 3 },
        ..QueueConfig::default()
    };
    w.configure("q", config.clone()).await;
    assert_eq!(w.queue("q").await.config, config);
    w.configure("q", QueueConfig { max_crashes: Some(1), ..QueueConfig::default() }).await;
    let expected = QueueConfig { max_crashes: Some(1), ..QueueConfig::default() };
    assert_eq!(w.queue("q").await.config, expected);
}

pub(super) async fn a_paused_queue_accepts_jobs_and_hands_out_none(w: &mut World) {
    w.set_paused("q", true).await;
    assert!(w.queue("q").await.paused, "pausing creates the queue");
    let id = w.enqueue(w.job("q")).await;
    assert_eq!(w.state(id).await, JobState::Available);
    assert_eq!(w.try_claim("q").await, None);
    w.set_paused("q", false).await;
    assert!(!w.queue("q").await.paused);
    assert_eq!(w.claim("q").await.id, id);
}

pub(super) async fn a_pause_spares_what_runs(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.set_paused("q", true).await;
    w.op(crate::world::extend_op(&grant, 1_000)).await;
    w.complete(&grant).await;
}

pub(super) async fn a_new_configuration_does_not_resume(w: &mut World) {
    w.set_paused("q", true).await;
    w.configure("q", QueueConfig::default()).await;
    assert!(w.queue("q").await.paused);
}

pub(super) async fn an_unknown_queue_cannot_be_resumed_or_purged_or_deleted(w: &mut World) {
    let queue = name("q");
    for op in [
        Op::SetPaused { queue: queue.clone(), paused: false },
        Op::Purge { queue: queue.clone(), limit: 10 },
        Op::DeleteQueue { queue },
    ] {
        assert!(matches!(w.refused(op).await, Reason::NotFound(_)));
    }
    assert_eq!(w.try_queue("q").await, None);
}

pub(super) async fn a_purge_spares_running_and_dead_jobs(w: &mut World) {
    let dead = w.dead("q").await;
    let retryable = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.settle(&grant, fail(Retry::After(1_000))).await.expect("fail");
    let running = w.enqueue(w.job("q")).await;
    w.claim("q").await;
    let scheduled = w.enqueue(NewJob { run_at: Some(When::In(1_000)), ..w.job("q") }).await;
    let available = [w.enqueue(w.job("q")).await, w.enqueue(w.job("q")).await];
    let elsewhere = w.enqueue(w.job("other")).await;
    assert_eq!(purge(w, "q").await, 4);
    for id in [retryable, scheduled, available[0], available[1]] {
        assert_eq!(w.try_get(id).await, None);
    }
    assert_eq!(w.state(running).await, JobState::Running);
    assert_eq!(w.state(dead).await, JobState::Dead);
    assert_eq!(w.state(elsewhere).await, JobState::Available);
    assert_eq!(w.queue("q").await.depth, Depth { running: 1, dead: 1, ..Depth::default() });
    assert_eq!(purge(w, "q").await, 0);
}

pub(super) async fn the_depth_counts_jobs_by_state(w: &mut World) {
    let mut expected = Depth::default();
    let mut step = async |w: &World, change: fn(&mut Depth)| {
        change(&mut expected);
        assert_eq!(w.queue("q").await.depth, expected);
    };
    w.dead("q").await;
    step(w, |depth| depth.dead = 1).await;
    let id = w.enqueue(NewJob { run_at: Some(When::In(100)), ..w.job("q") }).await;
    step(w, |depth| depth.scheduled = 1).await;
    w.advance(100);
    step(w, |depth| (depth.scheduled, depth.available) = (0, 1)).await;
    let grant = w.claim("q").await;
    step(w, |depth| (depth.available, depth.running) = (0, 1)).await;
    w.settle(&grant, fail(Retry::After(100))).await.expect("fail");
    step(w, |depth| (depth.running, depth.retryable) = (0, 1)).await;
    w.advance(100);
    step(w, |depth| (depth.retryable, depth.available) = (0, 1)).await;
    w.op(Op::Cancel { id }).await;
    step(w, |depth| depth.available = 0).await;
}

pub(super) async fn the_oldest_available_job_has_an_age(w: &mut World) {
    w.enqueue(NewJob { run_at: Some(When::In(100)), ..w.job("q") }).await;
    assert_eq!(w.queue("q").await.oldest_available_age_ms, None);
    w.advance(350);
    assert_eq!(w.queue("q").await.oldest_available_age_ms, Some(250));
    w.claim("q").await;
    assert_eq!(w.queue("q").await.oldest_available_age_ms, None);
}

pub(super) async fn queues_are_listed_by_name(w: &mut World) {
    for queue in ["b", "c:x", "a"] {
        w.set_paused(queue, true).await;
    }
    let name = |record: &Record| match record {
        Record::Queue(queue) => queue.name.as_str().to_owned(),
        other => panic!("a list of queues held {other:?}"),
    };
    let all = w.list_by(&Query::Queues, 2).await;
    assert_eq!(all.iter().map(name).collect::<Vec<_>>(), ["a", "b", "c:x"]);
}

pub(super) async fn a_queue_with_unfinished_or_dead_jobs_cannot_be_deleted(w: &mut World) {
    w.enqueue(w.job("available")).await;
    w.enqueue(w.job("running")).await;
    w.claim("running").await;
    w.enqueue(NewJob { run_at: Some(When::In(9)), ..w.job("scheduled") }).await;
    w.dead("dead").await;
    for queue in ["available", "running", "scheduled", "dead"] {
        let refused = delete(w, queue).await;
        assert!(matches!(refused, Err(Reason::StateConflict(_))), "{queue}: {refused:?}");
        assert!(w.try_queue(queue).await.is_some());
    }
}

async fn finished(w: &World, queue: &str) -> [JobId; 2] {
    let completed = w.enqueue(w.job(queue)).await;
    let grant = w.claim(queue).await;
    w.complete(&grant).await;
    let cancelled = w.enqueue(w.job(queue)).await;
    w.op(Op::Cancel { id: cancelled }).await;
    [completed, cancelled]
}

pub(super) async fn the_finished_jobs_go_with_their_queue(w: &mut World) {
    let gone = finished(w, "q").await;
    let kept = finished(w, "other").await;
    assert_eq!(delete(w, "q").await, Ok(Reply::Done));
    for when in ["at once", "after housekeeping"] {
        assert_eq!(w.try_queue("q").await, None);
        for id in gone {
            assert_eq!(w.try_get(id).await, None, "{when}");
        }
        let listed: Vec<_> = w.jobs(Default::default()).await.iter().map(|job| job.id).collect();
        assert_eq!(listed, [kept[1], kept[0]], "{when}");
        w.maintain().await;
    }
}

pub(super) async fn a_queue_made_anew_remembers_nothing(w: &mut World) {
    w.configure("q", QueueConfig { max_depth: Some(1), ..QueueConfig::default() }).await;
    w.set_paused("q", true).await;
    let before = finished_by_hand(w).await;
    assert_eq!(delete(w, "q").await, Ok(Reply::Done));
    let id = w.enqueue(w.job("q")).await;
    let queue = w.queue("q").await;
    assert_eq!((queue.paused, queue.config), (false, QueueConfig::default()));
    w.maintain().await;
    assert_eq!(w.try_get(before).await, None);
    assert_eq!(w.drain("q").await, [id]);
}

async fn finished_by_hand(w: &World) -> JobId {
    let id = w.enqueue(w.job("q")).await;
    w.op(Op::Cancel { id }).await;
    id
}

/// Whatever a store calls its queues: what one was called another may be, on any store, while tables still follow.
pub(super) async fn queues_that_come_and_go_leave_nothing_to_those_that_follow(w: &mut World) {
    let retention = Retention { completed_count: 2, ..Retention::default() };
    let config = QueueConfig { retention, ..QueueConfig::default() };
    let mut gone: Vec<JobId> = vec![];
    for round in 0..8 {
        let queue = format!("q{round}");
        let other = format!("other{round}");
        // One that is named in vain takes the place of none.
        let vain = w.ops([Op::Enqueue(Box::new(w.job("vain"))), Op::Retry { id: w.id("vain") }]);
        w.commit(vain).await.expect_err("there is no such job");
        w.configure(&queue, config.clone()).await;
        let unique = Some(Unique { key: "k".into(), for_ms: Some(1_000 * (1 + round % 3)) });
        let first = w.enqueue(NewJob { unique, ..w.job(&queue) }).await;
        let own = w.enqueue(w.job_with(&queue, |policy| policy.retain_ms = Some(60_000))).await;
        let [.., later] = [w.enqueue(w.job(&queue)).await, w.enqueue(w.job(&queue)).await];
        for id in [first, own] {
            w.op(Op::Cancel { id }).await;
        }
        let grant = w.claim(&queue).await;
        w.complete(&grant).await;
        let totals = Totals { enqueued: 4, completed: 1, cancelled: 2, dead: 0 };
        assert!(w.queue(&queue).await.totals.is_none_or(|counted| counted == totals), "{round}");
        w.op(Op::Cancel { id: later }).await;
        w.advance(1_000);
        w.maintain().await;
        if round % 3 == 1 && w.harness().durable() {
            w.reopen().await;
        }
        let mut left = listed(w, &queue).await;
        left.sort_unstable();
        assert_eq!(left, [own, grant.id, later], "{round}: the newest two, and one with a time of its own");
        assert_eq!(w.queue(&queue).await.config, config);
        for id in &gone {
            assert_eq!(w.try_get(*id).await, None, "{round}");
        }
        gone.extend([first, own, grant.id, later]);
        assert_eq!(delete(w, &queue).await, Ok(Reply::Done));
        // Now and then the next one comes before this one is gone for good.
        if round % 2 == 0 {
            w.maintain().await;
        }
        let waits = w.enqueue(w.job(&other)).await;
        assert_eq!(w.drain(&other).await, [waits]);
        assert_eq!(listed(w, &queue).await, []);
    }
}

async fn listed(w: &World, queue: &str) -> Vec<JobId> {
    let filter = JobFilter { queue: Some(name(queue)), ..JobFilter::default() };
    w.jobs(filter).await.iter().map(|job| job.id).collect()
}
