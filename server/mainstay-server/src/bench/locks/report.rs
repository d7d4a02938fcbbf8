//! How the figures are told.

use std::io::Write as _;

use super::{
    super::{
        Error, Result,
        args::LocksArgs,
        report::{ms, number, table},
    },
    Contended, Found, Uncontended,
};

pub(super) fn print(args: &LocksArgs, found: &Found, json: bool) -> Result<()> {
    let text = if json {
        serde_json::to_string(found).map_err(Error::doing("the report"))?
    } else {
        text(args, found)
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end())
        .and_then(|()| out.flush())
        .map_err(Error::doing("cannot write the report"))
}

fn text(args: &LocksArgs, found: &Found) -> String {
    let mut text = format!(
        "Locks that nobody else wants: acquire and release, one after the other, {} s each.\n\n{}",
        args.seconds,
        table(
            head(["", "cycles/s", "µs a cycle", "p50 ms", "p99 ms"])
                .chain(found.uncontended.iter().map(alone))
        )
    );
    text += "\nHand-overs: from the sending of a release to the arrival of the next grant.\n\n";
    let rows = found.contended.iter().map(contended);
    text += &table(head(["", "waiters", "grants/s", "p50 ms", "p99 ms", "max ms"]).chain(rows));
    if let Some(held) = &found.held {
        let bytes = number(held.bytes_per_lock, 0);
        text += &format!(
            "\n{} locks held at once in the durable store: {bytes} bytes of RAM a lock; renewals a second: {:.0} of 64 \
             callers, one a call, and {:.0} in calls of 1,000.\n",
            held.locks, held.renewals_per_second_of_64_callers, held.renewals_per_second_in_batches
        );
    }
    let load = |load: Option<f64>| number(load, 1);
    let where_to = match &found.database {
        None => "Every answer of the embedded store was on the disk.".to_owned(),
        Some(about) => format!("Every answer of the PostgreSQL store was committed, in {about}."),
    };
    text += &format!(
        "\nLoad of the machine: {} before, {} after. {where_to}\n",
        load(found.load_before),
        load(found.load_after)
    );
    text
}

fn head<const N: usize>(names: [&str; N]) -> impl Iterator<Item = [String; N]> {
    std::iter::once(names.map(str::to_owned))
}

fn alone(row: &Uncontended) -> [String; 5] {
    let quantile = |of: Option<f64>| of.map_or_else(|| "n/a".to_owned(), |value| format!("{value:.3}"));
    [
        row.subject.to_owned(),
        format!("{:.0}", row.cycles_per_second),
        format!("{:.2}", 1e6 / row.cycles_per_second),
        quantile(row.ms.map(|ms| ms.p50)),
        quantile(row.ms.map(|ms| ms.p99)),
    ]
}

fn contended(row: &Contended) -> [String; 6] {
    [
        row.subject.to_owned(),
        row.waiters.to_string(),
        format!("{:.0}", row.grants_per_second),
        ms(row.ms.p50),
        ms(row.ms.p99),
        ms(row.ms.max),
    ]
}
