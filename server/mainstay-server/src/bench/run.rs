//! A whole run: the stores are filled, the rounds go by, what is measured once comes last.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use super::{
    Error, Result,
    args::{JobsArgs, seconds},
    cell::{Measured, Outcome, Spec, Task},
    fair::FairWait,
    machine,
    once::{EmptyServer, Opened, empty_server},
    plan::{Place, Variant, round},
    pool,
    report::{self, Report, note},
    schedules::Schedules,
    scratch::Scratch,
    server::this_binary,
    site::Database,
};

/// How much longer than its measuring a cell may take.
const CELL: Duration = Duration::from_secs(300);
/// How long the filling of a store may take.
const FILL: Duration = Duration::from_secs(1_800);
/// Jobs of the large tenant, at least: enough that they are not drained before the small one is served.
const LARGE_TENANT: u64 = 100_000;
/// Starts of an empty server.
const STARTS: usize = 5;

/// What is measured once.
#[derive(Default)]
pub(super) struct Once {
    pub(super) backlog: u64,
    /// A store with nothing in it.
    pub(super) empty: Option<Opened>,
    /// One with many jobs waiting, after a crash: read from the disk, and from the system's cache.
    pub(super) cold: Option<Opened>,
    pub(super) warm: Option<Opened>,
    pub(super) servers: Vec<EmptyServer>,
    pub(super) fair: Option<FairWait>,
    pub(super) schedules: Option<Schedules>,
}

/// Measures and tells.
pub(super) fn jobs(args: &JobsArgs, json: bool) -> Result<()> {
    let args = args.settled();
    args.check().map_err(Error::new)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut report = runtime.map_err(Error::doing("cannot start"))?.block_on(measure(&args))?;
    if !args.matrix_only {
        report.pools = Some(pool::measure(&args)?);
    }
    report::print(&report, json)?;
    match report.failures.len() {
        0 => Ok(()),
        failures => Err(Error::new(format!("{failures} cells could not be measured"))),
    }
}

/// Measures jobs inside the process alone, and tells.
pub(super) fn pools(args: &JobsArgs, json: bool) -> Result<()> {
    if args.store.is_elsewhere() {
        return Err(Error::new(
            "--store: the pool keeps its jobs in the process; no store has a part in what is measured here",
        ));
    }
    let args = args.settled();
    args.check().map_err(Error::new)?;
    let mut report = Report::new(&args, None);
    report.pools = Some(pool::measure(&args)?);
    report.load_after = machine::load();
    report::print(&report, json)
}

async fn measure(args: &JobsArgs) -> Result<Report> {
    let scratch = Scratch::new(&args.dir, args.keep, args.store.url())?;
    let mut report = Report::new(args, machine::Device::of(scratch.path()));
    report.database = scratch.database().map(Database::about).transpose()?;
    let of_store = |variant: &&Variant| **variant != Variant::Raw;
    let mut keys: BTreeSet<u64> = args.only.iter().filter(of_store).map(|variant| variant.keys()).collect();
    if !args.matrix_only {
        keys.insert(0);
    }
    for &backlog in &args.backlog {
        for &keys in &keys {
            let of = if keys > 0 { format!(" of {keys} keys") } else { String::new() };
            note(&format!("filling a store with {backlog} waiting jobs{of}"));
            process(&spec(args, &scratch, Task::Fill, backlog, keys, 1), FILL).await?;
        }
    }
    let mut found: BTreeMap<Place, Vec<Measured>> = BTreeMap::new();
    for number in 0..args.rounds {
        for place in round(args, number) {
            let Place { backlog, callers, variant } = place;
            let name = format!("{}, {callers} callers, {backlog} waiting", variant.name());
            let cell = spec(args, &scratch, Task::Measure(variant), backlog, variant.keys(), callers);
            match process(&cell, CELL + cell.warm_up + cell.measure).await {
                Ok(Outcome::Measured(cell)) => {
                    note(&format!("round {}: {name}: {:.0} cycles/s", number + 1, cell.cycles_per_second));
                    found.entry(place).or_default().push(cell);
                }
                Ok(_) => return Err(Error::new("a cell answered something else than was asked")),
                Err(error) => {
                    note(&format!("round {}: {name}: {error}", number + 1));
                    report.failures.push(format!("{name}: {error}"));
                    // It may have left jobs in flight, or half a store.
                    scratch.remove(backlog, variant.keys())?;
                    process(&spec(args, &scratch, Task::Fill, backlog, variant.keys(), 1), FILL).await?;
                }
            }
        }
    }
    report.cells = found.into_iter().collect();
    if !args.matrix_only {
        report.once = once(args, &scratch).await?;
    }
    report.load_after = machine::load();
    Ok(report)
}

