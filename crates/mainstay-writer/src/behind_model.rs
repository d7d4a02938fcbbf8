//! The hand-over to the tables under a model checker: every interleaving of writer, tables and readers over the same
//! source.

#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the same source over other locks; the model uses what it needs"
)]

#[path = "behind.rs"]
mod behind;
mod sync {
    pub(super) use mainstay_loom::{Condvar, Mutex, MutexGuard, atomic, watch};

    pub(super) use mainstay_loom::stopped::Stopwatch;
}

use std::sync::Arc;

use mainstay_core::{Error, ErrorKind, engine::change::Counters};
use mainstay_loom::{block_on, check, check_with, stopped as watch, thread};

use self::behind::{Behind, Handed, NoRoom, Stuck, Task};
use crate::batch::Batch;

/// Bytes of a group; the bound is as much, so that each waits for the one before it.
const BYTES: usize = 100;

fn behind() -> Arc<Behind> {
    watch::stands_at(std::time::Duration::ZERO);
    Arc::new(Behind::new(BYTES, 10 * BYTES as u64, (0, 0, 0)))
}

fn group(lsn: u64) -> Handed {
    let counters = Counters { n: 10 * lsn, ..Counters::default() };
    Handed { lsn, counters, changes: vec![], bytes: BYTES, growth: 0 }
}

fn batch(groups: Vec<Handed>) -> Batch {
    let mut batch = Batch::default();
    groups.into_iter().for_each(|group| batch.add(group));
    batch
}

fn stuck(lsn: u64) -> Stuck {
    Stuck { error: Error::new(ErrorKind::Unavailable, "no room"), lsn, overlay: Arc::default() }
}

/// The life of the tables' thread; the groups that it got.
fn follow(behind: &Behind) -> Vec<u64> {
    let (mut seen, mut gathered) = (vec![], vec![]);
    loop {
        match behind.next() {
            Task::Gather(groups) => gathered.extend(groups),
            Task::Apply(groups) => {
                gathered.extend(groups);
                seen.extend(gathered.iter().map(|group: &Handed| group.lsn));
                let sync = behind.wants_sync();
                behind.applied(&batch(std::mem::take(&mut gathered)));
                if sync {
                    behind.set_floor(behind.in_tables());
                }
            }
            Task::Finish(counters) => {
                assert_eq!(counters.token, 7);
                return seen;
            }
            Task::Stop => return seen,
        }
    }
}

#[test]
fn a_writer_that_waits_for_room_gets_it_and_all_is_applied_before_the_end() {
    check(|| {
        let behind = behind();
        let tables = behind.clone();
        let following = thread::spawn(move || follow(&tables));
        for lsn in 1..=3 {
            assert!(behind.room().is_ok());
            behind.hand_over(group(lsn), BYTES);
        }
        behind.close(Counters { token: 7, ..Counters::default() });
        assert_eq!(following.join().unwrap(), [1, 2, 3]);
        assert_eq!((behind.lsn(), behind.n(), behind.bytes()), (3, 30, 0));
    });
}

#[test]
fn a_journal_that_is_full_gets_room_whatever_checkpoints_do() {
    check_with(2, || {
        watch::stands_at(std::time::Duration::ZERO);
        // What the tables lack is no reason to write: the journal alone is.
        let behind = Arc::new(Behind::new(100 * BYTES, 2 * BYTES as u64, (0, 0, 0)));
        let (tables, moves) = (behind.clone(), behind.clone());
        let following = thread::spawn(move || follow(&tables));
        let moving = thread::spawn(move || {
            // As a checkpoint does: it began before whatever the tables do meanwhile.
            let began = moves.in_tables();
            moves.set_floor(began);
            assert!(moves.floor() >= began.lsn && moves.floor() <= moves.lsn());
        });
        for lsn in 1..=3 {
            assert!(behind.room().is_ok());
            behind.hand_over(group(lsn), BYTES);
        }
        moving.join().unwrap();
        behind.close(Counters { token: 7, ..Counters::default() });
        assert_eq!(following.join().unwrap(), [1, 2, 3]);
    });
}

#[test]
fn a_read_sees_what_was_handed_over_before_it() {
    check_with(2, || {
        let behind = behind();
        let (tables, reads) = (behind.clone(), behind.clone());
        let following = thread::spawn(move || follow(&tables));
        let reading = thread::spawn(move || {
            // On a thread of its own, and within a task.
            let sees = reads.handed();
            assert!(reads.wait_for(sees) && reads.lsn() >= sees);
            let sees = reads.handed();
            reads.want(sees);
            let mut watch = reads.watch();
            let reached = block_on(watch.wait_for(|reached| reached.lsn >= sees)).unwrap().lsn;
            assert!(reached >= sees);
        });
        behind.hand_over(group(1), BYTES);
        reading.join().unwrap();
        behind.close(Counters { token: 7, ..Counters::default() });
        following.join().unwrap();
    });
}

#[test]
fn all_who_wait_for_the_tables_hear_that_they_have_followed() {
    check_with(2, || {
        let behind = behind();
        behind.hand_over(group(1), BYTES);
        let (writes, reads) = (behind.clone(), behind.clone());
        let writing = thread::spawn(move || writes.room().is_ok());
        let reading = thread::spawn(move || reads.wait_for(1));
        let Task::Apply(groups) = behind.next() else { panic!("there is something to apply") };
        behind.applied(&batch(groups));
        assert!(writing.join().unwrap() && reading.join().unwrap());
    });
}

#[test]
fn whoever_waits_hears_of_a_bad_end() {
    check_with(2, || {
        let behind = behind();
        behind.hand_over(group(1), BYTES);
        let (writes, reads, tables) = (behind.clone(), behind.clone(), behind.clone());
        let writing = thread::spawn(move || {
            if writes.room().is_ok() {
                writes.hand_over(group(2), BYTES);
            }
        });
        let reading = thread::spawn(move || reads.wait_for_or_lack(1).map(|lack| lack.is_none()));
        let following = thread::spawn(move || follow(&tables));
        behind.abandon();
        writing.join().unwrap();
        if let Ok(all_there) = reading.join().unwrap() {
            assert!(all_there && behind.lsn() >= 1);
        }
        following.join().unwrap();
        assert!(behind.watch().borrow().over);
    });
}

#[test]
fn tables_that_fail_are_tried_again_for_a_writer_and_a_reader_that_wait() {
    check_with(2, || {
        let behind = behind();
        // The last failure is long ago, whenever one looks.
        watch::stands_at(std::time::Duration::MAX);
        behind.hand_over(group(1), BYTES);
        let (writes, reads, tables) = (behind.clone(), behind.clone(), behind.clone());
        let following = thread::spawn(move || {
            let Task::Apply(groups) = tables.next() else { panic!("there is something to apply") };
            let (mut batch, mut lsn) = (batch(groups), 1);
            // It fails once, and works when it is tried again.
            let more = tables.stuck(stuck(lsn)).expect("it is not over");
            for group in more {
                lsn = group.lsn;
                batch.add(group);
            }
            tables.applied(&batch);
            lsn
        });
        let writing = thread::spawn(move || match writes.room() {
            Ok(()) => true,
            Err(NoRoom::Stuck(_)) => false,
            Err(NoRoom::Over) => panic!("it is not over"),
        });
        let lack = reads.wait_for_or_lack(1).expect("it is not over");
        assert!(lack.is_none_or(|stuck| stuck.lsn == 1));
        writing.join().unwrap();
        // Whoever is still content to lack it lets the tables rest.
        behind.close(Counters::default());
        assert_eq!(following.join().unwrap(), 1);
        assert!(behind.wait_for(1));
    });
}
