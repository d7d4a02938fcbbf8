//! A second attempt beside a slow one.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::task::Poll;

use mainstay::policy::{
    BreakerRules, BreakerState, BudgetRules, Event, GaveUp, Hedge, Policy, PolicyError, Verdict,
};
use mainstay::{millis, secs};
use tokio::time::{Instant, sleep};

use super::{fails_after, permanent, plain, watched};

fn hedging() -> Policy {
    Policy { hedge: Some(Hedge { after_ms: 50 }), ..plain() }
}

#[tokio::test(start_paused = true)]
async fn a_slow_attempt_gets_a_second_one_and_the_first_answer_counts() {
    let (target, events) = watched(hedging());
    let began = Instant::now();
    let done = target.run(|cx| async move {
        sleep(if cx.number() == 1 { secs(5) } else { millis(10) }).await;
        Ok::<_, io::Error>(cx.number())
    });
    assert_eq!(done.await.unwrap(), 2);
    assert!(began.elapsed() < millis(70));
    assert!(events.lock().unwrap().contains(&Event::Hedge { number: 2 }));
}

#[tokio::test(start_paused = true)]
async fn quick_attempts_and_those_that_must_not_be_repeated_get_none() {
    let (target, events) = watched(hedging());
    target
        .run(|_| async {
            sleep(millis(40)).await;
            Ok::<_, io::Error>(())
        })
        .await
        .unwrap();
    let slow = target.call().idempotent(false);
    slow.run(|_| async {
        sleep(secs(1)).await;
        Ok::<_, io::Error>(())
    })
    .await
    .unwrap();
    assert!(!events.lock().unwrap().iter().any(|event| matches!(event, Event::Hedge { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_failure_waits_for_the_attempt_beside_it() {
    let (target, _) = watched(hedging());
    let done = target.run(|cx| async move {
        if cx.number() == 1 {
            fails_after(60).await?;
        }
        sleep(millis(100)).await;
        Ok::<_, io::Error>(cx.number())
    });
    assert_eq!(done.await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_of_either_attempt_surfaces_at_once() {
    for refused in [1, 2] {
        let (target, _) = watched(hedging());
        let began = Instant::now();
        let failed = target.run(|cx| async move {
            if cx.number() == refused {
                sleep(millis(60)).await;
                return Err(permanent());
            }
            fails_after(5_000).await
        });
        let failed = failed.await.unwrap_err();
        let why = matches!(failed, PolicyError::Failed { attempts: 2, why: GaveUp::Permanent, .. });
        assert!(why, "of attempt {refused}: {failed:?}");
        assert!(began.elapsed() < millis(200), "of attempt {refused}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_sheds_load_is_not_asked_again_because_the_attempt_beside_failed() {
    let (target, _) = watched(hedging());
    let made = Cell::new(0);
    let call = target.call().errors(|error: &io::Error| match error.kind() {
        io::ErrorKind::ResourceBusy => Verdict::Overloaded,
        _ => Verdict::Retry,
    });
    let failed = call.run(|cx| {
        made.set(made.get() + 1);
        async move {
            if cx.number() == 1 {
                sleep(millis(60)).await;
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            fails_after(100).await
        }
    });
    let failed = failed.await.unwrap_err();
    assert!(matches!(failed, PolicyError::Failed { why: GaveUp::Overloaded, .. }), "{failed:?}");
    assert_eq!(made.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn hedges_are_paid_from_the_budget_that_retries_use() {
    let budget = BudgetRules { min_per_second: 0, ..BudgetRules::default() };
    let (target, _) = watched(Policy { budget, ..hedging() });
    let made = Cell::new(0);
    let call = || {
        target.run(|_| {
            made.set(made.get() + 1);
            async {
                sleep(secs(1)).await;
                Ok::<_, io::Error>(())
            }
        })
    };
    futures_util::future::join_all((0..1_000).map(|_| call())).await;
    assert_eq!(made.get(), 1_200, "every call is slow; a fifth may be hedged");
}

#[tokio::test(start_paused = true)]
async fn both_attempts_failing_is_one_failure() {
    let (target, events) = watched(hedging());
    let made = Cell::new(0);
    let failed = target.run(|_| {
        made.set(made.get() + 1);
        fails_after(100)
    });
    let failed = failed.await.unwrap_err();
    // Three attempts are all there may be: one with its hedge, and one more without.
    assert!(matches!(failed, PolicyError::Failed { attempts: 3, why: GaveUp::Attempts, .. }), "{failed:?}");
    assert_eq!(made.get(), 3);
    let hedges = events.lock().unwrap().iter().filter(|event| matches!(event, Event::Hedge { .. })).count();
    assert_eq!(hedges, 1);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_the_breaker_refuses_costs_nothing() {
    let policy = Policy {
        breaker: BreakerRules { consecutive_failures: 1, ..BreakerRules::default() },
        budget: BudgetRules::default(),
        ..hedging()
    };
    let (target, events) = watched(policy);
    let left = target.budget_left();
    let slow = target.run(|_| async {
        sleep(millis(100)).await;
        Ok::<_, io::Error>(())
    });
    let fails = async {
        sleep(millis(10)).await;
        target.call().idempotent(false).run(|_| fails_after(0)).await
    };
    let (done, failed) = tokio::join!(slow, fails);
    done.unwrap();
    assert!(failed.is_err());
    assert_eq!(target.breaker(), BreakerState::Open);
    assert!(events.lock().unwrap().contains(&Event::HedgeRefused));
    assert_eq!(target.budget_left(), left);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_is_never_looked_at_gives_its_pass_back() {
    let policy = Policy {
        breaker: BreakerRules { consecutive_failures: 1, probes: 2, ..BreakerRules::default() },
        ..hedging()
    };
    let (target, _) = watched(policy);
    assert!(target.call().idempotent(false).run(|_| fails_after(0)).await.is_err());
    sleep(secs(5)).await;
    // The first is ready in the moment in which the hedge is made.
    let (first, now) = (Cell::new(None), Cell::new(false));
    let done = target.run(|cx| {
        now.set(cx.number() == 2);
        first.set(Some(cx.number()));
        poll_fn(|_| if now.get() { Poll::Ready(Ok::<_, io::Error>(())) } else { Poll::Pending })
    });
    done.await.unwrap();
    assert_eq!(first.get(), Some(2), "it was hedged");
    assert_eq!(target.breaker(), BreakerState::HalfOpen);
    // One more may run beside another: both places are free.
    let slow = || {
        target.call().idempotent(false).run(|_| async {
            sleep(millis(10)).await;
            Ok::<_, io::Error>(())
        })
    };
    let (one, two) = tokio::join!(slow(), slow());
    assert!(one.is_ok() && two.is_ok(), "{one:?}, {two:?}");
    assert_eq!(target.breaker(), BreakerState::Closed);
}
