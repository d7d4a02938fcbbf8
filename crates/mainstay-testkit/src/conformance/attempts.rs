//! Attempts, failures and back-off.

use mainstay_core::{
    job::{Backoff, DeadReason, FAILURES_KEPT, Jitter, JobFailure, JobState, Outcome, Retry},
    op::Op,
};

use crate::world::{World, claim_of, fail};

const EXACT: Backoff = Backoff { base_ms: 1_000, factor_milli: 3_000, max_ms: 5_000, jitter: Jitter::None };

pub(super) async fn a_claim_raises_the_attempt_and_a_release_lowers_it(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    for _ in 0..3 {
        let grant = w.claim("q").await;
        assert_eq!(grant.attempt, 1);
        assert_eq!(w.get(id).await.attempt, 1);
        assert_eq!(w.release(&grant, 0).await, JobState::Available);
        assert_eq!(w.get(id).await.attempt, 0);
    }
}

pub(super) async fn a_released_job_keeps_its_place(w: &mut World) {
    let first = w.enqueue(w.job("q")).await;
    w.advance(10);
    let second = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.advance(10);
    w.release(&grant, 0).await;
    assert_eq!(w.drain("q").await, [first, second]);
}

pub(super) async fn a_release_with_a_delay_is_scheduled(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    assert_eq!(w.release(&grant, 250).await, JobState::Scheduled);
    assert_eq!(w.state(id).await, JobState::Scheduled);
    w.advance(249);
    assert_eq!(w.try_claim("q").await, None);
    w.advance(1);
    assert_eq!(w.claim("q").await.attempt, 1);
}

pub(super) async fn releases_never_count_as_attempts(w: &mut World) {
    let id = w.enqueue(w.job_with("q", |policy| policy.max_attempts = 1)).await;
    for _ in 0..5 {
        let grant = w.claim("q").await;
        w.release(&grant, 0).await;
    }
    assert_eq!(w.state(id).await, JobState::Available);
}

pub(super) async fn the_nth_retry_waits_base_times_factor_to_the_n_capped(w: &mut World) {
    let id = w.enqueue(w.job_with("q", |policy| policy.backoff = EXACT)).await;
    for (n, delay) in [1_000, 3_000, 5_000, 5_000].into_iter().enumerate() {
        let grant = w.claim("q").await;
        assert_eq!(grant.attempt as usize, n + 1);
        let due = w.now().plus_ms(delay);
        assert_eq!(w.fail(&grant).await, (JobState::Retryable, Some(due)));
        let job = w.get(id).await;
        assert_eq!((job.state, job.run_at), (JobState::Retryable, due));
        w.advance(delay - 1);
        assert_eq!(w.try_claim("q").await, None);
        w.advance(1);
        assert_eq!(w.state(id).await, JobState::Available);
    }
}

pub(super) async fn jitter_stays_within_its_bounds(w: &mut World) {
    for (queue, jitter, least) in [("full", Jitter::Full, 0), ("equal", Jitter::Equal, 500)] {
        let backoff = Backoff { jitter, ..EXACT };
        for _ in 0..64 {
            w.enqueue(w.job_with(queue, |policy| policy.backoff = backoff)).await;
        }
        let mut delays = vec![];
        for grant in w.claims(claim_of(&[queue], 64)).await {
            let (_, due) = w.fail(&grant).await;
            delays.push(due.expect("it is tried again").ms_since(w.now()));
        }
        assert!(delays.iter().all(|delay| (least..=1_000).contains(delay)), "{queue}: {delays:?}");
        assert!(delays.iter().any(|delay| *delay != delays[0]), "{queue}: chance has a say: {delays:?}");
    }
}

pub(super) async fn a_worker_may_name_the_delay(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    let due = w.now().plus_ms(7_000);
    let answer = w.settle(&grant, fail(Retry::After(7_000))).await;
    assert_eq!(answer, Ok((JobState::Retryable, Some(due))));
    w.advance(7_000);
    assert_eq!(w.claim("q").await.id, id);
}

