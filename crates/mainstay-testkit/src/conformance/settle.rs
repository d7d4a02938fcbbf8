//! Ending a claim, and saying so again.

use mainstay_core::{
    job::{JobFailure, JobState, Outcome, Retry},
    op::{Op, Reason, Settle},
};

use crate::world::{COMPLETE, World, fail, settle_op};

fn outcomes() -> Vec<Outcome> {
    vec![COMPLETE, fail(Retry::Auto), Outcome::Release { delay_ms: 0 }, Outcome::Cancel { error: None }]
}

pub(super) async fn the_same_verb_again_gets_the_same_answer(w: &mut World) {
    for outcome in outcomes() {
        let id = w.enqueue(w.job("q")).await;
        let grant = w.claim("q").await;
        let first = w.settle(&grant, outcome.clone()).await.expect("settle");
        let before = w.get(id).await;
        assert_eq!(w.settle(&grant, outcome.clone()).await, Ok(first), "{outcome:?}");
        assert_eq!(w.get(id).await, before, "{outcome:?} again changes nothing");
        w.op(Op::Delete { id }).await;
    }
}

pub(super) async fn another_verb_after_the_end_is_too_late(w: &mut World) {
    for outcome in outcomes() {
        let id = w.enqueue(w.job("q")).await;
        let grant = w.claim("q").await;
        w.settle(&grant, outcome.clone()).await.expect("settle");
        let before = w.get(id).await;
        for other in outcomes().into_iter().filter(|other| other.verb() != outcome.verb()) {
            let answer = w.settle(&grant, other.clone()).await;
            assert_eq!(answer, Err(Reason::LeaseLost), "{other:?} after {outcome:?}");
        }
        assert_eq!(w.get(id).await, before);
        w.op(Op::Delete { id }).await;
    }
}

pub(super) async fn a_repeat_is_refused_where_it_must_not_happen_twice(w: &mut World) {
    for outcome in outcomes() {
        let id = w.enqueue(w.job("q")).await;
        let grant = w.claim("q").await;
        let once = Settle { id, lease: grant.lease, outcome: outcome.clone(), repeat_is_ok: false };
        w.op(Op::Settle(once.clone())).await;
        assert_eq!(w.refused(Op::Settle(once)).await, Reason::AlreadySettled, "{outcome:?}");
        w.op(Op::Delete { id }).await;
    }
}

pub(super) async fn an_extend_after_the_end_is_too_late(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.complete(&grant).await;
    assert_eq!(w.refused(crate::world::extend_op(&grant, 1_000)).await, Reason::LeaseLost);
}

pub(super) async fn a_repeat_counts_while_its_lease_was_the_last_to_be_settled(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let first = w.claim("q").await;
    w.release(&first, 0).await;
    let second = w.claim("q").await;
    w.complete(&second).await;
    let again = w.refused(settle_op(&first, Outcome::Release { delay_ms: 0 })).await;
    assert_eq!(again, Reason::LeaseLost, "another lease was settled since");
    w.settle(&second, COMPLETE).await.expect("the last one may be repeated");
    assert_eq!(w.state(id).await, JobState::Completed);
}

pub(super) async fn a_repeat_during_the_next_claim_changes_nothing(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let first = w.claim("q").await;
    w.release(&first, 0).await;
    let second = w.claim("q").await;
    let before = w.get(id).await;
    // The first lease is still the last one that was *settled*: whoever lost the answer may ask again.
    w.settle(&first, Outcome::Release { delay_ms: 0 }).await.expect("a repeat");
    assert_eq!(w.get(id).await, before);
    w.complete(&second).await;
}

pub(super) async fn a_result_is_kept(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.advance(5);
    let result = Some(r#"{"sum": "ab12"}"#.into());
    let answer = w.settle(&grant, Outcome::Complete { result: result.clone() }).await;
    assert_eq!(answer, Ok((JobState::Completed, None)));
    let job = w.get(id).await;
    assert_eq!((job.state, job.result, job.finished_at), (JobState::Completed, result, Some(w.now())));
    assert_eq!((job.token, job.worker, job.lease_expires_at), (None, None, None));
}

pub(super) async fn a_worker_may_give_up_on_request(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    let why = JobFailure { kind: None, message: "asked to stop".into(), backtrace: None };
    let answer = w.settle(&grant, Outcome::Cancel { error: Some(why.clone()) }).await;
    assert_eq!(answer, Ok((JobState::Cancelled, None)));
    let job = w.get(id).await;
    assert_eq!(job.state, JobState::Cancelled);
    assert_eq!(job.failures.iter().map(|record| &record.failure).collect::<Vec<_>>(), [&why]);
}
