//! How many jobs run at once: of a queue (`concurrency`), and of a key (`key_concurrency`).

use mainstay_core::{
    JobId,
    job::{DeadReason, Grant, JobKeys, JobState, NewJob, Outcome, Retry, When},
    op::{Claim, Op, Reason},
    queue::{Fairness, Overflow, QueueConfig, Rate},
    store::Interest,
};

use super::waits::{LONG, Waiters};
use crate::world::{COMPLETE, LEASE_MS, World, claim_of, claimed, fail, ids, name, settle_op};

/// A job with a concurrency key.
pub(super) fn of_key(w: &World, queue: &str, key: &str) -> NewJob {
    let keys = JobKeys { concurrency: Some(key.into()), ..JobKeys::default() };
    NewJob { keys, ..w.job(queue) }
}

async fn claim_all(w: &World, queue: &str) -> Vec<Grant> {
    w.claims(claim_of(&[queue], 1_000)).await
}

async fn places(w: &World, concurrency: u32) {
    w.configure("q", QueueConfig { concurrency: Some(concurrency), ..QueueConfig::default() }).await;
}

async fn key_places(w: &World, key_concurrency: u32) {
    w.configure("q", QueueConfig { key_concurrency: Some(key_concurrency), ..QueueConfig::default() }).await;
}

pub(super) async fn no_more_jobs_of_a_queue_run_than_it_has_places(w: &mut World) {
    places(w, 2).await;
    for _ in 0..5 {
        w.enqueue(w.job("q")).await;
    }
    let grants = claim_all(w, "q").await;
    assert_eq!(grants.len(), 2);
    assert_eq!(w.try_claim("q").await, None, "an empty claim, not an error");
    assert_eq!(w.queue("q").await.depth.available, 3);
    w.complete(&grants[0]).await;
    assert_eq!(claim_all(w, "q").await.len(), 1);
}

pub(super) async fn a_key_has_one_place_unless_its_queue_says_otherwise(w: &mut World) {
    for _ in 0..4 {
        w.enqueue(of_key(w, "q", "k")).await;
    }
    let first = claim_all(w, "q").await;
    assert_eq!(first.len(), 1);
    key_places(w, 3).await;
    assert_eq!(claim_all(w, "q").await.len(), 2);
}

pub(super) async fn jobs_of_other_keys_pass_a_busy_one(w: &mut World) {
    let hot = w.enqueue(NewJob { priority: 0, ..of_key(w, "q", "hot") }).await;
    for _ in 0..20 {
        w.enqueue(NewJob { priority: 0, ..of_key(w, "q", "hot") }).await;
    }
    let plain = w.enqueue(w.job("q")).await;
    let cold = w.enqueue(of_key(w, "q", "cold")).await;
    assert_eq!(ids(&claim_all(w, "q").await), [hot, plain, cold], "nothing runnable waits");
}

pub(super) async fn within_a_key_jobs_keep_their_order(w: &mut World) {
    let mut expected = vec![];
    for priority in [5, 7, 0, 5, 0] {
        expected.push((priority, w.enqueue(NewJob { priority, ..of_key(w, "q", "k") }).await));
    }
    expected.sort();
    for (_, id) in expected {
        let grants = claim_all(w, "q").await;
        assert_eq!(ids(&grants), [id]);
        w.complete(&grants[0]).await;
    }
}

pub(super) async fn a_key_is_a_word_of_its_queue_alone(w: &mut World) {
    w.enqueue(of_key(w, "a", "k")).await;
    w.enqueue(of_key(w, "b", "k")).await;
    assert_eq!(w.claims(claim_of(&["a", "b"], 10)).await.len(), 2);
}

