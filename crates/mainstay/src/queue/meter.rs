//! What a queue tells about itself.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use metrics::{Counter, Histogram, counter, gauge, histogram};

use super::Refused;
use super::shared::Shared;

/// The metrics of all queues of one name.
pub(super) struct Meter {
    wait: Histogram,
    waits: Counter,
    full: Counter,
    timed_out: Counter,
    closed: Counter,
    too_large: Counter,
    oldest: Counter,
    newest: Counter,
    expired: Counter,
}

impl Meter {
    /// Registered once for each name, as long as a queue of that name is open.
    pub fn of(name: &str) -> Arc<Meter> {
        let mut open = open();
        let named = open.entry(name.to_owned()).or_default();
        if let Some(meter) = named.meter.upgrade() {
            return meter;
        }
        let meter = Arc::new(Meter::register(name));
        named.meter = Arc::downgrade(&meter);
        meter
    }

    fn register(name: &str) -> Meter {
        let queue = || name.to_owned();
        let refused = |reason: Refused| counter!("mainstay.queue.refused", "queue" => queue(), "reason" => reason.as_str());
        let dropped = |reason| counter!("mainstay.queue.dropped", "queue" => queue(), "reason" => reason);
        Meter {
            wait: histogram!("mainstay.queue.wait", "queue" => queue()),
            waits: counter!("mainstay.queue.waits", "queue" => queue()),
            full: refused(Refused::Full),
            timed_out: refused(Refused::TimedOut),
            closed: refused(Refused::Closed),
            too_large: refused(Refused::TooLarge),
            oldest: dropped("oldest"),
            newest: dropped("newest"),
            expired: dropped("expired"),
        }
    }

    pub fn waited(&self, inside: Duration) {
        self.wait.record(inside.as_secs_f64());
    }

    pub fn waits(&self) {
        self.waits.increment(1);
    }

    /// Counts it and answers it.
    pub fn refused(&self, refused: Refused) -> Refused {
        let counter = match refused {
            Refused::Full => &self.full,
            Refused::TimedOut => &self.timed_out,
            Refused::Closed => &self.closed,
            Refused::TooLarge => &self.too_large,
        };
        counter.increment(1);
        refused
    }

    pub fn dropped_oldest(&self, items: usize) {
        if items > 0 {
            self.oldest.increment(items as u64);
        }
    }

    pub fn dropped_newest(&self) {
        self.newest.increment(1);
    }

    pub fn expired(&self, items: usize) {
        self.expired.increment(items as u64);
    }
}

/// The open queues of one name.
#[derive(Default)]
struct Named {
    meter: Weak<Meter>,
    queues: Vec<Weak<dyn Observed>>,
}

trait Observed: Send + Sync {
    /// Depth, capacity, bytes, waiting senders.
    fn look(&self) -> [f64; 4];
}

impl<T: Send> Observed for Shared<T> {
    fn look(&self) -> [f64; 4] {
        let view = self.core.view();
        [view.depth as f64, self.plan.capacity as f64, view.weight as f64, view.waiting as f64]
    }
}

type Open = BTreeMap<String, Named>;

fn open() -> MutexGuard<'static, Open> {
    static OPEN: LazyLock<Mutex<Open>> = LazyLock::new(Mutex::default);
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn watch<T: Send + 'static>(shared: &Arc<Shared<T>>) {
    let queue: Arc<dyn Observed> = shared.clone();
    let mut open = open();
    let named = open.entry(shared.name.clone()).or_default();
    named.queues.retain(|queue| queue.strong_count() > 0);
    named.queues.push(Arc::downgrade(&queue));
}

/// Sets the gauges of all open queues; those of one name are added up. A running [`App`](crate::App) calls it before
/// every export, so that no send or receive has to.
pub fn observe() {
    const GAUGES: [&str; 4] =
        ["mainstay.queue.depth", "mainstay.queue.capacity", "mainstay.queue.bytes", "mainstay.queue.waiting"];
    // A queue that ends here would end under the lock, and `Meter::of` may be on the way in.
    let mut ended = Vec::new();
    let mut sums = Vec::new();
    open().retain(|name, named| {
        let mut sum = [0.0; 4];
        for queue in named.queues.iter().filter_map(Weak::upgrade) {
            sum.iter_mut().zip(queue.look()).for_each(|(sum, one)| *sum += one);
            ended.push(queue);
        }
        sums.push((name.clone(), sum));
        named.queues.retain(|queue| queue.strong_count() > 0);
        // Gone: its last values are zeros.
        !named.queues.is_empty() || named.meter.strong_count() > 0
    });
    for (name, sum) in sums {
        for (gauge, value) in GAUGES.into_iter().zip(sum) {
            gauge!(gauge, "queue" => name.clone()).set(value);
        }
    }
    drop(ended);
}

#[cfg(test)]
mod tests {
    use super::super::{Bounded, Overflow};
    use super::*;
    use crate::telemetry::{Registry, TextFormat, render_registry};

    #[test]
    fn a_queue_tells_how_it_does_and_queues_of_one_name_are_added_up() {
        let registry = Registry::new(100);
        let render = || render_registry(&registry, TextFormat::Prometheus);
        metrics::with_local_recorder(&registry, || {
            let open = || Bounded::new("orders", 2).overflow(Overflow::Reject).open();
            let ((one, mut rx), (other, _rx)) = (open(), open());
            for (tx, refused) in [(&one, false), (&one, false), (&one, true), (&other, false)] {
                assert_eq!(tx.try_send(1).is_err(), refused);
            }
            rx.try_recv().expect("an item");
            observe();
            let seen = render();
            for line in [
                "mainstay_queue_depth{queue=\"orders\"} 2",
                "mainstay_queue_capacity{queue=\"orders\"} 4",
                "mainstay_queue_refused_total{queue=\"orders\",reason=\"full\"} 1",
                "mainstay_queue_refused_total{queue=\"orders\",reason=\"closed\"} 0",
                "mainstay_queue_wait_count{queue=\"orders\"} 1",
            ] {
                assert!(seen.contains(line), "{line} in\n{seen}");
            }
            drop((one, rx, other, _rx));
            observe();
            assert!(render().contains("mainstay_queue_capacity{queue=\"orders\"} 0"));
        });
    }
}
