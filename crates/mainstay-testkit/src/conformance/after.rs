//! Jobs that wait for other jobs.

use std::time::Duration;

use mainstay_core::{
    JobId,
    after::{After, AfterFailure, MAX_AFTER},
    job::{Grant, JobBody, JobPolicy, JobState, NewJob, Retry, Unique, When},
    op::{Commit, Op, Place, Reason, Reply},
    queue::{QueueConfig, Retention},
    store::{Budget, Interest, JobFilter},
};

use crate::world::{COMPLETE, World, claim_of, claimed, enqueued, fail, ids, name, settle_op};

/// A job of `queue` that waits for these.
pub(super) fn after(w: &World, queue: &str, jobs: &[JobId]) -> NewJob {
    NewJob { after: jobs.iter().copied().map(After::Job).collect(), ..w.job(queue) }
}

/// The same, with a word about dead ones.
fn if_dead(w: &World, queue: &str, job: JobId, after_failure: AfterFailure) -> NewJob {
    NewJob { after_failure, ..after(w, queue, &[job]) }
}

async fn completed(w: &World, queue: &str) -> JobId {
    let id = w.enqueue(NewJob { priority: 0, ..w.job(queue) }).await;
    let grant = w.claim(queue).await;
    assert_eq!(grant.id, id);
    w.complete(&grant).await;
    id
}

/// Enqueues and claims a job, to be ended by the test.
async fn running(w: &World, queue: &str) -> Grant {
    w.enqueue(NewJob { priority: 0, ..w.job(queue) }).await;
    w.claim(queue).await
}

async fn state(w: &World, id: JobId) -> JobState {
    w.maintain().await;
    w.state(id).await
}

pub(super) async fn a_job_waits_until_all_it_names_have_completed(w: &mut World) {
    let (first, second) = (running(w, "a").await, running(w, "b").await);
    let job = after(w, "q", &[first.id, second.id, first.id]);
    let answer = w.enqueued(job).await;
    assert_eq!(answer.state, JobState::Blocked);
    let shown = w.get(answer.id).await;
    let waits_for = shown.body.after.clone().expect("it shows what it waits for");
    assert_eq!((shown.state, shown.waiting_for), (JobState::Blocked, 2));
    assert_eq!(waits_for.jobs[..], [first.id, second.id, first.id], "as it was named");
    assert_eq!(w.queue("q").await.depth.blocked, 1);
    let blocked = JobFilter { state: Some(JobState::Blocked), ..JobFilter::default() };
    assert_eq!(w.jobs(blocked).await.len(), 1);
    assert_eq!(w.try_claim("q").await, None);
    w.complete(&second).await;
    assert_eq!(w.get(answer.id).await.waiting_for, 1);
    assert_eq!(w.fail(&first).await.0, JobState::Retryable);
    assert_eq!(w.try_claim("q").await, None, "a failure is not the end");
    w.advance(1_000);
    let again = w.claim("a").await;
    w.complete(&again).await;
    let shown = w.get(answer.id).await;
    assert_eq!((shown.state, shown.waiting_for), (JobState::Available, 0));
    assert_eq!(w.claim("q").await.id, answer.id);
}

pub(super) async fn the_end_of_a_job_frees_those_that_wait_in_the_same_commit(w: &mut World) {
    let first = running(w, "q").await;
    let next = w.enqueue(after(w, "q", &[first.id])).await;
    let commit = w.ops([settle_op(&first, COMPLETE), Op::Claim(claim_of(&["q"], 9))]);
    let done = w.commit(commit).await.expect("a commit");
    assert_eq!(ids(&claimed(done.replies[1].clone())), [next]);
}

pub(super) async fn a_job_that_waited_is_due_from_when_it_can_run(w: &mut World) {
    let first = running(w, "a").await;
    let next = w.enqueue(after(w, "q", &[first.id])).await;
    w.advance(5_000);
    let fresh = w.enqueue(w.job("q")).await;
    w.advance(5_000);
    w.complete(&first).await;
    let job = w.get(next).await;
    assert_eq!((job.state, job.run_at), (JobState::Available, w.now()));
    assert_eq!(w.drain("q").await, [fresh, next]);
}

pub(super) async fn a_schedule_outlasts_the_wait(w: &mut World) {
    let first = running(w, "a").await;
    let later = NewJob { run_at: Some(When::In(10_000)), ..after(w, "q", &[first.id]) };
    let next = w.enqueue(later).await;
    w.complete(&first).await;
    assert_eq!(w.state(next).await, JobState::Scheduled);
    w.advance(10_000);
    assert_eq!(w.claim("q").await.id, next);
}

