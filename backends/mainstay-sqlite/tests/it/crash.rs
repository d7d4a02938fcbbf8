//! Crashes: the process killed, the power cut, the disk failing. Afterwards, everything that was answered is there,
//! nothing that was not is half there, and no token is granted twice.
//!
//! `caller` does things to a store, the same ones for the same seed and answers; `ledger` is what it was told;
//! `judge` holds a store against ledgers. `run` lets callers loose on a disk that keeps a log. Then the tests:
//! `power` (every write point of a run, cut there), `trouble` (a store that lives on a failing disk), `kill` (real
//! processes, really killed), `flips` (bits that have changed in its files).
//!
//! `MAINSTAY_CRASH_ROUNDS` multiplies how much is tried (default 1), `MAINSTAY_CRASH_SEED` says where chance begins
//! (default 1). A failure names the seed and the write point.

mod caller;
mod flips;
mod judge;
mod kill;
mod ledger;
mod power;
mod run;
mod trouble;

fn from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")),
        Err(_) => default,
    }
}

fn rounds() -> u64 {
    from_env("MAINSTAY_CRASH_ROUNDS", 1)
}

fn seed() -> u64 {
    from_env("MAINSTAY_CRASH_SEED", 1)
}
