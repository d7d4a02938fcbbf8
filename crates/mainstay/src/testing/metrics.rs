//! The metrics of one test.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::{self, Write as _},
    marker::PhantomData,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, LocalRecorderGuard, Metadata,
    Recorder, SharedString, Unit,
};

use crate::telemetry::Registry;

/// What is recorded on this thread while it lives, from zero: by a test on virtual time and by all its tasks, and by
/// nobody else's. So a counter here is what the test has added to it.
///
/// The chassis records as well, so that `/metrics` of a service under test shows what it should; a recorder of somebody
/// else's does not meanwhile. Where one `Metrics` lives within another, both count. A handle (`metrics::Counter`) that
/// was made before goes on counting where it did.
///
/// ```
/// use mainstay::testing::{Metrics, block_on_virtual};
///
/// let metrics = Metrics::capture();
/// block_on_virtual(async { metrics::counter!("shop.orders", "result" => "ok").increment(2) });
/// metrics.assert_counter("shop.orders", &[("result", "ok")], 2);
/// assert_eq!(metrics.counter("shop.orders", &[]), 2);
/// ```
#[must_use = "metrics are kept while it lives"]
pub struct Metrics {
    series: Arc<AllSeries>,
    /// The recorder belongs to the thread.
    _here: PhantomData<*const ()>,
}

type AllSeries = Mutex<BTreeMap<Name, Value>>;
type Name = (String, BTreeMap<String, String>);

#[derive(Clone)]
enum Value {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Values>),
}

#[derive(Default)]
struct Values(Mutex<Vec<f64>>);

impl Metrics {
    /// Begins to keep what is recorded on this thread.
    pub fn capture() -> Metrics {
        let series = Arc::<AllSeries>::default();
        HERE.with_borrow_mut(|here| {
            here.captures.push(series.clone());
            here.guard.get_or_insert_with(|| metrics::set_default_local_recorder(&Captures));
        });
        Metrics { series, _here: PhantomData }
    }

    /// What has been added to a counter: the sum over all series that have these labels, and any others.
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let value = |value| match value {
            Value::Counter(cell) => Some(cell.load(Ordering::Relaxed)),
            _ => None,
        };
        self.found(name, labels, value).into_iter().sum()
    }

    /// What a gauge shows: the sum over all series that have these labels. `None` if nobody has set it.
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let value = |value| match value {
            Value::Gauge(cell) => Some(f64::from_bits(cell.load(Ordering::Relaxed))),
            _ => None,
        };
        self.found(name, labels, value).into_iter().reduce(|sum, value| sum + value)
    }

    /// Every value of a histogram, in the order of recording within each series.
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let values = |value| match value {
            Value::Histogram(values) => Some(lock(&values.0).clone()),
            _ => None,
        };
        self.found(name, labels, values).concat()
    }

    /// So much has been added to a counter since the capture began. See [`counter`](Self::counter).
    ///
    /// # Panics
    /// If it is another number: with all metrics there are.
    #[track_caller]
    pub fn assert_counter(&self, name: &str, labels: &[(&str, &str)], expected: u64) {
        let found = self.counter(name, labels);
        assert!(
            found == expected,
            "counter `{name}` {labels:?} counted {found} instead of {expected}\n{self:?}"
        );
    }

    fn found<T>(&self, name: &str, labels: &[(&str, &str)], value: impl Fn(Value) -> Option<T>) -> Vec<T> {
        let has = |all: &BTreeMap<String, String>| {
            labels.iter().all(|(name, value)| all.get(*name).is_some_and(|found| found == value))
        };
        let series = lock(&self.series);
        let mine = series.iter().filter(|((known, all), _)| known == name && has(all));
        mine.filter_map(|(_, found)| value(found.clone())).collect()
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        // A thread on its way out has no recorder any more.
        let _ = HERE.try_with(|here| {
            let mut here = here.borrow_mut();
            here.captures.retain(|series| !Arc::ptr_eq(series, &self.series));
            if here.captures.is_empty() {
                here.guard = None;
            }
        });
    }
}

/// One series a line, as `name{label=value} number`.
impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let series = lock(&self.series);
        f.write_str(if series.is_empty() { "nothing was recorded" } else { "recorded:" })?;
        for ((name, labels), value) in series.iter() {
            let mut text = String::new();
            for (label, value) in labels {
                let _ = write!(text, "{}{label}={value}", if text.is_empty() { "" } else { "," });
            }
            write!(f, "\n  {name}{{{text}}} ")?;
            match value {
                Value::Counter(cell) => write!(f, "{}", cell.load(Ordering::Relaxed))?,
                Value::Gauge(cell) => write!(f, "{}", f64::from_bits(cell.load(Ordering::Relaxed)))?,
                Value::Histogram(values) => write!(f, "{:?}", lock(&values.0))?,
            }
        }
        Ok(())
    }
}

