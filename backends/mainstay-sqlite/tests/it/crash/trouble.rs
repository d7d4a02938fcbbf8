//! A disk that fails under a store that lives.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mainstay_core::{
    Applied, ErrorKind, Store, Timestamp,
    op::{Commit, Reply},
    store::Batch,
};
use mainstay_sqlite::{Options, SqliteStore};
use mainstay_testkit::faults::{Disk, On, Survival, Trouble};
use tokio::sync::watch;

use super::{
    caller::Caller,
    judge::{Witness, judge, look, look_at_each},
    ledger::Act,
    rounds, seed,
};
use crate::harness::{Place, on};

/// A store on a failing disk, and its only caller.
struct Patient {
    place: Place,
    disk: Disk,
    caller: Caller,
    /// How often the hook was called.
    fatal: watch::Sender<usize>,
}

/// How an act ended.
#[derive(Debug)]
enum End {
    Done,
    /// Not applied; may be tried again.
    Refused,
    /// The store has ended.
    Fatal,
}

impl Patient {
    fn new(seed: u64) -> Patient {
        let caller = Caller::new("caller", seed);
        Patient { place: Place::new(), disk: Disk::new(), caller, fatal: watch::Sender::new(0) }
    }

    fn options(&self) -> Options {
        let fatal = self.fatal.clone();
        Options {
            // The tables follow at once, so that a disk that fails under them is noticed soon.
            behind_bytes: 1,
            on_fatal: Some(Arc::new(move |_| fatal.send_modify(|times| *times += 1))),
            ..on(&self.disk, self.place.options())
        }
    }

