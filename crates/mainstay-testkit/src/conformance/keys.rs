//! Idempotency keys.

use mainstay_core::{
    job::{JobState, NewJob, Unique},
    op::{Commit, Committed, IdempotencyKey, MAX_NOTE_BYTES, Op, Place, Reason, Reply, Require},
    queue::QueueConfig,
};

use crate::world::{COMPLETE, LEASE_MS, World, claim_of, claimed, enqueued, ids, settle_op};

const DAY_MS: u64 = 86_400_000;

fn key(scope: u8, fingerprint: u8) -> Option<IdempotencyKey> {
    Some(IdempotencyKey { scope: [scope; 16], fingerprint: [fingerprint; 16] })
}

fn add(w: &World) -> Op {
    Op::Enqueue(Box::new(w.job("q")))
}

fn claim(max: u32) -> Op {
    Op::Claim(claim_of(&["q"], max))
}

/// A commit of one op under a key.
fn under(w: &World, scope: u8, op: Op) -> Commit {
    Commit { key: key(scope, 1), ..w.ops([op]) }
}

pub(super) async fn a_repeated_commit_gets_the_first_answer(w: &mut World) {
    let first = Commit { key: key(1, 1), ..w.ops([add(w), add(w)]) };
    let done = w.commit(first.clone()).await.expect("the first");
    assert!(!done.repeated);
    w.advance(1_000);
    // An edge makes new ids and draws new chance for the repeat: the key alone tells.
    let again = Commit { key: key(1, 1), ..w.ops([add(w), add(w)]) };
    let repeat = w.commit(again).await.expect("the repeat");
    assert!(repeat.repeated);
    assert_eq!(repeat.replies, done.replies);
    assert_eq!(w.drain("q").await.len(), 2, "nothing was added twice");
}

pub(super) async fn the_same_key_with_another_body_is_a_mistake(w: &mut World) {
    w.commit(under(w, 1, add(w))).await.expect("the first");
    let refused = w.commit(Commit { key: key(1, 2), ..w.ops([add(w)]) }).await.expect_err("another body");
    assert_eq!((refused.at, refused.reason), (Place::Commit, Reason::IdempotencyMismatch));
    assert_eq!(w.drain("q").await.len(), 1);
}

pub(super) async fn what_is_only_to_be_a_repeat_is_one_or_does_not_happen(w: &mut World) {
    let only = |scope, fingerprint| Commit {
        key: key(scope, fingerprint),
        require: vec![Require::Repeat],
        ..Commit::default()
    };
    let refused = w.commit(only(1, 1)).await.expect_err("nothing was answered");
    assert_eq!((refused.at, refused.reason), (Place::Require(0), Reason::NotFound("first answer")));
    let done = w.commit(under(w, 1, add(w))).await.expect("the first");
    let repeat = w.commit(only(1, 1)).await.expect("the repeat");
    assert!(repeat.repeated);
    assert_eq!(repeat.replies, done.replies);
    let other = w.commit(only(1, 2)).await.expect_err("another body");
    assert_eq!(other.reason, Reason::IdempotencyMismatch);
    assert_eq!(w.drain("q").await.len(), 1);
}

pub(super) async fn keys_of_other_scopes_are_other_keys(w: &mut World) {
    for scope in 1..=3 {
        assert!(!w.commit(under(w, scope, add(w))).await.expect("each is the first").repeated);
    }
    assert_eq!(w.drain("q").await.len(), 3);
}

pub(super) async fn a_refusal_is_not_kept_under_a_key(w: &mut World) {
    w.configure("q", QueueConfig { max_depth: Some(1), ..QueueConfig::default() }).await;
    let id = w.enqueue(w.job("q")).await;
    let refused = w.commit(under(w, 1, add(w))).await.expect_err("the queue is full");
    assert!(matches!(refused.reason, Reason::QueueFull { .. }));
    w.op(Op::Cancel { id }).await;
    assert!(!w.commit(under(w, 1, add(w))).await.expect("now it fits").repeated);
}

pub(super) async fn a_repeat_is_answered_although_the_queue_is_full_by_now(w: &mut World) {
    w.configure("q", QueueConfig { max_depth: Some(1), ..QueueConfig::default() }).await;
    let done = w.commit(under(w, 1, add(w))).await.expect("the first");
    let repeat = w.commit(under(w, 1, add(w))).await.expect("the repeat");
    assert_eq!((repeat.repeated, repeat.replies), (true, done.replies));
}

