//! Histories of locks, from many clients over HTTP: processes are stopped for longer than their leases, killed, and
//! hear nothing of what they asked; the server is stopped and killed under them. What they noted must be explained by
//! the rules of a lock, waiters must have been served in order, and a guarded register must not have gone back.
//!
//! `MAINSTAY_HISTORY_SECONDS` says how long (default 6), `MAINSTAY_HISTORY_SEED` where chance begins (default 1), and
//! `MAINSTAY_HISTORY_P99_MS` how long 99 of 100 hand-overs may take. The default of 5,000 is for a busy machine: it
//! finds waiters that nobody woke, who look again after 30 s. A quiet one takes less than 50.

mod chaos;
mod child;
mod notes;
mod wire;

use std::time::Duration;

use mainstay_testkit::history::{check, line::overtaken};

use chaos::Chaos;
use notes::Notes;

/// What a child is told: the server, its number, the seed, its end, and the folder of the registers.
const TASK: &str = "MAINSTAY_HISTORY_TASK";
/// The time of every grant: the shortest the contract has.
const TTL_MS: u64 = 1_000;

#[test]
fn histories_of_locks_can_be_explained_whatever_happens_to_clients_and_server() {
    let seconds = from_env("MAINSTAY_HISTORY_SECONDS", 6);
    let seed = from_env("MAINSTAY_HISTORY_SEED", 1);
    let again = format!("; again with MAINSTAY_HISTORY_SECONDS={seconds} MAINSTAY_HISTORY_SEED={seed}");
    let folder = tempfile::tempdir().expect("a folder for the test");
    let notes = Chaos::new(folder.path(), seed).run(Duration::from_secs(seconds));
    if let Err(violation) = check(&notes.calls(), notes.slack()) {
        panic!("{violation}{again}");
    }
    let out_of_turn = overtaken(&notes.waited);
    let (accepted, refused) = notes.registers(folder.path()).unwrap_or_else(|what| panic!("{what}{again}"));
    println!("{}", summary(&notes, out_of_turn.len(), accepted, refused));
    assert_eq!(out_of_turn, [], "waiters were served out of turn{again}");
    let most = from_env("MAINSTAY_HISTORY_P99_MS", 5_000);
    let p99 = share_of(&notes.grants_after_free(), 0.99);
    assert!(
        p99.is_some_and(|micros| micros <= most * 1_000),
        "a hand-over took {p99:?} µs, not {most} ms{again}"
    );
    assert!(notes.granted() > 20 && accepted > 5, "hardly anything happened{again}");
}

fn summary(notes: &Notes, out_of_turn: usize, accepted: u64, refused: u64) -> String {
    let calls = notes.calls();
    let unanswered = calls.iter().filter(|call| call.to.is_none()).count();
    let latencies = notes.grants_after_free();
    let at = |share: f64| {
        share_of(&latencies, share)
            .map_or("n/a".to_owned(), |micros| format!("{:.1} ms", micros as f64 / 1e3))
    };
    format!(
        "{} calls on locks, {unanswered} of them unanswered, {} grants: explained\n\
         {} waiters seen in line, {out_of_turn} served out of turn\n\
         {accepted} writes of guarded registers, {refused} stale ones refused\n\
         grant after a release was sent: p50 {}, p99 {}, of {}",
        calls.len(),
        notes.granted(),
        notes.waited.iter().filter(|waited| waited.seen.is_some()).count(),
        at(0.5),
        at(0.99),
        latencies.len(),
    )
}

/// So large a share of the sorted numbers is at most this. `None`: there are none.
fn share_of(sorted: &[u64], share: f64) -> Option<u64> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

fn from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")),
        Err(_) => default,
    }
}

/// Microseconds on a clock that all processes here share.
#[expect(clippy::disallowed_methods, reason = "times of several processes are compared")]
fn micros() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("it is after 1970").as_micros() as u64
}
