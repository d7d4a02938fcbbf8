//! How the figures are told: a table in Markdown, or one JSON document.

use std::{fmt::Write as _, io::Write as _};

use serde_json::{Value, json};

use super::{
    Error, Result,
    args::JobsArgs,
    cell::Measured,
    latency::Quantiles,
    machine::{self, Device},
    plan::{Place, Variant},
    pool::{Pools, Rates},
    run::Once,
    schedules::SCHEDULES,
};

/// All that was found.
pub(super) struct Report {
    args: JobsArgs,
    device: Option<Device>,
    /// What the store is in, if it is not on this disk.
    pub(super) database: Option<String>,
    load_before: Option<f64>,
    pub(super) load_after: Option<f64>,
    pub(super) cells: Vec<(Place, Vec<Measured>)>,
    pub(super) failures: Vec<String>,
    pub(super) once: Once,
    pub(super) pools: Option<Pools>,
}

/// What an answer means.
fn durable(report: &Report) -> String {
    match &report.database {
        None => {
            "Every step was on the disk (fsync or fdatasync) before it was answered; nothing else counts."
                .into()
        }
        Some(about) => {
            format!(
                "Every step was committed before it was answered, in {about}. B/job: of its write-ahead log."
            )
        }
    }
}

impl Report {
    pub(super) fn new(args: &JobsArgs, device: Option<Device>) -> Report {
        Report {
            args: args.clone(),
            device,
            database: None,
            load_before: machine::load(),
            load_after: None,
            cells: Vec::new(),
            failures: Vec::new(),
            once: Once::default(),
            pools: None,
        }
    }

    fn cycles(&self, variant: Variant, callers: usize, backlog: u64) -> Option<f64> {
        // A log does not know what waits.
        let fits = |place: &Place| place.backlog == backlog || variant == Variant::Raw;
        let found = self
            .cells
            .iter()
            .find(|(place, _)| place.variant == variant && place.callers == callers && fits(place));
        found.map(|(_, rounds)| median(rounds, |cell| cell.cycles_per_second))
    }
}

/// Prints the report.
pub(super) fn print(report: &Report, json: bool) -> Result<()> {
    say(&if json { document(report).to_string() } else { text(report) })
}

/// Prints an answer.
pub(super) fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(Error::doing("cannot write the report"))
}

/// Says how it goes on, beside the answer.
pub(super) fn note(text: &str) {
    // Nobody is there to tell if that fails.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn text(report: &Report) -> String {
    let args = &report.args;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} cores, shared by callers and store; callers on {} threads; {} queues; payload {} bytes; {} finished jobs \
         kept; load before and after {} and {}\n{}\nMedians of {} rounds of {} s (lowest–highest); times in \
         ms: p50/p99/p99.9.\n",
        machine::cores(),
        args.threads(),
        args.queues,
        args.payload_bytes,
        args.keep_finished,
        number(report.load_before, 1),
        number(report.load_after, 1),
        durable(report),
        args.rounds,
        args.cell_seconds,
    );
    let heading = [
        "", "callers", "waiting", "cycles/s", "(range)", "of raw", "enqueue", "claim", "complete", "B/job",
        "RSS MB", "ops/sync", "cores",
    ];
    let rows = report.cells.iter().map(|(place, rounds)| row(report, *place, rounds));
    out += &table(std::iter::once(heading.map(str::to_owned)).chain(rows));
    out.push('\n');
    let pools = report.pools.iter().flat_map(pool_lines);
    for line in once_lines(&report.once).into_iter().chain(ratio_lines(report)).chain(pools) {
        let _ = writeln!(out, "- {line}");
    }
    for failure in &report.failures {
        let _ = writeln!(out, "- NOT MEASURED: {failure}");
    }
    out
}

