//! One cell of the matrix, measured in a process of its own.

use std::{
    cell::Cell,
    io::{Read, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use mainstay::Client;
use serde::{Deserialize, Serialize};

use super::{
    Error, Result,
    batch::Batches,
    drive::{Driven, Span, Subject, drive, within},
    fair::{self, FairWait},
    fill::fill,
    latency::Quantiles,
    machine::{Device, Memory, cpu_seconds, memory},
    once::{Opened, reopen},
    plan::Variant,
    raw::RawLog,
    schedules::{Schedules, schedules},
    server::Server,
    single::{SingleCalls, read},
    site::Site,
    store::{Depth, InProcess, close, depth, open, queues},
    wire::Connection,
    work,
};

/// What a process is asked to do.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Spec {
    pub(super) task: Task,
    /// The store.
    pub(super) site: Site,
    /// Where other files go.
    pub(super) dir: PathBuf,
    pub(super) callers: usize,
    pub(super) backlog: u64,
    pub(super) queues: usize,
    /// Concurrency keys that jobs have; 0: none.
    pub(super) keys: u64,
    pub(super) payload_bytes: usize,
    pub(super) batch: usize,
    pub(super) keep_finished: u64,
    pub(super) prefetch: usize,
    pub(super) threads: usize,
    pub(super) warm_up: Duration,
    pub(super) measure: Duration,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Task {
    /// Bring the store to its number of waiting jobs.
    Fill,
    /// Measure a variant.
    Measure(Variant),
    /// Measure how long a small tenant waits behind a large one.
    Fair,
    /// Drive the store in process, and end without closing it.
    Abandon,
    /// Open the store, claim one job, give it back, and end without closing.
    Reopen {
        /// Have the system forget what it keeps of the files first.
        evict: bool,
    },
    /// Many schedules on a store of their own.
    Schedules,
}

/// What a process answers, as JSON on its standard output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    Done,
    Measured(Measured),
    Opened(Opened),
    Fair(FairWait),
    Schedules(Schedules),
}

/// What was measured in a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    /// Full cycles a second.
    pub(super) cycles_per_second: f64,
    pub(super) steps: Vec<Step>,
    /// Written to the device, or to the write-ahead log of a database, by anybody, for each job that was completed.
    pub(super) bytes_per_job: Option<f64>,
    /// Of the process that keeps the jobs, at the end.
    pub(super) memory: Option<Memory>,
    /// Cores that the process that keeps the jobs used, on average; the callers' own too if they are in it.
    pub(super) cores: Option<f64>,
    /// Ops (or commits) that shared one sync.
    pub(super) group: Option<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) ms: Quantiles,
}

/// Does what the spec on standard input says, in a runtime of its own. (As an argument, a list of processes would show
/// the URL of a database.)
pub(super) fn run() -> Result<()> {
    let mut spec = String::new();
    std::io::stdin().read_to_string(&mut spec).map_err(Error::doing("the spec of a cell"))?;
    let spec: Spec = serde_json::from_str(&spec).map_err(Error::doing("the spec of a cell"))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(spec.threads).enable_all().build();
    let runtime = runtime.map_err(Error::doing("cannot start"))?;
    let outcome = runtime.block_on(perform(&spec))?;
    let text = serde_json::to_string(&outcome).map_err(Error::doing("the outcome"))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(Error::doing("the outcome"))?;
    if matches!(spec.task, Task::Abandon | Task::Reopen { .. }) {
        // As a crash would: nothing is closed.
        std::process::exit(0);
    }
    Ok(())
}

async fn perform(spec: &Spec) -> Result<Outcome> {
    match spec.task {
        Task::Fill => fill(spec).await.map(|()| Outcome::Done),
        Task::Measure(Variant::Raw) => raw(spec).await.map(Outcome::Measured),
        Task::Fair => fair::measure(spec).await.map(Outcome::Fair),
        Task::Measure(Variant::Store | Variant::Keys) => in_process(spec, true).await.map(Outcome::Measured),
        Task::Measure(Variant::Http | Variant::Batch) => over_http(spec).await.map(Outcome::Measured),
        Task::Measure(variant) => work::perform(spec, variant).await.map(Outcome::Measured),
        Task::Abandon => in_process(spec, false).await.map(|_| Outcome::Done),
        Task::Reopen { evict } => reopen(spec, evict).await.map(Outcome::Opened),
        Task::Schedules => schedules(spec).await.map(Outcome::Schedules),
    }
}

async fn raw(spec: &Spec) -> Result<Measured> {
    let (log, writer) = RawLog::open(&spec.dir, spec.payload_bytes)?;
    let counts = log.clone();
    let (measured, _) = measure(log, spec, spec.callers, None, || Some(counts.counts())).await?;
    drop(writer);
    Ok(Measured { memory: None, ..measured })
}

