//! A second attempt beside a slow one.

use std::cell::Cell;
use std::io;

use mainstay::policy::{BudgetRules, Event, Hedge, Policy, PolicyError};
use mainstay::{millis, secs};
use tokio::time::{Instant, sleep};

use super::{fails_after, plain, watched};

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
    let (target, _) = watched(hedging());
    let failed = target.run(|_| fails_after(100)).await.unwrap_err();
    // Three attempts are all there may be: one with its hedge, and one more.
    assert!(matches!(failed, PolicyError::Failed { attempts: 3 | 4, .. }), "{failed:?}");
}
