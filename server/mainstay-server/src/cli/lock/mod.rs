//! `mainstay lock run`: a command that runs only while a lock is held.
//!
//! 1. [`take`]: getting the lock, in line, through a server that may be away;
//! 2. [`keep`]: renewing it, and knowing when it is lost;
//! 3. [`command`]: the command, its signals and its end.

mod command;
mod keep;
mod span;
mod take;

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand};
use mainstay_api::client::HttpClient;
use mainstay_api::types::{AcquireMode, MAX_PERMITS, ReleaseLock};
use mainstay_api::{Code, NAME_RULE, is_name};

use self::command::{Ended, Signals};
use self::span::{Span, Wait};
use super::worker::own_name;
use super::{Failure, Outcome, Session, session};

#[derive(Debug, Subcommand)]
pub(crate) enum Lock {
    /// Run a command only while a lock is held
    #[command(after_help = HELP)]
    Run(Run),
}

const HELP: &str = "\
The lock is renewed while the command runs and given back when it has ended. The command finds MAINSTAY_LOCK and
MAINSTAY_FENCING_TOKEN in its environment. If the lock is lost (taken away, or the server cannot be reached for too
long), the command's process group gets SIGTERM and, after --kill-after, SIGKILL. Signals are passed on to it. At a
terminal the command stays in the foreground, and only it itself is ended.

Exit code: the command's (128+n if signal n ended it), 75 if the lock was not free in time, 76 if it was lost and the
command was ended, 69 if no server could be reached, 126 or 127 if the command cannot be run.

  mainstay lock run nightly-report --skip -- ./report.sh
  */5 * * * *  mainstay lock run sync --ttl 1m --skip -- /opt/sync/run";

/// The lock was not to be had; cron and mail know it as `EX_TEMPFAIL`: come back later.
const NOT_FREE: u8 = 75;
/// The lock was lost, and the command ended.
const LOST: u8 = 76;
/// How long giving the lock back may take.
const RELEASE: Duration = Duration::from_secs(5);

/// Flags of `mainstay lock run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The lock
    #[arg(value_parser = name)]
    lock: String,
    /// How long the lock is held without a sign of life, 1s to 24h; renewed at a third
    #[arg(long, value_name = "SPAN", default_value = "30s")]
    ttl: Span,
    /// Wait for the lock for so long; without a span, for as long as it takes [default: 30s]
    #[arg(long, value_name = "SPAN", num_args = 0..=1, default_value = "30s", default_missing_value = "forever")]
    wait: Wait,
    /// Do not wait: exit with 75 if somebody else has the lock
    #[arg(long, conflicts_with = "wait")]
    skip: bool,
    /// Hold the lock together with others who share it
    #[arg(long)]
    shared: bool,
    /// Take one of so many permits
    #[arg(long, value_name = "N", conflicts_with = "shared", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PERMITS)))]
    permits: Option<u32>,
    /// Keep others out for so long after the lock was lost (not after it was given back), up to 60s: time for what is
    /// under way, where the command's writes are not fenced
    #[arg(long, value_name = "SPAN", default_value = "0s")]
    delay: Span,
    /// Who asks, for whoever looks [default: HOST-PID]
    #[arg(long)]
    owner: Option<String>,
    /// How long the command may take from SIGTERM to SIGKILL when the lock is lost
    #[arg(long, value_name = "SPAN", default_value = "5s")]
    kill_after: Span,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

fn name(text: &str) -> Result<String, &'static str> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(NAME_RULE) }
}

impl Lock {
    pub(crate) fn run(self, session: &Session) -> Outcome {
        let Lock::Run(run) = self;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new(format!("cannot start: {error}")))?;
        let code = runtime.block_on(run.run(session));
        runtime.shutdown_timeout(Duration::from_millis(100));
        code
    }
}

impl Run {
    async fn run(self, session: &Session) -> Outcome {
        // Before anything is taken: a signal that comes while the lock is being taken must not leave it taken.
        let mut signals =
            Signals::install().map_err(|error| Failure::new(format!("cannot handle signals: {error}")))?;
        let ttl = self.ttl.within(Duration::from_secs(1)..=Duration::from_secs(86_400), "--ttl")?;
        let asked = take::Asked {
            lock: self.lock.clone(),
            owner: self.owner.clone().unwrap_or_else(own_name),
            ttl,
            wait: if self.skip { Some(Duration::ZERO) } else { self.wait.limit() },
            mode: self.shared.then_some(AcquireMode::Shared),
            permits: self.permits,
            delay: self.delay.within(Duration::ZERO..=Duration::from_secs(60), "--delay")?,
        };
        let api = session.api()?;
        let held = match take::take(&api, &asked, &mut signals).await? {
            take::Taken::Held(held) => held,
            take::Taken::NotFree(holder) => {
                log(&format!("{} is held by {holder}; the command was not run", self.lock));
                return Err(Failure::silent(NOT_FREE));
            }
            take::Taken::Signalled(number) => return Err(Failure::silent(128 + number)),
        };
        let mut keeper = keep::Keeper::new(api.clone(), &held, ttl);
        let begun = tokio::select! {
            begun = keeper.begin() => begun.map_err(|why| {
                log(&format!("{} was lost while it was being taken: {why}; the command was not run", self.lock));
                NOT_FREE
            }),
            heard = signals.next() => Err(128 + heard.number()),
        };
        if let Err(code) = begun {
            // As far as the server knows it may be held.
            self.give_back(&api, &held, true).await;
            return Err(Failure::silent(code));
        }
        let ended = match command::start(&self.command, &self.lock, held.token) {
            Ok(running) => running.run(&mut keeper, &mut signals, self.kill_after.0).await,
            Err(failure) => Err(failure),
        };
        let lost = ended.as_ref().is_ok_and(|ended| ended.lost.is_some());
        // Also what is lost may still be held in the store, for the margin that we take off.
        self.give_back(&api, &held, lost).await;
        let Ended { code, lost } = ended?;
        match (lost, code) {
            (Some(why), _) => {
                log(&format!("{} is lost: {why}; the command was ended", self.lock));
                Err(Failure::silent(LOST))
            }
            (None, 0) => Ok(()),
            (None, code) => Err(Failure::silent(code)),
        }
    }

    /// Gives the lock back. `lost`: that it is not held any more is no news.
    async fn give_back(&self, api: &HttpClient, held: &take::Held, lost: bool) {
        let release = ReleaseLock { lease: held.lease.clone() };
        match api.with_timeout(RELEASE).release_lock(&self.lock, &release).await {
            Err(error) if error.code() == Some(Code::LockLost) && !lost => {
                log(&format!("{} was lost before the command had ended", self.lock));
            }
            Err(error) if error.code() != Some(Code::LockLost) => {
                log(&format!("{} could not be given back ({error}); it ends with its TTL", self.lock));
            }
            _ => {}
        }
    }
}

fn log(text: &str) {
    session::note(&format!("mainstay lock: {text}"));
}
