//! Commits are all or nothing; batches are commits in order, each alone.

use mainstay_core::{
    error::Applied,
    job::{JobState, NewJob, Outcome},
    lease::LeaseId,
    op::{Commit, Op, Place, Reason, Reply, Require, Settle},
    store::Batch,
};

use crate::world::{COMPLETE, LEASE_MS, World, claim_of, claimed, ids, name, settle_op};

fn add(job: &NewJob) -> Op {
    Op::Enqueue(Box::new(job.clone()))
}

pub(super) async fn a_commit_ends_a_job_and_starts_its_successors(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    let (one, two) = (w.job("next"), w.job("next"));
    let settle = Settle { id: grant.id, lease: grant.lease, outcome: COMPLETE, repeat_is_ok: false };
    let require = vec![Require::Job { id: grant.id, lease: grant.lease }];
    let commit = Commit { require, ..w.ops([Op::Settle(settle), add(&one), add(&two)]) };
    let done = w.commit(commit.clone()).await.expect("commit");
    assert_eq!(done.replies.len(), 3);
    assert!(matches!(done.replies[0], Reply::Settled { state: JobState::Completed, .. }));
    assert_eq!(w.state(grant.id).await, JobState::Completed);
    let refused = w.commit(Commit { require: vec![], ..commit }).await.expect_err("once is enough");
    assert_eq!((refused.at, refused.reason), (Place::Op(0), Reason::AlreadySettled));
    assert_eq!(w.drain("next").await, [one.id, two.id]);
}

pub(super) async fn one_refused_op_undoes_the_whole_commit(w: &mut World) {
    let waiting = w.enqueue(NewJob { priority: 9, ..w.job("q") }).await;
    w.enqueue(NewJob { priority: 0, ..w.job("q") }).await;
    let grant = w.claim("q").await;
    let dead = w.dead("q").await;
    let all = async |w: &World| (w.jobs(Default::default()).await, w.queue("q").await);
    let before = all(w).await;
    let new = w.job("new");
    let ops = [
        add(&new),
        settle_op(&grant, COMPLETE),
        Op::Cancel { id: waiting },
        Op::RequeueDead { queue: name("q"), ids: vec![dead] },
        Op::Claim(claim_of(&["q", "new"], 10)),
        Op::SetPaused { queue: name("q"), paused: true },
        Op::PutQueue { queue: name("made"), config: Default::default() },
        Op::Delete { id: w.id("q") },
    ];
    let refused = w.commit(w.ops(ops)).await.expect_err("the last op finds nothing");
    assert_eq!(refused.at, Place::Op(7));
    assert!(matches!(refused.reason, Reason::NotFound(_)));
    assert_eq!(all(w).await, before);
    assert_eq!(w.try_get(new.id).await, None);
    assert_eq!(w.try_queue("new").await, None);
    assert_eq!(w.try_queue("made").await, None);
    w.complete(&grant).await;
    assert_eq!(w.drain("q").await, [waiting], "the order of the queue is as it was");
}

pub(super) async fn a_require_that_does_not_hold_stops_the_commit(w: &mut World) {
    w.enqueue(w.job("q")).await;
    w.enqueue(w.job("q")).await;
    let live = w.claim("q").await;
    let ended = w.claim("q").await;
    w.complete(&ended).await;
    let holds = Require::Job { id: live.id, lease: live.lease };
    let broken = [
        Require::Job { id: ended.id, lease: ended.lease },
        Require::Job { id: live.id, lease: LeaseId { nonce: live.lease.nonce ^ 1, ..live.lease } },
    ];
    for require in broken {
        let new = w.job("new");
        let commit = Commit { require: vec![holds.clone(), require], ..w.ops([add(&new)]) };
        let refused = w.commit(commit).await.expect_err("a require does not hold");
        assert_eq!(refused.at, Place::Require(1));
        assert_eq!(w.try_get(new.id).await, None);
    }
    let commit = Commit { require: vec![holds.clone()], ..w.ops([add(&w.job("new"))]) };
    w.commit(commit.clone()).await.expect("the require holds");
    w.advance(LEASE_MS + 1);
    let refused = w.commit(Commit { ..commit }).await.expect_err("the lease ran out");
    assert_eq!(refused.at, Place::Require(0));
}

pub(super) async fn requires_are_judged_before_the_ops(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    let require = vec![Require::Job { id: grant.id, lease: grant.lease }];
    let commit = Commit { require, ..w.ops([Op::Delete { id: w.id("q") }]) };
    assert_eq!(w.commit(commit.clone()).await.expect_err("the op finds nothing").at, Place::Op(0));
    w.complete(&grant).await;
    assert_eq!(w.commit(commit).await.expect_err("both are wrong").at, Place::Require(0));
}