pub(super) async fn completed_jobs_count_as_done(w: &mut World) {
    let done = completed(w, "a").await;
    let answer = w.enqueued(after(w, "q", &[done])).await;
    assert_eq!(answer.state, JobState::Available);
    let pending = w.enqueue(w.job("a")).await;
    assert_eq!(w.enqueued(after(w, "q", &[done, pending])).await.state, JobState::Blocked);
}

pub(super) async fn a_dead_job_keeps_others_waiting_until_it_is_requeued_and_completes(w: &mut World) {
    let first = running(w, "q").await;
    let next = w.enqueue(after(w, "next", &[first.id])).await;
    w.settle(&first, fail(Retry::Never)).await.expect("fail");
    assert_eq!(state(w, next).await, JobState::Blocked);
    let late = w.enqueued(after(w, "next", &[first.id])).await;
    assert_eq!(late.state, JobState::Blocked, "it may be requeued");
    w.op(Op::RequeueDead { queue: name("q"), ids: vec![first.id] }).await;
    assert_eq!(state(w, next).await, JobState::Blocked);
    let again = w.claim("q").await;
    w.complete(&again).await;
    assert_eq!(w.drain("next").await, [next, late.id]);
}

pub(super) async fn a_dead_job_cancels_or_frees_those_that_say_so(w: &mut World) {
    let first = running(w, "q").await;
    let cancelled = w.enqueue(if_dead(w, "next", first.id, AfterFailure::Cancel)).await;
    let freed = w.enqueue(if_dead(w, "next", first.id, AfterFailure::Run)).await;
    let waits = w.enqueue(if_dead(w, "next", first.id, AfterFailure::Wait)).await;
    w.settle(&first, fail(Retry::Never)).await.expect("fail");
    assert_eq!(state(w, cancelled).await, JobState::Cancelled);
    assert_eq!(state(w, freed).await, JobState::Available);
    assert_eq!(state(w, waits).await, JobState::Blocked);
    w.op(Op::Retry { id: first.id }).await;
    assert_eq!(w.drain("next").await, [freed], "a requeue takes nothing back");
}

pub(super) async fn a_job_after_a_dead_one_is_judged_by_its_own_word(w: &mut World) {
    let dead = w.dead("q").await;
    let mut states = vec![];
    for word in AfterFailure::ALL {
        states.push(w.enqueued(if_dead(w, "next", dead, word)).await.state);
    }
    assert_eq!(states, [JobState::Blocked, JobState::Cancelled, JobState::Available]);
}

pub(super) async fn a_job_after_a_cancelled_one_is_born_cancelled(w: &mut World) {
    let cancelled = w.enqueue(w.job("q")).await;
    w.op(Op::Cancel { id: cancelled }).await;
    for word in AfterFailure::ALL {
        let unique = Some(Unique { key: "u".into(), for_ms: None });
        let answer = w.enqueued(NewJob { unique, ..if_dead(w, "next", cancelled, word) }).await;
        assert_eq!(
            (answer.state, answer.deduplicated),
            (JobState::Cancelled, false),
            "its key is free again"
        );
        let job = w.get(answer.id).await;
        assert_eq!((job.state, job.finished_at), (JobState::Cancelled, Some(w.now())));
    }
    w.configure("next", QueueConfig { max_depth: Some(0), ..QueueConfig::default() }).await;
    w.enqueue(after(w, "next", &[cancelled])).await; // it takes no room
}

