//! What can be asked.

use std::{fmt, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::plan::Variant;

/// The measurements.
#[derive(Debug, Subcommand)]
pub enum BenchArgs {
    /// Measure jobs: the raw limit of this machine's disk, the store in process, and the server over HTTP
    ///
    /// The store is the embedded one, or with --store a PostgreSQL. A cycle is enqueue, claim, complete, each answered only when it is durable. Every figure is the median of
    /// the rounds; in each round, all variants are measured one after the other. The full matrix takes about 40
    /// minutes; `--quick` gives a first look in about one.
    Jobs(JobsArgs),
    /// Measure the event bus of a process, beside others
    ///
    /// No store has a part in it. Deliveries to 1, 8 and 64 subscribers by `mainstay::bus`, by `tokio::sync::broadcast`, and by a map of handlers
    /// that are called together; then the cost of a match against 10,000 filters. Takes about a minute.
    Bus(BusArgs),
    /// Measure jobs inside a process: the worker pool beside bare `tokio::spawn` and a channel with workers
    ///
    /// A part of `jobs`, alone. Only `--rounds`, `--cell-seconds` and `--threads` count; no store has a part in it.
    Pool(JobsArgs),
    /// Measure locks: alone, handed over among waiters, and very many at once
    ///
    /// In process on the memory store (beside `tokio::sync::Mutex`) and on the embedded store, or with --store on a
    /// PostgreSQL, and over HTTP. Takes
    /// about a minute and a half; `--quick` a quarter of that.
    Locks(LocksArgs),
    /// Measure the durable log of events
    ///
    /// Publishes, one a commit and in batches of 100, beside the raw limit of the disk at the same concurrency; a group
    /// that fetches and acknowledges in batches; a replay of the log from the disk; and how long an event takes from an
    /// HTTP publish to one reader of a stream, and to a thousand. Takes about a minute and a half.
    Events(EventsArgs),
    /// Measure one cell (for the command above)
    ///
    /// What to measure comes as JSON on standard input.
    #[command(hide = true)]
    Cell,
}

/// Which store is measured.
#[derive(Clone, Default, Args)]
pub struct StoreArg {
    /// Measure a PostgreSQL instead of the embedded store: postgres://USER:PASSWORD@HOST/DATABASE. Each store is a
    /// schema of this run in it, dropped at the end
    #[arg(long = "store", value_name = "URL", env = "MAINSTAY_BENCH_STORE", hide_env_values = true)]
    pub url: Option<String>,
}

impl fmt::Debug for StoreArg {
    /// Without the URL, which may have a password in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.url.is_some() { "a database" } else { "the embedded store" })
    }
}

impl StoreArg {
    pub(super) fn is_elsewhere(&self) -> bool {
        self.url.is_some()
    }

    pub(super) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }
}

/// The flags of `mainstay bench bus`.
#[derive(Debug, Clone, Args)]
pub struct BusArgs {
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rounds: usize,
    /// How long each is measured
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub cell_seconds: f64,
}

/// The flags of `mainstay bench events`.
#[derive(Debug, Clone, Args)]
pub struct EventsArgs {
    /// Callers at the same time; each has one call in flight
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub callers: usize,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rounds: usize,
    /// How long each is measured
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    pub cell_seconds: f64,
    /// Readers of the live stream, beside the one who is measured alone; 0: neither
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub readers: usize,
    /// Which store.
    #[command(flatten)]
    pub store: StoreArg,
    /// Bytes of an event's data, a JSON string that does not compress
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub payload_bytes: usize,
    /// The folder whose disk is measured; a subfolder is made in it, and removed at the end
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub dir: PathBuf,
    /// Leave the files where they are
    #[arg(long)]
    pub keep: bool,
}

impl EventsArgs {
    /// What makes no sense, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.callers == 0 || self.rounds == 0 {
            return Err("--callers and --rounds are at least 1".to_owned());
        }
        if !(2..=1 << 20).contains(&self.payload_bytes) {
            return Err("--payload-bytes is 2 to 1048576".to_owned());
        }
        if self.cell_seconds > 0.0 && self.cell_seconds <= 3_600.0 {
            Ok(())
        } else {
            Err("--cell-seconds is above 0 and at most 3600".to_owned())
        }
    }
}

