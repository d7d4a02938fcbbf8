//! `mainstay bench`: what this machine's disk could do, what the store makes of it, and what is left over HTTP.
//!
//! 1. `args` is what can be asked, `plan` the cells of the matrix in the order in which they are measured;
//! 2. `run` starts each cell in a process of its own, so that memory and caches are those of one subject alone;
//! 3. `cell` measures one: `drive` is the closed loop of callers, the same for every subject; `site` is where its store
//!    is: in a file, or in a database;
//! 4. the subjects: `raw` (the limit of the disk), `store` (in process), `single` and `batch` (over HTTP, with
//!    `server` and `wire`), `work` (producers and the library's workers);
//! 5. `once` measures what is measured once: memory of a waiting job, restart, an empty server; `fair` how long a small
//!    tenant waits behind a large one; `schedules` what 100,000 of them cost;
//! 6. `fanout` measures the event bus of a process, beside others;
//! 7. `pool` measures jobs inside a process, which no disk sees, and `locks` is the same for locks;
//! 8. `events` measures the durable log of events beside the limit of the disk, `live` its streams;
//! 9. `latency`, `machine` and `report` count, look at the machine, and tell.

mod args;
mod batch;
mod cell;
mod drive;
mod events;
mod fair;
mod fanout;
mod fill;
mod latency;
mod live;
mod locks;
mod machine;
mod once;
mod payload;
mod plan;
mod pool;
mod raw;
mod report;
mod run;
mod schedules;
mod scratch;
mod server;
mod single;
mod site;
mod store;
mod wire;
mod work;

use std::{fmt, process::ExitCode};

pub use args::{BenchArgs, BusArgs, EventsArgs, JobsArgs, LocksArgs, StoreArg};

/// Measures, and prints a table, or with `json` one JSON document. Exit code 1: something could not be measured.
pub fn run(args: BenchArgs, json: bool) -> ExitCode {
    let done = match args {
        BenchArgs::Jobs(args) => run::jobs(&args, json),
        BenchArgs::Bus(args) => bus(&args, json),
        BenchArgs::Pool(args) => run::pools(&args, json),
        BenchArgs::Locks(args) => locks::run(&args, json),
        BenchArgs::Events(args) => events(&args, json),
        BenchArgs::Cell => cell::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::note(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn bus(args: &BusArgs, json: bool) -> Result<()> {
    let found = fanout::measure(args.rounds.max(1), args::seconds(args.cell_seconds))?;
    report::say(&if json { found.document().to_string() } else { found.text() })
}

fn events(args: &EventsArgs, json: bool) -> Result<()> {
    args.check().map_err(Error::new)?;
    let found = events::measure(args)?;
    report::say(&if json { found.document().to_string() } else { found.text() })
}

/// Why something could not be measured.
#[derive(Debug)]
struct Error(String);

type Result<T> = std::result::Result<T, Error>;

impl Error {
    fn new(message: impl Into<String>) -> Error {
        Error(message.into())
    }

    /// For `map_err`: says what was being done.
    fn doing<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Error {
        move |error| Error(format!("{what}: {error}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
