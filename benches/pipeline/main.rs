//! What a layer costs, in one run: middleware of ours, bare tower layers, and the steps of the request pipeline.
//!
//! `cargo run --release -p mainstay-benches --bin pipeline`; `-- --rounds N` for more than 5. Nanoseconds and
//! allocations a call, one call after the other on one thread.

use std::future::Future;
use std::hint::black_box;

use allocation_counter::measure;
use axum::{Router, body::Body, routing::get};
use http::Request;
use mainstay::auth::{Authenticate, StaticTokens};
use mainstay::pipeline::{Next, Pipeline};
use mainstay::rate::{Rate, RateLimiter};
use mainstay::request;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use tower::ServiceExt;
use tower::util::MapRequestLayer;

type Error = std::convert::Infallible;

fn main() {
    let rounds = rounds();
    let mut bench =
        Bench { runtime: Builder::new_current_thread().enable_all().build().expect("a runtime"), rounds };
    println!("| around an `async fn(u64)` | ns (lowest to highest) | allocations |\n|---|---|---|");
    bench.row("nothing", async || ignore(handler(black_box(1)).await));
    let bare = Pipeline::new().handler(handler);
    bench.row("an empty pipeline", async || ignore(bare.run(black_box(1)).await));
    let one = Pipeline::new().middleware("a", "", pass).handler(handler);
    bench.row("1 middleware", async || ignore(one.run(black_box(1)).await));
    let four = Pipeline::new()
        .middleware("a", "", pass)
        .middleware("b", "", pass)
        .middleware("c", "", pass)
        .middleware("d", "", pass)
        .handler(handler);
    bench.row("4 middlewares", async || ignore(four.run(black_box(1)).await));
    let add = MapRequestLayer::new(|n: u64| n + 1);
    let theirs = Pipeline::new()
        .layer("a", "", add.clone())
        .layer("b", "", add.clone())
        .layer("c", "", add.clone())
        .layer("d", "", add)
        .handler(handler);
    bench.row("4 tower layers", async || ignore(theirs.run(black_box(1)).await));

    println!("\n| a rate limit | ns (lowest to highest) | allocations |\n|---|---|---|");
    let limiter = limiter();
    bench.row("`RateLimiter::check`, a known key", async || ignore(limiter.check("principal alice").await));

    println!("\n| a request, in process | ns (lowest to highest) | allocations |\n|---|---|---|");
    let router = || Router::<()>::new().route("/", get(async || "ok"));
    let plain = || request::Pipeline::default();
    let tokens = || StaticTokens::new().token("alice", "secret", ["read"]);
    for (name, router) in [
        ("axum router", router()),
        ("with the request pipeline", router().layer(plain())),
        ("and security headers", router().layer(plain().security_headers())),
        (
            "and authentication",
            router().layer(plain().security_headers().authenticate(Authenticate::bearer(tokens()))),
        ),
        (
            "and a rate limit",
            router().layer(
                plain()
                    .security_headers()
                    .authenticate(Authenticate::bearer(tokens()))
                    .rate_limit(self::limiter()),
            ),
        ),
    ] {
        let router: Router = router.with_state(());
        bench.row(name, async || {
            let request = Request::get("/").header("authorization", "Bearer secret").body(Body::empty());
            let answer = router.clone().oneshot(request.expect("a request")).await.expect("an answer");
            assert!(answer.status().is_success());
        });
    }
}

fn rounds() -> usize {
    let mut args = std::env::args().skip_while(|arg| arg != "--rounds").skip(1);
    args.next().and_then(|n| n.parse().ok()).unwrap_or(5).max(1)
}

fn limiter() -> RateLimiter {
    RateLimiter::new("bench", Rate::per_second(1_000_000_000)).expect("a rate")
}

async fn handler(n: u64) -> Result<u64, Error> {
    Ok(n + 1)
}

async fn pass(n: u64, next: Next<u64, u64, Error>) -> Result<u64, Error> {
    next.run(n + 1).await
}

fn ignore<T>(value: T) {
    black_box(value);
}

struct Bench {
    runtime: Runtime,
    rounds: usize,
}

impl Bench {
    const CALLS: u32 = 50_000;

    /// Median of the rounds.
    fn row<F: Future<Output = ()>>(&mut self, name: &str, call: impl Fn() -> F) {
        let mut ns: Vec<_> = (0..self.rounds)
            .map(|_| {
                self.runtime.block_on(async {
                    let began = Instant::now();
                    for _ in 0..Self::CALLS {
                        call().await;
                    }
                    began.elapsed().as_secs_f64() * 1e9 / f64::from(Self::CALLS)
                })
            })
            .collect();
        ns.sort_by(f64::total_cmp);
        let (low, middle, high) = (ns[0], ns[ns.len() / 2], ns[ns.len() - 1]);
        let allocations = measure(|| self.runtime.block_on(call())).count_total;
        println!("| {name} | {middle:.0} ({low:.0}–{high:.0}) | {allocations} |");
    }
}
