//! One call: attempts, waits, limits, breaker and bulkhead.

use std::cell::Cell;
use std::future::{pending, ready};
use std::io;
use std::time::Duration;

use futures_util::FutureExt;
use mainstay::context::Context;
use mainstay::policy::{
    BreakerRules, BreakerState, BulkheadRules, Event, GaveUp, Hedge, Jitter, Limit, Policy, PolicyError,
    Rate, Refusal, Retry, Verdict, retried, retry,
};
use mainstay::{millis, secs};
use tokio::time::{Instant, sleep, sleep_until};

use super::{fails_after, permanent, plain, target, transient, watched};

#[tokio::test(start_paused = true)]
async fn transient_errors_are_tried_again_with_doubling_waits() {
    let (target, events) = watched(plain());
    let began = Instant::now();
    let done = target.run(|cx| ready(if cx.number() < 3 { Err(transient()) } else { Ok(cx.number()) })).await;
    assert_eq!(done.unwrap(), 3);
    assert_eq!(began.elapsed().as_millis(), 100 + 200);
    let told = [
        Event::Attempt { number: 1, verdict: Verdict::Retry },
        Event::Retry { number: 2, delay: millis(100) },
        Event::Attempt { number: 2, verdict: Verdict::Retry },
        Event::Retry { number: 3, delay: millis(200) },
        Event::Attempt { number: 3, verdict: Verdict::Ok },
    ];
    assert_eq!(*events.lock().unwrap(), told);
}

#[tokio::test(start_paused = true)]
async fn permanent_errors_surface_at_once() {
    let calls = Cell::new(0);
    let target = target(plain());
    let failed = target.run(|_| {
        calls.set(calls.get() + 1);
        ready(Err::<(), _>(permanent()))
    });
    let failed = failed.await.unwrap_err();
    assert!(matches!(&failed, PolicyError::Failed { why: GaveUp::Permanent, attempts: 1, .. }), "{failed:?}");
    assert_eq!(calls.get(), 1);
    assert_eq!(failed.into_inner().unwrap().kind(), io::ErrorKind::PermissionDenied);
}

#[tokio::test(start_paused = true)]
async fn foreign_errors_are_judged_where_the_call_is_made() {
    #[derive(Debug, PartialEq)]
    struct Foreign(u16);
    let judge = |error: &Foreign| if error.0 == 7 { Verdict::Retry } else { Verdict::Permanent };
    let target = target(plain());
    let failed = target
        .call()
        .errors(judge)
        .run(|cx| ready(Err::<(), _>(Foreign(if cx.number() == 1 { 7 } else { 8 }))));
    assert!(matches!(failed.await, Err(PolicyError::Failed { error: Foreign(8), attempts: 2, .. })));
    // A value can be a failure; when no attempts are left, it is the answer.
    let judge = |outcome: Result<&u16, &Foreign>| match outcome {
        Ok(503) => Verdict::Retry,
        _ => Verdict::Ok,
    };
    let calls = Cell::new(0);
    let answer = target.call().judge(judge).run(|_| {
        calls.set(calls.get() + 1);
        ready(Ok(503))
    });
    assert_eq!((answer.await.unwrap(), calls.get()), (503, 3));
}

