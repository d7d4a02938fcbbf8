//! The `mainstay` binary: the server, and the command line around it.

#![warn(clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cli;

/// Callers, writer and tables free what another of them has allocated: with the system's allocator they wait for each
/// other's locks.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
