//! What one call costs that works at once: beside backon, tower's layers and tower-resilience, in one run.
//! `cargo run --release --bin calls`; `-- --rounds N` for more than 5.

use std::future::Future;
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use mainstay::policy::{BreakerRules, BudgetRules, BulkheadRules, Hedge, Policy, Rate, Retry, Target, retry};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_resilience::bulkhead::BulkheadLayer;
use tower_resilience::circuitbreaker::CircuitBreakerLayer;
use tower_resilience::timelimiter::TimeLimiterLayer;

const CALLS: u32 = 200_000;

type Row = (&'static str, Box<dyn FnMut(u32)>);

fn main() {
    let mut args = std::env::args().skip_while(|arg| arg != "--rounds").skip(1);
    let rounds: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(5);
    let mut rows = rows();
    let mut seen = vec![Vec::new(); rows.len()];
    // Round by round over all of them, so that a slow minute of the machine is everybody's. The first warms up.
    for round in 0..=rounds {
        for ((_, run), seen) in rows.iter_mut().zip(&mut seen) {
            let began = Instant::now();
            run(CALLS);
            if round > 0 {
                seen.push(began.elapsed().as_nanos() as f64 / f64::from(CALLS));
            }
        }
    }
    println!(
        "One call, ns: median of {rounds} rounds of {CALLS} calls (lowest to highest); allocations a call\n"
    );
    println!("| what | ns | allocations |\n|---|---|---|");
    for ((name, run), seen) in rows.iter_mut().zip(&mut seen) {
        seen.sort_by(f64::total_cmp);
        let (least, median, most) = (seen[0], seen[seen.len() / 2], seen[seen.len() - 1]);
        let few = allocation_counter::measure(|| run(1_000)).count_total;
        let many = allocation_counter::measure(|| run(11_000)).count_total;
        let each = (many - few) as f64 / 10_000.0;
        println!("| {name} | {median:.0} ({least:.0}–{most:.0}) | {each:.1} |");
    }
}

/// `call` over and over, on one runtime.
fn repeated<F: Future>(mut call: impl FnMut() -> F + 'static) -> Box<dyn FnMut(u32)> {
    let runtime = runtime();
    Box::new(move |n| {
        runtime.block_on(async {
            for _ in 0..n {
                black_box(call().await);
            }
        });
    })
}

/// A tower service over and over: readiness, then the call.
fn service<S>(mut service: S) -> Box<dyn FnMut(u32)>
where
    S: Service<u64> + 'static,
{
    let runtime = runtime();
    Box::new(move |n| {
        runtime.block_on(async {
            for _ in 0..n {
                if let Ok(ready) = service.ready().await {
                    let _ = black_box(ready.call(black_box(7)).await);
                }
            }
        });
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn work(n: u64) -> io::Result<u64> {
    Ok(black_box(n))
}

fn target(policy: Policy) -> &'static Target {
    // Targets are made inside of a runtime, as in a service; and live as long as the program.
    let runtime = runtime();
    let _in = runtime.enter();
    Box::leak(Box::new(Target::new("bench", policy).expect("a valid policy")))
}

#[derive(Clone)]
struct Never;
impl<T, E> tower::retry::Policy<u64, T, E> for Never {
    type Future = std::future::Ready<()>;
    fn retry(&mut self, _: &mut u64, outcome: &mut Result<T, E>) -> Option<Self::Future> {
        outcome.is_err().then(|| std::future::ready(()))
    }
    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

fn rows() -> Vec<Row> {
    let none = Policy {
        total_ms: 0,
        attempt_ms: 0,
        retry: Retry { max_attempts: 1, ..Retry::default() },
        budget: BudgetRules { enabled: false, ..BudgetRules::default() },
        breaker: BreakerRules { enabled: false, ..BreakerRules::default() },
        ..Policy::default()
    };
    let bulkhead = Some(BulkheadRules { max_concurrent: 25, wait_ms: 10 });
    let full = Policy {
        rate: Some(Rate { calls_per_second: 1e9, burst: 1_000_000 }),
        breaker: BreakerRules { consecutive_failures: 5, ..BreakerRules::default() },
        bulkhead,
        ..Policy::default()
    };
    let empty = target(none.clone());
    let only_breaker = target(Policy { breaker: BreakerRules::default(), ..none.clone() });
    let only_budget =
        target(Policy { retry: Retry::default(), budget: BudgetRules::default(), ..none.clone() });
    let only_bulkhead = target(Policy { bulkhead, ..none.clone() });
    let only_limits = target(Policy { total_ms: 30_000, attempt_ms: 10_000, ..none });
    let default = target(Policy::default());
    let hedging = target(Policy { hedge: Some(Hedge { after_ms: 1_000 }), ..full.clone() });
    let full = target(full);
    let ms = Duration::from_millis;
    let leaf = || service_fn(work);
    let policed = |target: &'static Target| repeated(move || target.run(|_| work(7)));
    vec![
        ("bare async fn", repeated(|| work(7))),
        ("backon retry", repeated(|| (|| work(7)).retry(ExponentialBuilder::default()))),
        ("mainstay `retry`", repeated(|| retry(Retry::default(), || work(7)))),
        ("tokio timeout", repeated(move || tokio::time::timeout(ms(10_000), work(7)))),
        ("tower service_fn", service(leaf())),
        ("tower retry", service(ServiceBuilder::new().retry(Never).service(leaf()))),
        ("tower timeout", service(ServiceBuilder::new().timeout(ms(10_000)).service(leaf()))),
        ("tower concurrency_limit", service(ServiceBuilder::new().concurrency_limit(25).service(leaf()))),
        (
            "tower retry, concurrency_limit, timeout",
            service(
                ServiceBuilder::new().retry(Never).concurrency_limit(25).timeout(ms(10_000)).service(leaf()),
            ),
        ),
        (
            "tower-resilience timelimiter",
            service(
                ServiceBuilder::new()
                    .layer(TimeLimiterLayer::builder().timeout_duration(ms(10_000)).build())
                    .service(leaf()),
            ),
        ),
        (
            "tower-resilience breaker",
            service(
                ServiceBuilder::new()
                    .layer(CircuitBreakerLayer::builder().build().expect("a breaker"))
                    .service(leaf()),
            ),
        ),
        (
            "tower-resilience bulkhead",
            service(
                ServiceBuilder::new()
                    .layer(BulkheadLayer::builder().max_concurrent_calls(25).build().expect("a bulkhead"))
                    .service(leaf()),
            ),
        ),
        (
            "tower-resilience breaker, bulkhead, timelimiter",
            service(
                ServiceBuilder::new()
                    .layer(CircuitBreakerLayer::builder().build().expect("a breaker"))
                    .layer(BulkheadLayer::builder().max_concurrent_calls(25).build().expect("a bulkhead"))
                    .layer(TimeLimiterLayer::builder().timeout_duration(ms(10_000)).build())
                    .service(leaf()),
            ),
        ),
        ("mainstay policy: nothing on", policed(empty)),
        ("mainstay policy: time limits", policed(only_limits)),
        ("mainstay policy: retry with budget", policed(only_budget)),
        ("mainstay policy: breaker", policed(only_breaker)),
        ("mainstay policy: bulkhead", policed(only_bulkhead)),
        ("mainstay policy: the default", policed(default)),
        ("mainstay policy: all but hedge", policed(full)),
        ("mainstay policy: all", policed(hedging)),
    ]
}
