//! The bounded queue beside tokio's mpsc, async-channel and flume, in one run.
//!
//! `cargo run --release -p mainstay-benches --bin queue`; `-- --rounds N` for more than 5. Two tables: messages a
//! second (4 producers, 1 consumer, `u64`), and by how much a 1 ms ticker is late while another task of the same thread
//! drains a prefilled queue.

mod channels;

use std::time::Duration;

use channels::Kind;
use mainstay::TaskSet;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, MissedTickBehavior, interval};

const PRODUCERS: u64 = 4;
const MESSAGES: u64 = 2_000_000;
const PREFILLED: usize = 4_000_000;

fn main() {
    let rounds = rounds();
    println!("M messages a second, {PRODUCERS} producers, median of {rounds} rounds (lowest to highest)\n");
    println!("| queue | cap 1024, current thread | cap 1024, 2 workers | cap 16, 2 workers |");
    println!("|---|---|---|---|");
    let places = [(1024, 1), (1024, 2), (16, 2)];
    // Round by round over all of them, so that a slow minute of the machine is everybody's.
    let mut seen = vec![vec![Vec::new(); places.len()]; Kind::ALL.len()];
    for _ in 0..rounds {
        for (place, (capacity, workers)) in places.into_iter().enumerate() {
            for (kind, seen) in Kind::ALL.into_iter().zip(&mut seen) {
                seen[place].push(throughput(kind, capacity, workers));
            }
        }
    }
    for (kind, seen) in Kind::ALL.into_iter().zip(&seen) {
        let cells: Vec<_> = seen.iter().map(|rounds| spread(rounds, 1)).collect();
        println!("| {} | {} |", kind.name(), cells.join(" | "));
    }

    println!("\nWorst lateness of a 1 ms ticker while {PREFILLED} items are drained, ms\n");
    println!("| queue | ms |\n|---|---|");
    for kind in Kind::ALL {
        let late: Vec<_> = (0..rounds).map(|_| lateness(kind).as_secs_f64() * 1e3).collect();
        println!("| {} | {} |", kind.name(), spread(&late, 2));
    }
}

fn rounds() -> usize {
    let mut args = std::env::args().skip_while(|arg| arg != "--rounds").skip(1);
    args.next().and_then(|n| n.parse().ok()).unwrap_or(5).max(1)
}

fn runtime(workers: usize) -> Runtime {
    let mut builder = if workers == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.worker_threads(workers).enable_time().build().expect("a runtime")
}

/// Millions of messages a second.
fn throughput(kind: Kind, capacity: usize, workers: usize) -> f64 {
    runtime(workers).block_on(async move {
        let tasks = TaskSet::current().expect("inside a runtime");
        let (tx, rx) = kind.open(capacity);
        let began = Instant::now();
        for _ in 0..PRODUCERS {
            let tx = tx.clone();
            tasks.spawn("producer", async move { tx.send_all(0..MESSAGES / PRODUCERS).await });
        }
        drop(tx);
        let got = tasks.spawn("consumer", rx.receive_all()).await.expect("the consumer ends");
        assert_eq!(got, MESSAGES);
        MESSAGES as f64 / began.elapsed().as_secs_f64() / 1e6
    })
}

/// How late the ticker is at worst.
fn lateness(kind: Kind) -> Duration {
    runtime(1).block_on(async move {
        let tasks = TaskSet::current().expect("inside a runtime");
        let (tx, rx) = kind.open(PREFILLED);
        tx.fill(PREFILLED as u64);
        drop(tx);
        let mut tick = interval(Duration::from_millis(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.tick().await;
        let mut drain = tasks.spawn("drain", rx.receive_all());
        let (mut worst, mut last) = (Duration::ZERO, Instant::now());
        loop {
            tokio::select! {
                biased;
                _ = tick.tick() => {
                    worst = worst.max(last.elapsed().saturating_sub(Duration::from_millis(1)));
                    last = Instant::now();
                }
                got = &mut drain => {
                    assert_eq!(got, Ok(PREFILLED as u64));
                    // A drain in one go leaves no tick before its end.
                    return worst.max(last.elapsed().saturating_sub(Duration::from_millis(1)));
                }
            }
        }
    })
}

fn spread(values: &[f64], decimals: usize) -> String {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[0], values[values.len() - 1]);
    format!("{:.decimals$} ({low:.decimals$}–{high:.decimals$})", values[values.len() / 2])
}
