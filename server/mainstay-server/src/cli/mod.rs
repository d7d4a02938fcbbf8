//! The command line. A file is a command; what they share comes first:
//!
//! 1. [`session`]: where the server is, and how answers are written;
//! 2. [`failure`]: what goes wrong, what to do about it, and the exit code;
//! 3. [`table`] and [`words`]: how people are told;
//! 4. [`process`]: what is done to processes that commands start.

mod failure;
mod process;
mod session;
mod table;
mod words;

mod bench;
mod completions;
mod config;
mod drain;
mod events;
mod groups;
mod healthcheck;
mod jobs;
mod lock;
mod locks;
mod migrate;
mod queues;
mod schedules;
mod token;
mod top;
mod topics;
mod version;
mod worker;
mod workers;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mainstay_server::serve;

use failure::Failure;
use session::{Session, SessionArgs};

/// What a command came to; the exit code of a failure is its own.
pub(crate) type Outcome = Result<(), Failure>;

/// Durable jobs, fenced locks and persistent events over HTTP.
#[derive(Debug, Parser)]
#[command(
    name = "mainstay",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    session: SessionArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(Box<serve::ServeArgs>),
    /// Make jobs, look at them, and change their fate
    #[command(subcommand)]
    Jobs(jobs::Jobs),
    /// Look at queues, pause them, empty them
    #[command(subcommand)]
    Queues(queues::Queues),
    /// Look at locks, take them away
    #[command(subcommand)]
    Locks(locks::Locks),
    /// Run a command while a lock is held
    #[command(subcommand)]
    Lock(lock::Lock),
    /// Publish events, and follow them
    #[command(subcommand)]
    Events(events::Events),
    /// Look at consumer groups, move them, deliver dead letters again
    #[command(subcommand)]
    Groups(groups::Groups),
    /// Look at topics and configure them
    #[command(subcommand)]
    Topics(topics::Topics),
    /// Make jobs again and again, by the clock
    #[command(subcommand)]
    Schedules(schedules::Schedules),
    /// See who works
    #[command(subcommand)]
    Workers(workers::Workers),
    /// Watch queues and workers
    Top(top::TopArgs),
    /// Work on jobs
    #[command(subcommand)]
    Worker(worker::Worker),
    /// Make, list and revoke access tokens
    #[command(subcommand)]
    Token(token::Token),
    /// Show the configuration that `serve` would run with, and where each value comes from
    Config(Box<serve::ServeArgs>),
    /// Ask a server whether it is ready; exit code 0 means yes, 1 means no
    Healthcheck(healthcheck::Healthcheck),
    /// Bring the tables of a postgres: store up to date; safe to run from many places at once
    Migrate(migrate::Migrate),
    /// Start the orderly end of a server, as SIGTERM does
    Drain,
    /// Measure what this machine can do
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Print a completion script for a shell
    Completions(completions::Completions),
    /// Print the version
    Version,
}

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let Cli { session, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error, std::env::args_os().skip(1)),
    };
    // These own their runtime, or need none, and their own exit codes.
    let (session, command) = match command {
        Command::Serve(args) => return serve::app(&args).config(config::loader(&args)).run(serve::boot),
        Command::Bench(args) => return bench::run(args, &session.session()),
        command => (session.session(), command),
    };
    match run(command, &session) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&session),
    }
}

/// What clap refuses is exit code 2, with the usage; help that was asked for is none.
fn refused(error: &clap::Error, given: impl Iterator<Item = OsString>) -> ExitCode {
    if error.use_stderr() && wants_json(given) {
        let text = error.to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let title = lines.next().unwrap_or_default();
        let failure = Failure::usage(title.trim_start_matches("error: "));
        let failure = lines.fold(failure, Failure::detail);
        session::note(&failure.json());
        return ExitCode::from(failure.exit_code());
    }
    // Nobody is there to tell if that fails.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Whether arguments that cannot be read ask for answers in JSON.
fn wants_json(given: impl Iterator<Item = OsString>) -> bool {
    let ours: Vec<_> = given.take_while(|argument| argument != "--").collect();
    ours.iter().any(|argument| argument == "--output=json")
        || ours.windows(2).any(|two| two[0] == "--output" && two[1] == "json")
}

fn run(command: Command, session: &Session) -> Outcome {
    match command {
        // Taken out above.
        Command::Serve(_) | Command::Bench(_) => Ok(()),
        Command::Config(args) => config::run(&args, session),
        Command::Completions(args) => args.run(),
        Command::Version => version::run(session),
        Command::Migrate(command) => command.run(session),
        Command::Jobs(command) => session::block_on(command.run(session)),
        Command::Queues(command) => session::block_on(command.run(session)),
        Command::Locks(command) => session::block_on(command.run(session)),
        Command::Lock(command) => command.run(session),
        Command::Events(command) => session::block_on(command.run(session)),
        Command::Groups(command) => session::block_on(command.run(session)),
        Command::Topics(command) => session::block_on(command.run(session)),
        Command::Schedules(command) => session::block_on(command.run(session)),
        Command::Workers(command) => session::block_on(command.run(session)),
        Command::Top(args) => session::block_on(args.run(session)),
        Command::Worker(command) => command.run(session),
        Command::Token(command) => command.run(session),
        Command::Healthcheck(command) => session::block_on(command.run(session)),
        Command::Drain => session::block_on(drain::run(session)),
    }
}

#[cfg(test)]
mod tests;
