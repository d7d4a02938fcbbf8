//! `mainstay bench`: measurements, told as every other answer is.

use std::process::ExitCode;

pub(crate) use mainstay_server::bench::BenchArgs as Bench;

use super::Session;

/// Measures. It runs for long, on runtimes of its own.
pub(crate) fn run(args: Bench, session: &Session) -> ExitCode {
    mainstay_server::bench::run(args, !session.is_text())
}
