//! Every metric of the chassis: name, kind, unit, labels, meaning. `docs/observability.md` shows the same list, and a
//! test compares the two, and both with the source.

use metrics::Unit;

use super::registry::Registry;
use super::series::Kind::{self, Counter, Gauge, Histogram};

pub(super) struct Entry {
    pub name: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "compared with the document"))]
    pub kind: Kind,
    pub unit: Unit,
    #[cfg_attr(not(test), expect(dead_code, reason = "compared with the document"))]
    pub labels: &'static str,
    pub help: &'static str,
}

const fn entry(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    labels: &'static str,
    help: &'static str,
) -> Entry {
    Entry { name, kind, unit, labels, help }
}

use Unit::{Bytes, Count, Seconds};

pub(super) const CATALOG: &[Entry] = &[
    entry(
        "http.server.request.duration",
        Histogram,
        Seconds,
        "http.request.method, http.route, http.response.status_code, url.scheme, error.type, outcome",
        "Duration of requests, to the end of the body",
    ),
    entry("http.server.active_requests", Gauge, Count, "", "Requests in flight"),
    entry("http.server.open_connections", Gauge, Count, "", "Open connections"),
    entry("mainstay.health.live", Gauge, Count, "", "Whether all registered loops make progress"),
    entry("mainstay.health.ready", Gauge, Count, "", "Whether the service should be sent work"),
    entry(
        "mainstay.health.up",
        Gauge,
        Count,
        "check",
        "Whether a check is up: its verdict, unless its last result is too old",
    ),
    entry("mainstay.health.check.duration", Histogram, Seconds, "check", "Duration of health checks"),
    entry("mainstay.health.check.failures", Counter, Count, "check", "Health checks that failed"),
    entry(
        "mainstay.health.loop.age",
        Gauge,
        Seconds,
        "loop",
        "Time since a registered loop last advanced; 0 while it rests",
    ),
    entry(
        "mainstay.build.info",
        Gauge,
        Count,
        "name, version, rust_version, commit",
        "What is running; always 1",
    ),
    entry("process.cpu.seconds", Counter, Seconds, "", "Processor time used, user and system"),
    entry("process.resident_memory.bytes", Gauge, Bytes, "", "Memory that is resident"),
    entry("process.virtual_memory.bytes", Gauge, Bytes, "", "Address space in use"),
    entry("process.open_fds", Gauge, Count, "", "Open file descriptors"),
    entry("process.max_fds", Gauge, Count, "", "How many file descriptors may be open"),
    entry("process.threads", Gauge, Count, "", "Threads"),
    entry("process.start_time.seconds", Gauge, Seconds, "", "When the process started, since 1970"),
    entry("mainstay.runtime.workers", Gauge, Count, "", "Worker threads of the main runtime"),
    entry("mainstay.runtime.tasks", Gauge, Count, "", "Tasks alive on the main runtime"),
    entry(
        "mainstay.runtime.queue.depth",
        Gauge,
        Count,
        "",
        "Tasks that wait in the main runtime's global queue",
    ),
    entry(
        "mainstay.runtime.busy.seconds",
        Counter,
        Seconds,
        "",
        "Time the worker threads were busy, all together",
    ),
    entry(
        "mainstay.runtime.busy.ratio",
        Gauge,
        Count,
        "",
        "Share of the worker threads' time that was busy lately, 0 to 1",
    ),
    entry(
        "mainstay.runtime.poll.delay",
        Histogram,
        Seconds,
        "",
        "How long a task that was woken waited to be run, by a probe",
    ),
    entry("mainstay.background.restarts", Counter, Count, "name", "Restarts of supervised loops"),
    entry("mainstay.queue.depth", Gauge, Count, "queue", "Items in a bounded queue"),
    entry("mainstay.queue.capacity", Gauge, Count, "queue", "Items it holds at most"),
    entry("mainstay.queue.bytes", Gauge, Bytes, "queue", "What its items weigh"),
    entry("mainstay.queue.waiting", Gauge, Count, "queue", "Senders that wait for room"),
    entry("mainstay.queue.wait", Histogram, Seconds, "queue", "Time items spent inside; a sample"),
    entry(
        "mainstay.queue.waits",
        Counter,
        Count,
        "queue",
        "Sends that had to wait for longer than one turn of the others",
    ),
    entry("mainstay.queue.refused", Counter, Count, "queue, reason", "Sends that were refused"),
    entry(
        "mainstay.queue.dropped",
        Counter,
        Count,
        "queue, reason",
        "Items dropped: the oldest, the newest, the expired",
    ),
    entry("mainstay.pool.jobs", Counter, Count, "pool, outcome", "Jobs of a worker pool that ended"),
    entry("mainstay.pool.duration", Histogram, Seconds, "pool", "How long jobs ran; a sample"),
    entry("mainstay.pool.workers", Gauge, Count, "pool", "Workers of a pool"),
    entry("mainstay.pool.busy", Gauge, Count, "pool", "Workers that run a job"),
    entry("mainstay.pool.dead", Gauge, Count, "pool", "Dead letters that are kept"),
    entry("mainstay.pool.scaled", Counter, Count, "pool, reason", "Changes of the number of workers"),
    entry("mainstay.pool.slots_lost", Counter, Count, "pool", "Slots lost to jobs that hold their thread"),
    entry(
        "db.client.connection.count",
        Gauge,
        Count,
        "db.client.connection.pool.name, db.client.connection.state",
        "Connections of a pool, idle and used",
    ),
    entry(
        "db.client.connection.max",
        Gauge,
        Count,
        "db.client.connection.pool.name",
        "Connections a pool may have",
    ),
    entry(
        "db.client.connection.pending_requests",
        Gauge,
        Count,
        "db.client.connection.pool.name",
        "Callers that wait for a connection",
    ),
    entry(
        "mainstay.policy.attempts",
        Counter,
        Count,
        "target, verdict",
        "Attempts of calls, by how they ended",
    ),
    entry("mainstay.policy.retries", Counter, Count, "target", "Attempts after the first"),
    entry("mainstay.policy.retry_delay", Histogram, Seconds, "target", "Time before a retry"),
    entry(
        "mainstay.policy.hedges",
        Counter,
        Count,
        "target, outcome",
        "Second attempts beside a slow first, sent or refused",
    ),
    entry(
        "mainstay.policy.gave_up",
        Counter,
        Count,
        "target, reason",
        "Calls that were given up after a failure",
    ),
    entry(
        "mainstay.policy.rejections",
        Counter,
        Count,
        "target, reason, dry_run",
        "Calls that were refused without an attempt",
    ),
    entry("mainstay.policy.breaker_state", Gauge, Count, "target", "0 closed, 1 half open, 2 open"),
    entry("mainstay.policy.budget_tokens", Gauge, Count, "target", "What is left of the retry budget"),
    entry(
        "mainstay.rate.decisions",
        Counter,
        Count,
        "limiter, decision",
        "What limiters decided: allowed, refused, …",
    ),
    entry(
        "mainstay.rate.evicted",
        Counter,
        Count,
        "limiter",
        "Keys a limiter forgot because it had too many",
    ),
    entry(
        "mainstay.auth.key_fetches",
        Counter,
        Count,
        "issuer, outcome",
        "Fetches of an issuer's key set, and how they ended",
    ),
    entry("mainstay.admission.limit", Gauge, Count, "name", "How much is let in at once now"),
    entry("mainstay.admission.in_flight", Gauge, Count, "name", "What has been let in and has not ended"),
    entry("mainstay.admission.waiting", Gauge, Count, "name", "What waits to be let in"),
    entry("mainstay.admission.wait", Histogram, Seconds, "name", "Time before being let in"),
    entry(
        "mainstay.admission.rejections",
        Counter,
        Count,
        "name, reason, criticality",
        "What was not let in, or would have waited too long",
    ),
    entry("mainstay.task.panics", Counter, Count, "", "Tasks that panicked"),
    entry(
        "mainstay.log.dropped",
        Counter,
        Count,
        "",
        "Log lines dropped because the output was full or too slow",
    ),
    entry("mainstay.otlp.exported", Counter, Count, "", "Spans that a collector has taken"),
    entry(
        "mainstay.otlp.dropped",
        Counter,
        Count,
        "",
        "Spans dropped because the collector did not take them in time",
    ),
    entry(
        "mainstay.log.suppressed",
        Counter,
        Count,
        "",
        "Log lines suppressed because their place in the source wrote too many",
    ),
    entry(
        "mainstay.metrics.overflow",
        Counter,
        Count,
        "metric",
        "Recordings counted in a metric's overflow series",
    ),
    entry(
        "mainstay.metrics.refused",
        Counter,
        Count,
        "",
        "Recordings not kept: too many metrics, or one name for two kinds",
    ),
    entry("mainstay.statsd.packets", Counter, Count, "", "Packets sent to StatsD"),
    entry("mainstay.statsd.dropped", Counter, Count, "", "Packets that StatsD did not take"),
    entry(
        "mainstay.lock.wait",
        Histogram,
        Seconds,
        "outcome",
        "Time until a lock was granted, or was not: held, stopped, error",
    ),
    entry("mainstay.lock.held", Gauge, Count, "", "Locks this process holds and renews"),
    entry(
        "mainstay.lock.lost",
        Counter,
        Count,
        "cause",
        "Locks this process lost while it wanted them: expired, taken",
    ),
    entry("mainstay.job.duration", Histogram, Seconds, "kind, outcome", "Duration of job attempts"),
    entry(
        "mainstay.event.duration",
        Histogram,
        Seconds,
        "subscriber, outcome",
        "Duration of attempts at deliveries of events",
    ),
    entry("mainstay.group.fetch_errors", Counter, Count, "", "Fetches the store did not answer"),
    entry(
        "mainstay.group.leases_lost",
        Counter,
        Count,
        "",
        "Deliveries whose lease was lost before their handler ended",
    ),
    entry("mainstay.bus.published", Counter, Count, "topic", "Events published on a bus of the process"),
    entry("mainstay.bus.dropped", Counter, Count, "subscriber", "Events that a subscription had no room for"),
    entry("mainstay.bus.dead", Counter, Count, "subscriber", "Events that a subscription gave up on"),
    entry("mainstay.workers.claim_errors", Counter, Count, "", "Claims the store did not answer"),
    entry(
        "mainstay.workers.leases_lost",
        Counter,
        Count,
        "",
        "Attempts whose lease was lost before they ended",
    ),
    entry("mainstay.workers.slots", Gauge, Count, "queues", "Jobs that may run at once"),
    entry("mainstay.workers.scaled", Counter, Count, "queues, reason", "Changes of that number"),
    entry("mainstay.workers.slots_lost", Counter, Count, "", "Slots lost to handlers that hold their thread"),
    entry(
        "mainstay.workers.unknown_kinds",
        Counter,
        Count,
        "",
        "Jobs of kinds without a handler, given back",
    ),
    entry("mainstay.schedules.fired", Counter, Count, "", "Ticks of schedules that became jobs"),
    entry("mainstay.schedules.missed", Counter, Count, "", "Ticks passed over: nobody fired them in time"),
    entry("mainstay.schedules.lag", Histogram, Seconds, "", "Time from a tick to its job"),
    entry(
        "mainstay.store.commit.duration",
        Histogram,
        Seconds,
        "outcome",
        "Time until a batch of commits was answered",
    ),
    entry(
        "mainstay.store.full",
        Counter,
        Count,
        "",
        "Commits that a full queue refused and their producer tried again",
    ),
    entry("mainstay.store.groups", Counter, Count, "", "Groups of commits written"),
    entry(
        "mainstay.store.commits",
        Counter,
        Count,
        "",
        "Commits written; over groups, the mean size of a group",
    ),
    entry("mainstay.store.syncs", Counter, Count, "", "Syncs of the journal"),
    entry(
        "mainstay.store.group_write_seconds",
        Counter,
        Seconds,
        "",
        "Time spent writing and syncing groups; over syncs, the mean time of one",
    ),
    entry(
        "mainstay.store.group_write_seconds_max",
        Gauge,
        Seconds,
        "",
        "The longest write of a group since this was last read",
    ),
    entry("mainstay.store.failed_groups", Counter, Count, "", "Groups that could not be written"),
    entry(
        "mainstay.store.table_batches",
        Counter,
        Count,
        "",
        "Batches in which the tables followed the journal",
    ),
    entry(
        "mainstay.store.failed_table_batches",
        Counter,
        Count,
        "",
        "Such batches that failed and were tried again",
    ),
    entry(
        "mainstay.store.behind_bytes",
        Gauge,
        Bytes,
        "",
        "What the journal holds and the tables do not yet",
    ),
    entry("mainstay.store.checkpoints", Counter, Count, "", "Checkpoints of the journal"),
    entry("mainstay.store.failed_checkpoints", Counter, Count, "", "Checkpoints that failed"),
    entry("mainstay.store.wal_bytes", Gauge, Bytes, "", "Size of the journal"),
    entry("mainstay.store.queue_bytes", Gauge, Bytes, "", "Commits that wait for the writer"),
    entry("mainstay.store.waiting_reads", Gauge, Count, "", "Reads that wait for a reader"),
    entry(
        "mainstay.store.bodies_read",
        Counter,
        Count,
        "",
        "Bodies that were not in the cache and had to be read",
    ),
    entry(
        "mainstay.store.bodies_read_ahead",
        Counter,
        Count,
        "",
        "Bodies that were read before they were asked for",
    ),
    entry("mainstay.store.given_back", Counter, Count, "", "Grants given back because their caller was gone"),
    entry("mainstay.store.body_cache_bytes", Gauge, Bytes, "", "Bodies kept in memory"),
    entry("mainstay.store.unfinished_jobs", Gauge, Count, "", "Jobs that have not finished"),
    entry(
        "mainstay.store.waiting_callers",
        Gauge,
        Count,
        "",
        "Callers that wait for work or for a job's end",
    ),
];

