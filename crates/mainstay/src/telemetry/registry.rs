//! Where every metric of the process is: the recorder behind the facade, bounded by construction.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::buckets;
use super::series::{Buckets, Cell, Kind, Series};
use super::text::{label_text, sanitize};

/// How many metrics there may be; names are written in programs, so this only stops one that computes them.
const MAX_FAMILIES: usize = 2000;
/// More than the threads that record at once, so that they rarely meet.
const SHARDS: usize = 16;
/// The label of the series that takes what is above the bound; OpenTelemetry's name for it.
pub(super) const OVERFLOW: &str = "otel.metric.overflow";

type Found = HashMap<Key, Arc<Series>, BuildHasherDefault<Prehashed>>;

/// All metrics. A recording finds its series by one look into a map; only the first of each takes the long way.
pub(crate) struct Registry {
    found: [RwLock<Found>; SHARDS],
    families: RwLock<BTreeMap<String, Arc<Family>>>,
    described: RwLock<HashMap<String, Description>>,
    /// Series a metric.
    cap: AtomicUsize,
    /// Recordings that had no place at all: too many metrics, or one name for two kinds.
    refused: AtomicU64,
}

/// All series of one name.
pub(super) struct Family {
    /// As the program calls it.
    pub name: String,
    pub kind: Kind,
    series: RwLock<HashMap<String, Arc<Series>>>,
    overflow: AtomicU64,
    quarrelled: AtomicUsize,
}

#[derive(Clone)]
pub(super) struct Description {
    pub unit: Option<Unit>,
    pub help: SharedString,
}

impl Registry {
    pub fn new(cap: usize) -> Self {
        Self {
            found: std::array::from_fn(|_| RwLock::default()),
            families: RwLock::default(),
            described: RwLock::default(),
            cap: AtomicUsize::new(cap.max(1)),
            refused: AtomicU64::new(0),
        }
    }

    pub fn set_cap(&self, cap: usize) {
        self.cap.store(cap.max(1), Relaxed);
    }

    /// Sets a gauge, or a counter that somebody else counts, to what it is now.
    pub fn observe(&self, kind: Kind, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| (*name, *value));
        let make = || Cell::Value(AtomicU64::new(0));
        if let Some((series, _)) = self.enter(kind, name, labels, make) {
            series.observe(value);
        }
    }

    /// Every metric with its description and series, by name.
    pub(super) fn each(&self, mut see: impl FnMut(&Family, Option<&Description>, &[Arc<Series>])) {
        let families: Vec<_> =
            read(&self.families).iter().map(|(name, f)| (name.clone(), f.clone())).collect();
        for (name, family) in families {
            let mut series: Vec<_> = read(&family.series).values().cloned().collect();
            series.sort_by(|a, b| a.text.cmp(&b.text));
            let described = read(&self.described).get(&name).cloned();
            see(&family, described.as_ref(), &series);
        }
    }

    /// Makes the bounds themselves visible, before an export.
    pub fn observe_bounds(&self) {
        let families: Vec<_> = read(&self.families).values().cloned().collect();
        for family in families {
            let overflow = family.overflow.load(Relaxed);
            if overflow > 0 {
                let labels = [("metric", family.name.as_str())];
                self.observe(Kind::Counter, "mainstay.metrics.overflow", &labels, overflow as f64);
            }
        }
        let refused = self.refused.load(Relaxed) as f64;
        self.observe(Kind::Counter, "mainstay.metrics.refused", &[], refused);
    }

    fn series(&self, kind: Kind, key: &Key) -> Option<Arc<Series>> {
        let shard = &self.found[(key.get_hash() >> 32) as usize % SHARDS];
        if let Some(series) = read(shard).get(key)
            && series.fits(kind)
        {
            return Some(series.clone());
        }
        let labels = key.labels().map(|label| (label.key(), label.value()));
        let make = || match kind {
            Kind::Counter => Cell::Count(AtomicU64::new(0)),
            Kind::Gauge => Cell::Value(AtomicU64::new(0)),
            Kind::Histogram => Cell::Buckets(Buckets::new(buckets::of(key.name(), self.unit(key.name())))),
        };
        let (series, own) = self.enter(kind, key.name(), labels, make)?;
        // What went to the overflow is not remembered: that memory would have no bound.
        if own && series.fits(kind) {
            write(shard).insert(key.to_retained(), series.clone());
        }
        Some(series)
    }

    /// The series of these labels, or the overflow's; whether it is its own.
    fn enter<'a>(
        &self,
        kind: Kind,
        name: &str,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        make: impl FnOnce() -> Cell,
    ) -> Option<(Arc<Series>, bool)> {
        let family = self.family(kind, name)?;
        let (labels, text) = label_text(labels);
        if let Some(series) = read(&family.series).get(&text) {
            return Some((series.clone(), true));
        }
        let cap = self.cap.load(Relaxed);
        let (over, text_of_over) = label_text([(OVERFLOW, "true")].into_iter());
        let mut all = write(&family.series);
        let full = all.len() >= cap && !all.contains_key(&text);
        let (labels, text) = if full { (over, text_of_over) } else { (labels, text) };
        let entry = all.entry(text.clone());
        let series = entry.or_insert_with(|| Arc::new(Series::new(labels, text, make()))).clone();
        drop(all);
        if full && family.overflow.fetch_add(1, Relaxed) == 0 {
            // No lock is held: the log counts, too.
            tracing::warn!(
                metric = name,
                series = cap,
                "a metric has too many series; the rest is counted as one"
            );
        }
        Some((series, !full))
    }

    fn family(&self, kind: Kind, name: &str) -> Option<Arc<Family>> {
        let exposed = sanitize(name);
        let known = read(&self.families).get(exposed.as_ref()).cloned();
        let family = match known {
            Some(family) => family,
            None => {
                let mut families = write(&self.families);
                if families.len() >= MAX_FAMILIES && !families.contains_key(exposed.as_ref()) {
                    drop(families);
                    if self.refused.fetch_add(1, Relaxed) == 0 {
                        tracing::warn!(
                            metric = name,
                            metrics = MAX_FAMILIES,
                            "too many metrics; this one is not kept"
                        );
                    }
                    return None;
                }
                families
                    .entry(exposed.into_owned())
                    .or_insert_with(|| Arc::new(Family::new(name, kind)))
                    .clone()
            }
        };
        if family.kind == kind {
            return Some(family);
        }
        self.refused.fetch_add(1, Relaxed);
        if family.quarrelled.fetch_add(1, Relaxed) == 0 {
            let (first, now) = (family.kind.as_str(), kind.as_str());
            tracing::warn!(
                metric = name,
                first,
                now,
                "one name for metrics of two kinds; the second is not kept"
            );
        }
        None
    }

    fn unit(&self, name: &str) -> Option<Unit> {
        read(&self.described).get(sanitize(name).as_ref()).and_then(|described| described.unit)
    }

    /// The first description of a name wins; those of the catalogue come first.
    pub(super) fn describe(&self, name: &KeyName, unit: Option<Unit>, help: SharedString) {
        let name = sanitize(name.as_str()).into_owned();
        write(&self.described).entry(name).or_insert(Description { unit, help });
    }
}

