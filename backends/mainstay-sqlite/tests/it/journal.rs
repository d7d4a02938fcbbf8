//! The journal: damage in it, what is left in segments that are written over, files of the format before it.

use std::fs;

use mainstay_core::{ErrorKind, Store, store::Key};
use mainstay_sqlite::{Options, SqliteStore};
use mainstay_testkit::faults::{Disk, Survival};
use rusqlite::Connection;

use crate::harness::{Jobs, Place, Tell, close, figure, on};

/// A store whose groups are all in the journal and none in the tables, gone without a word.
async fn abandoned(groups: usize) -> Place {
    let (place, disk) = (Place::new(), Disk::new());
    let options = Options { segment_bytes: 1 << 20, ..on(&disk, place.options()) };
    let store = SqliteStore::open(options).unwrap();
    let mut jobs = Jobs::default();
    for i in 0..groups {
        store.enqueue(&mut jobs, &i.to_string()).await;
    }
    // What a power cut leaves: what was synced, which is the journal.
    let mut replay = disk.replay();
    while replay.advance() {}
    let after = Place::new();
    replay.survivors(Survival::None).write_to(after.path().parent().unwrap()).unwrap();
    after
}

const RECORD: &[u8] = b"mnst";

/// Where the records of the first segment begin.
fn records(place: &Place) -> Vec<usize> {
    let bytes = fs::read(place.file("jobs.db-log1")).unwrap();
    (0..bytes.len()).step_by(64).filter(|at| bytes[*at..].starts_with(RECORD)).collect()
}

fn damage(place: &Place, at: usize) {
    let mut bytes = fs::read(place.file("jobs.db-log1")).unwrap();
    bytes[at] ^= 0x40;
    fs::write(place.file("jobs.db-log1"), bytes).unwrap();
}

#[tokio::test]
async fn what_is_in_the_journal_alone_is_there_when_the_store_is_opened() {
    let place = abandoned(20).await;
    assert_eq!(records(&place).len(), 20);
    let store = place.open_store();
    assert_eq!(store.available().await, 20);
    let payloads: Vec<_> =
        store.claim(20).await.iter().map(|g| g.body.clone().unwrap().payload.to_string()).collect();
    assert_eq!(payloads, (0..20).map(|i| i.to_string()).collect::<Vec<_>>());
    close(&store).await;
    assert!(!fs::exists(place.file("jobs.db-log1")).unwrap(), "a closed store is one file");
}

#[tokio::test]
async fn a_torn_last_record_was_never_answered_and_ends_the_journal() {
    let place = abandoned(20).await;
    damage(&place, records(&place)[19] + 50);
    assert_eq!(place.open_store().available().await, 19);
}

#[tokio::test]
async fn a_hole_in_the_journal_is_damage_and_is_reported_with_its_place() {
    for (record, byte) in [(7, 50), (7, 0), (0, 17), (18, 30)] {
        let place = abandoned(20).await;
        let at = records(&place)[record];
        damage(&place, at + byte);
        let error = place.try_open(|_| {}).err().expect("it was answered, and is not there");
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
        let text = error.to_string();
        assert!(text.contains("jobs.db-log1") && text.contains(&format!("byte {at}")), "{text}");
        assert!(text.contains("restore a backup"), "{text}");
        // It is not healed by trying again.
        assert_eq!(place.try_open(|_| {}).err().expect("still").kind(), ErrorKind::Untrusted);
    }
}

#[tokio::test]
async fn segments_are_written_over_and_what_is_left_in_them_never_counts() {
    let (place, disk) = (Place::new(), Disk::new());
    // Each group is in the tables before the next.
    let options = Options { behind_bytes: 1, ..on(&disk, place.options()) };
    let (mut jobs, mut largest) = (Jobs::default(), 0);
    for life in 1..=3 {
        let store = SqliteStore::open(options.clone()).unwrap();
        let checkpoints = figure(&store, "checkpoints_total");
        for i in 0.. {
            store
                .enqueue(
                    &mut jobs,
                    "\"about a hundred bytes, so that a segment of a few kilobytes is soon full\"",
                )
                .await;
            let over = i > 100 && figure(&store, "checkpoints_total") > checkpoints + 2.0;
            if over {
                break;
            }
        }
        let before = store.available().await;
        largest = largest.max((1..).take_while(|n| place.file(&format!("jobs.db-log{n}")).exists()).count());
        // Killed here, with everything that it ever wrote still in the segments.
        let mut replay = disk.replay();
        while replay.advance() {}
        let after = Place::new();
        replay.survivors(Survival::All).write_to(after.path().parent().unwrap()).unwrap();
        assert_eq!(after.open_store().available().await, before, "life {life}");
        drop(store);
    }
    assert!(largest < jobs.made() as usize / 10, "{largest} segments for {} groups", jobs.made());
}

#[tokio::test]
async fn a_store_of_the_format_before_the_journal_is_brought_forward() {
    let place = Place::new();
    let store = place.open_store();
    let mut jobs = Jobs::default();
    let id = store.enqueue(&mut jobs, "\"old\"").await;
    close(&store).await;
    // Format 1 differs in these two columns.
    place
        .shell()
        .execute_batch(
            "ALTER TABLE meta DROP COLUMN lsn; ALTER TABLE meta DROP COLUMN epoch; PRAGMA user_version = 1;",
        )
        .unwrap();
    let store = place.open_store();
    assert!(store.get(&Key::Job(id)).await.unwrap().is_some());
    store.enqueue(&mut jobs, "\"new\"").await;
    drop(store);
    let store = place.open_store();
    assert_eq!(store.available().await, 2);
    close(&store).await;
    let version: i64 = Connection::open(place.path())
        .unwrap()
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(version, 2);
}
