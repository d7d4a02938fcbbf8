//! What a durable store still knows when it is opened again.

use mainstay_core::{
    Token,
    access::AuditRecord,
    after::AfterFailure,
    job::{Grant, JobRecord, JobState, NewJob, Outcome, Retry, Unique, When},
    op::{Commit, IdempotencyKey, Op, Reason, Reply},
    queue::{Overflow, QueueConfig, QueueRecord},
    store::{Query, Record},
};

use super::after::after;
use crate::world::{COMPLETE, LEASE_MS, World, claim_of, claimed, extend_op, fail, settle_op};

async fn everything(w: &World) -> (Vec<JobRecord>, Vec<Record>, Vec<Record>) {
    let mut queues = w.list_by(&Query::Queues, 1_000).await;
    for record in &mut queues {
        // They count since the store was opened.
        if let Record::Queue(queue) = record {
            queue.totals = None;
        }
    }
    (w.jobs(Default::default()).await, queues, w.list_by(&Query::Audit, 1_000).await)
}

pub(super) async fn a_store_says_whether_it_is_durable(w: &mut World) {
    assert!(w.store().capabilities().durable);
    w.reopen().await;
    assert!(w.store().capabilities().durable);
}

pub(super) async fn everything_is_as_it_was_after_a_restart(w: &mut World) {
    let done = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.op(Op::Extend { id: done, lease: grant.lease, extend_ms: 1_000, progress: Some("1".into()) }).await;
    w.settle(&grant, Outcome::Complete { result: Some("[2]".into()) }).await.expect("complete");
    w.dead("q").await;
    w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.settle(&grant, fail(Retry::After(60_000))).await.expect("fail");
    let cancelled = w.enqueue(w.job("other")).await;
    w.op(Op::Cancel { id: cancelled }).await;
    let deleted = w.enqueue(w.job("other")).await;
    w.op(Op::Delete { id: deleted }).await;
    let unique = Some(Unique { key: "u".into(), for_ms: None });
    w.enqueue(NewJob { unique, expires: Some(When::In(1_000_000)), ..w.job("paused") }).await;
    w.enqueue(NewJob { run_at: Some(When::In(70_000)), priority: 1, ..w.job("q") }).await;
    w.set_paused("paused", true).await;
    let config = QueueConfig { max_depth: Some(3), overflow: Overflow::DropOldest, ..QueueConfig::default() };
    w.configure("empty", config).await;
    let line = AuditRecord {
        at: w.now(),
        actor: "me".into(),
        action: "queue.pause".into(),
        subject: "paused".into(),
        detail: String::new(),
    };
    w.op(Op::Audit(line)).await;
    let before = everything(w).await;
    w.reopen().await;
    assert_eq!(everything(w).await, before);
    w.reopen().await;
    assert_eq!(everything(w).await, before, "and after another one");
}

pub(super) async fn the_order_of_a_queue_survives_a_restart(w: &mut World) {
    let mut expected = vec![];
    for n in 0_u8..20 {
        w.advance(u64::from(n % 3));
        let priority = n * 7 % 4;
        let id = w.enqueue(NewJob { priority, ..w.job("q") }).await;
        expected.push((priority, w.now(), id));
    }
    let grant = w.claim("q").await;
    w.release(&grant, 0).await;
    expected.sort();
    w.reopen().await;
    let expected: Vec<_> = expected.into_iter().map(|(_, _, id)| id).collect();
    assert_eq!(w.drain("q").await, expected);
}

pub(super) async fn a_lease_that_lived_gets_its_full_time_again(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.advance(LEASE_MS - 1_000);
    w.enqueue(w.job("other")).await;
    w.reopen().await;
    let job = w.get(id).await;
    assert_eq!((job.state, job.token), (JobState::Running, Some(grant.lease.token)));
    assert_eq!(job.lease_expires_at, Some(w.now().plus_ms(LEASE_MS)));
    w.advance(LEASE_MS - 1);
    w.maintain().await;
    w.op(extend_op(&grant, 5_000)).await;
    w.advance(4_000);
    w.enqueue(w.job("other")).await;
    w.reopen().await;
    assert_eq!(w.get(id).await.lease_expires_at, Some(w.now().plus_ms(5_000)), "the last granted duration");
    w.advance(4_999);
    w.complete(&grant).await;
}