impl Family {
    fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            series: RwLock::default(),
            overflow: AtomicU64::new(0),
            quarrelled: AtomicUsize::new(0),
        }
    }
}

impl Recorder for Registry {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.series(Kind::Counter, key).map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.series(Kind::Gauge, key).map_or_else(Gauge::noop, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.series(Kind::Histogram, key).map_or_else(Histogram::noop, Histogram::from_arc)
    }
}

/// Keys bring their hash along.
#[derive(Default)]
struct Prehashed(u64);

impl Hasher for Prehashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not what keys do; right all the same.
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        // The facade leaves the last mixing out; the map takes its bits from both ends.
        let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use metrics::with_local_recorder;

    use super::super::text::{Format, render};
    use super::*;

    #[test]
    fn a_metric_with_too_many_series_counts_the_rest_as_one() {
        let registry = Registry::new(3);
        with_local_recorder(&registry, || {
            for path in 0..1000 {
                metrics::counter!("hits", "path" => path.to_string()).increment(1);
            }
            metrics::counter!("hits", "path" => "1").increment(1);
            metrics::counter!("other", "path" => "x").increment(1);
        });
        let lines: Vec<_> = render(&registry, Format::Prometheus).lines().map(str::to_owned).collect();
        let hits: Vec<_> = lines.iter().filter(|line| line.starts_with("hits_total{")).collect();
        assert_eq!(
            hits,
            [
                r#"hits_total{otel_metric_overflow="true"} 997"#,
                r#"hits_total{path="0"} 1"#,
                r#"hits_total{path="1"} 2"#,
                r#"hits_total{path="2"} 1"#,
            ]
        );
        assert!(lines.contains(&r#"other_total{path="x"} 1"#.to_owned()), "{lines:?}");
        assert!(
            lines.contains(&r#"mainstay_metrics_overflow_total{metric="hits"} 997"#.to_owned()),
            "{lines:?}"
        );
        let remembered: usize = registry.found.iter().map(|shard| read(shard).len()).sum();
        assert_eq!(remembered, 4, "what went to the overflow takes no memory");
    }

    #[test]
    fn one_name_has_one_kind_and_the_number_of_names_is_bounded() {
        let registry = Registry::new(3);
        with_local_recorder(&registry, || {
            metrics::counter!("a.b").increment(1);
            metrics::gauge!("a.b").set(7.0);
            metrics::gauge!("a_b").set(7.0);
            for n in 0..MAX_FAMILIES + 10 {
                metrics::counter!(format!("computed.{n}")).increment(1);
            }
        });
        let text = render(&registry, Format::Prometheus);
        assert!(text.contains("\na_b_total 1\n") && !text.contains(" 7\n"), "{text}");
        assert!(!text.contains(&format!("computed_{MAX_FAMILIES}_total")), "beyond the bound");
        assert!(registry.refused.load(Relaxed) >= 12);
    }

    #[test]
    fn the_order_of_labels_makes_no_second_series_and_empty_ones_are_none() {
        let registry = Registry::new(10);
        with_local_recorder(&registry, || {
            metrics::gauge!("g", "a" => "1", "b" => "2").increment(1.0);
            metrics::gauge!("g", "b" => "2", "a" => "1", "c" => "").increment(1.0);
        });
        assert!(render(&registry, Format::Prometheus).contains("\ng{a=\"1\",b=\"2\"} 2\n"));
    }

    #[test]
    fn many_threads_lose_nothing() {
        let registry = Registry::new(100);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let registry = &registry;
                scope.spawn(move || {
                    with_local_recorder(registry, || {
                        for n in 0..5_000 {
                            metrics::counter!("n", "of" => (n % 7).to_string()).increment(1);
                            metrics::histogram!("h").record(f64::from(thread));
                        }
                    });
                });
            }
        });
        let text = render(&registry, Format::Prometheus);
        let total: u64 = text
            .lines()
            .filter(|l| l.starts_with("n_total{"))
            .filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok())
            .sum();
        assert_eq!(total, 20_000);
        assert!(text.contains("\nh_count 20000\n") && text.contains("\nh_sum 30000\n"), "{text}");
    }
}