/// The flags of `mainstay bench jobs`.
#[derive(Debug, Clone, Args)]
pub struct JobsArgs {
    /// Callers at the same time; each has one call in flight
    #[arg(long, value_delimiter = ',', value_name = "N,…", default_value = "1,64,256,1024")]
    pub callers: Vec<usize>,
    /// Jobs that wait in the store meanwhile
    #[arg(long, value_delimiter = ',', value_name = "N,…", default_value = "0,1000000")]
    pub backlog: Vec<u64>,
    /// What to measure [default: raw,store,keys,http,batch; with --store without raw]
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub only: Vec<Variant>,
    /// How often each cell is measured
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rounds: usize,
    /// How long each cell is measured
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub cell_seconds: f64,
    /// How long each cell runs before it is measured
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    pub warm_up_seconds: f64,
    /// A first look: one round of two seconds, 64 callers, nothing waiting
    #[arg(long, conflicts_with_all = ["callers", "backlog", "rounds", "cell_seconds", "warm_up_seconds"])]
    pub quick: bool,
    /// Which store.
    #[command(flatten)]
    pub store: StoreArg,
    /// Measure the matrix alone: not the memory of a waiting job, nor restarts, nor the empty server, nor fairness
    #[arg(long)]
    pub matrix_only: bool,
    /// The folder whose disk is measured; a subfolder is made in it, and removed at the end
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub dir: PathBuf,
    /// Leave the files where they are
    #[arg(long)]
    pub keep: bool,
    /// Bytes of a job's payload, a JSON string that does not compress
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub payload_bytes: usize,
    /// Queues that the callers share
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub queues: usize,
    /// Finished jobs that all queues together keep
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub keep_finished: u64,
    /// Jobs that the workers of whole cycles claim ahead, beyond those that they run
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub prefetch: usize,
    /// Jobs of a batch
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub batch: usize,
    /// Threads that the callers run on [default: the cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl JobsArgs {
    /// The same with what `--quick` stands for.
    pub(super) fn settled(&self) -> JobsArgs {
        let mut args = self.clone();
        if args.only.is_empty() {
            args.only = Variant::usual(args.store.is_elsewhere());
        }
        if args.quick {
            (args.callers, args.backlog) = (vec![64], vec![0]);
            (args.rounds, args.cell_seconds, args.warm_up_seconds) = (1, 2.0, 1.0);
        }
        args
    }

    pub(super) fn threads(&self) -> usize {
        self.threads.unwrap_or_else(super::machine::cores).max(1)
    }

    /// What makes no sense, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        let whole =
            |name: &str, bad: bool| if bad { Err(format!("--{name} must be at least 1")) } else { Ok(()) };
        whole("callers", self.callers.is_empty() || self.callers.contains(&0))?;
        whole("rounds", self.rounds == 0)?;
        whole("queues", self.queues == 0)?;
        whole("batch", self.batch == 0)?;
        if self.store.is_elsewhere() && self.only.contains(&Variant::Raw) {
            return Err("raw measures the disk of --dir, which says nothing of a store elsewhere: name others with --only"
                .to_owned());
        }
        if self.batch > 1_000 {
            return Err("--batch is at most 1000, what one claim gives".to_owned());
        }
        if !(2..=1 << 20).contains(&self.payload_bytes) {
            return Err("--payload-bytes is 2 to 1048576".to_owned());
        }
        for (name, seconds) in
            [("cell-seconds", self.cell_seconds), ("warm-up-seconds", self.warm_up_seconds)]
        {
            if !(0.0..=3_600.0).contains(&seconds) {
                return Err(format!("--{name} is 0 to 3600"));
            }
        }
        whole("cell-seconds", self.cell_seconds == 0.0)
    }
}

/// The flags of `mainstay bench locks`.
#[derive(Debug, Clone, Args)]
pub struct LocksArgs {
    /// How many wait while one holds the lock
    #[arg(long, value_delimiter = ',', value_name = "N,…", default_value = "2,16,256")]
    pub waiters: Vec<usize>,
    /// Locks held at once; 0: none
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub held: u64,
    /// How long each figure is measured, after a quarter of that to warm up
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub seconds: f64,
    /// Which store.
    #[command(flatten)]
    pub store: StoreArg,
    /// A first look: one second each
    #[arg(long, conflicts_with = "seconds")]
    pub quick: bool,
    /// The folder whose disk is measured; a subfolder is made in it, and removed at the end
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub dir: PathBuf,
    /// Leave the files where they are
    #[arg(long)]
    pub keep: bool,
    /// Threads that the callers run on [default: the cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl LocksArgs {
    /// The same with what `--quick` stands for.
    pub(super) fn settled(&self) -> LocksArgs {
        LocksArgs { seconds: if self.quick { 1.0 } else { self.seconds }, ..self.clone() }
    }

    pub(super) fn threads(&self) -> usize {
        self.threads.unwrap_or_else(super::machine::cores).max(1)
    }

    /// What makes no sense, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.waiters.iter().any(|waiters| !(1..=9_000).contains(waiters)) {
            return Err("--waiters are 1 to 9000 each".to_owned());
        }
        if self.held > 1_000_000 {
            return Err("--held is at most 1000000, what a store grants".to_owned());
        }
        if !(0.1..=3_600.0).contains(&self.seconds) {
            return Err("--seconds is 0.1 to 3600".to_owned());
        }
        Ok(())
    }
}

/// Seconds from the command line.
pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, 3_600.0))
}