fn row(report: &Report, place: Place, rounds: &[Measured]) -> [String; 13] {
    let cycles = median(rounds, |cell| cell.cycles_per_second);
    let all = || rounds.iter().map(|cell| cell.cycles_per_second);
    let raw = report.cycles(Variant::Raw, place.callers, 0).filter(|_| place.variant != Variant::Raw);
    let step = |at: usize| {
        let has = rounds.first().is_some_and(|cell| cell.steps.len() > at);
        let of = |value: fn(&Quantiles) -> f64| ms(median(rounds, |cell| value(&cell.steps[at].ms)));
        if has { format!("{}/{}/{}", of(|q| q.p50), of(|q| q.p99), of(|q| q.p999)) } else { String::new() }
    };
    // A batch has two steps; the second settles and claims.
    let (claim, complete) =
        if place.variant == Variant::Batch { (String::new(), step(1)) } else { (step(1), step(2)) };
    [
        place.variant.name().to_owned(),
        place.callers.to_string(),
        place.backlog.to_string(),
        format!("{cycles:.0}"),
        format!("({:.0}–{:.0})", all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max)),
        number(raw.map(|raw| cycles / raw), 2),
        step(0),
        claim,
        complete,
        number(median_of(rounds, |cell| cell.bytes_per_job), 0),
        number(median_of(rounds, |cell| Some(cell.memory?.rss as f64 / 1e6)), 0),
        number(median_of(rounds, |cell| cell.group), 1),
        number(median_of(rounds, |cell| cell.cores), 2),
    ]
}

fn once_lines(once: &Once) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(bytes) = bytes_per_waiting_job(once) {
        lines.push(format!(
            "RAM of a waiting job: {bytes:.0} bytes (RssAnon with {} waiting, less that of an empty store)",
            once.backlog
        ));
    }
    for (how, opened) in [("files read from the disk", once.cold), ("files in the system's cache", once.warm)]
    {
        if let Some(opened) = opened {
            lines.push(format!(
                "restart after a crash with {} waiting, {how}: {:.2} s to open, {:.2} s to the first claim (journal {:.0} MB)",
                once.backlog,
                opened.open_seconds,
                opened.first_claim_seconds,
                opened.journal_bytes as f64 / 1e6,
            ));
        }
    }
    if let Some(found) = once.schedules {
        lines.push(format!(
            "{SCHEDULES} schedules: {} bytes of RAM each; {} cores while none is due; a tick of all of them: durable after \
             {:.2} s, {} µs of processor time a firing",
            number(found.bytes_each, 0),
            number(found.idle_cores, 3),
            found.burst_seconds,
            number(found.cpu_us_each, 1),
        ));
    }
    if !once.servers.is_empty() {
        lines.push(format!(
            "empty server: ready {:.0} ms after its start, {} MB RSS a second later",
            median(&once.servers, |server| server.ready_ms),
            number(median_of(&once.servers, |server| Some(server.memory?.rss as f64 / 1e6)), 1),
        ));
    }
    if let Some(fair) = once.fair {
        lines.push(format!(
            "fairness: {} jobs of a small tenant behind {} of a large one, 64 callers that drain {:.0} jobs/s: the first \
             was handed out after {:.1} ms, the last after {:.1} ms",
            fair.small, fair.large, fair.drained_per_second, fair.first_ms, fair.last_ms,
        ));
    }
    lines
}

/// Ratios are of the same round, so that a slow minute is everybody's.
fn pool_lines(pools: &Pools) -> Vec<String> {
    let line = |how: &str, of: fn(&Rates) -> &Vec<f64>| {
        let (spawn, channel, pool) = (of(&pools.spawn), of(&pools.channel), of(&pools.pool));
        let rate = |all: &[f64]| median(all, |rate| *rate) / 1e3;
        let against = |other: &[f64]| {
            let ratios: Vec<_> = pool.iter().zip(other).map(|(pool, other)| pool / other).collect();
            median(&ratios, |ratio| *ratio)
        };
        format!(
            "jobs in the process, {how}: pool {:.0}k/s, channel with workers {:.0}k/s, bare spawn {:.0}k/s; the pool is \
             {:.2} of the channel and {:.2} of the spawn",
            rate(pool),
            rate(channel),
            rate(spawn),
            against(channel),
            against(spawn)
        )
    };
    vec![line("ask and wait", |rates| &rates.ask_and_wait), line("burst", |rates| &rates.burst)]
}

fn bytes_per_waiting_job(once: &Once) -> Option<f64> {
    let (full, empty) = (once.warm?.memory?, once.empty?.memory?);
    (once.backlog > 0).then(|| full.anon.saturating_sub(empty.anon) as f64 / once.backlog as f64)
}

