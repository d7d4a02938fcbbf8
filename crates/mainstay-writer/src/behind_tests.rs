use std::sync::Arc;

use mainstay_core::{Error, ErrorKind, engine::change::Counters};

use crate::{
    batch::Batch,
    behind::{Behind, Handed, NoRoom, Stuck, Task},
};

/// With a journal that may be three times as long.
fn behind(limit: usize) -> Behind {
    Behind::new(limit, 3 * limit.max(1) as u64, (0, 0, 0))
}

fn group(lsn: u64) -> Handed {
    let counters = Counters { n: 10 * lsn, ..Counters::default() };
    Handed { lsn, counters, changes: vec![], bytes: 100, growth: 0 }
}

fn batch(groups: Vec<Handed>) -> Batch {
    let mut batch = Batch::default();
    groups.into_iter().for_each(|group| batch.add(group));
    batch
}

fn take(behind: &Behind) -> Batch {
    behind.want(behind.handed());
    match behind.next() {
        Task::Apply(groups) => batch(groups),
        Task::Gather(_) | Task::Finish(_) | Task::Stop => panic!("there is something to apply"),
    }
}

fn stuck(lsn: u64) -> Stuck {
    let error = Error::new(ErrorKind::Unavailable, "no room");
    Stuck { error, lsn, overlay: Arc::default() }
}

#[test]
fn all_that_was_handed_over_comes_out_together_and_in_order() {
    let behind = behind(1_000);
    (1..=3).for_each(|lsn| behind.hand_over(group(lsn), 100));
    assert_eq!((behind.handed(), behind.lsn(), behind.bytes()), (3, 0, 300));
    behind.want(2);
    let batch = take(&behind);
    assert_eq!((batch.lsn, batch.bytes), (3, 300));
    behind.applied(&batch);
    assert_eq!((behind.lsn(), behind.n(), behind.bytes()), (3, 30, 0));
    assert!(behind.wait_for(3));
}

#[test]
fn what_came_and_went_makes_room_before_anything_is_written() {
    let behind = behind(1_600);
    (1..=16).for_each(|lsn| behind.hand_over(group(lsn), 100));
    // Somebody else may hold the tables up; the batch need not be written for it.
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| behind.room().is_ok());
        assert!(behind.is_waited_for(), "nothing goes before the tables now");
        assert_eq!(behind.gather(), 16);
        assert_eq!(behind.bytes(), 1_600, "what was taken counts until it is said what is left of it");
        behind.holds(100);
        assert!(writer.join().unwrap());
    });
    assert_eq!((behind.bytes(), behind.lsn(), behind.is_waited_for()), (100, 0, false));
}

#[test]
fn a_batch_gathers_before_it_is_written() {
    let behind = behind(1_600);
    behind.hand_over(group(1), 100);
    assert!(matches!(behind.next(), Task::Gather(groups) if groups.len() == 1));
    behind.holds(20);
    // A reader waits for what was gathered.
    behind.want(1);
    assert!(matches!(behind.next(), Task::Apply(groups) if groups.is_empty()));
}

/// A batch that holds nothing of what it was made of.
fn write_nothing(behind: &Behind, lsn: u64) {
    assert!(matches!(behind.next(), Task::Apply(_)));
    behind.holds(0);
    let sync = behind.wants_sync();
    assert_eq!(behind.applied(&batch(vec![Handed { bytes: 0, ..group(lsn) }])), 1_600);
    if sync {
        behind.set_floor(behind.in_tables());
    }
}

#[test]
fn a_journal_of_what_came_and_went_is_bounded_too() {
    let behind = behind(1_600);
    let mut begun = 0;
    for lsn in 1..=100 {
        assert!(!behind.is_full(), "{lsn}");
        behind.hand_over(group(lsn), 100);
        behind.gather();
        behind.holds(0);
        if lsn % 16 == 0 {
            // No checkpoint comes. Every second is synced by itself, for two thirds of the journal are not durable by then.
            write_nothing(&behind, lsn);
            begun += 1;
            assert_eq!(behind.floor(), if begun % 2 == 1 { lsn - 16 } else { lsn });
        }
    }
}

