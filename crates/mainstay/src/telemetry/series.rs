//! One series: its labels, and the cells that are written on every recording.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use metrics::{CounterFn, GaugeFn, HistogramFn};

/// What a metric measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One series. Never removed: a handle to it may live as long as the process.
pub(super) struct Series {
    /// Names as they were given, values not empty, in the order of the exposed names.
    pub labels: Vec<(String, String)>,
    /// `a="x",b="y"`, ready for the text formats.
    pub text: String,
    pub cell: Cell,
}

pub(super) enum Cell {
    /// A counter of the facade.
    Count(AtomicU64),
    /// A gauge, or a sum that is read elsewhere (seconds of processor time): the bits of a float.
    Value(AtomicU64),
    Buckets(Buckets),
}

/// A histogram of fixed buckets: its size does not depend on how much is recorded.
pub(super) struct Buckets {
    pub bounds: &'static [f64],
    /// One more than `bounds`: the last takes what is above all of them.
    slots: Box<[Slot]>,
}

#[derive(Default)]
struct Slot {
    count: AtomicU64,
    /// Of this bucket alone, so that threads that record different values do not meet, and a mean is known of each.
    sum: AtomicU64,
}

impl Buckets {
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, slots: (0..=bounds.len()).map(|_| Slot::default()).collect() }
    }

    /// Count and sum of each bucket by itself, the last above all bounds.
    pub fn read(&self) -> impl Iterator<Item = (u64, f64)> + '_ {
        self.slots.iter().map(|slot| (slot.count.load(Relaxed), f64::from_bits(slot.sum.load(Relaxed))))
    }

    fn record(&self, value: f64, times: u64) {
        // One number that is none would spoil the sum for good.
        if !value.is_finite() {
            return;
        }
        let slot = &self.slots[self.bounds.partition_point(|bound| *bound < value)];
        slot.count.fetch_add(times, Relaxed);
        add(&slot.sum, value * times as f64);
    }
}

impl Series {
    pub fn new(labels: Vec<(String, String)>, text: String, cell: Cell) -> Self {
        Self { labels, text, cell }
    }

    pub fn fits(&self, kind: Kind) -> bool {
        matches!(
            (&self.cell, kind),
            (Cell::Count(_), Kind::Counter)
                | (Cell::Value(_), Kind::Gauge)
                | (Cell::Buckets(_), Kind::Histogram)
        )
    }

    /// Sets what was measured elsewhere.
    pub fn observe(&self, value: f64) {
        match &self.cell {
            Cell::Value(bits) => bits.store(value.to_bits(), Relaxed),
            Cell::Count(count) => count.store(value as u64, Relaxed),
            Cell::Buckets(_) => {}
        }
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        if let Cell::Count(count) = &self.cell {
            count.fetch_add(value, Relaxed);
        }
    }

    fn absolute(&self, value: u64) {
        if let Cell::Count(count) = &self.cell {
            count.fetch_max(value, Relaxed);
        }
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        if let Cell::Value(bits) = &self.cell {
            add(bits, value);
        }
    }

    fn decrement(&self, value: f64) {
        GaugeFn::increment(self, -value);
    }

    fn set(&self, value: f64) {
        self.observe(value);
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        if let Cell::Buckets(buckets) = &self.cell {
            buckets.record(value, count as u64);
        }
    }
}

fn add(bits: &AtomicU64, value: f64) {
    let _ = bits.fetch_update(Relaxed, Relaxed, |bits| Some((f64::from_bits(bits) + value).to_bits()));
}