pub(super) async fn a_failure_without_a_delay_is_retryable_all_the_same(w: &mut World) {
    let none = Backoff { base_ms: 0, ..EXACT };
    let id = w.enqueue(w.job_with("q", |policy| policy.backoff = none)).await;
    for retry in [Retry::After(0), Retry::Auto] {
        let grant = w.claim("q").await;
        let answer = w.settle(&grant, fail(retry)).await;
        assert_eq!(answer, Ok((JobState::Retryable, Some(w.now()))), "it failed, and is tried again");
        assert_eq!(w.settle(&grant, fail(retry)).await, answer, "the same again");
        assert_eq!(w.state(id).await, JobState::Available, "the wait is over already");
    }
    assert_eq!(w.claim("q").await.id, id);
}

pub(super) async fn a_permanent_failure_is_dead_at_once(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    assert_eq!(w.settle(&grant, fail(Retry::Never)).await, Ok((JobState::Dead, None)));
    let job = w.get(id).await;
    assert_eq!((job.state, job.reason), (JobState::Dead, Some(DeadReason::Permanent)));
    assert_eq!(job.finished_at, Some(w.now()));
}

pub(super) async fn the_last_failure_exhausts_the_job(w: &mut World) {
    for last in [Retry::Auto, Retry::After(10)] {
        let id = w.enqueue(w.job_with("q", |policy| policy.max_attempts = 2)).await;
        let grant = w.claim("q").await;
        w.settle(&grant, fail(Retry::After(0))).await.expect("fail");
        let grant = w.claim("q").await;
        assert_eq!(w.settle(&grant, fail(last)).await, Ok((JobState::Dead, None)));
        assert_eq!(w.get(id).await.reason, Some(DeadReason::Exhausted));
        assert_eq!(w.try_claim("q").await, None);
    }
}

pub(super) async fn failures_are_kept_with_their_attempt_and_time(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    for attempt in 1..=2 {
        w.advance(100);
        let grant = w.claim("q").await;
        let error = JobFailure {
            kind: Some("Timeout".into()),
            message: format!("attempt {attempt}").into(),
            backtrace: Some("at line 1".into()),
        };
        let outcome = Outcome::Fail { error: error.clone(), retry: Retry::After(0) };
        w.settle(&grant, outcome).await.expect("fail");
        let record = w.get(id).await.failures.pop().expect("a failure");
        assert_eq!((record.attempt, record.at, record.failure), (attempt, w.now(), error));
    }
    assert_eq!(w.get(id).await.failures.len(), 2);
}

pub(super) async fn the_newest_failures_are_kept(w: &mut World) {
    let attempts = FAILURES_KEPT + 8;
    let id = w.enqueue(w.job_with("q", |policy| policy.max_attempts = attempts)).await;
    for _ in 0..attempts {
        let grant = w.claim("q").await;
        w.settle(&grant, fail(Retry::After(0))).await.expect("fail");
    }
    let job = w.get(id).await;
    let kept: Vec<_> = job.failures.iter().map(|record| record.attempt).collect();
    assert_eq!(kept, (9..=attempts).collect::<Vec<_>>(), "oldest first");
    assert_eq!(job.state, JobState::Dead);
}

pub(super) async fn the_last_failure_is_the_latest_also_after_a_retry_by_hand(w: &mut World) {
    let id = w.enqueue(w.job_with("q", |policy| policy.max_attempts = 2)).await;
    let fail_as = async |w: &World, message: &str| {
        w.advance(10);
        let grant = w.claim("q").await;
        let error = JobFailure { message: message.into(), ..JobFailure::default() };
        w.settle(&grant, Outcome::Fail { error, retry: Retry::After(0) }).await.expect("fail");
    };
    fail_as(w, "one").await;
    fail_as(w, "two").await;
    w.op(Op::Retry { id }).await;
    fail_as(w, "three").await;
    let failures = w.get(id).await.failures;
    let messages: Vec<_> = failures.iter().map(|record| record.failure.message.as_ref()).collect();
    assert_eq!(messages.last(), Some(&"three"), "{messages:?}");
}

pub(super) async fn a_delay_is_a_delay_after_a_step_of_the_wall_clock(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    w.clock().step_wall(-3_600_000);
    let due = w.now().plus_ms(5_000);
    assert_eq!(w.settle(&grant, fail(Retry::After(5_000))).await, Ok((JobState::Retryable, Some(due))));
    assert_eq!(w.try_claim("q").await, None, "a back-off is not over because the clock once showed more");
    assert_eq!(w.queue("q").await.depth.retryable, 1);
    w.advance(5_000);
    assert_eq!(w.claim("q").await.id, grant.id);
}