pub(super) async fn every_other_end_cancels_those_that_wait(w: &mut World) {
    let retention = Retention { dead_ms: 5_000, ..Retention::default() };
    w.configure("forgets", QueueConfig { retention, ..QueueConfig::default() }).await;
    let [cancelled, deleted, purged] =
        [w.enqueue(w.job("a")).await, w.enqueue(w.job("b")).await, w.enqueue(w.job("c")).await];
    let (dead_deleted, dead_cleared, dead_forgotten) =
        (w.dead("d").await, w.dead("d").await, w.dead("forgets").await);
    let mut waiting = vec![];
    for job in [cancelled, deleted, purged] {
        for word in AfterFailure::ALL {
            waiting.push(w.enqueue(if_dead(w, "next", job, word)).await);
        }
    }
    for job in [dead_deleted, dead_cleared, dead_forgotten] {
        waiting.push(w.enqueue(after(w, "next", &[job])).await);
    }
    assert_eq!(w.queue("next").await.depth.blocked, 12);
    w.op(Op::Cancel { id: cancelled }).await;
    w.op(Op::Delete { id: deleted }).await;
    w.op(Op::Purge { queue: name("c"), limit: 9 }).await;
    w.op(Op::Delete { id: dead_deleted }).await;
    w.op(Op::DeleteDead { queue: name("d"), ids: vec![dead_cleared] }).await;
    w.advance(5_001);
    w.maintain().await;
    assert_eq!(w.try_get(dead_forgotten).await, None);
    for job in waiting {
        assert_eq!(w.state(job).await, JobState::Cancelled);
    }
}

pub(super) async fn a_cancellation_goes_down_the_whole_chain(w: &mut World) {
    let root = w.enqueue(w.job("q")).await;
    let mut chain = vec![root];
    for _ in 0..200 {
        let last = chain[chain.len() - 1];
        chain.push(w.enqueue(after(w, "q", &[last])).await);
    }
    w.op(Op::Cancel { id: root }).await;
    for job in chain {
        assert_eq!(w.state(job).await, JobState::Cancelled);
    }
    assert_eq!(w.queue("q").await.depth.waiting(), 0);
}

pub(super) async fn a_forgotten_job_strands_nobody(w: &mut World) {
    let retention = Retention { completed_count: 0, ..Retention::default() };
    w.configure("a", QueueConfig { retention, ..QueueConfig::default() }).await;
    let (first, second) = (running(w, "a").await, running(w, "a").await);
    let next = w.enqueue(after(w, "q", &[first.id, second.id])).await;
    w.complete(&first).await;
    w.maintain().await;
    assert_eq!(w.try_get(first.id).await, None, "it is forgotten");
    assert_eq!(w.state(next).await, JobState::Blocked);
    w.complete(&second).await;
    w.maintain().await;
    assert_eq!(w.claim("q").await.id, next);
}

pub(super) async fn an_unknown_job_is_refused_by_its_place(w: &mut World) {
    let (known, unknown) = (w.enqueue(w.job("q")).await, w.id("q"));
    let job = after(w, "q", &[known, unknown, known, unknown]);
    let own = NewJob { after: vec![After::Job(job.id)], ..job.clone() };
    for (job, wrong) in [(job, vec![1, 3]), (own, vec![0])] {
        let Reason::After(found) = w.refused(Op::Enqueue(Box::new(job))).await else {
            panic!("refused otherwise")
        };
        assert_eq!(found.iter().map(|wrong| wrong.at).collect::<Vec<_>>(), wrong);
    }
    assert_eq!(w.queue("q").await.depth.waiting(), 1, "nothing was added");
}

pub(super) async fn all_unknown_jobs_of_a_commit_are_named(w: &mut World) {
    let (known, unknown) = (w.enqueue(w.job("q")).await, w.id("q"));
    let last = NewJob { after: vec![After::Op(9), After::Op(1)], ..w.job("q") };
    let twice = NewJob { caller_id: true, ..w.job("q") };
    w.enqueue(twice.clone()).await;
    let twice = NewJob { after: vec![After::Job(unknown)], ..twice };
    let first = after(w, "q", &[known, unknown]);
    let behind = after(w, "q", &[first.id, unknown]);
    let commit = w.ops([add(w.job("q")), add(first), add(twice), add(behind), add(last)]);
    let refused = w.commit(commit).await.expect_err("unknown jobs");
    let Reason::After(found) = refused.reason else { panic!("refused otherwise") };
    let places = found.iter().map(|wrong| (wrong.op, wrong.at)).collect::<Vec<_>>();
    assert_eq!((refused.at, &places[..]), (Place::Op(1), &[(1, 1), (3, 1), (4, 0)][..]));
    assert_eq!(w.queue("q").await.depth.waiting(), 2, "nothing was added");
}

fn add(job: NewJob) -> Op {
    Op::Enqueue(Box::new(job))
}

fn op_after(w: &World, op: u32) -> NewJob {
    NewJob { after: vec![After::Op(op)], ..w.job("q") }
}