pub(super) async fn a_repeated_settle_is_answered_from_its_key(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    let commit = under(w, 1, settle_op(&grant, COMPLETE));
    let done = w.commit(commit.clone()).await.expect("the first");
    w.op(Op::Delete { id: grant.id }).await;
    let repeat = w.commit(commit).await.expect("the repeat");
    assert_eq!((repeat.repeated, repeat.replies), (true, done.replies));
}

pub(super) async fn a_repeated_claim_returns_the_grants_that_live(w: &mut World) {
    for _ in 0..4 {
        w.enqueue(w.job("q")).await;
    }
    let mut first = w.commit(under(w, 1, claim(3))).await.expect("the first");
    let granted = claimed(first.replies.remove(0));
    assert_eq!(granted.len(), 3);
    let again = async |w: &World| {
        let mut done = w.commit(under(w, 1, claim(3))).await.expect("a repeat");
        assert!(done.repeated);
        claimed(done.replies.remove(0))
    };
    assert_eq!(again(w).await, granted, "bodies and leases too");
    w.complete(&granted[1]).await;
    assert_eq!(ids(&again(w).await), [granted[0].id, granted[2].id]);
    w.release(&granted[0], 0).await;
    assert_eq!(ids(&again(w).await), [granted[2].id]);
    w.lose(LEASE_MS).await;
    assert_eq!(again(w).await, [], "and never grants anew");
    assert_eq!(w.drain("q").await.len(), 3);
}

pub(super) async fn an_empty_claim_is_tried_anew(w: &mut World) {
    let mut empty = w.commit(under(w, 1, claim(1))).await.expect("an empty claim");
    assert_eq!(claimed(empty.replies.remove(0)), []);
    let id = w.enqueue(w.job("q")).await;
    let mut done = w.commit(under(w, 1, claim(1))).await.expect("the same, tried anew");
    assert!(!done.repeated);
    assert_eq!(ids(&claimed(done.replies.remove(0))), [id]);
}

pub(super) async fn a_key_is_kept_for_a_day(w: &mut World) {
    w.commit(under(w, 1, add(w))).await.expect("the first");
    w.advance(DAY_MS - 1_000);
    w.maintain().await;
    assert!(w.commit(under(w, 1, add(w))).await.expect("a late repeat").repeated);
    w.advance(2_000);
    w.maintain().await;
    assert!(!w.commit(under(w, 1, add(w))).await.expect("a new commit").repeated);
    assert_eq!(w.drain("q").await.len(), 2);
}

pub(super) async fn the_key_goes_before_the_id_and_the_unique_key(w: &mut World) {
    let unique = Some(Unique { key: "u".into(), for_ms: None });
    let by_key = w.commit(under(w, 1, add(w))).await.expect("the first").replies.remove(0);
    let job = NewJob { caller_id: true, unique, ..w.job("q") };
    w.enqueue(job.clone()).await;
    let all = under(w, 1, Op::Enqueue(Box::new(job)));
    let answer = w.commit(all).await.expect("the key decides").replies.remove(0);
    assert_eq!(enqueued(answer).id, enqueued(by_key).id);
}

pub(super) async fn a_repeat_in_the_same_batch_is_recognised(w: &mut World) {
    let commits = vec![under(w, 1, add(w)), under(w, 1, add(w))];
    let mut answers = w.submit(commits).await.into_iter().map(|answer| answer.expect("both are answered"));
    let (first, second) = (answers.next().expect("one"), answers.next().expect("two"));
    assert_eq!((first.repeated, second.repeated), (false, true));
    let id = enqueued(first.replies[0].clone()).id;
    assert_eq!(second.replies, first.replies);
    assert_eq!(w.state(id).await, JobState::Available);
    assert_eq!(w.drain("q").await, [id]);
}

pub(super) async fn a_note_is_kept_with_the_answer_and_no_longer_than_it_may_be(w: &mut World) {
    let noted =
        |w: &World, text: &str| Commit { ops: vec![add(w), Op::Note(text.into())], ..under(w, 1, add(w)) };
    let note = |done: Committed| match done.replies.into_iter().nth(1) {
        Some(Reply::Note(text)) => (text, done.repeated),
        other => panic!("{other:?}"),
    };
    assert_eq!(note(w.commit(noted(w, "one")).await.expect("new")), ("one".into(), false));
    assert_eq!(note(w.commit(noted(w, "two")).await.expect("again")), ("one".into(), true));
    let long = Op::Note("x".repeat(MAX_NOTE_BYTES + 1).into());
    assert!(matches!(w.refused(long).await, Reason::Invalid { field: "note", .. }));
}
