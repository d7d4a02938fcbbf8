//! `mainstay worker run`: a command does the work.
//!
//! 1. [`child`]: one run of the command;
//! 2. [`verdict`]: what a run means for its job;
//! 3. [`supervisor`]: claims, renews and settles; [`calls`] are its calls, [`away`] its patience with a server that is
//!    not there, [`tally`] what it has to say at the end.

mod away;
mod calls;
mod child;
mod supervisor;
mod tally;
mod verdict;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use mainstay::TaskSet;
use mainstay_api::{NAME_RULE, is_name};

use super::{Failure, Outcome, Session, session};
pub(super) use away::{Away, is_passing};
use supervisor::Supervisor;

#[derive(Debug, Subcommand)]
pub(crate) enum Worker {
    /// Run a command for each job
    #[command(after_help = HELP)]
    Run(Box<Run>),
}

const HELP: &str = "\
The command finds the payload on standard input, as JSON, and in its environment MAINSTAY_JOB_ID, MAINSTAY_KIND,
MAINSTAY_QUEUE, MAINSTAY_ATTEMPT and MAINSTAY_FENCING_TOKEN. Exit code 0 completes the job, and standard output is its
result: JSON if it is JSON, else a string. Any other end fails the attempt, with the last of standard error as the
message; it is tried again by the job's back-off.

SIGTERM or Ctrl-C: no new jobs; commands get --drain-ms to end, then SIGTERM, then SIGKILL, and their jobs go back
without spending an attempt. A second signal hurries, a third ends at once.

  mainstay worker run --queue mail -- ./send-mail
  mainstay worker run --queue images --concurrency 8 -- sh -c 'convert - -resize 100 out/$MAINSTAY_JOB_ID.png'";

/// Flags of `mainstay worker run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Take jobs of this queue; may be repeated, in order of preference
    #[arg(long = "queue", required = true, value_name = "QUEUE", value_parser = name)]
    queues: Vec<String>,
    /// How many commands run at once [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    concurrency: Option<u32>,
    /// How long a job is ours without a sign of life; renewed at a third
    #[arg(long, value_name = "N", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1_000..=86_400_000))]
    lease_ms: u64,
    /// How long to wait for running commands at the end
    #[arg(long, value_name = "N", default_value_t = 30_000)]
    drain_ms: u64,
    /// How long a command may take from SIGTERM to SIGKILL
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    kill_after_ms: u64,
    /// How long one call waits for jobs
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(..=60_000))]
    wait_ms: u64,
    /// An exit code that means: do not try again; may be repeated
    #[arg(long, value_name = "CODE", value_parser = clap::value_parser!(i32).range(1..=255))]
    permanent_exit: Vec<i32>,
    /// A payload that is a JSON string goes to the command as its text
    #[arg(long)]
    raw_strings: bool,
    /// What standard output is
    #[arg(long, value_name = "KIND", default_value = "auto")]
    result: ResultKind,
    /// End when there is nothing to do, instead of waiting for more
    #[arg(long)]
    until_empty: bool,
    /// What lists of workers show [default: HOST-PID]
    #[arg(long, value_parser = name)]
    name: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What a command's standard output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResultKind {
    /// JSON if it is JSON, else text
    Auto,
    /// Text, also if it looks like JSON
    Text,
}

fn name(text: &str) -> Result<String, &'static str> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(NAME_RULE) }
}

/// What a worker was told to do.
#[derive(Debug)]
struct Settings {
    queues: Vec<String>,
    concurrency: usize,
    lease: Duration,
    drain: Duration,
    kill_after: Duration,
    wait_ms: u64,
    permanent_exit: Vec<i32>,
    raw_strings: bool,
    result: ResultKind,
    until_empty: bool,
    name: String,
    command: Vec<OsString>,
}

impl Run {
    fn settings(self) -> Settings {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Settings {
            queues: self.queues,
            concurrency: self.concurrency.map_or_else(cores, |n| n as usize),
            lease: Duration::from_millis(self.lease_ms),
            drain: Duration::from_millis(self.drain_ms),
            kill_after: Duration::from_millis(self.kill_after_ms),
            wait_ms: if self.until_empty { 0 } else { self.wait_ms },
            permanent_exit: self.permanent_exit,
            raw_strings: self.raw_strings,
            result: self.result,
            until_empty: self.until_empty,
            name: self.name.unwrap_or_else(own_name),
            command: self.command,
        }
    }
}

/// `HOST-PID`, in the letters a name may have.
pub(super) fn own_name() -> String {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    let letter = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' };
    let host: String = host.chars().map(letter).take(100).collect();
    let host = host.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    format!("{}-{}", if host.is_empty() { "worker" } else { host }, std::process::id())
}

impl Worker {
    pub(crate) fn run(self, session: &Session) -> Outcome {
        let Worker::Run(run) = self;
        // Starting a process blocks for a moment: with more than one thread, calls go on meanwhile.
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new(format!("cannot start: {error}")))?;
        let tasks = TaskSet::on(runtime.handle().clone());
        let api = session.api()?;
        let ended = runtime.block_on(async {
            let signals = supervisor::Signals::install()
                .map_err(|error| Failure::new(format!("cannot handle signals: {error}")))?;
            Supervisor::new(Arc::new(run.settings()), api, tasks).run(signals).await
        });
        // Nothing that matters is left; what is left must not keep the process.
        runtime.shutdown_timeout(Duration::from_millis(100));
        let (tally, ended) = ended?;
        if session.is_text() {
            session::note(&format!("mainstay worker: {tally}"));
        } else {
            session.answer(&tally, String::new)?;
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_name_is_a_name() {
        assert!(is_name(&own_name()), "{}", own_name());
    }
}
