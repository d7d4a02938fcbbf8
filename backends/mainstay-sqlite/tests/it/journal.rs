//! The journal: damage in it, what is left in segments that are written over, files of the format before it.

use std::{fs, time::Duration};

use mainstay_core::{ErrorKind, Store, clock::Clock, store::Key};
use mainstay_sqlite::{Durability, Options, SqliteStore};
use mainstay_testkit::faults::{Disk, On, Survival, Trouble};
use rusqlite::Connection;

use crate::harness::{Jobs, Place, Tell, close, figure, on};

/// A store whose groups are all in the journal and none in the tables, gone without a word.
async fn abandoned(groups: usize) -> Place {
    let (place, disk) = (Place::new(), Disk::new());
    // Chance of the manual clock is always the same; one store with more groups has another epoch than one with fewer.
    for _ in 0..groups {
        place.clock.entropy();
    }
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

/// Where the records of the first segment begin. The first of them begins the epoch; groups follow.
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
    assert_eq!(records(&place).len(), 21);
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
    damage(&place, records(&place)[20] + 50);
    assert_eq!(place.open_store().available().await, 19);
}

#[tokio::test]
async fn a_hole_in_the_journal_is_damage_and_is_reported_with_its_place() {
    for (record, byte) in [(8, 50), (8, 0), (0, 17), (1, 17), (19, 30)] {
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

/// A copy that was not finished: it was opened with what lay in the rest gone, and nothing said so.
#[tokio::test]
async fn a_journal_that_was_cut_short_is_refused_wherever_it_ends() {
    let whole = abandoned(20).await;
    let at = records(&whole);
    let bytes = fs::read(whole.file("jobs.db-log1")).unwrap();
    // Between two records, within one, right behind the last, far behind it.
    for length in [at[15], at[15] + 100, at[20] + 512, bytes.len() - 1] {
        let place = abandoned(20).await;
        fs::write(place.file("jobs.db-log1"), &bytes[..length]).unwrap();
        let error = place.try_open(|_| {}).err().expect("what was answered last may be lacking");
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
        let text = error.to_string();
        assert!(text.contains("jobs.db-log1") && text.contains(&format!("byte {length}")), "{text}");
    }
}

#[tokio::test]
async fn a_record_that_nothing_leads_to_is_damage_too() {
    let place = abandoned(20).await;
    damage(&place, records(&place)[5]);
    // All but the last are in the tables.
    place.shell().execute_batch("UPDATE meta SET lsn = 19").unwrap();
    let error = place.try_open(|_| {}).err().expect("the last was answered, and would be lost");
    assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
    assert!(error.to_string().contains("record 20"), "{error}");
}

/// A store that was killed is not opened without its journal, and says what is missing.
fn lacks_its_journal(place: &Place, missing: &str) {
    let error = place.try_open(|_| {}).err().expect("what was answered last is not there");
    assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
    let text = error.to_string();
    assert!(text.contains(missing) && text.contains("restore a backup"), "{text}");
}

#[tokio::test]
async fn a_killed_store_without_its_journal_is_refused_until_it_is_back_or_the_loss_is_accepted() {
    let place = abandoned(20).await;
    let (log, elsewhere) = (place.file("jobs.db-log1"), place.file("elsewhere"));
    fs::rename(&log, &elsewhere).unwrap();
    lacks_its_journal(&place, "jobs.db-log1 is missing");
    // The one of another store does not do.
    let other = abandoned(5).await;
    fs::copy(other.file("jobs.db-log1"), &log).unwrap();
    lacks_its_journal(&place, "of another time or another store");
    fs::rename(&elsewhere, &log).unwrap();
    let store = place.open_store();
    assert_eq!(store.available().await, 20);
    drop(store);

    let place = abandoned(20).await;
    fs::remove_file(place.file("jobs.db-log1")).unwrap();
    lacks_its_journal(&place, "'UPDATE meta SET clean = 1'");
    place.shell().execute_batch("UPDATE meta SET clean = 1").unwrap();
    assert_eq!(place.open_store().available().await, 0);
}

#[tokio::test]
async fn a_killed_store_that_did_nothing_has_its_journal_all_the_same() {
    assert_eq!(abandoned(0).await.open_store().available().await, 0);
    let place = abandoned(0).await;
    fs::remove_file(place.file("jobs.db-log1")).unwrap();
    lacks_its_journal(&place, "jobs.db-log1 is missing");
}

#[tokio::test]
async fn a_gap_in_the_journal_is_not_taken_for_its_end() {
    let place = abandoned(20).await;
    fs::rename(place.file("jobs.db-log1"), place.file("jobs.db-log3")).unwrap();
    fs::copy(abandoned(1).await.file("jobs.db-log1"), place.file("jobs.db-log1")).unwrap();
    lacks_its_journal(&place, "jobs.db-log2 before it is missing");
    // What was left over from another time behind a gap is nothing.
    fs::rename(place.file("jobs.db-log3"), place.file("jobs.db-log1")).unwrap();
    fs::copy(abandoned(1).await.file("jobs.db-log1"), place.file("jobs.db-log7")).unwrap();
    assert_eq!(place.open_store().available().await, 20);
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
async fn what_an_earlier_life_has_left_never_follows_on_what_this_one_writes() {
    // Three groups that no sync has made durable, and the tables have none of them.
    let (place, disk) = (Place::new(), Disk::new());
    let durability = Durability::Interval(Duration::from_secs(3_600));
    let options = Options { durability, segment_bytes: 1 << 20, ..on(&disk, place.options()) };
    let store = SqliteStore::open(options).unwrap();
    disk.plan(Trouble::Full, On::Wal, 0);
    let mut jobs = Jobs::default();
    for n in 1..=3 {
        store.enqueue(&mut jobs, &n.to_string()).await;
    }
    let mut replay = disk.replay();
    while replay.advance() {}
    let after = Place::new();
    replay.survivors(Survival::All).write_to(after.path().parent().unwrap()).unwrap();
    // The power fails, and of the three the first had not been written.
    let before = records(&after);
    assert_eq!(before.len(), 4);
    damage(&after, before[1] + 50);
    let store = after.open_store();
    assert_eq!(store.available().await, 0);
    // The next life writes in its place; behind it, as if it came next, lies the second.
    let new = store.enqueue(&mut jobs, "4").await;
    let killed = Place::new();
    for name in ["jobs.db", "jobs.db-wal", "jobs.db-log1"] {
        fs::copy(after.file(name), killed.file(name)).unwrap();
    }
    assert_eq!(records(&killed), before);
    let store = killed.open_store();
    assert_eq!(store.claim(9).await.iter().map(|grant| grant.id).collect::<Vec<_>>(), [new]);
}

#[tokio::test]
async fn the_journal_does_not_grow_as_long_as_somebody_reads() {
    let place = Place::new();
    let options = Options { behind_bytes: 1, segment_bytes: 16 << 10, ..place.options() };
    let store = SqliteStore::open(options).unwrap();
    let mut jobs = Jobs::default();
    store.enqueue(&mut jobs, "1").await;
    store.tables_follow().await;
    // A backup, a shell: it holds on to what it has seen, and keeps every checkpoint from being a whole one.
    let reader = place.shell();
    let snapshot = reader.unchecked_transaction().unwrap();
    snapshot.query_row("SELECT count(*) FROM job", [], |row| row.get::<_, i64>(0)).unwrap();
    let payload = format!("\"{}\"", "x".repeat(1_000));
    let begun = figure(&store, "checkpoints_total");
    while figure(&store, "checkpoints_total") < begun + 2.0 {
        store.enqueue(&mut jobs, &payload).await;
    }
    let segments = || (1..).take_while(|n| place.file(&format!("jobs.db-log{n}")).exists()).count();
    let before = segments();
    for _ in 0..500 {
        store.enqueue(&mut jobs, &payload).await;
    }
    assert!(segments() <= before + 2, "{before} segments, then {}", segments());
    drop(snapshot);
    close(&store).await;
}

#[tokio::test]
async fn a_store_of_the_format_before_the_journal_is_brought_forward() {
    let place = Place::new();
    let store = place.open_store();
    let mut jobs = Jobs::default();
    let id = store.enqueue(&mut jobs, "\"old\"").await;
    close(&store).await;
    back_to_format_1(&place.shell());
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
    assert!(version > 1);
}

/// Takes away whatever later formats have added.
fn back_to_format_1(conn: &Connection) {
    let old = Connection::open_in_memory().unwrap();
    old.execute_batch(include_str!("../../src/schema/0001.sql")).unwrap();
    let names = |conn: &Connection, sql: &str| -> Vec<String> {
        let mut statement = conn.prepare(sql).unwrap();
        let names = statement.query_map([], |row| row.get(0)).unwrap();
        names.map(Result::unwrap).collect()
    };
    let of_kind = |conn: &Connection, kind: &str| {
        names(conn, &format!("SELECT name FROM sqlite_schema WHERE type = '{kind}' AND sql IS NOT NULL"))
    };
    let columns = |conn: &Connection, table: &str| {
        names(conn, &format!("SELECT name FROM pragma_table_info('{table}')"))
    };
    for kind in ["view", "index", "table"] {
        let kept = if kind == "view" { vec![] } else { of_kind(&old, kind) };
        for name in of_kind(conn, kind).iter().filter(|name| !kept.contains(name)) {
            conn.execute_batch(&format!("DROP {kind} {name}")).unwrap();
        }
    }
    for table in of_kind(&old, "table") {
        let kept = columns(&old, &table);
        for column in columns(conn, &table).iter().filter(|column| !kept.contains(column)) {
            conn.execute_batch(&format!("ALTER TABLE {table} DROP COLUMN {column}")).unwrap();
        }
    }
    for view in names(&old, "SELECT sql FROM sqlite_schema WHERE type = 'view'") {
        conn.execute_batch(&view).unwrap();
    }
    conn.execute_batch("PRAGMA user_version = 1").unwrap();
}
