//! What is served in time when there is too much: the simulation of the tests, in virtual time, beside tower's layers
//! and tower-resilience. `cargo run --release --features virtual-time --bin overload`.

#[path = "../../../crates/mainstay/tests/it/overload/sim.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod sim;

use std::sync::Arc;
use std::time::Duration;

use mainstay::admission::{Admission, AdmissionRules};
use mainstay::context::Criticality;
use tokio::time::Instant;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use sim::{Answer, Detached, Report, Server, open_loop};

fn main() {
    println!(
        "Served within 100 ms, % of the capacity (4 workers, 10 ms a piece on average, 30 s, the last 25 counted)\n"
    );
    println!("| what | 0.8 × | 1.2 × | 2 × | 5 × |\n|---|---|---|---|---|");
    row("nothing", |load| run(load, bare));
    row("tower concurrency_limit(4), load_shed", |load| run(load, || tower_limit(4)));
    row("tower concurrency_limit(20), load_shed", |load| run(load, || tower_limit(20)));
    row("tower-resilience adaptive (AIMD)", |load| run(load, || resilience(false)));
    row("tower-resilience adaptive (Vegas)", |load| run(load, || resilience(true)));
    row("mainstay admission", |load| run(load, admission));
}

fn row(name: &str, measure: impl Fn(f64) -> Report) {
    let cells: Vec<_> =
        [0.8, 1.2, 2.0, 5.0].map(|load| format!("{:.0}", measure(load).goodput(5..30) * 100.0)).into();
    println!("| {name} | {} |", cells.join(" | "));
}

/// How one client gets its answer.
type Call = Arc<dyn Fn(Server, Detached, Instant) -> Answering + Send + Sync>;
type Answering = std::pin::Pin<Box<dyn Future<Output = Answer> + Send>>;

fn run(load: f64, make: impl Fn() -> Call) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let (call, server, detached) = (make(), Server::new(1), Detached::new());
        open_loop(load, 30, 2, |deadline| call(server.clone(), detached.clone(), deadline), |_| {}).await
    })
}

fn bare() -> Call {
    Arc::new(|server, detached, _| {
        Box::pin(async move {
            detached.run(async move { server.work().await }).await;
            Answer::Served
        })
    })
}

fn admission() -> Call {
    let admission = Admission::seeded("bench", AdmissionRules::default(), 7).expect("valid rules");
    Arc::new(move |server, detached, deadline| {
        let admission = admission.clone();
        Box::pin(async move {
            let Ok(permit) = admission.admit_as(Criticality::Critical, Some(deadline)).await else {
                return Answer::Shed;
            };
            let work = async move {
                server.work().await;
                permit.done();
            };
            detached.run(work).await;
            Answer::Served
        })
    })
}

/// A service whose call is one piece of work; it is finished whoever waits.
fn through<S>(service: S) -> Call
where
    S: Service<Server, Response = ()> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Send,
{
    Arc::new(move |server, detached, _| {
        let mut service = service.clone();
        Box::pin(async move {
            let (answered, answer) = tokio::sync::oneshot::channel();
            let work = async move {
                let outcome = match service.ready().await {
                    Ok(ready) => ready.call(server).await.is_ok(),
                    Err(_) => false,
                };
                let _ = answered.send(outcome);
            };
            detached.run(work).await;
            if answer.await == Ok(true) { Answer::Served } else { Answer::Shed }
        })
    })
}

async fn work(server: Server) -> Result<(), std::io::Error> {
    server.work().await;
    Ok(())
}

fn tower_limit(n: usize) -> Call {
    through(ServiceBuilder::new().load_shed().concurrency_limit(n).service(service_fn(work)))
}

fn resilience(vegas: bool) -> Call {
    use tower_resilience::adaptive::{AdaptiveLimiterLayer, Aimd, Vegas};
    if vegas {
        let layer = AdaptiveLimiterLayer::new(Vegas::builder().initial_limit(20).build().expect("a limit"));
        through(ServiceBuilder::new().load_shed().layer(layer).service(service_fn(work)))
    } else {
        let limit = Aimd::builder().initial_limit(20).latency_threshold(Duration::from_millis(50));
        let limit = limit.build().expect("a limit");
        through(
            ServiceBuilder::new()
                .load_shed()
                .layer(AdaptiveLimiterLayer::new(limit))
                .service(service_fn(work)),
        )
    }
}
