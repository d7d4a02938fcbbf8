//! What is served in time when there is too much: the simulation of the tests, in virtual time, beside tower's layers
//! and tower-resilience. `cargo run --release --features virtual-time --bin overload`.

#[path = "../../../../crates/mainstay/tests/it/overload/sim.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod sim;

mod guards;
mod storm;

use guards::{Guard, Piece};
use sim::{Detached, Dice, Report, Server, open_loop};

const GUARDS: [(&str, fn() -> Guard); 6] = [
    ("nothing", guards::none),
    ("tower concurrency_limit(4), load_shed", || guards::tower(4)),
    ("tower concurrency_limit(20), load_shed", || guards::tower(20)),
    ("tower-resilience adaptive (AIMD, 50 ms)", guards::aimd),
    ("tower-resilience adaptive (Vegas)", guards::vegas),
    ("mainstay admission", guards::mainstay),
];

fn main() {
    println!("Open-loop arrivals, 4 workers, 10 ms a piece on average; in time is within 100 ms.\n");
    println!("Served in time, % of the capacity (the last 25 of 30 s)\n");
    println!("| what | 0.8 × | 1.2 × | 2 × | 5 × |\n|---|---|---|---|---|");
    for (name, make) in GUARDS {
        let goodput = |load| run(make, load, 30, 0.0, |_, _| {}).goodput(5..30) * 100.0;
        println!(
            "| {name} | {} |",
            [0.8, 1.2, 2.0, 5.0].map(|load| format!("{:.0}", goodput(load))).join(" | ")
        );
    }
    println!("\nTenfold latency from second 10 to 20, at 0.8 times the capacity: % of what came\n");
    println!(
        "| what | before | during | after (20 s) | seconds until 9 of 10 are served again |\n|---|---|---|---|---|"
    );
    for (name, make) in GUARDS {
        let report = run(make, 0.8, 40, 0.0, |second, server| match second {
            10 => server.slower(10.0),
            20 => server.slower(1.0),
            _ => {}
        });
        let cells = [5..10, 10..20, 20..40].map(|seconds| format!("{:.0}", served(&report, seconds)));
        println!("| {name} | {} | {} |", cells.join(" | "), recovery(&report, 20));
    }
    println!(
        "\nHalf of it fails at once, at 1.6 times the capacity: answered by the service in time, % of what came\n"
    );
    println!("| what | answered |\n|---|---|");
    for (name, make) in GUARDS {
        println!("| {name} | {:.0} |", served(&run(make, 1.6, 30, 0.5, |_, _| {}), 5..30));
    }
    println!(
        "\nThree tiers that retry up to three times, and everything fails: calls of the last for each of the first\n"
    );
    println!("| what | calls |\n|---|---|");
    for (name, calls) in storm::all() {
        println!("| {name} | {calls:.2} |");
    }
}

/// `fails`: the share of pieces that fail at once.
fn run(
    make: fn() -> Guard,
    load: f64,
    seconds: u64,
    fails: f64,
    mut each_second: impl FnMut(u64, &Server),
) -> Report {
    virtually(async {
        let (guard, server, detached, coin) = (make(), Server::new(1), Detached::new(), Dice::new(3));
        let call = |deadline| {
            let (server, detached) = (server.clone(), detached.clone());
            guard(Piece { server, detached, deadline, fails: fails > 0.0 && coin.unit() < fails })
        };
        open_loop(load, seconds, 2, call, |second| each_second(second, &server)).await
    })
}

fn virtually<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(future)
}

/// In time, % of what came.
fn served(report: &Report, seconds: std::ops::Range<usize>) -> f64 {
    let all = report.sum(seconds);
    all.served as f64 * 100.0 / all.came as f64
}

/// How many seconds after `from` nine of ten are served in every second to the end.
fn recovery(report: &Report, from: usize) -> String {
    let bad = |second: &sim::Second| second.served * 10 < second.came * 9;
    match report.seconds[from..].iter().rposition(bad) {
        None => "0".to_owned(),
        Some(last) if from + last + 1 == report.seconds.len() => "never".to_owned(),
        Some(last) => (last + 1).to_string(),
    }
}