/// With jobs waiting, against none; with keys, against none.
fn ratio_lines(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for (place, _) in report.cells.iter().filter(|(place, _)| place.variant == Variant::Keys) {
        let with = report.cycles(Variant::Keys, place.callers, place.backlog);
        let without = report.cycles(Variant::Store, place.callers, place.backlog);
        if let Some((with, without)) = with.zip(without) {
            lines.push(format!(
                "{} keys with a place each, {} callers, {} waiting: {:.2} of the cycles without keys",
                Variant::Keys.keys(),
                place.callers,
                place.backlog,
                with / without,
            ));
        }
    }
    for (place, _) in report.cells.iter().filter(|(place, _)| place.backlog > 0) {
        let with = report.cycles(place.variant, place.callers, place.backlog);
        let without = report.cycles(place.variant, place.callers, 0);
        if let Some((with, without)) = with.zip(without) {
            lines.push(format!(
                "{}, {} callers: {:.2} of the empty store's cycles with {} waiting",
                place.variant.name(),
                place.callers,
                with / without,
                place.backlog
            ));
        }
    }
    lines
}

fn document(report: &Report) -> Value {
    let args = &report.args;
    let once = &report.once;
    let cells = report.cells.iter().map(|(place, rounds)| {
        json!({
            "variant": place.variant, "callers": place.callers, "waiting": place.backlog,
            "cycles_per_second": median(rounds, |cell| cell.cycles_per_second),
            "of_raw": report.cycles(Variant::Raw, place.callers, 0).map(|raw| median(rounds, |cell| cell.cycles_per_second) / raw),
            "rounds": rounds,
        })
    });
    json!({
        "durable": durable(report),
        "machine": {
            "cores": machine::cores(), "load_before": report.load_before, "load_after": report.load_after,
            "write_cache": report.device.and_then(Device::write_cache),
        },
        "settings": {
            "rounds": args.rounds, "cell_seconds": args.cell_seconds, "warm_up_seconds": args.warm_up_seconds,
            "threads": args.threads(), "queues": args.queues, "payload_bytes": args.payload_bytes,
            "keep_finished": args.keep_finished, "batch": args.batch,
            "prefetch": args.prefetch,
        },
        "cells": cells.collect::<Vec<_>>(),
        "waiting_job_bytes": bytes_per_waiting_job(once),
        "restart": { "waiting": once.backlog, "cold": once.cold, "warm": once.warm, "empty": once.empty },
        "empty_server": once.servers,
        "fairness": once.fair,
        "jobs_in_the_process": report.pools,
        "schedules": { "count": SCHEDULES, "found": once.schedules },
        "failures": report.failures,
    })
}

pub(super) fn median<T>(all: &[T], value: impl Fn(&T) -> f64) -> f64 {
    median_of(all, |one| Some(value(one))).unwrap_or(0.0)
}

fn median_of<T>(all: &[T], value: impl Fn(&T) -> Option<f64>) -> Option<f64> {
    let mut values: Vec<f64> = all.iter().filter_map(value).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

pub(super) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "n/a".to_owned(), |value| format!("{value:.digits$}"))
}

pub(super) fn ms(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

/// A Markdown table, its columns as wide as they need to be; the first to the left, the others to the right.
pub(super) fn table<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(|column| width(column).max(2));
    let mut out = String::new();
    for (i, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[column] - cell.chars().count());
            out += &if column == 0 { format!("| {cell}{pad} |") } else { format!(" {pad}{cell} |") };
        }
        out.push('\n');
        if i == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width + 1);
                out += &if column == 0 { format!("|{dashes}-|") } else { format!("{dashes}:|") };
            }
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0], |x| *x), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0], |x| *x), 2.5);
        assert_eq!(median_of::<f64>(&[], |x| Some(*x)), None);
    }

    #[test]
    fn figures_stand_under_each_other() {
        let rows = [["", "n"], ["raw", "12345"], ["store", "7"]].map(|row| row.map(str::to_owned));
        let expected = "|       |     n |\n|-------|------:|\n| raw   | 12345 |\n| store |     7 |\n";
        assert_eq!(table(rows.into_iter()), expected);
    }
}