pub(super) async fn an_op_can_only_name_an_earlier_enqueue(w: &mut World) {
    let done =
        w.commit(w.ops([add(w.job("q")), add(op_after(w, 0)), add(op_after(w, 1))])).await.expect("a chain");
    let states = done.replies.into_iter().map(|reply| enqueued(reply).state).collect::<Vec<_>>();
    assert_eq!(states, [JobState::Available, JobState::Blocked, JobState::Blocked]);
    let grant = w.claim("q").await;
    let rows = [
        w.ops([add(op_after(w, 0))]),
        w.ops([add(w.job("q")), add(op_after(w, 2)), add(w.job("q"))]),
        w.ops([settle_op(&grant, COMPLETE), add(op_after(w, 0))]),
        w.ops([add(w.job("q")), add(op_after(w, u32::MAX))]),
    ];
    for commit in rows {
        let at = commit.ops.len().min(2) - 1;
        let refused = w.commit(commit).await.expect_err("it names no enqueue before it");
        assert!(matches!(refused.reason, Reason::After(_)), "{refused:?}");
        assert_eq!(refused.at, Place::Op(at));
    }
}

pub(super) async fn an_op_that_names_a_duplicate_means_the_first_job(w: &mut World) {
    let unique = Some(Unique { key: "u".into(), for_ms: None });
    let first = w.enqueue(NewJob { unique: unique.clone(), ..w.job("q") }).await;
    let done =
        w.commit(w.ops([add(NewJob { unique, ..w.job("q") }), add(op_after(w, 0))])).await.expect("a commit");
    let next = enqueued(done.replies[1].clone());
    assert_eq!(next.state, JobState::Blocked);
    assert_eq!(w.get(next.id).await.body.after.as_ref().map(|after| after.jobs[0]), Some(first));
}

pub(super) async fn a_duplicate_waits_for_nothing_new(w: &mut World) {
    let first = w.enqueue(w.job("q")).await;
    let job = NewJob { caller_id: true, ..after(w, "next", &[first]) };
    w.enqueue(job.clone()).await;
    w.op(Op::Delete { id: first }).await;
    let again = w.enqueued(job).await;
    assert!(again.deduplicated, "what it waited for is gone, but it is there");
    assert_eq!(again.state, JobState::Cancelled);
}

pub(super) async fn a_blocked_job_can_be_cancelled_deleted_and_purged_but_not_retried(w: &mut World) {
    let first = running(w, "a").await;
    let blocked = |w: &World| after(w, "q", &[first.id]);
    let [cancelled, deleted, purged] =
        [w.enqueue(blocked(w)).await, w.enqueue(blocked(w)).await, w.enqueue(blocked(w)).await];
    assert!(matches!(w.refused(Op::Retry { id: cancelled }).await, Reason::StateConflict(_)));
    w.op(Op::Cancel { id: cancelled }).await;
    w.op(Op::Delete { id: deleted }).await;
    assert_eq!(w.op(Op::Purge { queue: name("q"), limit: 9 }).await, Reply::Count(1));
    assert_eq!(w.try_get(purged).await, None);
    // One that was cancelled and comes back waits for nothing any more.
    w.op(Op::Retry { id: cancelled }).await;
    w.complete(&first).await;
    assert_eq!(w.drain("q").await, [cancelled]);
}

pub(super) async fn a_blocked_job_expires(w: &mut World) {
    let first = running(w, "a").await;
    let job = NewJob { expires: Some(When::In(1_000)), ..after(w, "q", &[first.id]) };
    let job = w.enqueue(job).await;
    let behind = w.enqueue(after(w, "q", &[job])).await;
    w.advance(1_001);
    assert_eq!(state(w, job).await, JobState::Dead);
    assert_eq!(w.state(behind).await, JobState::Blocked);
    w.complete(&first).await;
    assert_eq!(w.state(job).await, JobState::Dead, "it does not come back to life");
}

pub(super) async fn a_refused_commit_makes_nobody_wait(w: &mut World) {
    let first = running(w, "a").await;
    let next = w.enqueue(after(w, "q", &[first.id])).await;
    let lost = settle_op(&Grant { id: w.id("a"), ..first.clone() }, COMPLETE);
    let commit = w.ops([add(after(w, "q", &[first.id])), settle_op(&first, COMPLETE), lost]);
    assert!(w.commit(commit).await.is_err());
    assert_eq!(w.get(next).await.waiting_for, 1, "it was not freed");
    assert_eq!(w.queue("q").await.depth.blocked, 1);
    w.complete(&first).await;
    assert_eq!(w.drain("q").await, [next]);
}

