//! The buckets of histograms: fixed, so that replicas can be added up and memory is known.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use metrics::Unit;

/// OpenTelemetry's for durations, in seconds: what a histogram has whose unit is unknown.
pub(super) const DURATION: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Where a millisecond is long.
pub(super) const SHORT: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];
/// Where a minute is short.
const LONG: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0];
const BYTES: &[f64] =
    &[64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 16_777_216.0];
const COUNT: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0, 10_000.0];

static CHOSEN: RwLock<Option<HashMap<&'static str, &'static [f64]>>> = RwLock::new(None);

/// Sets the buckets of a histogram: upper bounds in ascending order, in its own unit. To be called before it is first
/// recorded. Without it they follow from the unit it was described with: durations have OpenTelemetry's.
///
/// Bounds that do not ascend are not taken, with a warning.
pub fn buckets(histogram: &'static str, bounds: &'static [f64]) {
    if bounds.is_empty()
        || !bounds.is_sorted_by(|a, b| a < b)
        || !bounds.iter().all(|bound| bound.is_finite())
    {
        tracing::warn!(histogram, ?bounds, "buckets must be finite and ascend; these are not taken");
        return;
    }
    let mut chosen = CHOSEN.write().unwrap_or_else(PoisonError::into_inner);
    chosen.get_or_insert_default().insert(histogram, bounds);
}

pub(super) fn of(histogram: &str, unit: Option<Unit>) -> &'static [f64] {
    let chosen = CHOSEN.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(bounds) = chosen.as_ref().and_then(|chosen| chosen.get(histogram)) {
        return bounds;
    }
    match (histogram, unit) {
        ("mainstay.runtime.poll.delay" | "mainstay.store.commit.duration", _) => SHORT,
        ("mainstay.job.duration" | "mainstay.lock.wait", _) => LONG,
        (_, Some(Unit::Bytes)) => BYTES,
        (_, Some(Unit::Count)) => COUNT,
        _ => DURATION,
    }
}