#[test]
fn a_writer_whose_journal_is_full_waits_until_the_tables_have_it_durably() {
    let behind = behind(1_600);
    for lsn in 1..=48 {
        behind.hand_over(group(lsn), 100);
        behind.gather();
        behind.holds(0);
    }
    assert!(behind.is_full() && behind.is_waited_for());
    let (begun, sync, journal, full) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| behind.room().is_ok());
        let begun = matches!(behind.next(), Task::Apply(_));
        let sync = behind.wants_sync();
        let journal = behind.applied(&batch(vec![Handed { bytes: 0, ..group(48) }]));
        let full = behind.is_full();
        behind.set_floor(behind.in_tables());
        assert!(writer.join().unwrap());
        (begun, sync, journal, full)
    });
    assert!(begun && sync && full, "until the tables have it durably, the power may fail");
    assert_eq!(journal, 4_800);
    assert_eq!(behind.floor(), 48);
}

#[test]
fn a_writer_waits_for_room_and_gets_it() {
    let behind = behind(100);
    behind.hand_over(group(1), 100);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| behind.room().is_ok());
        let batch = take(&behind);
        behind.applied(&batch);
        assert!(writer.join().unwrap());
    });
}

#[test]
fn a_writer_is_refused_once_the_tables_were_tried_again_in_vain() {
    let behind = behind(100);
    behind.hand_over(group(1), 100);
    let batch = take(&behind);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| matches!(behind.room(), Err(NoRoom::Stuck(_))));
        // Tried as often as it takes until the writer has seen one more failure than it began with.
        while !writer.is_finished() {
            assert!(behind.stuck(stuck(1)).is_some());
        }
        assert!(writer.join().unwrap());
    });
    assert!(!behind.wait_for(1));
    behind.applied(&batch);
    assert!(behind.room().is_ok());
}

#[test]
fn a_writer_is_refused_at_once_when_the_tables_have_just_failed() {
    let behind = behind(100);
    behind.hand_over(group(1), 100);
    let _batch = take(&behind);
    behind.failed(stuck(1));
    // Nobody tries the tables meanwhile: had it waited for that, this would never end.
    assert!(matches!(behind.room(), Err(NoRoom::Stuck(_))));
}

#[test]
fn a_bound_of_nothing_still_lets_one_group_in_at_a_time() {
    let behind = behind(0);
    for lsn in 1..=3 {
        assert!(behind.room().is_ok());
        behind.hand_over(group(lsn), 100);
        let batch = take(&behind);
        assert!(behind.wants_sync());
        behind.applied(&batch);
        behind.set_floor(behind.in_tables());
    }
}

#[test]
fn what_the_tables_lack_is_answered_only_up_to_what_was_asked_for() {
    let behind = behind(1_000);
    behind.hand_over(group(1), 100);
    let mut batch = take(&behind);
    behind.hand_over(group(2), 100);
    std::thread::scope(|scope| {
        let tables = scope.spawn(|| {
            let mut lsn = 1;
            // Somebody waits for the second group: the first alone is not enough.
            while let Some(more) = behind.stuck(stuck(lsn)).filter(|_| lsn < 2) {
                for group in more {
                    lsn = group.lsn;
                    batch.add(group);
                }
            }
            behind.applied(&batch);
        });
        let lacks = behind.wait_for_or_lack(2).unwrap();
        assert!(lacks.is_none_or(|stuck| stuck.lsn == 2));
        tables.join().unwrap();
    });
    assert!(behind.wait_for_or_lack(2).unwrap().is_none());
    behind.hand_over(group(3), 100);
    let _third = take(&behind);
    let _tables = behind.stuck(stuck(2));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| behind.wait_for_or_lack(3));
        behind.abandon();
        assert!(reader.join().unwrap().is_err());
    });
}

#[test]
fn what_is_over_stays_over_whatever_still_lands() {
    let behind = behind(100);
    behind.hand_over(group(1), 100);
    let batch = take(&behind);
    behind.hand_over(group(2), 100);
    behind.abandon();
    // The transaction that was under way comes to its end all the same.
    behind.applied(&batch);
    assert!(behind.watch().borrow().over, "a reader that waits for the second group hears that it is over");
    assert!(!behind.wait_for(2));
    behind.hand_over(group(3), 100);
    assert!(matches!(behind.room(), Err(NoRoom::Over)));
    assert!(matches!(behind.next(), Task::Stop));
}

#[test]
fn the_end_comes_after_everything_was_applied() {
    let behind = behind(1_000);
    behind.hand_over(group(1), 100);
    behind.close(Counters { token: 7, ..Counters::default() });
    behind.applied(&take(&behind));
    assert!(matches!(behind.next(), Task::Finish(Counters { token: 7, .. })));
}
