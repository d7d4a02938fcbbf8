//! A storm of retries through three tiers.

use std::cell::Cell;
use std::io;

use mainstay::policy::{BreakerRules, BudgetRules, Policy, PolicyError, Retry, Target};
use mainstay::{Context, millis};
use tokio::time::sleep;

/// Each tier retries up to three times, without a wait worth mentioning: only budget and rules hold them.
fn tier(name: &str, breaker: bool) -> Target {
    let policy = Policy {
        retry: Retry { max_attempts: 4, base_ms: 1, cap_ms: 1, ..Retry::default() },
        breaker: BreakerRules { enabled: breaker, ..BreakerRules::default() },
        budget: BudgetRules::default(),
        ..Policy::default()
    };
    Target::new(name, policy).unwrap()
}

/// Calls a, which calls b, which calls c, which calls something that fails: how often is that called for each call?
/// What one tier says to the next goes as between processes: the attempt with the request, the verdict with the error.
async fn amplification(breaker: bool, tells_attempt: bool) -> f64 {
    let (a, b, c) = (tier("a", breaker), tier("b", breaker), tier("c", breaker));
    let reached = Cell::new(0u32);
    let mut calls = 0;
    let told = |number: u32| Context::new().with_attempt(if tells_attempt { number } else { 1 });
    for _ in 0..2_000 {
        for _ in 0..10 {
            calls += 1;
            let failed: Result<(), PolicyError<_>> = a
                .run(|at_a| {
                    told(at_a.number()).scope({
                        let (b, c, reached) = (&b, &c, &reached);
                        async move {
                            b.run(|at_b| {
                                told(at_a.number().max(at_b.number())).scope(async move {
                                    c.run(|_| {
                                        reached.set(reached.get() + 1);
                                        std::future::ready(Err::<(), _>(io::Error::from(
                                            io::ErrorKind::ConnectionReset,
                                        )))
                                    })
                                    .await
                                })
                            })
                            .await
                        }
                    })
                })
                .await;
            assert!(failed.is_err());
        }
        sleep(millis(9)).await;
    }
    f64::from(reached.get()) / f64::from(calls)
}

#[tokio::test(start_paused = true)]
async fn three_tiers_amplify_no_more_than_one() {
    for tells_attempt in [true, false] {
        let amplification = amplification(false, tells_attempt).await;
        println!("amplification {amplification:.3}, attempts told: {tells_attempt}");
        assert!((1.0..=1.2).contains(&amplification), "{amplification}: without limits it would be 64");
    }
}

#[tokio::test(start_paused = true)]
async fn breakers_spare_what_is_down() {
    let amplification = amplification(true, true).await;
    println!("with breakers {amplification:.3}");
    assert!(amplification < 0.1, "{amplification}");
}
