//! A lease proves a claim while it lives, and nothing after.

use mainstay_core::{
    job::{Grant, JobState, NewJob, Outcome, Retry},
    lease::LeaseId,
    op::{Claim, Op, Reason, Reply},
};

use crate::world::{COMPLETE, LEASE_MS, World, claim_of, extend_op, fail, name, settle_op};

/// Every verb that needs a live lease.
fn verbs(grant: &Grant) -> Vec<Op> {
    vec![
        extend_op(grant, 60_000),
        settle_op(grant, COMPLETE),
        settle_op(grant, fail(Retry::Auto)),
        settle_op(grant, fail(Retry::Never)),
        settle_op(grant, Outcome::Release { delay_ms: 0 }),
        settle_op(grant, Outcome::Cancel { error: None }),
    ]
}

/// Every verb is refused, and the job is as it was.
async fn nothing_is_possible_with(w: &World, grant: &Grant) {
    let before = w.get(grant.id).await;
    for op in verbs(grant) {
        let shown = format!("{op:?}");
        assert_eq!(w.refused(op).await, Reason::LeaseLost, "{shown}");
    }
    assert_eq!(w.get(grant.id).await, before, "nothing was changed");
}

pub(super) async fn a_lease_lives_its_whole_time(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.advance(LEASE_MS - 1);
    assert_eq!(w.try_claim("q").await, None);
    w.complete(&grant).await;
}

pub(super) async fn a_lease_that_ran_out_is_lost_even_if_nobody_took_over(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.advance(LEASE_MS + 1);
    nothing_is_possible_with(w, &grant).await;
    w.maintain().await;
    nothing_is_possible_with(w, &grant).await;
}

pub(super) async fn a_stale_worker_cannot_do_anything_after_a_takeover(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let stale = w.claim("q").await;
    w.lose(LEASE_MS).await;
    let live = w.claim("q").await;
    nothing_is_possible_with(w, &stale).await;
    w.complete(&live).await;
    nothing_is_possible_with(w, &stale).await;
}

pub(super) async fn a_token_without_its_nonce_proves_nothing(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    let guessed = LeaseId { nonce: grant.lease.nonce ^ 1, ..grant.lease };
    nothing_is_possible_with(w, &Grant { lease: guessed, ..grant.clone() }).await;
    w.complete(&grant).await;
    nothing_is_possible_with(w, &Grant { lease: guessed, ..grant }).await;
}

pub(super) async fn a_lease_of_another_job_proves_nothing(w: &mut World) {
    w.enqueue(w.job("q")).await;
    w.enqueue(w.job("q")).await;
    let (one, other) = (w.claim("q").await, w.claim("q").await);
    nothing_is_possible_with(w, &Grant { lease: other.lease, ..one }).await;
    w.complete(&other).await;
}

pub(super) async fn a_settle_of_an_unknown_job_finds_nothing(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    for op in verbs(&Grant { id: w.id("q"), ..grant }) {
        assert!(matches!(w.refused(op).await, Reason::NotFound(_)));
    }
}

pub(super) async fn an_extended_lease_lives_on(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    for _ in 0..4 {
        w.advance(LEASE_MS - 1);
        let expires_at = w.now().plus_ms(LEASE_MS);
        let reply = w.op(extend_op(&grant, LEASE_MS)).await;
        assert_eq!(reply, Reply::Extended { id: grant.id, expires_at, cancel_requested: false });
        assert_eq!(w.get(grant.id).await.lease_expires_at, Some(expires_at));
    }
    w.complete(&grant).await;
}

pub(super) async fn an_extend_is_capped_at_the_time_limit_of_the_attempt(w: &mut World) {
    w.enqueue(w.job_with("q", |policy| policy.timeout_ms = Some(40_000))).await;
    let limit = w.now().plus_ms(40_000);
    let grant = w.claim("q").await;
    w.advance(20_000);
    match w.op(extend_op(&grant, LEASE_MS)).await {
        Reply::Extended { expires_at, .. } => assert_eq!(expires_at, limit),
        other => panic!("{other:?}"),
    }
    w.advance(20_001);
    assert_eq!(w.refused(extend_op(&grant, LEASE_MS)).await, Reason::LeaseLost);
}