pub(super) async fn time_stands_still_for_leases_while_no_server_runs(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.close().await;
    w.advance(10 * LEASE_MS);
    w.reopen().await;
    w.complete(&grant).await;
}

pub(super) async fn a_lease_that_was_lost_stays_lost(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.lose(LEASE_MS).await;
    w.enqueue(w.job("other")).await;
    w.reopen().await;
    assert_eq!(w.refused(settle_op(&grant, COMPLETE)).await, Reason::LeaseLost);
    let job = w.get(id).await;
    assert_eq!((job.state, job.attempt, job.crashes), (JobState::Available, 1, 1));
}

pub(super) async fn tokens_grow_over_a_restart(w: &mut World) {
    let mut last = Token(0);
    for round in 0..4 {
        w.enqueue(w.job("q")).await;
        w.enqueue(w.job("q")).await;
        for grant in w.claims(claim_of(&["q"], 2)).await {
            assert!(grant.lease.token > last, "round {round}");
            last = grant.lease.token;
        }
        if round == 1 {
            w.clock().step_wall(-86_400_000);
        }
        w.reopen().await;
    }
}

pub(super) async fn what_was_settled_may_be_repeated_after_a_restart(w: &mut World) {
    w.enqueue(w.job("q")).await;
    w.enqueue(w.job("q")).await;
    let (completed, failed) = (w.claim("q").await, w.claim("q").await);
    w.complete(&completed).await;
    let answer = w.settle(&failed, fail(Retry::After(9_000))).await;
    w.reopen().await;
    w.complete(&completed).await;
    assert_eq!(w.settle(&failed, fail(Retry::After(9_000))).await, answer);
    assert_eq!(w.settle(&completed, Outcome::Cancel { error: None }).await, Err(Reason::LeaseLost));
}

pub(super) async fn idempotency_keys_survive_a_restart(w: &mut World) {
    let key = |scope| Some(IdempotencyKey { scope: [scope; 16], fingerprint: [1; 16] });
    let add = Commit { key: key(1), ..w.ops([Op::Enqueue(Box::new(w.job("q")))]) };
    let claim = Commit { key: key(2), ..w.ops([Op::Claim(claim_of(&["q"], 1))]) };
    let first = [w.commit(add.clone()).await.expect("add"), w.commit(claim.clone()).await.expect("claim")];
    w.reopen().await;
    let again = [w.commit(add).await.expect("add"), w.commit(claim).await.expect("claim")];
    assert!(again.iter().all(|answer| answer.repeated));
    let [added, granted] = first.map(|answer| answer.replies);
    let [added_again, granted_again] = again.map(|answer| answer.replies);
    assert_eq!(added_again, added);
    let grant = |mut replies: Vec<Reply>| claimed(replies.remove(0)).remove(0);
    let (granted, granted_again) = (grant(granted), grant(granted_again));
    assert!(granted_again.body.is_some());
    // The lease has its full time again, on a clock that may have gone on.
    assert_eq!(granted_again, Grant { expires_at: granted_again.expires_at, ..granted });
}

pub(super) async fn unique_keys_survive_a_restart(w: &mut World) {
    let keyed = |w: &World, for_ms| NewJob {
        unique: Some(Unique { key: format!("{for_ms:?}").into(), for_ms }),
        ..w.job("q")
    };
    let forever = w.enqueue(keyed(w, None)).await;
    let timed = w.enqueue(keyed(w, Some(60_000))).await;
    w.op(Op::Cancel { id: timed }).await;
    w.reopen().await;
    assert_eq!(w.enqueued(keyed(w, None)).await.id, forever);
    assert_eq!(w.enqueued(keyed(w, Some(60_000))).await.id, timed);
    w.op(Op::Cancel { id: forever }).await;
    w.advance(60_001);
    w.enqueue(keyed(w, None)).await;
    w.enqueue(keyed(w, Some(60_000))).await;
}

