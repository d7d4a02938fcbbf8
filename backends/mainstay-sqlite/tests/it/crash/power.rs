//! The power cut, and the process killed, at every write point of a run.

use std::{collections::BTreeSet, time::Duration};

use mainstay_core::rules::mix;
use mainstay_sqlite::{Durability, SqliteStore};
use mainstay_testkit::faults::{Disk, Survival};

use super::{rounds, run::Run, seed};
use crate::harness::{Place, on};

/// Steps of a run with one caller.
const STEPS: usize = 150;
/// Acts of each of the callers of a run with several.
const ACTS: usize = 25;
/// Steps of a long run, and about how many of its write points are tried.
const LONG: usize = 1_000;
const CHOSEN: usize = 150;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let stuck_after = Duration::from_secs(300 * rounds());
    runtime.block_on(async { tokio::time::timeout(stuck_after, future).await.expect("the test is stuck") })
}

/// Crashes a run at each of its write points, `ways` in turn. Answers how many different crashes were judged.
async fn crash_everywhere(run: &Run, ways: impl Fn(usize) -> Vec<Survival>) -> Result<usize, String> {
    let place = Place::new();
    let mut judged = BTreeSet::new();
    let mut crashes = run.crashes();
    loop {
        for how in ways(crashes.point()) {
            let image = crashes.image(how);
            if judged.insert((image.digest(), crashes.marks())) {
                crashes
                    .judge(&image, &place)
                    .await
                    .map_err(|what| format!("{}: {what}", crashes.place(how)))?;
            }
        }
        if !crashes.advance() {
            return Ok(judged.len());
        }
    }
}

/// The process killed, the power cut with nothing written early, and by turns the last write torn or some of the
/// unsynced ones written in any order.
fn every_way(point: usize) -> Vec<Survival> {
    let seed = point as u64;
    let odd = if point.is_multiple_of(2) { Survival::Torn(seed) } else { Survival::Some(seed) };
    vec![Survival::All, Survival::None, odd]
}

#[test]
fn a_crash_at_any_write_loses_nothing_that_was_answered() {
    block_on(async {
        for round in 0..rounds() {
            let run = Run::new(seed() + round);
            run.alone(STEPS, |_| {}).await;
            let judged = crash_everywhere(&run, every_way).await.unwrap_or_else(|what| panic!("{what}"));
            eprintln!("seed {}: {judged} crashes at {} write points", run.seed, run.disk.points());
            assert!(run.disk.points() > 500 && judged > run.disk.points());
            if run.seed == 1 {
                let tally = run.tally();
                for kind in [
                    "Enqueue",
                    "Claim",
                    "Settle",
                    "Extend",
                    "Cancel",
                    "Delete",
                    "RequeueDead",
                    "DeleteDead",
                    "PutQueue",
                    "Audit",
                    "Keyed",
                    "After",
                    "Require",
                    "Lock Acquire",
                    "Lock Renew",
                    "Lock Release",
                    "Lock Withdraw",
                    "Lock Break",
                    "Event Publish",
                    "Event PutGroup",
                    "Event PutTopic",
                    "Event Fetch",
                    "Event Ack",
                    "Event Settle",
                    "Schedule Put",
                    "Schedule Fire",
                    "Schedule Pause",
                    "Schedule Delete",
                    "LoseLeases",
                    "Reopen",
                ] {
                    assert!(tally.contains_key(kind), "the run should have a {kind}: {tally:?}");
                }
            }
        }
    });
}

#[test]
fn a_crash_under_many_callers_loses_nothing_that_was_answered() {
    block_on(async {
        for round in 0..rounds() {
            let run = Run::new(seed() + 100 + round);
            run.together(ACTS).await;
            let one_way = |point: usize| every_way(point)[point / 2 % 3..][..1].to_vec();
            crash_everywhere(&run, one_way).await.unwrap_or_else(|what| panic!("{what}"));
        }
    });
}

#[test]
fn a_crash_anywhere_in_a_long_run_loses_nothing_that_was_answered() {
    block_on(async {
        for round in 0..rounds() {
            let run = Run::new(seed() + 200 + round);
            run.alone(LONG, |_| {}).await;
            let step = (run.disk.points() / CHOSEN).max(1) as u64;
            let some = |point: usize| match mix(run.seed, point as u64) {
                chance if chance.is_multiple_of(step) => {
                    every_way(point)[(chance >> 40) as usize % 3..][..1].to_vec()
                }
                _ => vec![],
            };
            let judged = crash_everywhere(&run, some).await.unwrap_or_else(|what| panic!("{what}"));
            eprintln!("seed {}: {judged} crashes at {} write points", run.seed, run.disk.points());
            assert!(judged > CHOSEN / 3);
        }
    });
}

#[test]
fn a_crash_while_recovering_from_a_crash_loses_nothing_either() {
    block_on(async {
        let run = Run::new(seed());
        run.alone(STEPS, |_| {}).await;
        let place = Place::new();
        let mut crashes = run.crashes();
        let mut judged = 0;
        loop {
            if crashes.point() % 120 == 59 {
                // The second crash happens while the store opens what the first has left.
                let first = Survival::Some(crashes.point() as u64);
                let again = Place::new();
                again.put(&crashes.image(first));
                let disk = Disk::new();
                let opened = SqliteStore::open(on(&disk, again.options()));
                drop(opened.expect("open"));
                let mut second = disk.replay();
                while second.advance() {
                    for how in every_way(second.point()).split_off(1) {
                        let image = second.survivors(how);
                        let done = crashes.judge_later(&image, &place).await;
                        done.unwrap_or_else(|e| {
                            panic!("{}, then {how:?} at {}: {e}", crashes.place(first), second.point())
                        });
                        judged += 1;
                    }
                }
            }
            if !crashes.advance() {
                break;
            }
        }
        assert!(judged > 50, "{judged}");
    });
}

#[test]
fn the_crash_test_notices_a_store_that_does_not_sync() {
    block_on(async {
        let run = Run::new(seed());
        let lazy = Durability::Interval(Duration::from_secs(3_600));
        run.alone(20, |options| options.durability = lazy).await;
        let what = crash_everywhere(&run, |_| vec![Survival::None]).await.expect_err("it lost something");
        assert!(what.contains("survival None"), "{what}");
        // What is in the system's hands is safe from the death of the process alone.
        crash_everywhere(&run, |_| vec![Survival::All]).await.unwrap_or_else(|what| panic!("{what}"));
    });
}

#[test]
fn the_crash_test_notices_a_store_that_forgets() {
    block_on(async {
        let run = Run::new(seed());
        run.alone(20, |_| {}).await;
        let mut crashes = run.crashes();
        while crashes.advance() {}
        let place = Place::new();
        drop(SqliteStore::open(place.options()).expect("an empty store"));
        let empty = SqliteStore::open(place.options()).expect("an empty store");
        super::judge::look(&empty, crashes.witnesses()).await.expect_err("everything is lost");
    });
}
