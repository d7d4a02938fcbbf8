//! What a context and a line of the log cost, in time and in allocations: `cargo run --release -p mainstay-benches
//! --bin context`. Medians of eleven rounds on one thread; lines go to `/dev/null`.

use std::hint::black_box;
use std::time::Instant;

use mainstay::context::{Context, RequestId, Trace};
use mainstay::log::{self, Format, Options, Output};

const ROUNDS: usize = 11;

fn main() -> mainstay::Result<()> {
    let format = match std::env::args().nth(1).as_deref() {
        Some("logfmt") => Format::Logfmt,
        Some("plain") => Format::Plain,
        _ => Format::Json,
    };
    // Once a place: without a limit, so that every line is made.
    let options = Options::new().format(format).output(Output::File("/dev/null".into())).lines_per_second(0);
    let _log = log::init(options)?;

    let context = Context::new();
    context.set("user", 42);
    context.set("tenant", "acme");
    println!("{:<44} {:>9} {:>12}", "", "ns", "allocations");
    row("make a context: id and trace", 100_000, || drop(black_box(Context::new())));
    row("make a request id", 100_000, || _ = black_box(RequestId::new()));
    row("read a traceparent", 100_000, || {
        _ = black_box(Trace::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    });
    row("enter and leave a context", 1_000_000, || drop(black_box(&context).enter()));
    let _in = context.enter();
    row("Context::current()", 1_000_000, || drop(black_box(Context::current())));
    row("Context::current().remaining()", 1_000_000, || _ = black_box(Context::current().remaining()));
    row("replace a field", 1_000_000, || Context::current().set("user", 43));
    row("a line that nobody wants", 1_000_000, || tracing::debug!(status = 200, "request"));
    row("a line without fields", 100_000, || tracing::info!("request"));
    row("an access line of 7 fields", 100_000, || {
        let (route, path, outcome) = ("/orders/{id}", "/orders/7", "ok");
        tracing::info!(
            method = "GET",
            route,
            path,
            status = 200,
            took_ms = 0.123,
            outcome,
            peer = "[::1]:50000",
            "request"
        );
    });
    Ok(())
}

/// The median over the rounds.
fn row(what: &str, n: u32, mut work: impl FnMut()) {
    // Whatever is made once has been made.
    (0..100).for_each(|_| work());
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            #[expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
            let began = Instant::now();
            (0..n).for_each(|_| work());
            began.elapsed().as_nanos() as f64 / f64::from(n)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let allocated = allocation_counter::measure(|| (0..100).for_each(|_| work())).count_total as f64 / 100.0;
    println!("{what:<44} {:>9.1} {allocated:>12.2}", rounds[ROUNDS / 2]);
}