/// A worker that dies must not take a place along, and one that ends twice must not give two back.
pub(super) async fn a_place_comes_free_exactly_once_however_its_job_ends(w: &mut World) {
    let config = QueueConfig { concurrency: Some(1), max_crashes: Some(2), ..QueueConfig::default() };
    w.configure("q", config).await;
    let later = Outcome::Release { delay_ms: 1_000_000 };
    let ends =
        [COMPLETE, fail(Retry::Never), fail(Retry::After(1_000_000)), later, Outcome::Cancel { error: None }];
    for _ in 0..ends.len() + 6 {
        w.enqueue(of_key(w, "q", "k")).await;
    }
    for end in ends {
        let grants = claim_all(w, "q").await;
        assert_eq!(grants.len(), 1, "before {end:?}");
        w.settle(&grants[0], end.clone()).await.expect("an end");
        let again = w.settle(&grants[0], end.clone()).await;
        assert!(again.is_ok(), "the same answer again: {again:?}");
    }
    // A crash, and a crash that is one too many.
    for _ in 0..2 {
        let grants = claim_all(w, "q").await;
        assert_eq!(grants.len(), 1);
        w.lose(LEASE_MS).await;
        assert_eq!(w.refused(settle_op(&grants[0], COMPLETE)).await, Reason::LeaseLost);
    }
    // Cancelled while it ran: the end frees its place, not the request.
    let grants = claim_all(w, "q").await;
    w.op(Op::Cancel { id: grants[0].id }).await;
    assert_eq!(w.try_claim("q").await, None);
    w.settle(&grants[0], fail(Retry::Auto)).await.expect("fail");
    assert_eq!(claim_all(w, "q").await.len(), 1);
    assert_eq!(w.queue("q").await.depth.running, 1);
}

/// The double release that lets a limit of one run eleven: a lease is lost, the job runs again, and the first worker
/// says that it is done.
pub(super) async fn a_stale_worker_frees_no_place(w: &mut World) {
    for _ in 0..3 {
        w.enqueue(of_key(w, "q", "k")).await;
    }
    let stale = w.claim("q").await;
    w.lose(LEASE_MS).await;
    let live = w.claim("q").await;
    assert_eq!(live.id, stale.id, "the crashed job keeps its place in the order");
    for outcome in [COMPLETE, fail(Retry::Auto), Outcome::Release { delay_ms: 0 }] {
        assert_eq!(w.refused(settle_op(&stale, outcome)).await, Reason::LeaseLost);
        assert_eq!(w.try_claim("q").await, None, "its place is taken by the second attempt");
    }
    w.complete(&live).await;
    w.claim("q").await;
}

pub(super) async fn all_workers_share_the_places_of_a_queue(w: &mut World) {
    places(w, 3).await;
    for _ in 0..10 {
        w.enqueue(w.job("q")).await;
    }
    let mut running = 0;
    for worker in ["w1", "w2", "w3", "w4"] {
        let claim = Claim { worker: Some(name(worker)), ..claim_of(&["q"], 2) };
        running += w.claims(claim).await.len();
    }
    assert_eq!(running, 3, "the limit is the queue's, not each worker's");
}

pub(super) async fn a_job_that_waits_for_its_back_off_does_not_hold_its_key(w: &mut World) {
    let failing = w.enqueue(of_key(w, "q", "k")).await;
    let next = w.enqueue(of_key(w, "q", "k")).await;
    let grant = w.claim("q").await;
    w.settle(&grant, fail(Retry::After(5_000))).await.expect("fail");
    let grant = w.claim("q").await;
    assert_eq!(grant.id, next);
    w.advance(5_000);
    assert_eq!(w.try_claim("q").await, None, "it is due again, but the place is taken");
    w.complete(&grant).await;
    assert_eq!(w.claim("q").await.id, failing);
}

pub(super) async fn a_job_that_is_not_due_does_not_hold_its_key(w: &mut World) {
    let later = NewJob { run_at: Some(When::In(1_000)), priority: 0, ..of_key(w, "q", "k") };
    let later = w.enqueue(later).await;
    let now = w.enqueue(of_key(w, "q", "k")).await;
    let after = w.enqueue(of_key(w, "q", "k")).await;
    let grant = w.claim("q").await;
    assert_eq!(grant.id, now);
    w.advance(1_000);
    w.complete(&grant).await;
    let grant = w.claim("q").await;
    assert_eq!(grant.id, later, "it became due while its key was busy");
    w.complete(&grant).await;
    assert_eq!(w.claim("q").await.id, after);
}

pub(super) async fn a_lower_bound_hands_out_nothing_until_enough_have_ended(w: &mut World) {
    places(w, 4).await;
    for _ in 0..8 {
        w.enqueue(w.job("q")).await;
    }
    let grants = claim_all(w, "q").await;
    places(w, 2).await;
    for grant in &grants[..2] {
        w.complete(grant).await;
        assert_eq!(w.try_claim("q").await, None);
    }
    w.complete(&grants[2]).await;
    assert_eq!(claim_all(w, "q").await.len(), 1);
}