pub(super) async fn the_ops_of_a_commit_see_each_other(w: &mut World) {
    let job = w.job("q");
    let commit = w.ops([add(&job), Op::Cancel { id: job.id }, Op::Retry { id: job.id }]);
    let replies = w.commit(commit).await.expect("commit").replies;
    assert!(matches!(replies[1], Reply::Cancelled { state: JobState::Cancelled, .. }));
    assert!(matches!(replies[2], Reply::Retried { state: JobState::Available, .. }));
    assert_eq!(w.drain("q").await, [job.id]);
}

pub(super) async fn a_commit_may_claim_what_it_enqueues(w: &mut World) {
    let job = w.job("q");
    let commit = w.ops([add(&job), Op::Claim(claim_of(&["q"], 1))]);
    let grants = claimed(w.commit(commit).await.expect("commit").replies.remove(1));
    assert_eq!(ids(&grants), [job.id]);
    assert_eq!(grants[0].body, Some(job.body), "with its body");
    w.complete(&grants[0]).await;
}

pub(super) async fn the_commits_of_a_batch_stand_alone_and_in_order(w: &mut World) {
    let (one, two) = (w.job("q"), w.job("q"));
    let lost = w.job("q");
    let answers = w
        .submit(vec![
            w.ops([add(&one)]),
            w.ops([add(&lost), Op::Delete { id: w.id("q") }]),
            w.ops([Op::Cancel { id: one.id }]),
            w.ops([add(&two)]),
        ])
        .await;
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, true]);
    assert_eq!(answers[1].as_ref().expect_err("refused").at, Place::Op(1));
    assert_eq!(w.state(one.id).await, JobState::Cancelled, "it was there when the cancel came");
    assert_eq!(w.try_get(lost.id).await, None);
    assert_eq!(w.drain("q").await, [two.id]);
}

pub(super) async fn a_batch_settles_and_claims(w: &mut World) {
    let first = w.enqueue(w.job("q")).await;
    let second = w.enqueue(w.job("q")).await;
    let (a, b) = (w.claim("q").await, w.claim("q").await);
    let third = w.enqueue(w.job("q")).await;
    let stale = LeaseId { nonce: b.lease.nonce ^ 1, ..b.lease };
    let answers = w
        .submit(vec![
            w.ops([settle_op(&a, COMPLETE)]),
            w.ops([Op::Settle(Settle { id: b.id, lease: stale, outcome: COMPLETE, repeat_is_ok: true })]),
            w.ops([settle_op(&b, Outcome::Release { delay_ms: 0 })]),
            w.ops([Op::Claim(claim_of(&["q"], 10))]),
        ])
        .await;
    assert_eq!(answers[1].as_ref().expect_err("stale").reason, Reason::LeaseLost);
    let last = answers.into_iter().next_back().expect("four answers").expect("claim");
    let grants = claimed(last.replies.into_iter().next().expect("one reply"));
    assert_eq!(ids(&grants), [second, third], "what was released can be claimed at once");
    assert_eq!(w.state(first).await, JobState::Completed);
}

pub(super) async fn an_empty_batch_is_answered(w: &mut World) {
    assert_eq!(w.submit(vec![]).await, []);
    let done = w.commit(w.ops([])).await.expect("a commit of nothing");
    assert_eq!(done.replies, []);
}

pub(super) async fn a_commit_with_too_many_ops_is_refused_whole(w: &mut World) {
    let most = w.store().capabilities().max_commit_ops as usize;
    let jobs: Vec<_> = (0..=most).map(|_| w.job("q")).collect();
    let commit = w.ops(jobs.iter().map(add));
    let answer = w.store().submit(Batch::one(commit)).await;
    let refused = match answer {
        Ok(answers) => answers.iter().all(Result::is_err),
        Err(error) => error.applied() == Applied::No,
    };
    assert!(refused, "{} ops, where {most} are the most", most + 1);
    assert_eq!(w.try_queue("q").await, None, "nothing of it");
}

pub(super) async fn a_commit_with_as_many_ops_as_there_may_be_is_done(w: &mut World) {
    let most = w.store().capabilities().max_commit_ops;
    let jobs: Vec<_> = (0..most).map(|_| w.job("q")).collect();
    let done = w.commit(w.ops(jobs.iter().map(add))).await.expect("a large commit");
    assert_eq!(done.replies.len(), most as usize);
    assert_eq!(w.queue("q").await.depth.available, u64::from(most));
    w.commit(w.ops(jobs.iter().map(|job| Op::Cancel { id: job.id }))).await.expect("another");
    assert_eq!(w.queue("q").await.depth.available, 0);
}
