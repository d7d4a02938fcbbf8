//! What is read rather than recorded: process, runtime, build, health, store. Read before every export.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use super::process::{self, Process};
use super::registry::Registry;
use super::series::Kind::{Counter, Gauge};
use crate::health::Health;
use crate::secs;
use crate::time::monotonic_ms;

/// Reads something for an export: quick, and without waiting for anything.
type Observer = Box<dyn Fn(&Registry) + Send + Sync>;

/// An observer, and whether it was told that it panics.
struct Observing {
    observer: Observer,
    told: bool,
}

impl Observing {
    /// One that panics costs its own figures, not the export.
    fn read(&mut self, registry: &Registry) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.observer)(registry))) else { return };
        if !std::mem::replace(&mut self.told, true) {
            let panic = crate::tasks::panic_message(&*panic);
            tracing::error!(panic, "a closure of `observe` panicked; its metrics may be missing");
        }
    }
}

/// The readings of one app.
pub(crate) struct Collector {
    registry: &'static Registry,
    runtime: Handle,
    health: Health,
    build: Build,
    observers: Mutex<Vec<Observing>>,
    busy: Mutex<Option<Busy>>,
}

/// What is running.
#[derive(Debug, Clone, Default)]
pub(crate) struct Build {
    pub name: String,
    pub version: String,
    pub commit: String,
}

/// How busy the runtime was at some time.
struct Busy {
    at_ms: u64,
    total: Duration,
}

/// A share of less time than this says nothing.
const BUSY_WINDOW: Duration = secs(1);

impl Collector {
    pub fn new(registry: &'static Registry, runtime: Handle, health: Health, build: Build) -> Self {
        Self { registry, runtime, health, build, observers: Mutex::default(), busy: Mutex::default() }
    }

    pub fn add(&self, observer: Observer) {
        let observing = Observing { observer, told: false };
        self.observers.lock().unwrap_or_else(PoisonError::into_inner).push(observing);
    }

    pub fn collect(&self) {
        let registry = self.registry;
        let gauge = |name: &str, value: f64| registry.observe(Gauge, name, &[], value);
        let counter = |name: &str, value: f64| registry.observe(Counter, name, &[], value);

        let build = [
            ("name", self.build.name.as_str()),
            ("version", &self.build.version),
            ("rust_version", env!("MAINSTAY_RUST_VERSION")),
            ("commit", &self.build.commit),
        ];
        registry.observe(Gauge, "mainstay.build.info", &build, 1.0);

        if let Some(process) = Process::read() {
            counter("process.cpu.seconds", process.cpu_seconds);
            gauge("process.resident_memory.bytes", process.resident_bytes as f64);
            gauge("process.virtual_memory.bytes", process.virtual_bytes as f64);
            gauge("process.threads", process.threads as f64);
            gauge("process.start_time.seconds", process.start_seconds);
        }
        if let Some((open, limit)) = process::descriptors() {
            gauge("process.open_fds", open as f64);
            gauge("process.max_fds", limit.map_or(f64::INFINITY, |limit| limit as f64));
        }

        let runtime = self.runtime.metrics();
        gauge("mainstay.runtime.workers", runtime.num_workers() as f64);
        gauge("mainstay.runtime.tasks", runtime.num_alive_tasks() as f64);
        gauge("mainstay.runtime.queue.depth", runtime.global_queue_depth() as f64);
        let workers = runtime.num_workers();
        let busy: Duration = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker)).sum();
        counter("mainstay.runtime.busy.seconds", busy.as_secs_f64());
        if let Some(ratio) = self.busy_ratio(busy, workers) {
            gauge("mainstay.runtime.busy.ratio", ratio);
        }

        crate::queue::observe();
        self.health.observe(registry);
        for observer in self.observers.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            observer.read(registry);
        }
    }

    fn busy_ratio(&self, total: Duration, workers: usize) -> Option<f64> {
        let now = monotonic_ms();
        let mut last = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = last.as_ref() else {
            *last = Some(Busy { at_ms: now, total });
            return None;
        };
        let passed = Duration::from_millis(now.saturating_sub(before.at_ms));
        if passed < BUSY_WINDOW {
            return None;
        }
        let busy = total.saturating_sub(before.total).as_secs_f64();
        *last = Some(Busy { at_ms: now, total });
        Some((busy / passed.as_secs_f64() / workers.max(1) as f64).min(1.0))
    }
}