pub(super) async fn a_place_that_comes_free_wakes_one_waiter(w: &mut World) {
    let on = [Interest::Queue(name("q"))];
    places(w, 1).await;
    for key in ["a", "a", "b"] {
        w.enqueue(of_key(w, "q", key)).await;
    }
    let mut grant = w.claim("q").await;
    let mut waiters = Waiters::on(w, 3, &on, LONG).await;
    assert!(waiters.ended(w).await.is_empty(), "work without a place wakes nobody");
    for lost in [false, true] {
        if lost {
            w.lose(LEASE_MS).await;
        } else {
            w.complete(&grant).await;
        }
        let wake = waiters.next().await;
        assert!(wake.is_woken() && waiters.ended(w).await.is_empty(), "one place, one waiter");
        grant = w.claim("q").await;
    }
}

pub(super) async fn more_places_wake_as_many_waiters(w: &mut World) {
    let on = [Interest::Queue(name("q"))];
    for _ in 0..5 {
        w.enqueue(of_key(w, "q", "k")).await;
    }
    w.claim("q").await;
    let mut waiters = Waiters::on(w, 4, &on, LONG).await;
    assert!(waiters.ended(w).await.is_empty());
    key_places(w, 3).await;
    let wakes = [waiters.next().await, waiters.next().await];
    assert!(waiters.ended(w).await.is_empty(), "two more places");
    assert_eq!(claim_all(w, "q").await.len(), 2);
    drop(wakes);
    assert!(waiters.ended(w).await.is_empty());
}

pub(super) async fn a_deleted_or_cancelled_job_makes_way_for_the_next_of_its_key(w: &mut World) {
    let gone = [w.enqueue(of_key(w, "q", "k")).await, w.enqueue(of_key(w, "q", "k")).await];
    let last = w.enqueue(of_key(w, "q", "k")).await;
    w.op(Op::Delete { id: gone[0] }).await;
    w.op(Op::Cancel { id: gone[1] }).await;
    assert_eq!(w.drain("q").await, [last]);
}

pub(super) async fn an_expired_job_of_a_key_is_never_handed_out(w: &mut World) {
    let running = w.enqueue(of_key(w, "q", "k")).await;
    let dies = w.enqueue(NewJob { expires: Some(When::In(1_000)), ..of_key(w, "q", "k") }).await;
    let next = w.enqueue(of_key(w, "q", "k")).await;
    let grant = w.claim("q").await;
    assert_eq!(grant.id, running);
    w.advance(1_000);
    w.complete(&grant).await;
    assert_eq!(w.claim("q").await.id, next);
    assert_eq!(w.get(dies).await.reason, Some(DeadReason::Expired));
}

pub(super) async fn jobs_with_keys_are_counted_purged_and_dropped_like_others(w: &mut World) {
    let config = QueueConfig { max_depth: Some(3), overflow: Overflow::DropOldest, ..QueueConfig::default() };
    w.configure("q", config).await;
    let oldest = w.enqueue(NewJob { priority: 9, ..of_key(w, "q", "a") }).await;
    w.advance(10);
    w.enqueue(of_key(w, "q", "b")).await;
    w.enqueue(NewJob { run_at: Some(When::In(1_000)), ..of_key(w, "q", "b") }).await;
    let queue = w.queue("q").await;
    assert_eq!((queue.depth.available, queue.depth.scheduled), (2, 1));
    assert_eq!(queue.oldest_available_age_ms, Some(10));
    w.enqueue(w.job("q")).await;
    assert_eq!(w.state(oldest).await, JobState::Cancelled);
    w.op(Op::Purge { queue: name("q"), limit: 1_000 }).await;
    assert_eq!(w.queue("q").await.depth.waiting(), 0);
    w.advance(1_000);
    assert_eq!(w.try_claim("q").await, None);
}