pub(super) async fn the_last_job_of_a_diamond_runs_once(w: &mut World) {
    let both = NewJob { after: vec![After::Op(1), After::Op(2)], ..w.job("q") };
    let commit = w.ops([add(w.job("q")), add(op_after(w, 0)), add(op_after(w, 0)), add(both)]);
    w.commit(commit).await.expect("a diamond");
    let mut order = vec![];
    while let [grant, rest @ ..] = &w.claims(claim_of(&["q"], 9)).await[..] {
        order.push(1 + rest.len());
        for grant in std::iter::once(grant).chain(rest) {
            w.complete(grant).await;
        }
    }
    assert_eq!(order, [1, 2, 1]);
}

/// Adds `count` jobs that wait for `first`, in commits of the largest size.
async fn crowd(w: &World, first: JobId, count: usize) -> Vec<JobId> {
    let mut crowd = vec![];
    while crowd.len() < count {
        let many = (count - crowd.len()).min(10_000);
        let ops = (0..many).map(|_| add(after(w, "crowd", &[first]))).collect::<Vec<_>>();
        let done = w.commit(w.ops(ops)).await.expect("a crowd");
        crowd.extend(done.replies.into_iter().map(|reply| enqueued(reply).id));
    }
    crowd
}

pub(super) async fn a_job_may_wait_for_ten_thousand(w: &mut World) {
    let mut ops: Vec<_> = (0..MAX_AFTER - 1).map(|_| add(w.job("q"))).collect();
    let all = (0..MAX_AFTER as u32 - 1).map(After::Op).collect();
    ops.push(add(NewJob { after: all, ..w.job("last") }));
    let done = w.commit(w.ops(ops)).await.expect("a batch");
    let last = enqueued(done.replies[MAX_AFTER - 1].clone());
    assert_eq!(w.get(last.id).await.waiting_for, MAX_AFTER as u32 - 1);
    for _ in 0..10 {
        assert_eq!(w.try_claim("last").await, None);
        let grants = w.claims(claim_of(&["q"], 1_000)).await;
        w.commit(w.ops(grants.iter().map(|grant| settle_op(grant, COMPLETE)))).await.expect("complete");
    }
    assert_eq!(w.claim("last").await.id, last.id);
}

pub(super) async fn a_job_may_not_wait_for_more(w: &mut World) {
    let first = w.enqueue(w.job("q")).await;
    let job = after(w, "q", &vec![first; MAX_AFTER + 1]);
    assert!(matches!(w.refused(add(job)).await, Reason::Invalid { field: "after", .. }));
    let ops = (0..11).map(|_| add(after(w, "q", &vec![first; MAX_AFTER])));
    let refused = w.commit(w.ops(ops)).await.expect_err("too many in one commit");
    assert!(matches!(refused.reason, Reason::Invalid { field: "after", .. }));
    assert_eq!(w.queue("q").await.depth.waiting(), 1);
}

pub(super) async fn more_than_a_commit_can_tell_hear_of_it_from_housekeeping(w: &mut World) {
    let (first, other) = (running(w, "q").await, running(w, "q").await);
    let freed = crowd(w, first.id, 12_000).await;
    let next = w.enqueue(after(w, "next", &[other.id])).await;
    w.complete(&first).await;
    assert!(w.queue("crowd").await.depth.available >= 10_000, "most hear of it at once");
    // One that is done with at once does not stand behind the others.
    w.complete(&other).await;
    assert_eq!(w.state(next).await, JobState::Available);
    w.maintain().await;
    let depth = w.queue("crowd").await.depth;
    assert_eq!((depth.available, depth.blocked), (12_000, 0));
    // And an end that takes others along.
    let again = crowd(w, freed[0], 12_000).await;
    w.op(Op::Cancel { id: freed[0] }).await;
    w.maintain().await;
    for job in [again[0], again[11_999]] {
        assert_eq!(w.state(job).await, JobState::Cancelled);
    }
    assert_eq!(w.queue("crowd").await.depth.blocked, 0);
}

/// How many of the crowd can run once all have heard, and how many still wait. Housekeeping begins in small steps, so
/// that it comes to forget before all have.
async fn freed(w: &World) -> (u64, u64) {
    w.store().maintain(Budget { rows: 100 }).await.expect("maintain");
    w.maintain().await;
    let depth = w.queue("crowd").await.depth;
    (depth.available, depth.blocked)
}

