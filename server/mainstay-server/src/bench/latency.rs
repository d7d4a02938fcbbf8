//! Latencies, counted without a lock: buckets that are exact below 128 µs and within 1 % above.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};

const SUB: u32 = 6;
const BUCKETS: usize = 2_048;

/// How long a step took, over all callers.
pub(super) struct Latency(Box<[AtomicU32]>);

/// What is told of it, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl Latency {
    pub(super) fn new() -> Latency {
        Latency((0..BUCKETS).map(|_| AtomicU32::new(0)).collect())
    }

    pub(super) fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0[bucket(micros)].fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).sum()
    }

    pub(super) fn quantiles(&self) -> Quantiles {
        let counts: Vec<u64> = self.0.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).collect();
        let total: u64 = counts.iter().sum();
        let at = |share: f64| {
            let rank = ((total as f64 * share).ceil() as u64).clamp(1, total.max(1));
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            found.map_or(0.0, |bucket| middle(bucket) / 1e3)
        };
        Quantiles { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }
}

fn bucket(micros: u64) -> usize {
    let octave = (64 - micros.leading_zeros()).saturating_sub(SUB + 1);
    let index = ((octave as usize) << SUB) + (micros >> octave) as usize;
    index.min(BUCKETS - 1)
}

/// The middle of a bucket, in microseconds.
fn middle(bucket: usize) -> f64 {
    let octave = (bucket >> SUB).saturating_sub(1);
    let low = ((bucket - (octave << SUB)) as u64) << octave;
    low as f64 + (((1_u64 << octave) - 1) as f64) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_never_far_from_what_it_holds() {
        for micros in
            (0..20).flat_map(|bits| [1_u64 << bits, (1 << bits) + 1, (3 << bits) / 2, (2 << bits) - 1])
        {
            let told = middle(bucket(micros));
            assert!((told - micros as f64).abs() <= micros as f64 * 0.01, "{micros} told as {told}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_samples() {
        let latency = Latency::new();
        for micros in 1..=1_000 {
            latency.record(Duration::from_micros(micros));
        }
        let told = latency.quantiles();
        for (told, exact) in [(told.p50, 0.5), (told.p99, 0.99), (told.p999, 0.999), (told.max, 1.0)] {
            assert!((told - exact).abs() < 0.02, "{told} for {exact}");
        }
        assert_eq!(Latency::new().quantiles(), Quantiles::default());
    }
}