    fn now(&self) -> Timestamp {
        use mainstay_core::clock::Clock;
        self.place.clock.now().wall
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.options()).expect("open")
    }

    /// One act. What was begun but not answered stays in the answer.
    async fn act(&mut self, store: &SqliteStore) -> (End, Option<Act>) {
        let now = self.now();
        let commit = self.caller.next(now);
        let act = Act::Commit(commit.clone());
        match try_submit(store, commit).await {
            Ok(replies) => {
                self.caller.heard(&act, &replies, now);
                (End::Done, None)
            }
            Err((ErrorKind::Unavailable, Applied::No)) => (End::Refused, None),
            Err((ErrorKind::Untrusted, Applied::Unknown)) => (End::Fatal, Some(act)),
            Err((ErrorKind::Untrusted, Applied::No)) => (End::Fatal, None),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn witness(&self, begun: Option<Act>) -> Vec<Witness> {
        let now = self.now();
        vec![Witness { ledger: self.caller.ledger.clone(), begun: begun.map(|act| (act, now)) }]
    }

    /// The store has ended, has said so once, and says nothing else any more.
    async fn has_ended(&self, store: &SqliteStore) {
        let mut fatal = self.fatal.subscribe();
        let told = tokio::time::timeout(Duration::from_secs(60), fatal.wait_for(|times| *times > 0));
        assert_eq!(*told.await.expect("in time").expect("told"), 1, "told once");
        let error = store.ping().await.expect_err("it has ended");
        assert_eq!(error.kind(), ErrorKind::Untrusted);
        let error = store.list(&mainstay_core::store::Query::Queues, &FIRST).await.expect_err("it has ended");
        assert_eq!(error.kind(), ErrorKind::Untrusted);
        let mut late = Caller::new("late", 1);
        let error =
            try_submit(store, late.next(self.now())).await.expect_err("nothing is acknowledged any more");
        assert_eq!(error, (ErrorKind::Untrusted, Applied::No));
        store.close(Duration::from_secs(60)).await.expect_err("it did not end well");
        assert_eq!(*self.fatal.borrow(), 1, "told once");
    }

    /// Opened again, the system shows what the disk has given up; then the power fails, at each `step`-th point.
    async fn survives_a_power_cut_after_this(&self, begun: &Option<Act>, step: usize, what: &str) {
        let from = self.disk.points();
        drop(SqliteStore::open(Options { on_fatal: None, ..self.options() }).expect("open again"));
        let mut replay = self.disk.replay();
        let after = Place::new();
        while replay.advance() {
            let point = replay.point();
            if point < from || !(point - from).is_multiple_of(step) {
                continue;
            }
            for how in [Survival::None, Survival::Some(point as u64)] {
                after.put(&replay.survivors(how));
                let survivor =
                    after.try_open(|_| {}).unwrap_or_else(|e| panic!("{what}, then {how:?} at {point}: {e}"));
                let judged = judge(&survivor, &self.witness(begun.clone()), self.now()).await;
                judged.unwrap_or_else(|e| panic!("{what}, then {how:?} at {point}: {e}"));
            }
        }
    }

    /// The same file on a disk in good health.
    async fn recovers(&self, begun: Option<Act>, what: &str) {
        let store = self.place.try_open(|_| {}).unwrap_or_else(|e| panic!("{what}: {e}"));
        let judged = judge(&store, &self.witness(begun), self.now()).await;
        judged.unwrap_or_else(|e| panic!("{what}: {e}"));
        store.close(Duration::from_secs(60)).await.expect("close");
    }
}

const FIRST: mainstay_core::store::Page = mainstay_core::store::Page { limit: 10, cursor: None };

async fn try_submit(store: &SqliteStore, commit: Commit) -> Result<Vec<Reply>, (ErrorKind, Applied)> {
    let mut answers = store.submit(Batch::one(commit)).await.map_err(|e| (e.kind(), e.applied()))?;
    match answers.remove(0) {
        Ok(done) => Ok(done.replies),
        Err(mainstay_core::op::Failure::Failed(e)) => Err((e.kind(), e.applied())),
        Err(refused) => panic!("callers ask for nothing that is refused: {refused}"),
    }
}

/// How many write points a store makes of being opened.
fn points_of_opening() -> usize {
    let patient = Patient::new(0);
    let store = patient.open();
    let points = patient.disk.points();
    drop(store);
    points
}

/// Each so many write points, something else in each test run and each round.
fn every(step: usize, until: usize) -> impl Iterator<Item = usize> {
    let step = (step / rounds() as usize).max(1);
    (seed() as usize % step..until).step_by(step)
}

#[tokio::test]
async fn a_failed_write_is_refused_cleanly_or_ends_the_store_and_nothing_is_half_there() {
    let opening = points_of_opening();
    let struck = AtomicUsize::new(0);
    for point in every(7, 160) {
        let what = format!("write point {} after opening", point);
        let mut patient = Patient::new(seed() + point as u64);
        let store = patient.open();
        assert!(patient.disk.points() >= opening);
        patient.disk.plan(Trouble::FailWrite, On::Any, point);
        let mut begun = None;
        for _ in 0..40 {
            match patient.act(&store).await {
                (End::Done, _) if patient.disk.struck() == 0 => {}
                (End::Done, _) => break,
                (End::Refused, _) => {
                    let seen = look(&store, &patient.witness(None)).await;
                    seen.unwrap_or_else(|e| panic!("{what}: {e}"));
                }
                (End::Fatal, act) => {
                    patient.has_ended(&store).await;
                    begun = act;
                    break;
                }
            }
        }
        drop(store);
        struck.fetch_add(patient.disk.struck(), Ordering::Relaxed);
        patient.recovers(begun, &what).await;
    }
    assert!(struck.into_inner() > 10, "writes failed");
}

#[tokio::test]
async fn a_failed_write_while_opening_refuses_to_open_and_the_next_time_it_opens() {
    for point in every(6, points_of_opening()) {
        for trouble in [Trouble::FailWrite, Trouble::FailSync, Trouble::Full] {
            let what = format!("{trouble:?} at write point {point} of opening");
            let mut patient = Patient::new(seed());
            // A store that has something to lose, killed: the next one has something to recover.
            let store = patient.open();
            for _ in 0..8 {
                assert!(matches!(patient.act(&store).await, (End::Done, _)));
            }
            drop(store);
            patient.disk.plan(trouble, On::Any, point);
            let refused = SqliteStore::open(patient.options()).map(drop).err();
            if let Some(error) = &refused {
                assert_eq!(patient.disk.struck(), 1, "{what}: {error}");
                assert!(
                    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Untrusted),
                    "{what}: {error:?}"
                );
            }
            patient.disk.heal();
            if trouble == Trouble::FailSync && refused.is_some() {
                patient.survives_a_power_cut_after_this(&None, 5, &what).await;
            }
            patient.recovers(None, &what).await;
        }
    }
}