/// Describes all of it, before anything is recorded.
pub(super) fn describe(registry: &Registry) {
    for entry in CATALOG {
        registry.describe(&entry.name.into(), Some(entry.unit), entry.help.into());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    /// The rows of the document's tables: name, kind, labels.
    fn documented() -> BTreeSet<(String, String, String)> {
        let text = std::fs::read_to_string(root().join("docs/observability.md")).unwrap();
        let rows = text.lines().filter(|line| line.starts_with("| `")).map(|line| {
            let cells: Vec<_> = line.split('|').map(|cell| cell.trim().replace('`', "")).collect();
            (
                cells[1].clone(),
                cells.get(2).cloned().unwrap_or_default(),
                cells.get(3).cloned().unwrap_or_default(),
            )
        });
        let kinds = ["counter", "gauge", "histogram"];
        rows.filter(|(_, kind, _)| kinds.contains(&kind.as_str())).collect()
    }

    #[test]
    fn the_document_lists_every_metric_and_no_other() {
        let ours: BTreeSet<_> = CATALOG
            .iter()
            .map(|entry| (entry.name.to_owned(), entry.kind.as_str().to_owned(), entry.labels.to_owned()))
            .collect();
        let theirs = documented();
        assert_eq!(
            ours.difference(&theirs).collect::<Vec<_>>(),
            Vec::<&(String, String, String)>::new(),
            "not in docs/observability.md"
        );
        assert_eq!(
            theirs.difference(&ours).collect::<Vec<_>>(),
            Vec::<&(String, String, String)>::new(),
            "not in the catalogue"
        );
    }

    #[test]
    fn every_metric_the_source_records_is_in_the_catalogue() {
        let mut missing = BTreeSet::new();
        let mut seen = 0;
        for folder in ["crates/mainstay/src", "server/mainstay-server/src"] {
            for file in sources(&root().join(folder)) {
                let text = std::fs::read_to_string(&file).unwrap();
                // Tests record what they like.
                let code = text.split("#[cfg(test)]").next().unwrap();
                let calls = ["counter!(", "gauge!(", "histogram!("]
                    .into_iter()
                    .flat_map(|call| code.split(call).skip(1));
                for call in calls {
                    let Some(name) =
                        call.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next())
                    else {
                        continue;
                    };
                    seen += 1;
                    let ours = ["mainstay.", "http.", "process.", "db."]
                        .iter()
                        .any(|prefix| name.starts_with(prefix));
                    if ours && !CATALOG.iter().any(|entry| entry.name == name) {
                        missing.insert(format!("{name} ({})", file.display()));
                    }
                }
            }
        }
        assert!(seen > 15, "the search finds what is there");
        assert!(missing.is_empty(), "add to telemetry/catalog.rs and docs/observability.md: {missing:#?}");
    }

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(sources(&path));
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
        found
    }
}