pub(super) async fn a_completed_job_that_is_deleted_at_once_frees_all_that_wait(w: &mut World) {
    let first = running(w, "q").await;
    crowd(w, first.id, 11_000).await;
    let (complete, delete) = (w.ops([settle_op(&first, COMPLETE)]), w.ops([Op::Delete { id: first.id }]));
    let done = tokio::join!(w.commit(complete), w.commit(delete));
    done.0.expect("complete, in one group with what follows if there are groups");
    if done.1.is_err() {
        // What goes through several handles at a time has no order: it came first.
        w.commit(w.ops([Op::Delete { id: first.id }])).await.expect("delete");
    }
    assert_eq!(freed(w).await, (11_000, 0));
    // A word about its death is not a word about what comes after; all in one commit.
    let dead = running(w, "q").await;
    for many in [10_000, 1_000] {
        let commit = w.ops((0..many).map(|_| add(if_dead(w, "crowd", dead.id, AfterFailure::Run))));
        w.commit(commit).await.expect("a crowd");
    }
    let commit = w.ops([settle_op(&dead, fail(Retry::Never)), Op::Delete { id: dead.id }]);
    w.commit(commit).await.expect("die and delete");
    assert_eq!(freed(w).await, (22_000, 0));
}

pub(super) async fn a_completed_job_that_retention_forgets_at_once_frees_all_that_wait(w: &mut World) {
    let policy = JobPolicy { retain_ms: Some(0), ..JobPolicy::default() };
    w.enqueue(NewJob { policy, ..w.job("q") }).await;
    let first = w.claim("q").await;
    crowd(w, first.id, 11_000).await;
    w.complete(&first).await;
    assert_eq!(freed(w).await, (11_000, 0));
    assert_eq!(w.try_get(first.id).await, None, "it is forgotten");
    // So does a queue that goes.
    let last = running(w, "gone").await;
    crowd(w, last.id, 11_000).await;
    let commit = w.ops([settle_op(&last, COMPLETE), Op::DeleteQueue { queue: name("gone") }]);
    w.commit(commit).await.expect("complete and delete");
    assert_eq!(freed(w).await, (22_000, 0));
}

pub(super) async fn an_id_is_not_used_again_while_those_that_wait_for_it_have_not_heard(w: &mut World) {
    let job = NewJob { caller_id: true, ..w.job("q") };
    let first = w.enqueue(job.clone()).await;
    let all = crowd(w, first, 12_000).await;
    let commit = Commit { ops: vec![Op::Delete { id: first }, add(job.clone())], ..w.ops([]) };
    let refused = w.commit(commit).await.expect_err("thousands wait for the old one");
    assert!(matches!(refused.reason, Reason::StateConflict(_)), "{refused:?}");
    assert_eq!(w.state(all[0]).await, JobState::Blocked, "nothing has happened");
    w.op(Op::Delete { id: first }).await;
    w.maintain().await;
    w.enqueue(job).await;
    assert_eq!(w.queue("crowd").await.depth.blocked, 0);
}

pub(super) async fn a_purge_stops_when_its_jobs_wait_for_too_many(w: &mut World) {
    let mut ops: Vec<_> = (0..5_000).map(|_| add(w.job("a"))).collect();
    ops.extend((0..5).map(|_| add(NewJob { after: (0..5_000).map(After::Op).collect(), ..w.job("q") })));
    w.commit(w.ops(ops)).await.expect("a batch");
    let mut replies = vec![];
    for _ in 0..3 {
        replies.push(w.op(Op::Purge { queue: name("q"), limit: 1_000 }).await);
    }
    assert_eq!(replies, [Reply::CountSoFar(2), Reply::CountSoFar(2), Reply::Count(1)]);
    assert_eq!(w.queue("q").await.depth.blocked, 0);
}

pub(super) async fn the_end_of_a_job_wakes_a_claimer_of_the_next(w: &mut World) {
    let first = running(w, "a").await;
    let body = JobBody::new("next", "1").into();
    let next = w.enqueue(NewJob { body, ..after(w, "q", &[first.id]) }).await;
    let interests = [Interest::Queue(name("q"))];
    let waits = w.store().wait(&interests, Duration::from_secs(60));
    let (wake, ()) = tokio::join!(waits, w.complete(&first));
    assert!(wake.expect("wait").is_woken());
    assert_eq!(w.claim("q").await.id, next);
}