pub(super) async fn an_extend_beyond_the_time_limit_is_refused_and_the_lease_is_as_it_was(w: &mut World) {
    for late in [1_000, 1_500] {
        let id = w.enqueue(w.job_with("q", |policy| policy.timeout_ms = Some(1_000))).await;
        let grant = w.claim("q").await;
        w.advance(late);
        let before = w.get(id).await;
        let progress = Op::Extend { id, lease: grant.lease, extend_ms: LEASE_MS, progress: Some("1".into()) };
        for op in [extend_op(&grant, LEASE_MS), progress] {
            let refused = w.refused(op).await;
            // Over HTTP, the code is that of a lost lease.
            let known = matches!(refused, Reason::TimeIsUp { timeout_ms: 1_000 } | Reason::LeaseLost);
            assert!(known, "the attempt is over after {late} ms: {refused}");
        }
        w.maintain().await;
        assert_eq!(w.get(id).await, before, "no crash, no progress, nothing was changed");
        // Who keeps the limit can still say so under the lease of the claim.
        assert_eq!(w.settle(&grant, fail(Retry::Never)).await, Ok((JobState::Dead, None)));
        assert_eq!(w.get(id).await.crashes, 0);
    }
}

pub(super) async fn each_claim_says_how_long_its_lease_lives(w: &mut World) {
    w.enqueue(w.job("q")).await;
    w.enqueue(w.job("q")).await;
    let short = w.claims(Claim { lease_ms: 1_000, ..claim_of(&["q"], 1) }).await.remove(0);
    let long = w.claims(Claim { lease_ms: 86_400_000, ..claim_of(&["q"], 1) }).await.remove(0);
    w.lose(1_000).await;
    assert_eq!(w.claim("q").await.id, short.id);
    w.advance(86_400_000 - 2_001);
    w.complete(&long).await;
}

pub(super) async fn a_step_of_the_wall_clock_neither_kills_nor_prolongs_a_lease(w: &mut World) {
    for step in [86_400_000, -86_400_000] {
        let id = w.enqueue(w.job("q")).await;
        let grant = w.claim("q").await;
        w.clock().step_wall(step);
        w.maintain().await;
        w.advance(LEASE_MS - 1);
        assert_eq!(w.state(id).await, JobState::Running, "step {step}");
        w.op(extend_op(&grant, LEASE_MS)).await;
        w.advance(LEASE_MS + 1);
        assert_eq!(w.refused(settle_op(&grant, COMPLETE)).await, Reason::LeaseLost, "step {step}");
        w.op(Op::Cancel { id }).await;
    }
}

pub(super) async fn progress_is_kept(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    for progress in [r#"{"done":1}"#, r#"{"done":2}"#] {
        let progress = Some(progress.into());
        let lease = grant.lease;
        w.op(Op::Extend { id, lease, extend_ms: LEASE_MS, progress: progress.clone() }).await;
        assert_eq!(w.get(id).await.progress, progress);
    }
    w.op(extend_op(&grant, LEASE_MS)).await;
    assert_eq!(w.get(id).await.progress.as_deref(), Some(r#"{"done":2}"#), "silence does not unsay it");
    w.complete(&grant).await;
    assert_eq!(w.get(id).await.progress.as_deref(), Some(r#"{"done":2}"#));
}

pub(super) async fn a_new_worker_of_the_same_name_inherits_nothing(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    w.enqueue(NewJob { priority: 9, ..w.job("q") }).await;
    let claim = Claim { worker: Some(name("w")), ..claim_of(&["q"], 1) };
    let old = w.claims(claim.clone()).await.remove(0);
    assert_eq!(old.id, id);
    w.advance(LEASE_MS / 2);
    // It was started anew, and works on: that keeps nothing alive of what it had before.
    let new = w.claims(claim).await.remove(0);
    w.advance(LEASE_MS / 2 + 1);
    w.op(extend_op(&new, LEASE_MS)).await;
    w.maintain().await;
    assert_eq!(w.state(id).await, JobState::Available);
    nothing_is_possible_with(w, &old).await;
}
