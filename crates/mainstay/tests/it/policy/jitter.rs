//! The statistics of jitter, against the published simulation.

use mainstay::policy::{Jitter, Retry};
use mainstay_core::rules::mix;
use std::time::Duration;

/// `clients` contend for one row by optimistic locking: a client reads, then writes; a write that finds the row
/// changed since the read fails, and the client waits as the jitter says. Network delays are drawn around 10 ms with
/// a deviation of 2. After `OccClient` in github.com/aws-samples/aws-arch-backoff-simulator (base 5, cap 2000).
/// Answers calls made and time taken.
fn contend(clients: u64, jitter: Jitter, seed: u64) -> (u64, f64) {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    let rules = Retry { base_ms: 5, cap_ms: 2_000, jitter, ..Retry::default() };
    let mut drawn = 0;
    let mut random = || {
        drawn += 1;
        mix(seed, drawn)
    };
    // Twelve uniform draws make a normal one.
    let network = |random: &mut dyn FnMut() -> u64| {
        let sum: f64 = (0..12).map(|_| random() as f64 / u64::MAX as f64).sum();
        ((10.0 + 2.0 * (sum - 6.0)).abs() * 1_000.0) as u64
    };
    // (at, client, version read): a read without one, a write with it.
    let mut queue = BinaryHeap::new();
    let mut tries = vec![(0u32, Duration::ZERO); clients as usize];
    let (mut version, mut calls, mut end) = (0u64, 0, 0);
    for client in 0..clients {
        queue.push(Reverse((network(&mut random), client, None::<u64>)));
    }
    while let Some(Reverse((at, client, read))) = queue.pop() {
        match read {
            // The read arrives; its answer travels back, and the write travels here.
            None => {
                let travel = network(&mut random) + network(&mut random);
                queue.push(Reverse((at + travel, client, Some(version))));
            }
            Some(read) => {
                calls += 1;
                let answered = at + network(&mut random);
                if read == version {
                    version += 1;
                    end = end.max(answered);
                } else {
                    let (n, previous) = &mut tries[client as usize];
                    *n += 1;
                    *previous = rules.delay(*n, *previous, random());
                    let again = answered + previous.as_micros() as u64 + network(&mut random);
                    queue.push(Reverse((again, client, None)));
                }
            }
        }
    }
    (calls, end as f64 / 1e6)
}

#[test]
fn full_jitter_makes_the_fewest_calls() {
    let mean = |jitter| {
        let runs = (0..100).map(|seed| contend(100, jitter, seed));
        let (calls, time) = runs.fold((0, 0.0), |(c, t), (calls, time)| (c + calls, t + time));
        (calls as f64 / 100.0, time / 100.0)
    };
    let (none, none_time) = mean(Jitter::None);
    let (equal, equal_time) = mean(Jitter::Equal);
    let (full, full_time) = mean(Jitter::Full);
    let (decorrelated, decorrelated_time) = mean(Jitter::Decorrelated);
    let all = format!(
        "calls/s until done: none {none:.0}/{none_time:.1}, equal {equal:.0}/{equal_time:.1}, \
         full {full:.0}/{full_time:.1}, decorrelated {decorrelated:.0}/{decorrelated_time:.1}"
    );
    println!("{all}");
    // Published (re-run, 100 clients): exponential 1851/63.6, equal 811/6.6, full 795/4.9, decorrelated 999/4.7.
    assert!(full <= equal && full < decorrelated && full < none, "{all}");
    assert!(none > 1.8 * full && none_time > 5.0 * full_time, "{all}");
    assert!(full_time < equal_time && decorrelated > 1.1 * full, "{all}");
    for (calls, published) in [(none, 1_851.0), (equal, 811.0), (full, 795.0), (decorrelated, 999.0)] {
        assert!((0.8..1.2).contains(&(calls / published)), "{calls:.0} against {published}: {all}");
    }
}

#[test]
fn full_jitter_spreads_evenly() {
    let rules = Retry { base_ms: 1_000, ..Retry::default() };
    let draws: Vec<_> =
        (0..100_000).map(|n| rules.delay(3, Duration::ZERO, mix(7, n)).as_secs_f64()).collect();
    let mean = draws.iter().sum::<f64>() / draws.len() as f64;
    assert!((mean - 2.0).abs() < 0.02, "half of 4 s on average: {mean}");
    for tenth in 0..10 {
        let (from, to) = (f64::from(tenth) * 0.4, f64::from(tenth + 1) * 0.4);
        let inside = draws.iter().filter(|delay| (from..to).contains(*delay)).count();
        assert!((9_500..10_500).contains(&inside), "{from} to {to}: {inside}");
    }
}
