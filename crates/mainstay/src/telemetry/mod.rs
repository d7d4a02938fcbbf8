//! Metrics: the `metrics` facade in; Prometheus or OpenMetrics text, and StatsD, out.
//!
//! Use the macros of the `metrics` crate anywhere; names are OpenTelemetry's where it has one
//! (`http.server.request.duration`), and Prometheus sees them with underscores, units and `_total`.
//!
//! ```
//! metrics::describe_histogram!("shop.order.value", metrics::Unit::Count, "Value of orders, in cents");
//! mainstay::telemetry::buckets("shop.order.value", &[100.0, 1_000.0, 10_000.0, 100_000.0]);
//! metrics::histogram!("shop.order.value", "country" => "fr").record(1_995.0);
//! ```
//!
//! Memory is bounded by construction: histograms have fixed [`buckets`], and a metric that has more series than the
//! setting `max_series` counts the rest in one, labelled `otel.metric.overflow`, which is also counted
//! (`mainstay.metrics.overflow`) and warned of once. All metrics are listed in `docs/observability.md`.

mod buckets;
mod catalog;
mod collect;
mod process;
mod registry;
mod series;
pub mod statsd;
mod text;

use std::sync::OnceLock;

pub use buckets::buckets;
pub(crate) use collect::{Build, Collector};
pub(crate) use process::resident_bytes;
pub(crate) use registry::Registry;
pub(crate) use series::Kind;
#[cfg(feature = "http")]
pub(crate) use text::Format;
#[cfg(test)]
pub(crate) use text::{Format as TextFormat, render as render_registry};

/// OpenTelemetry's bound of series a metric.
pub(crate) const MAX_SERIES: usize = 2000;

static REGISTRY: OnceLock<Registry> = OnceLock::new();

/// Sets the recorder up, once in a process; the bound of series is the last app's. A process that has a recorder
/// already keeps it: what is recorded goes there, and here is only what the chassis reads by itself.
pub(crate) fn install(max_series: usize) -> &'static Registry {
    let registry = REGISTRY.get_or_init(|| {
        let registry = Registry::new(max_series);
        catalog::describe(&registry);
        registry
    });
    registry.set_cap(max_series);
    // An error says that it is there already, or another.
    let _ = metrics::set_global_recorder(registry);
    registry
}

/// All metrics as Prometheus text, as `/metrics` of the admin listener answers them.
pub fn render() -> String {
    crate::queue::observe();
    REGISTRY.get().map(|registry| text::render(registry, text::Format::Prometheus)).unwrap_or_default()
}

/// The recorder behind the facade, once it is set up.
#[cfg(feature = "testing")]
pub(crate) fn usual() -> Option<&'static Registry> {
    REGISTRY.get()
}

#[cfg(feature = "http")]
pub(crate) fn render_as(format: Format) -> String {
    REGISTRY.get().map(|registry| text::render(registry, format)).unwrap_or_default()
}