#[tokio::test]
async fn on_a_full_disk_a_store_stays_readable_and_goes_on_when_there_is_room() {
    for point in every(9, 160) {
        let what = format!("write point {point} after opening");
        let mut patient = Patient::new(seed() + point as u64);
        let store = patient.open();
        patient.disk.plan(Trouble::Full, On::Wal, point);
        let (mut refused, mut lists_refused) = (0, 0);
        for _ in 0..60 {
            match patient.act(&store).await {
                (End::Done, _) => {}
                (End::Refused, _) => refused += 1,
                (End::Fatal, act) => panic!("{what}: a full disk ended the store at {act:?}"),
            }
            // A list would lack what the tables lack.
            let seen = match look(&store, &patient.witness(None)).await {
                Err(e) if e.contains("cannot follow") => {
                    lists_refused += 1;
                    look_at_each(&store, &patient.witness(None)[0]).await
                }
                seen => seen.map(drop),
            };
            seen.unwrap_or_else(|e| panic!("{what}: {e}"));
            if refused == 3 {
                break;
            }
        }
        assert_eq!(refused, 3, "{what}: it stays full");
        assert!(lists_refused > 0, "{what}: there was something that the tables lacked");
        patient.disk.heal();
        // The tables are tried again by themselves, a moment after they failed.
        while let Err(e) = look(&store, &patient.witness(None)).await {
            assert!(e.contains("cannot follow"), "{what}: {e}");
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            let (end, _) = patient.act(&store).await;
            assert!(matches!(end, End::Done), "{what}: there is room again, and yet {end:?}");
        }
        assert_eq!(*patient.fatal.borrow(), 0);
        // The power fails: what was refused has left nothing behind, what was answered is there.
        let mut replay = patient.disk.replay();
        while replay.advance() {}
        let after = Place::new();
        after.put(&replay.survivors(Survival::None));
        let survivor = after.open_store();
        let judged = judge(&survivor, &patient.witness(None), patient.now()).await;
        judged.unwrap_or_else(|e| panic!("{what}, after a power cut: {e}"));
        store.close(Duration::from_secs(60)).await.expect("close");
        patient.recovers(None, &what).await;
    }
}

#[tokio::test]
async fn a_failed_sync_of_a_commit_ends_the_store_and_what_it_gave_up_is_never_missed() {
    for point in every(23, 160) {
        let what = format!("the sync after write point {point}");
        let mut patient = Patient::new(seed() + point as u64);
        let store = patient.open();
        patient.disk.plan(Trouble::FailSync, On::Journal, point);
        let mut in_vain = 0;
        let begun = loop {
            let (end, act) = patient.act(&store).await;
            if let End::Fatal = end {
                break act;
            }
            if patient.disk.struck() > in_vain {
                // It was the sync of a new segment, in which nothing was yet: made in advance, nobody misses it; made
                // for a group, that is refused, and known not to have happened. So later, or it would be the same again.
                in_vain += 1;
                assert!(in_vain < 10, "{what}: one sync after the other fails, and the store goes on");
                patient.disk.plan(Trouble::FailSync, On::Journal, 4 * in_vain);
            } else if let End::Refused = end {
                panic!("{what}: nobody knows whether it happened");
            }
        };
        assert!(begun.is_some(), "{what}: nobody knows whether it happened");
        patient.has_ended(&store).await;
        drop(store);
        patient.survives_a_power_cut_after_this(&begun, 1, &what).await;
        patient.recovers(begun, &what).await;
    }
}

#[tokio::test]
async fn a_failed_sync_of_a_checkpoint_ends_the_store_too() {
    let mut patient = Patient::new(seed());
    let store = patient.open();
    patient.disk.plan(Trouble::FailSync, On::Main, 0);
    // The first commit wakes the checkpoint in the background.
    assert!(matches!(patient.act(&store).await, (End::Done, _)));
    patient.has_ended(&store).await;
    drop(store);
    patient.recovers(None, "a failed checkpoint").await;
}

#[tokio::test]
async fn a_failed_sync_of_sqlites_log_ends_the_store_and_what_it_gave_up_is_never_missed() {
    for round in 0..3 {
        let what = format!("round {round}");
        let mut patient = Patient::new(seed() + round);
        let store = patient.open();
        patient.disk.plan(Trouble::FailSync, On::Wal, 0);
        // A checkpoint in the background comes to it; until then there is time for some acts.
        let mut begun = None;
        for _ in 0..20 * round {
            let (end, act) = patient.act(&store).await;
            if !matches!(end, End::Done) {
                begun = act;
                break;
            }
        }
        if patient.disk.struck() == 0 {
            let (_, act) = patient.act(&store).await;
            begun = act;
        }
        patient.has_ended(&store).await;
        drop(store);
        patient.survives_a_power_cut_after_this(&begun, 1, &what).await;
        patient.recovers(begun, &what).await;
    }
}