async fn once(args: &JobsArgs, scratch: &Scratch) -> Result<Once> {
    note("measuring restarts and the empty server");
    let backlog = args.backlog.iter().copied().max().unwrap_or(0);
    let mut once = Once { backlog, ..Once::default() };
    let fresh = Spec { site: scratch.site("nothing"), ..spec(args, scratch, Task::Fill, 0, 0, 1) };
    process(&fresh, FILL).await?;
    once.empty = reopen(&Spec { task: Task::Reopen { evict: false }, ..fresh }).await?;
    let abandon = Spec {
        measure: Duration::from_secs(2),
        warm_up: Duration::ZERO,
        ..spec(args, scratch, Task::Abandon, backlog, 0, 64)
    };
    // What a database keeps in RAM is its own business.
    if scratch.database().is_none() {
        process(&abandon, CELL).await?;
        once.cold = reopen(&Spec { task: Task::Reopen { evict: true }, ..abandon.clone() }).await?;
    }
    process(&abandon, CELL).await?;
    once.warm = reopen(&Spec { task: Task::Reopen { evict: false }, ..abandon }).await?;
    for number in 0..STARTS {
        once.servers.push(empty_server(scratch, number).await?);
    }
    note("measuring fairness");
    let fair = Spec {
        site: scratch.site("fair"),
        ..spec(args, scratch, Task::Fair, backlog.max(LARGE_TENANT), 0, 64)
    };
    match process(&fair, FILL).await? {
        Outcome::Fair(fair) => once.fair = Some(fair),
        _ => return Err(Error::new("a cell answered something else than was asked")),
    }
    note("measuring 100,000 schedules");
    let many = Spec { site: scratch.site("schedules"), ..spec(args, scratch, Task::Schedules, 0, 0, 1) };
    match process(&many, CELL).await? {
        Outcome::Schedules(found) => once.schedules = Some(found),
        _ => return Err(Error::new("a cell answered something else than was asked")),
    }
    Ok(once)
}

async fn reopen(spec: &Spec) -> Result<Option<Opened>> {
    match process(spec, CELL).await? {
        Outcome::Opened(opened) => Ok(Some(opened)),
        _ => Err(Error::new("a cell answered something else than was asked")),
    }
}

fn spec(args: &JobsArgs, scratch: &Scratch, task: Task, backlog: u64, keys: u64, callers: usize) -> Spec {
    Spec {
        task,
        site: scratch.store(backlog, keys),
        dir: scratch.path().to_owned(),
        callers,
        backlog,
        queues: args.queues,
        keys,
        payload_bytes: args.payload_bytes,
        batch: args.batch,
        keep_finished: args.keep_finished,
        prefetch: args.prefetch,
        threads: args.threads(),
        warm_up: seconds(args.warm_up_seconds),
        measure: seconds(args.cell_seconds),
    }
}

/// Runs one process of this binary, and reads what it answers. What it says on standard error is shown.
async fn process(spec: &Spec, limit: Duration) -> Result<Outcome> {
    let text = serde_json::to_string(spec).map_err(Error::doing("the spec of a cell"))?;
    let mut command = Command::new(this_binary()?);
    command.args(["bench", "cell"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(Error::doing("cannot start a cell"))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(text.as_bytes()).await.map_err(Error::doing("cannot tell a cell what to measure"))?;
    }
    let ended = timeout(limit, child.wait_with_output()).await;
    let ended = ended.map_err(|_| Error::new("a cell took too long; it was ended"))?;
    let ended = ended.map_err(Error::doing("a cell"))?;
    if !ended.status.success() {
        return Err(Error::new(format!("the cell ended with {}", ended.status)));
    }
    serde_json::from_slice(&ended.stdout).map_err(Error::doing("the answer of a cell"))
}