#[tokio::test(start_paused = true)]
async fn the_total_time_limit_counts_the_operation_too() {
    // The trap: adding up only the waits, so that 10 s of limit become 27 s.
    let policy = Policy {
        total_ms: 10_000,
        retry: Retry { max_attempts: 100, jitter: Jitter::None, ..Retry::default() },
        ..plain()
    };
    let began = Instant::now();
    let failed = target(policy).run(|_| fails_after(4_000)).await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 10);
    assert!(matches!(failed, PolicyError::TimedOut { limit: Limit::Total, attempts: 3, .. }), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn no_wait_begins_that_the_remaining_time_cannot_hold() {
    let policy = Policy { total_ms: 1_000, attempt_ms: 0, ..plain() };
    let policy = Policy { retry: Retry { base_ms: 800, ..policy.retry }, ..policy };
    let began = Instant::now();
    let failed = target(policy).run(|_| fails_after(300)).await.unwrap_err();
    assert_eq!(began.elapsed().as_millis(), 300, "it does not sleep until the limit to fail then");
    assert!(matches!(failed, PolicyError::Failed { why: GaveUp::Time, .. }), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_cut_and_tried_again() {
    let policy = Policy { attempt_ms: 1_000, ..plain() };
    let target = target(policy);
    let done = target.run(|cx| async move {
        if cx.number() == 1 {
            assert_eq!(cx.remaining(), Some(secs(1)));
            pending::<()>().await;
        }
        Ok::<_, io::Error>(cx.number())
    });
    assert_eq!(done.await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_call_and_a_past_one_lets_nothing_begin() {
    let target = target(plain());
    let failed = target.call().deadline(Instant::now() + millis(50)).run(|_| fails_after(1_000));
    let failed = failed.await.unwrap_err();
    assert!(matches!(failed, PolicyError::TimedOut { limit: Limit::Total, .. }), "{failed:?}");
    let refused = target.call().deadline(Instant::now()).run(|_| -> std::future::Ready<io::Result<()>> {
        panic!("nothing may begin for somebody who has stopped waiting")
    });
    assert!(matches!(refused.await, Err(PolicyError::Refused { by: Refusal::Deadline, .. })));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_a_floor() {
    let policy = Policy { retry: Retry { max_attempts: 2, ..Retry::default() }, ..plain() };
    for seed in 0..50 {
        let target = mainstay::policy::Target::seeded("target", policy.clone(), seed).unwrap();
        let began = Instant::now();
        let answer = target.call().errors(|_: &()| Verdict::RetryAfter(secs(3)));
        let _ = answer.run(|_| ready(Err::<(), _>(()))).await;
        let waited = began.elapsed();
        assert!(
            (secs(3)..=millis(3_102)).contains(&waited),
            "{waited:?}: at least what was asked, spread above"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_above_the_cap_ends_the_call_and_says_when_to_come_back() {
    let target = target(plain());
    let failed = target.call().errors(|_: &io::Error| Verdict::RetryAfter(secs(11)));
    let failed = failed.run(|_| ready(Err::<(), _>(transient()))).await.unwrap_err();
    assert!(matches!(failed, PolicyError::Failed { why: GaveUp::TooLong, attempts: 1, .. }));
    assert_eq!(failed.later().unwrap().after, secs(11));
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_done_twice_is_not_tried_twice() {
    let policy = Policy { idempotent: false, ..plain() };
    let failed = target(policy).run(|_| ready(Err::<(), _>(transient()))).await.unwrap_err();
    assert!(matches!(failed, PolicyError::Failed { why: GaveUp::NotIdempotent, attempts: 1, .. }));
    let target = target(plain());
    let failed = target.call().idempotent(false).run(|_| ready(Err::<(), _>(transient()))).await;
    assert!(matches!(failed, Err(PolicyError::Failed { why: GaveUp::NotIdempotent, .. })));
}

#[tokio::test(start_paused = true)]
async fn retries_of_retries_are_refused() {
    let target = target(plain());
    let failed = target.call().upstream_retries(1).run(|_| ready(Err::<(), _>(transient())));
    let failed = failed.await.unwrap_err();
    assert!(matches!(failed, PolicyError::Failed { why: GaveUp::RetryOfRetry, attempts: 1, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_policy_inside_a_policy_does_not_multiply_attempts() {
    let (outer, inner) = (target(plain()), target(plain()));
    let calls = Cell::new(0);
    let failed = outer.run(|_| {
        inner.run(|_| {
            calls.set(calls.get() + 1);
            ready(Err::<(), _>(transient()))
        })
    });
    assert!(failed.await.is_err());
    assert_eq!(calls.get(), 3, "not nine");
}

#[tokio::test(start_paused = true)]
async fn the_breaker_stops_retries_and_refuses_calls_until_a_probe_works() {
    let breaker = BreakerRules { consecutive_failures: 2, probes: 1, ..BreakerRules::default() };
    let target = target(Policy { breaker, ..plain() });
    let calls = Cell::new(0);
    let fails = |_| {
        calls.set(calls.get() + 1);
        ready(Err::<(), _>(transient()))
    };
    let failed = target.run(fails).await.unwrap_err();
    let why = GaveUp::Refused(Refusal::Breaker);
    assert!(matches!(failed, PolicyError::Failed { attempts: 2, why: w, .. } if w == why));
    assert_eq!(target.breaker(), BreakerState::Open);
    let refused = target.run(fails).await.unwrap_err();
    assert!(matches!(refused, PolicyError::Refused { by: Refusal::Breaker, .. }));
    assert_eq!(calls.get(), 2, "an open breaker lets nothing through");
    // Virtual time, which breakers on the machine's clock do not see.
    sleep(refused.later().unwrap().after).await;
    target.run(|_| ready(Ok::<_, io::Error>(()))).await.unwrap();
    assert_eq!(target.breaker(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_panics_gives_its_probe_back() {
    use std::panic::AssertUnwindSafe;
    let breaker = BreakerRules { consecutive_failures: 1, ..BreakerRules::default() };
    let retry = Retry { max_attempts: 1, ..Retry::default() };
    for hedge in [None, Some(Hedge { after_ms: 50 })] {
        let target = target(Policy { breaker, retry: Retry { max_attempts: 2, ..retry }, hedge, ..plain() });
        assert!(target.call().idempotent(false).run(|_| ready(Err::<(), _>(transient()))).await.is_err());
        sleep(secs(5)).await;
        for _ in 0..3 {
            // In what it does before it awaits anything.
            let panics =
                target.run(|_| -> std::future::Ready<io::Result<()>> { panic!("as the test wants") });
            assert!(AssertUnwindSafe(panics).catch_unwind().await.is_err());
        }
        assert_eq!(target.breaker(), BreakerState::HalfOpen);
        for _ in 0..3 {
            target.run(|_| ready(Ok::<_, io::Error>(()))).await.unwrap();
        }
        assert_eq!(target.breaker(), BreakerState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn own_refusals_do_not_count_against_the_target() {
    let policy = Policy {
        breaker: BreakerRules { consecutive_failures: 1, ..BreakerRules::default() },
        bulkhead: Some(BulkheadRules { max_concurrent: 1, wait_ms: 0 }),
        ..plain()
    };
    let target = target(policy);
    let (holder, mut asked) = (target.clone(), Box::pin(target.run(|_| pending::<io::Result<()>>())));
    assert!(asked.as_mut().now_or_never().is_none());
    for _ in 0..100 {
        let refused = holder.run(|_| ready(Ok::<_, io::Error>(()))).await.unwrap_err();
        assert!(matches!(refused, PolicyError::Refused { by: Refusal::Bulkhead, .. }), "{refused:?}");
    }
    assert_eq!(target.breaker(), BreakerState::Closed);
    // Nor does a caller who goes away; and its place is free again.
    drop(asked);
    assert_eq!(target.breaker(), BreakerState::Closed);
    holder.run(|_| ready(Ok::<_, io::Error>(()))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn permanent_errors_show_that_the_target_works() {
    let breaker = BreakerRules { consecutive_failures: 1, ..BreakerRules::default() };
    let target = target(Policy { breaker, ..plain() });
    let _ = target.run(|_| ready(Err::<(), _>(permanent()))).await;
    assert_eq!(target.breaker(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_ignored_outcome_is_not_tried_again_and_says_nothing_about_the_target() {
    let breaker = BreakerRules { consecutive_failures: 1, probes: 1, ..BreakerRules::default() };
    let target = target(Policy { breaker, ..plain() });
    let calls = Cell::new(0);
    let ignored = async || {
        let call = target.call().errors(|_: &io::Error| Verdict::Ignored);
        let failed = call.run(|_| {
            calls.set(calls.get() + 1);
            ready(Err::<(), _>(transient()))
        });
        failed.await.unwrap_err()
    };
    let failed = ignored().await;
    assert!(matches!(failed, PolicyError::Failed { attempts: 1, .. }), "{failed:?}");
    assert_eq!((calls.get(), target.breaker()), (1, BreakerState::Closed));
    assert!(target.run(|_| ready(Err::<(), _>(transient()))).await.is_err());
    assert_eq!(target.breaker(), BreakerState::Open);
    sleep(secs(5)).await;
    for _ in 0..2 {
        let _ = ignored().await;
        assert_eq!(target.breaker(), BreakerState::HalfOpen, "neither a success nor a failure");
    }
    assert_eq!(calls.get(), 3, "each gave its probe back");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_place_is_bounded_and_first_come_first_served() {
    let bulkhead = Some(BulkheadRules { max_concurrent: 1, wait_ms: 500 });
    let target = target(Policy { bulkhead, ..plain() });
    let began = Instant::now();
    let work = |ms| {
        let target = target.clone();
        async move {
            let done = target.run(|_| async move {
                sleep(millis(ms)).await;
                Ok::<_, io::Error>(())
            });
            (done.await, began.elapsed())
        }
    };
    let (a, b, c) = tokio::join!(work(300), work(300), work(300));
    assert!(a.0.is_ok() && b.0.is_ok());
    assert!(b.1 > a.1);
    assert!(matches!(c.0, Err(PolicyError::Refused { by: Refusal::Bulkhead, .. })));
    assert!((millis(500)..millis(510)).contains(&c.1), "{:?}", c.1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_of_a_bulkhead_that_is_taken_away_gets_one() {
    let bulkhead = Some(BulkheadRules { max_concurrent: 1, wait_ms: 500 });
    let target = target(Policy { bulkhead, ..plain() });
    let mut holder = Box::pin(target.run(|_| pending::<io::Result<()>>()));
    assert!(holder.as_mut().now_or_never().is_none());
    let mut waits = Box::pin(target.run(|_| ready(Ok::<_, io::Error>(()))));
    assert!(waits.as_mut().now_or_never().is_none());
    target.reload(plain()).unwrap();
    let began = Instant::now();
    waits.await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_shed_because_a_task_has_used_its_turn() {
    // The trap: readiness that is false when tokio wants the task to yield is not an overload.
    let bulkhead = Some(BulkheadRules { max_concurrent: 4, wait_ms: 1 });
    let target = target(Policy { bulkhead, ..plain() });
    for n in 0..5_000 {
        let done = target.run(|_| ready(Ok::<_, io::Error>(()))).await;
        assert!(done.is_ok(), "call {n}: {done:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_over_the_rate_are_refused_with_the_time_to_come_back() {
    let rate = Some(Rate { calls_per_second: 10.0, burst: 2 });
    let target = target(Policy { rate, ..plain() });
    let call = async || target.run(|_| ready(Ok::<_, io::Error>(()))).await;
    assert!(call().await.is_ok() && call().await.is_ok());
    let refused = call().await.unwrap_err();
    assert!(matches!(refused, PolicyError::Refused { by: Refusal::Rate, .. }));
    sleep(refused.later().unwrap().after).await;
    assert!(call().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_counts_and_refuses_nothing() {
    let policy = Policy {
        dry_run: true,
        rate: Some(Rate { calls_per_second: 1.0, burst: 1 }),
        breaker: BreakerRules { consecutive_failures: 1, ..BreakerRules::default() },
        retry: Retry { max_attempts: 1, ..Retry::default() },
        ..plain()
    };
    let (target, events) = watched(policy);
    for _ in 0..3 {
        let failed = target.run(|_| ready(Err::<(), _>(transient()))).await.unwrap_err();
        assert_eq!(failed.attempts(), 1);
    }
    let events = events.lock().unwrap();
    let would = |by| events.iter().filter(|event| **event == Event::WouldRefuse { by }).count();
    assert_eq!((would(Refusal::Rate), would(Refusal::Breaker)), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn the_wrapped_function_keeps_its_signature() {
    async fn shout((word, times): (&'static str, usize)) -> io::Result<String> {
        Ok(word.repeat(times))
    }
    let shout = retried(Retry::default(), shout);
    assert_eq!(shout(("ha", 3)).await.unwrap(), "hahaha");

    let calls = Cell::new(0);
    let done: io::Result<u32> = retry(Retry::default(), || {
        calls.set(calls.get() + 1);
        ready(if calls.get() < 3 { Err(transient()) } else { Ok(7) })
    })
    .await;
    assert_eq!((done.unwrap(), calls.get()), (7, 3));

    let began = Instant::now();
    let failed: io::Error = retry(Retry::default(), || ready(Err::<(), _>(permanent()))).await.unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_contexts_deadline_and_attempt_hold_for_its_calls() {
    use mainstay::Context;
    let target = target(plain());
    let late = Context::new().with_time_limit(millis(50));
    let failed = late.scope(target.run(|_| fails_after(1_000))).await.unwrap_err();
    assert!(matches!(failed, PolicyError::TimedOut { limit: Limit::Total, .. }), "{failed:?}");
    let failed = late.scope(async { target.run(|_| fails_after(1_000)).await }).await.unwrap_err();
    assert!(matches!(failed, PolicyError::Refused { by: Refusal::Deadline, .. }), "{failed:?}");
    let retrying = Context::new().with_attempt(2);
    let failed = retrying.scope(async { target.run(|_| fails_after(1)).await }).await.unwrap_err();
    assert!(matches!(failed, PolicyError::Failed { why: GaveUp::RetryOfRetry, .. }), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn callers_in_a_hurry_do_not_open_the_breaker_for_everybody() {
    let policy = |slow_ms| Policy {
        attempt_ms: 1_000,
        retry: Retry { max_attempts: 1, ..Retry::default() },
        breaker: BreakerRules { consecutive_failures: 1, slow_ms, ..BreakerRules::default() },
        ..plain()
    };
    let silent = |_| pending::<io::Result<()>>();
    let within = |ms| Instant::now() + millis(ms);

    let target = self::target(policy(0));
    for _ in 0..50 {
        let failed = target.call().deadline(within(999)).run(silent).await.unwrap_err();
        assert!(matches!(failed, PolicyError::TimedOut { limit: Limit::Total, .. }), "{failed:?}");
        let late = mainstay::Context::new().with_time_limit(millis(20));
        late.scope(async { target.run(silent).await }).await.unwrap_err();
    }
    let told = target.call().deadline(within(20)).run(async |attempt| {
        sleep_until(attempt.deadline().unwrap()).await;
        Err::<(), _>(transient())
    });
    assert!(matches!(told.await, Err(PolicyError::Failed { .. })));
    assert_eq!(target.breaker(), BreakerState::Closed, "nor does what the operation itself says of its end");
    let _ = target.call().deadline(within(1_000)).run(silent).await;
    assert_eq!(target.breaker(), BreakerState::Open, "it had as long as the policy itself gives an attempt");

    let target = self::target(policy(200));
    let _ = target.call().deadline(within(199)).run(silent).await;
    assert_eq!(target.breaker(), BreakerState::Closed);
    let _ = target.call().deadline(within(200)).run(silent).await;
    assert_eq!(target.breaker(), BreakerState::Open, "it was slow by the policy's own measure");

    // The limit of the whole call is the policy's own, whoever calls.
    let target = self::target(Policy { attempt_ms: 0, total_ms: 500, ..policy(0) });
    let _ = target.call().deadline(within(499)).run(silent).await;
    assert_eq!(target.breaker(), BreakerState::Closed);
    let _ = target.call().deadline(within(2_000)).run(silent).await;
    assert_eq!(target.breaker(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_probe_cut_by_its_caller_decides_nothing() {
    let breaker = BreakerRules { consecutive_failures: 1, probes: 1, ..BreakerRules::default() };
    let policy = Policy { retry: Retry { max_attempts: 1, ..Retry::default() }, breaker, ..plain() };
    let target = target(policy);
    let _ = target.run(|_| ready(Err::<(), _>(transient()))).await;
    sleep(secs(5)).await;
    let hurried = target.call().deadline(Instant::now() + millis(5));
    hurried.run(|_| pending::<io::Result<()>>()).await.unwrap_err();
    assert_eq!(target.breaker(), BreakerState::HalfOpen);
    target.run(|_| ready(Ok::<_, io::Error>(()))).await.unwrap();
    assert_eq!(target.breaker(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn retries_without_a_target_keep_to_the_context() {
    let asked = std::cell::Cell::new(0);
    let fails = || {
        asked.set(asked.get() + 1);
        std::future::ready(Err::<(), _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset)))
    };
    let rules = Retry { base_ms: 1_000, jitter: Jitter::None, ..Retry::default() };
    let began = tokio::time::Instant::now();
    let hurried = Context::new().with_time_limit(mainstay::millis(500));
    hurried.scope(retry(rules, fails)).await.unwrap_err();
    assert_eq!((asked.take(), began.elapsed()), (1, std::time::Duration::ZERO), "nobody would wait for it");
    Context::new().with_attempt(2).scope(retry(rules, fails)).await.unwrap_err();
    assert_eq!(asked.take(), 1, "whoever asked tries again already");
    retry(rules, fails).await.unwrap_err();
    assert_eq!(asked.take(), rules.max_attempts);
}