pub(super) async fn a_pause_survives_a_restart(w: &mut World) {
    w.enqueue(w.job("q")).await;
    w.set_paused("q", true).await;
    w.reopen().await;
    let QueueRecord { paused, .. } = w.queue("q").await;
    assert!(paused);
    assert_eq!(w.try_claim("q").await, None);
}

pub(super) async fn a_cancel_request_survives_a_restart(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.op(Op::Cancel { id }).await;
    w.reopen().await;
    assert!(w.get(id).await.cancel_requested);
    assert_eq!(w.fail(&grant).await.0, JobState::Cancelled);
}

pub(super) async fn retention_goes_on_after_a_restart(w: &mut World) {
    let mut done = vec![];
    for _ in 0..2 {
        let id = w.enqueue(w.job("q")).await;
        w.op(Op::Cancel { id }).await;
        done.push(id);
        w.advance(1_000);
        w.reopen().await;
    }
    w.advance(86_400_000 - 1_500);
    w.maintain().await;
    assert_eq!(w.try_get(done[0]).await, None);
    assert!(w.try_get(done[1]).await.is_some());
}

pub(super) async fn a_refused_commit_left_nothing_behind_for_the_next_start(w: &mut World) {
    let kept = w.enqueue(w.job("q")).await;
    let lost = w.job("q");
    let commit =
        w.ops([Op::Enqueue(Box::new(lost.clone())), Op::Cancel { id: kept }, Op::Delete { id: w.id("q") }]);
    w.commit(commit).await.expect_err("there is no such job");
    w.reopen().await;
    assert_eq!(w.try_get(lost.id).await, None);
    assert_eq!(w.drain("q").await, [kept]);
}

pub(super) async fn what_jobs_wait_for_survives_a_restart(w: &mut World) {
    let (first, second) = (w.enqueue(w.job("q")).await, w.enqueue(w.job("q")).await);
    let dead = w.dead("dead").await;
    let waits = [
        after(w, "next", &[first, second]),
        NewJob { after_failure: AfterFailure::Cancel, ..after(w, "next", &[second]) },
        after(w, "next", &[dead]),
    ];
    let mut ids = vec![];
    for job in waits {
        ids.push(w.enqueue(job).await);
    }
    let grant = w.claim("q").await;
    w.complete(&grant).await;
    let before = everything(w).await;
    w.reopen().await;
    assert_eq!(everything(w).await, before);
    assert_eq!(w.get(ids[0]).await.waiting_for, 1);
    let grant = w.claim("q").await;
    w.settle(&grant, fail(Retry::Never)).await.expect("fail");
    assert_eq!(w.state(ids[1]).await, JobState::Cancelled, "its word was kept");
    w.op(Op::Retry { id: second }).await;
    w.op(Op::Delete { id: dead }).await;
    w.reopen().await;
    assert_eq!(w.state(ids[2]).await, JobState::Cancelled);
    let grant = w.claim("q").await;
    w.complete(&grant).await;
    assert_eq!(w.drain("next").await, [ids[0]]);
    w.reopen().await;
    assert_eq!(w.queue("next").await.depth.blocked, 0);
}

pub(super) async fn those_that_have_not_heard_of_an_end_hear_of_it_after_a_restart(w: &mut World) {
    let first = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    for _ in 0..2 {
        let ops = (0..8_000).map(|_| Op::Enqueue(Box::new(after(w, "next", &[first])))).collect::<Vec<_>>();
        w.commit(w.ops(ops)).await.expect("a crowd");
    }
    w.complete(&grant).await;
    w.reopen().await;
    w.maintain().await;
    let depth = w.queue("next").await.depth;
    assert_eq!((depth.available, depth.blocked), (16_000, 0));
    w.reopen().await;
    assert_eq!(w.queue("next").await.depth, depth);
}
