//! Real processes, really killed, on one file, round after round.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use mainstay_core::{Store, Timestamp, clock::Clock, op::Reply};
use mainstay_sqlite::{Options, SqliteStore};
use mainstay_testkit::ManualClock;

use super::{
    caller::{Caller, Chance},
    judge::{Witness, judge, look},
    ledger::Act,
    rounds,
    run::{read_tables, submit},
    seed,
};
use crate::harness::Place;

/// Processes killed in one test.
const ROUNDS: u64 = 12;
/// Callers in each.
const CALLERS: usize = 4;
/// Acts after which a process ends by itself, should nobody kill it.
const ACTS: usize = 2_000;

/// No process takes this long; one that does hangs.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// What the process is told: the file, its round, and the seed.
const TASK: &str = "MAINSTAY_CRASH_TASK";

#[tokio::test]
async fn a_killed_process_loses_nothing_that_was_answered() {
    let seed = seed();
    let place = Place::new();
    let mut chance = Chance::new(seed);
    let mut known = vec![];
    for round in 0..ROUNDS * rounds() {
        // Sometimes while it opens the store, mostly in the middle of its work.
        let answers = if round % 4 == 3 { 0 } else { chance.below(200) };
        let (callers, heard) = killed_after(&place.path(), round, seed, answers);
        let again = format!("in round {round}, after {heard} answers; again with MAINSTAY_CRASH_SEED={seed}");
        assert!(heard >= answers, "the process ended by itself {again}");
        known.extend(callers);
        if let Some(what) = hold_against(&place, &mut known).await.err() {
            panic!("{what}\n{again}");
        }
    }
    // One more time, and it is worked on.
    let store = place.open_store();
    judge(&store, &known, place.clock.now().wall).await.unwrap_or_else(|what| panic!("{what}"));
    store.close(Duration::from_secs(60)).await.expect("close");
}

/// Opens what is left, by turns with and without closing it in good order, and learns what is true now.
async fn hold_against(place: &Place, known: &mut Vec<Witness>) -> Result<(), String> {
    let (_, integrity) = read_tables(&place.path())?;
    if integrity != "ok" {
        return Err(format!("integrity check: {integrity}"));
    }
    let store = place.try_open(|_| {}).map_err(|e| format!("the store does not open: {e}"))?;
    let truth = look(&store, known).await?;
    store.close(Duration::from_secs(60)).await.map_err(|e| format!("the store does not close: {e}"))?;
    *known = truth.into_iter().map(|ledger| Witness { ledger, begun: None }).collect();
    Ok(())
}

/// Starts a process, kills it after so many answers, and says what its callers were told.
fn killed_after(file: &Path, round: u64, seed: u64, answers: usize) -> (Vec<Witness>, usize) {
    let (mut process, mut lines) = start(file, round, seed);
    let now = ManualClock::new().now().wall;
    let mut callers: Vec<_> = (0..CALLERS).map(|n| caller(round, seed, n)).collect();
    // What each of them does now, or is about to.
    let mut begun: Vec<_> = callers.iter_mut().map(|caller| Act::Commit(caller.next(now))).collect();
    let mut heard = 0;
    loop {
        if heard == answers {
            process.kill().expect("kill");
        }
        // After the kill, what it had said before is still to be read.
        let Some(Ok(line)) = lines.next() else { break };
        let Some((n, replies)) = read_answer(&line) else { continue };
        callers[n].heard(&begun[n], &replies, now);
        begun[n] = Act::Commit(callers[n].next(now));
        heard += 1;
    }
    process.wait().expect("it ended");
    let witness = |(caller, act): (Caller, Act)| Witness { ledger: caller.ledger, begun: Some((act, now)) };
    (callers.into_iter().zip(begun).map(witness).collect(), heard)
}

fn start(file: &Path, round: u64, seed: u64) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut process = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "crash::kill::the_process_that_is_killed", "--ignored", "--nocapture"])
        .env(TASK, format!("{round} {seed} {}", file.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the other process");
    let stdout = process.stdout.take().expect("a pipe");
    (process, BufReader::new(stdout).lines())
}

fn caller(round: u64, seed: u64, n: usize) -> Caller {
    Caller::new(&format!("round-{round}-{n}"), seed.wrapping_mul(1_000).wrapping_add(round * 10 + n as u64))
}

/// An answer as it goes through the pipe: a line of its own, which counts only when it is whole.
fn write_answer(n: usize, replies: &[Reply]) {
    let json = serde_json::to_string(replies).expect("replies are plain data");
    let line = format!("\n@{n} {json} .\n");
    // Gone when the parent is gone; then nobody cares.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

fn read_answer(line: &str) -> Option<(usize, Vec<Reply>)> {
    let (n, json) = line.strip_prefix('@')?.strip_suffix(" .")?.split_once(' ')?;
    Some((n.parse().ok()?, serde_json::from_str(json).expect("an answer that is whole is well-formed")))
}

#[test]
#[ignore = "the other half of the test above, in a process of its own"]
fn the_process_that_is_killed() {
    let Ok(task) = std::env::var(TASK) else { return };
    let mut words = task.splitn(3, ' ');
    let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
    let (round, seed) = (number(), number());
    let file = words.next().expect("a file");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let work = work(Path::new(file), round, seed);
    let in_time = runtime.block_on(async { tokio::time::timeout(STUCK_AFTER, work).await.is_ok() });
    if !in_time {
        // Its threads may hang; the parent must not.
        std::process::abort();
    }
}

/// The clock stands still: new tokens have nothing to go by but what is in the file.
async fn work(file: &Path, round: u64, seed: u64) {
    let clock: Arc<ManualClock> = ManualClock::new();
    let now: Timestamp = clock.now().wall;
    // By turns, the tables follow at once, in the middle of it, or hardly ever; and the journal is written over.
    let behind_bytes = [1, 20_000, 32 << 20][round as usize % 3];
    let options = Options { behind_bytes, segment_bytes: 64 << 10, ..Options::new(file, clock) };
    let store = SqliteStore::open(options).expect("open");
    let busy = async |n: usize| {
        let mut caller = caller(round, seed, n);
        for _ in 0..ACTS {
            let commit = caller.next(now);
            let replies = submit(&store, commit.clone()).await;
            write_answer(n, &replies);
            caller.heard(&Act::Commit(commit), &replies, now);
        }
    };
    tokio::join!(busy(0), busy(1), busy(2), busy(3));
}