pub(super) async fn a_refused_commit_gives_its_places_back(w: &mut World) {
    places(w, 1).await;
    w.enqueue(of_key(w, "q", "k")).await;
    let refused = Op::Cancel { id: w.id("q") };
    let commit = w.ops([Op::Claim(claim_of(&["q"], 5)), refused.clone()]);
    assert!(w.commit(commit).await.is_err());
    let grant = w.claim("q").await;
    w.enqueue(of_key(w, "q", "k")).await;
    let commit = w.ops([settle_op(&grant, COMPLETE), Op::Claim(claim_of(&["q"], 5)), refused]);
    assert!(w.commit(commit).await.is_err());
    assert_eq!(w.try_claim("q").await, None, "the first still runs");
    // One commit may pass a place on.
    let commit = w.ops([settle_op(&grant, COMPLETE), Op::Claim(claim_of(&["q"], 5))]);
    let mut replies = w.commit(commit).await.expect("a settle with a claim").replies;
    assert_eq!(claimed(replies.remove(1)).len(), 1);
}

pub(super) async fn the_keys_of_a_job_are_shown(w: &mut World) {
    let keys = JobKeys { concurrency: Some("c".into()), fairness: Some("f".into()) };
    let id = w.enqueue(NewJob { keys: keys.clone(), ..w.job("q") }).await;
    assert_eq!(w.get(id).await.keys, keys);
    let grant = w.claim("q").await;
    assert_eq!(w.get(id).await.keys, keys);
    w.complete(&grant).await;
    assert_eq!(w.get(id).await.keys, keys);
    w.op(Op::Retry { id }).await;
    assert_eq!(w.get(id).await.keys, keys, "and it counts by them again");
    w.enqueue(of_key(w, "q", "c")).await;
    assert_eq!(claim_all(w, "q").await.len(), 1);
}

pub(super) async fn keys_and_limits_out_of_bounds_are_refused_by_name(w: &mut World) {
    let invalid = |reason| match reason {
        Reason::Invalid { field, .. } => field,
        other => panic!("refused as {other:?}"),
    };
    for (key, ok) in [("", false), (&*"k".repeat(256), true), (&*"k".repeat(257), false)] {
        for field in ["concurrency_key", "fairness_key"] {
            let mut job = w.job("q");
            let place =
                if field == "fairness_key" { &mut job.keys.fairness } else { &mut job.keys.concurrency };
            *place = Some(key.into());
            let answer = w.try_op(Op::Enqueue(Box::new(job))).await;
            match ok {
                true => drop(answer.expect(field)),
                false => assert_eq!(invalid(answer.expect_err(field)), field),
            }
        }
    }
    let weights = |weight| Fairness {
        weights: [("k".into(), weight)].into_iter().collect::<std::collections::BTreeMap<_, _>>().into(),
    };
    let config = QueueConfig::default;
    let wrong = [
        ("concurrency", QueueConfig { concurrency: Some(0), ..config() }),
        ("key_concurrency", QueueConfig { key_concurrency: Some(0), ..config() }),
        ("rate/per_ms", QueueConfig { rate: Some(Rate { per_ms: 0, count: 1 }), ..config() }),
        ("rate/count", QueueConfig { rate: Some(Rate { per_ms: 1, count: 0 }), ..config() }),
        ("fairness/weights", QueueConfig { fairness: Some(weights(0)), ..config() }),
        ("ageing_ms", QueueConfig { ageing_ms: Some(0), ..config() }),
    ];
    for (field, config) in wrong {
        let refused = w.refused(Op::PutQueue { queue: name("new"), config }).await;
        assert_eq!(invalid(refused), field);
    }
    assert_eq!(w.try_queue("new").await, None, "a refused configuration makes no queue");
}

/// Thousands of keys, each at its limit: what waits behind them is looked at once, not at each claim.
pub(super) async fn many_busy_keys_hide_nothing(w: &mut World) {
    let jobs: Vec<NewJob> = (0..1_000)
        .flat_map(|n| [of_key(w, "q", &format!("k{n}")), of_key(w, "q", &format!("k{n}"))])
        .collect();
    let first: Vec<JobId> = jobs.iter().step_by(2).map(|job| job.id).collect();
    let commit = w.ops(jobs.into_iter().map(|job| Op::Enqueue(Box::new(job))));
    w.commit(commit).await.expect("enqueue");
    let grants = claim_all(w, "q").await;
    assert_eq!(ids(&grants), first);
    assert_eq!(w.try_claim("q").await, None);
    let last = w.enqueue(w.job("q")).await;
    assert_eq!(w.drain("q").await, [last]);
    w.complete(&grants[500]).await;
    assert_eq!(w.drain("q").await.len(), 1, "the place that came free");
}
