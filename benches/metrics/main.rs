//! What recording costs: the chassis' registry beside metrics-exporter-prometheus, in one run.
//!
//! `cargo run --release -p mainstay-benches --bin metrics`; `-- --rounds N` for more than 7. Nanoseconds a recording on
//! one thread and on two that record the same series; a request leaves one duration with six labels and moves one gauge
//! twice. Then what an export costs with 2,000 series more: the new labels of the last case are one series here, and as
//! many as there were in the exporter, which has no bound.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Duration;

use mainstay::{App, Boot};
use metrics::{counter, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio::time::Instant;

const TIMES: u32 = 200_000;
const SERIES: u64 = 2_000;

/// A name, and what is done so many times.
type Case = (&'static str, fn(u32));

const CASES: [Case; 6] = [
    ("a counter without labels", |times| (0..times).for_each(|_| counter!("bench.plain").increment(1))),
    ("a gauge, up and down", |times| {
        for _ in 0..times {
            gauge!("bench.active").increment(1);
            gauge!("bench.active").decrement(1);
        }
    }),
    ("a duration with six labels", |times| {
        (0..times).for_each(|n| labelled(n).record(f64::from(n % 100) / 1e3))
    }),
    ("the same by a handle that was kept", |times| {
        let kept = labelled(0);
        (0..times).for_each(|n| kept.record(f64::from(n % 100) / 1e3));
    }),
    ("a request: kept handles, as the pipeline has", |times| {
        let (active, took) = (gauge!("bench.active"), labelled(0));
        for n in 0..times {
            active.increment(1);
            took.record(f64::from(n % 100) / 1e3);
            active.decrement(1);
        }
    }),
    ("a label that is new each time", |times| {
        (0..times).for_each(|n| counter!("bench.scan", "path" => n.to_string()).increment(1));
    }),
];

fn labelled(n: u32) -> metrics::Histogram {
    let status = if n.is_multiple_of(16) { 500 } else { 200 };
    histogram!(
        "http.server.request.duration",
        "http.request.method" => "GET",
        "http.route" => black_box("/v1/queues/{queue}/jobs").to_owned(),
        "http.response.status_code" => status.to_string(),
        "url.scheme" => "http",
        "error.type" => if status == 500 { "500" } else { "" },
        "outcome" => if status == 500 { "server_error" } else { "ok" }
    )
}

fn main() {
    let mut args = std::env::args().skip_while(|arg| arg != "--rounds").skip(1);
    let rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(7).max(1);
    // An app sets the chassis' recorder up; it stays when the app has ended.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ended =
        runtime.block_on(App::<()>::new("bench").run_until(async |_: &mut Boot<()>| Ok(()), async {}));
    assert!(ended.error.is_none(), "{:?}", ended.error);
    let exporter = PrometheusBuilder::new().set_buckets(&[0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0]);
    let exporter = exporter.expect("buckets").build_recorder();
    let handle = exporter.handle();

    println!("ns a time, median of {rounds} rounds (lowest to highest)\n");
    println!(
        "| what | chassis, 1 thread | 2 threads | exporter, 1 thread | 2 threads |\n|---|---|---|---|---|"
    );
    for (name, case) in CASES {
        let mut seen = vec![Vec::new(); 4];
        for _ in 0..rounds {
            for (place, threads) in [(0, 1), (1, 2)] {
                seen[place].push(measure(None, threads, case));
                seen[place + 2].push(measure(Some(&exporter), threads, case));
                // What its histograms have kept since is not to grow from round to round.
                handle.run_upkeep();
            }
        }
        let cells: Vec<_> = seen.iter_mut().map(|rounds| spread(rounds)).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }

    let fill = |n: u64| histogram!("bench.export", "n" => n.to_string()).record(0.01);
    with(None, || (0..SERIES).for_each(fill));
    with(Some(&exporter), || (0..SERIES).for_each(fill));
    let times = |work: &dyn Fn()| {
        let mut rounds: Vec<_> = (0..rounds).map(|_| timed(work).as_secs_f64() * 1e3).collect();
        spread(&mut rounds)
    };
    println!(
        "\n| ms for an export with {SERIES} histogram series, after all that | chassis | exporter |\n|---|---|---|"
    );
    let ours = times(&|| drop(black_box(mainstay::telemetry::render())));
    println!("| text | {ours} | {} |", times(&|| drop(black_box(handle.render()))));
}

/// With this recorder; without one, with that which the app has left behind the facade.
fn with<T>(recorder: Option<&PrometheusRecorder>, work: impl FnOnce() -> T) -> T {
    match recorder {
        Some(recorder) => with_local_recorder(recorder, work),
        None => work(),
    }
}

/// Nanoseconds a time.
fn measure(recorder: Option<&PrometheusRecorder>, threads: usize, case: fn(u32)) -> f64 {
    let start = Barrier::new(threads);
    let took = std::thread::scope(|scope| {
        let run = || {
            with(recorder, || {
                start.wait();
                timed(&|| case(TIMES))
            })
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().map(|thread| thread.join().expect("it runs")).max().unwrap_or_default()
    });
    took.as_secs_f64() * 1e9 / f64::from(TIMES)
}

fn timed(work: &dyn Fn()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn spread(rounds: &mut [f64]) -> String {
    rounds.sort_by(f64::total_cmp);
    let (least, most) = (rounds[0], rounds[rounds.len() - 1]);
    format!("{:.3} ({least:.3}–{most:.3})", rounds[rounds.len() / 2])
}
