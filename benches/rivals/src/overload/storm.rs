//! A storm of retries through three tiers, each of which makes up to four attempts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mainstay::Context;
use mainstay::policy::{BreakerRules, Classified, Policy, Retry, Target, Verdict};
use tokio::time::sleep;
use tower::retry::budget::{Budget, TpsBudget};
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_resilience::retry::{RetryBudgetBuilder, RetryLayer};

use crate::virtually;

/// A call that always fails. It is told which attempt it is, as by a header.
type Tier = BoxCloneSyncService<u32, (), Failed>;

/// What an answer says of trying again, as between processes.
struct Failed(Verdict);

impl Classified for Failed {
    fn verdict(&self) -> Verdict {
        self.0
    }
}

/// How often the last is called for each call of the first.
pub fn all() -> Vec<(&'static str, f64)> {
    vec![
        ("tower retry", through(tower_retry(false))),
        ("tower retry with its TpsBudget (20 %)", through(tower_retry(true))),
        ("tower-resilience retry", through(resilience(false))),
        ("tower-resilience retry with its token bucket", through(resilience(true))),
        ("mainstay policy, the next tier not told of attempts", through(mainstay(false, false))),
        ("mainstay policy", through(mainstay(true, false))),
        ("mainstay policy with breakers", through(mainstay(true, true))),
    ]
}

/// 20,000 calls, 1,000 a second.
fn through(tier: impl Fn(Tier) -> Tier) -> f64 {
    let reached = Arc::new(AtomicU32::new(0));
    let count = reached.clone();
    let last = BoxCloneSyncService::new(service_fn(move |_: u32| {
        count.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Err(Failed(Verdict::Retry)))
    }));
    let calls = 20_000;
    virtually(async {
        let first = tier(tier(tier(last)));
        for n in 0..calls {
            let failed = first.clone().oneshot(1).await;
            assert!(failed.is_err());
            if n % 10 == 0 {
                sleep(Duration::from_millis(10)).await;
            }
        }
    });
    f64::from(reached.load(Ordering::Relaxed)) / f64::from(calls)
}

#[derive(Clone)]
struct Tries {
    left: u32,
    budget: Option<Arc<TpsBudget>>,
}

impl tower::retry::Policy<u32, (), Failed> for Tries {
    type Future = std::future::Ready<()>;

    fn retry(&mut self, _: &mut u32, outcome: &mut Result<(), Failed>) -> Option<Self::Future> {
        if outcome.is_ok() {
            self.budget.iter().for_each(|budget| budget.deposit());
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        let may = self.budget.as_ref().is_none_or(|budget| budget.withdraw());
        may.then(|| std::future::ready(()))
    }

    fn clone_request(&mut self, request: &u32) -> Option<u32> {
        Some(*request)
    }
}

fn tower_retry(budget: bool) -> impl Fn(Tier) -> Tier {
    move |inner| {
        let budget = budget.then(|| Arc::new(TpsBudget::new(Duration::from_secs(10), 10, 0.2)));
        BoxCloneSyncService::new(ServiceBuilder::new().retry(Tries { left: 3, budget }).service(inner))
    }
}

fn resilience(budget: bool) -> impl Fn(Tier) -> Tier {
    move |inner| {
        let mut layer = RetryLayer::builder().max_attempts(4).fixed_backoff(Duration::from_millis(1));
        if budget {
            let bucket = RetryBudgetBuilder::new().token_bucket().tokens_per_second(10.0).max_tokens(100);
            layer = layer.budget(bucket.build().expect("a budget"));
        }
        BoxCloneSyncService::new(ServiceBuilder::new().layer(layer.build()).service(inner))
    }
}

fn mainstay(tells: bool, breaker: bool) -> impl Fn(Tier) -> Tier {
    move |inner| {
        let policy = Policy {
            retry: Retry { max_attempts: 4, base_ms: 1, cap_ms: 1, ..Retry::default() },
            breaker: BreakerRules { enabled: breaker, ..BreakerRules::default() },
            ..Policy::default()
        };
        let target = Target::new("tier", policy).expect("a valid policy");
        BoxCloneSyncService::new(service_fn(move |attempt: u32| {
            let (target, inner) = (target.clone(), inner.clone());
            Context::new().with_attempt(attempt).scope(async move {
                let outcome = target.run(|at| {
                    let number = if tells { attempt.max(at.number()) } else { 1 };
                    inner.clone().oneshot(number)
                });
                outcome.await.map_err(|error| Failed(error.verdict()))
            })
        }))
    }
}