thread_local! {
    static HERE: RefCell<Here> = const { RefCell::new(Here { captures: Vec::new(), guard: None }) };
}

/// The captures of this thread. One recorder for all of them, so that they may end in any order.
struct Here {
    captures: Vec<Arc<AllSeries>>,
    guard: Option<LocalRecorderGuard<'static>>,
}

/// Records into every capture of the thread it is called on.
struct Captures;

impl Captures {
    fn each<T, H>(
        key: &Key,
        make: fn() -> Value,
        take: impl Fn(Value) -> Option<T>,
        usual: impl FnOnce(&Registry) -> H,
    ) -> Arc<Each<T, H>> {
        let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned()));
        let name: Name = (key.name().to_owned(), labels.collect());
        let captures = HERE.with_borrow(|here| here.captures.clone());
        let value = |series: &Arc<AllSeries>| lock(series).entry(name.clone()).or_insert_with(make).clone();
        let here = captures.iter().map(value).filter_map(take).collect();
        Arc::new(Each { here, usual: crate::telemetry::usual().map(usual) })
    }
}

/// The same series in each capture, and where it usually is.
struct Each<T, H> {
    here: Vec<T>,
    usual: Option<H>,
}

impl Recorder for Captures {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        if let Some(to) = crate::telemetry::usual() {
            to.describe_counter(name, unit, text);
        }
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        if let Some(to) = crate::telemetry::usual() {
            to.describe_gauge(name, unit, text);
        }
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        if let Some(to) = crate::telemetry::usual() {
            to.describe_histogram(name, unit, text);
        }
    }

    // A name that is used for metrics of two kinds stays what it was first.
    fn register_counter(&self, key: &Key, meta: &Metadata<'_>) -> Counter {
        let take = |value| if let Value::Counter(cell) = value { Some(cell) } else { None };
        let usual = |to: &Registry| to.register_counter(key, meta);
        Counter::from_arc(Captures::each(key, || Value::Counter(Arc::default()), take, usual))
    }

    fn register_gauge(&self, key: &Key, meta: &Metadata<'_>) -> Gauge {
        let take = |value| if let Value::Gauge(cell) = value { Some(GaugeCell(cell)) } else { None };
        let usual = |to: &Registry| to.register_gauge(key, meta);
        Gauge::from_arc(Captures::each(key, || Value::Gauge(Arc::default()), take, usual))
    }

    fn register_histogram(&self, key: &Key, meta: &Metadata<'_>) -> Histogram {
        let take = |value| if let Value::Histogram(values) = value { Some(values) } else { None };
        let usual = |to: &Registry| to.register_histogram(key, meta);
        Histogram::from_arc(Captures::each(key, || Value::Histogram(Arc::default()), take, usual))
    }
}

struct GaugeCell(Arc<AtomicU64>);

impl CounterFn for Each<Arc<AtomicU64>, Counter> {
    fn increment(&self, value: u64) {
        self.here.iter().for_each(|cell| CounterFn::increment(&**cell, value));
        self.usual.iter().for_each(|to| to.increment(value));
    }

    fn absolute(&self, value: u64) {
        self.here.iter().for_each(|cell| CounterFn::absolute(&**cell, value));
        self.usual.iter().for_each(|to| to.absolute(value));
    }
}

impl GaugeFn for Each<GaugeCell, Gauge> {
    fn increment(&self, value: f64) {
        self.here.iter().for_each(|cell| GaugeFn::increment(&*cell.0, value));
        self.usual.iter().for_each(|to| to.increment(value));
    }

    fn decrement(&self, value: f64) {
        self.here.iter().for_each(|cell| GaugeFn::decrement(&*cell.0, value));
        self.usual.iter().for_each(|to| to.decrement(value));
    }

    fn set(&self, value: f64) {
        self.here.iter().for_each(|cell| GaugeFn::set(&*cell.0, value));
        self.usual.iter().for_each(|to| to.set(value));
    }
}

impl HistogramFn for Each<Arc<Values>, Histogram> {
    fn record(&self, value: f64) {
        self.here.iter().for_each(|values| lock(&values.0).push(value));
        self.usual.iter().for_each(|to| to.record(value));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
