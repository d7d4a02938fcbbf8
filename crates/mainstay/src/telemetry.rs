//! Metrics: the `metrics` facade in, Prometheus text out.
//!
//! Use the macros of the `metrics` crate anywhere; names are OpenTelemetry's where it has one
//! (`http.server.request.duration`), and Prometheus sees them with underscores and units.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::secs;

/// OpenTelemetry's buckets for durations, in seconds.
const BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

static PROMETHEUS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Sets the recorder up, once in a process. One that has a recorder already keeps it.
pub(crate) fn install() {
    PROMETHEUS.get_or_init(|| {
        // Without buckets the exporter makes summaries, which cannot be added up over replicas.
        let builder = PrometheusBuilder::new().with_recommended_naming(true);
        let recorder = match builder.set_buckets(&BUCKETS) {
            Ok(builder) => builder.build_recorder(),
            Err(_) => PrometheusBuilder::new().build_recorder(),
        };
        let handle = recorder.handle();
        let _ = metrics::set_global_recorder(recorder);
        describe();
        handle
    });
}

/// All metrics as Prometheus text, as `/metrics` of the admin listener answers them.
pub fn render() -> String {
    crate::queue::observe();
    PROMETHEUS.get().map(PrometheusHandle::render).unwrap_or_default()
}

/// Moves what was recorded into the buckets every few seconds: without it they grow while nobody scrapes.
pub(crate) async fn upkeep() {
    let mut tick = tokio::time::interval(secs(5));
    loop {
        tick.tick().await;
        crate::queue::observe();
        if let Some(handle) = PROMETHEUS.get() {
            handle.run_upkeep();
        }
    }
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_histogram!(
        "http.server.request.duration",
        Unit::Seconds,
        "Duration of requests, to the end of the body"
    );
    describe_gauge!("http.server.active_requests", "Requests in flight");
    describe_gauge!("http.server.open_connections", "Open connections");
    describe_counter!("mainstay.task.panics", "Tasks that panicked");
    describe_counter!("mainstay.log.dropped", "Log lines dropped because the output was too slow");
    describe_gauge!("mainstay.health.up", "Whether a check's last verdict is up");
}
