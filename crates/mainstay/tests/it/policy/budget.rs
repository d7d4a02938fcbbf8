//! What retries add to the load.

use std::cell::Cell;
use std::future::ready;

use mainstay::millis;
use mainstay::policy::{BudgetRules, GaveUp, Policy, PolicyError, Retry};
use tokio::time::sleep;

use super::{plain, target, transient};

/// Makes 20,000 calls in 20 s; answers attempts a call. `fails` says whether the n-th attempt in all does.
async fn amplification(policy: Policy, fails: impl Fn(u32) -> bool) -> f64 {
    let target = target(policy);
    let made = Cell::new(0);
    let mut calls = 0;
    for _ in 0..2_000 {
        for _ in 0..10 {
            calls += 1;
            let _ = target
                .run(|_| {
                    made.set(made.get() + 1);
                    ready(if fails(made.get()) { Err(transient()) } else { Ok(()) })
                })
                .await;
        }
        sleep(millis(9)).await;
    }
    f64::from(made.get()) / f64::from(calls)
}

/// Four attempts without a wait, so that only the budget holds them.
fn eager() -> Policy {
    let retry = Retry { max_attempts: 4, base_ms: 1, cap_ms: 1, ..Retry::default() };
    Policy { retry, budget: BudgetRules::default(), ..plain() }
}

#[tokio::test(start_paused = true)]
async fn when_everything_fails_the_load_grows_by_a_fifth_at_most() {
    let amplification = amplification(eager(), |_| true).await;
    assert!((1.15..=1.2).contains(&amplification), "{amplification}");
}

#[tokio::test(start_paused = true)]
async fn the_budget_bites_when_half_of_the_attempts_fail() {
    // The trap: a token for each success pays for each retry, so the budget never bites.
    let amplification = amplification(eager(), |n| n % 2 == 0).await;
    assert!((1.15..=1.2).contains(&amplification), "{amplification}");
}

#[tokio::test(start_paused = true)]
async fn time_outs_cost_double() {
    let policy = Policy { attempt_ms: 10, ..eager() };
    let policy = Policy { budget: BudgetRules { min_per_second: 1, ..policy.budget }, ..policy };
    let target = target(policy);
    let (mut made, mut refused) = (0, 0);
    for _ in 0..100 {
        let failed = target.run(|_| std::future::pending::<std::io::Result<()>>()).await.unwrap_err();
        made += failed.attempts() - 1;
        refused += u32::from(matches!(failed, PolicyError::TimedOut { why: GaveUp::Budget, .. }));
    }
    assert_eq!(made, 10, "100 calls in one window pay for 20 retries, or 10 after time-outs");
    assert!(refused > 90);
}