async fn in_process(spec: &Spec, closes: bool) -> Result<Measured> {
    let client = within(open(&spec.site)).await?;
    let queues = queues(spec.queues)?;
    expect(depth(&client, &queues).await?, spec.backlog)?;
    let finished = figure(&client, "finished_total");
    let subject = InProcess::new(client.clone(), spec)?;
    let (measured, jobs) = measure(subject, spec, spec.callers, None, groups(&client)).await?;
    expect(depth(&client, &queues).await?, spec.backlog)?;
    if let (Some(before), Some(now)) = (finished, figure(&client, "finished_total"))
        && now - before != jobs
    {
        return Err(Error::new(format!("{jobs} completions were answered, {} happened", now - before)));
    }
    if closes {
        close(&client).await?;
    } else {
        // Dropped, it would close in good order; a crash leaves it as it is.
        std::mem::forget(client);
    }
    Ok(measured)
}

/// Groups and commits so far.
pub(super) fn groups(client: &Client) -> impl Fn() -> Option<(u64, u64)> + '_ {
    || Some((figure(client, "groups_total")?, figure(client, "commits_total")?))
}

fn figure(client: &Client, name: &str) -> Option<u64> {
    client.store().stats().iter().find(|(figure, _)| *figure == name).map(|(_, value)| *value as u64)
}

async fn over_http(spec: &Spec) -> Result<Measured> {
    let server = Server::start(&spec.site, &spec.dir).await?;
    let mut connection = Connection::open(server.api).await?;
    expect(depth_over_http(&mut connection, spec).await?, spec.backlog)?;
    let unknown = || None;
    let measured = match spec.task {
        Task::Measure(Variant::Batch) => {
            measure(Batches::new(server.api, spec), spec, spec.callers, server.pid, unknown).await?
        }
        _ => measure(SingleCalls::new(server.api, spec), spec, spec.callers, server.pid, unknown).await?,
    };
    expect(depth_over_http(&mut connection, spec).await?, spec.backlog)?;
    drop(connection);
    server.stop().await?;
    Ok(measured.0)
}

async fn depth_over_http(connection: &mut Connection, spec: &Spec) -> Result<Depth> {
    #[derive(Deserialize)]
    struct Queue {
        depth: Numbers,
    }
    #[derive(Deserialize)]
    struct Numbers {
        available: u64,
        running: u64,
    }
    let mut sum = Depth::default();
    for queue in 0..spec.queues {
        let queue: Queue = read(connection.ask("GET", &format!("/v1/queues/bench-{queue}"), "").await?)?;
        sum.available += queue.depth.available;
        sum.running += queue.depth.running;
    }
    Ok(sum)
}

/// Nothing was lost, nothing came twice: what waits is what waited before, and nobody has anything.
fn expect(found: Depth, backlog: u64) -> Result<()> {
    if found == (Depth { available: backlog, running: 0 }) {
        return Ok(());
    }
    let Depth { available, running } = found;
    Err(Error::new(format!(
        "{available} jobs wait and {running} run, where {backlog} should wait and none run"
    )))
}

/// Drives a subject with so many callers; answers with what was measured how many jobs were completed in all. `groups` says groups and
/// ops so far.
pub(super) async fn measure<S: Subject>(
    subject: Arc<S>,
    spec: &Spec,
    callers: usize,
    pid: Option<u32>,
    groups: impl Fn() -> Option<(u64, u64)>,
) -> Result<(Measured, u64)> {
    let (device, ledger) = (Device::of(&spec.dir), spec.site.ledger()?);
    let written = || match &ledger {
        Some(ledger) => ledger.written(),
        None => device.and_then(Device::written),
    };
    let look = || (written(), cpu_seconds(pid), groups());
    let (before, after) = (Cell::new((None, None, None)), Cell::new((None, None, None)));
    let at_end = Cell::new(None);
    let span = Span { warm_up: spec.warm_up, measure: spec.measure };
    let driven = drive(
        subject,
        callers,
        span,
        || before.set(look()),
        || {
            after.set(look());
            at_end.set(memory(pid));
        },
    );
    let Driven { jobs, all_jobs, seconds, steps } = driven.await?;
    let ((written_before, cpu_before, groups_before), (written, cpu, groups)) = (before.get(), after.get());
    let group = groups.zip(groups_before).and_then(|((groups, ops), (groups_before, ops_before))| {
        let groups = groups.checked_sub(groups_before).filter(|groups| *groups > 0)?;
        Some((ops - ops_before) as f64 / groups as f64)
    });
    let bytes = written.zip(written_before).map(|(now, before)| now.saturating_sub(before) as f64);
    let measured = Measured {
        cycles_per_second: jobs as f64 / seconds,
        steps: steps.into_iter().map(|(name, ms)| Step { name: name.to_owned(), ms }).collect(),
        bytes_per_job: bytes.filter(|_| jobs > 0).map(|bytes| bytes / jobs as f64),
        memory: at_end.get(),
        cores: cpu.zip(cpu_before).map(|(now, before)| (now - before) / seconds),
        group,
    };
    Ok((measured, all_jobs))
}
