//! Files: whose they are, how they look, how they are copied.

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use mainstay_core::{ErrorKind, Store};
use mainstay_sqlite::Durability;
use rusqlite::Connection;

use crate::harness::{Jobs, Place, Tell, close, figure, now};

#[tokio::test]
async fn a_store_has_one_process_at_a_time() {
    let place = Place::new();
    let store = place.open_store();
    let error = place.try_open(|_| {}).err().expect("it is taken");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    close(&store).await;
    close(&place.open_store()).await;
}

#[tokio::test]
async fn a_closed_store_is_one_file_whatever_a_segment_that_failed_has_left() {
    let place = Place::new();
    let store = place.open_store();
    fs::write(place.file("jobs.db-log2"), [0; 100]).unwrap();
    fs::write(place.file("jobs.db-log04"), "somebody else's").unwrap();
    close(&store).await;
    assert!(!place.file("jobs.db-log1").exists() && !place.file("jobs.db-log2").exists());
    assert!(!place.file("jobs.db-wal").exists() && !place.file("jobs.db-shm").exists());
    assert!(place.file("jobs.db-log04").exists(), "no segment is named like this");
}

#[tokio::test]
async fn a_link_to_a_store_is_that_store() {
    let (place, folder) = (Place::new(), Place::new());
    let (alias, again) = (folder.file("alias.db"), folder.file("again.db"));
    symlink(place.path(), &alias).unwrap();
    symlink("alias.db", &again).unwrap();
    let by = |path: &Path| place.try_open(|options| options.path = path.to_owned());
    // The first open makes the file that the links lead to.
    let mut jobs = Jobs::default();
    let store = by(&again).unwrap();
    store.enqueue(&mut jobs, "1").await;
    for path in [place.path(), alias.clone()] {
        let error = by(&path).err().expect("it is taken");
        assert!(error.to_string().contains("is in use by"), "{error}");
    }
    let beside: Vec<_> = fs::read_dir(folder.file("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside.len(), 2, "{beside:?}");
    // What lies beside the file itself is all that a killed process leaves.
    let killed = Place::new();
    for name in ["jobs.db", "jobs.db-wal", "jobs.db-log1"] {
        fs::copy(place.file(name), killed.file(name)).unwrap();
    }
    assert_eq!(killed.open_store().available().await, 1);
    drop(store);
    assert_eq!(by(&place.path()).unwrap().available().await, 1);
    // One that leads to itself is refused and not followed for ever.
    symlink("round.db", folder.file("round.db")).unwrap();
    assert_eq!(by(&folder.file("round.db")).err().expect("a loop").kind(), ErrorKind::Unavailable);
}

#[test]
fn what_is_not_a_store_is_refused_and_left_alone() {
    let place = Place::new();
    let text =
        b"this is not a database, but it is long enough to be looked at as if it were one. ".repeat(20);
    fs::write(place.path(), &text).unwrap();
    let error = place.try_open(|_| {}).err().expect("not a database");
    assert_eq!(error.kind(), ErrorKind::Untrusted);
    assert!(error.to_string().contains("jobs.db"), "{error}");
    assert_eq!(fs::read(place.path()).unwrap(), text);

    let place = Place::new();
    place.shell().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let error = place.try_open(|_| {}).err().expect("of another program");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("another program"), "{error}");

    let error = place.try_open(|options| options.path = place.file("")).err().expect("a folder");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let error = place.try_open(|options| options.path = place.file("no/jobs.db")).err().expect("no folder");
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[tokio::test]
async fn a_newer_format_is_refused_by_its_number() {
    let place = Place::new();
    close(&place.open_store()).await;
    place.shell().execute_batch("PRAGMA user_version = 99").unwrap();
    let error = place.try_open(|_| {}).err().expect("too new");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("format 99"), "{error}");
}

#[tokio::test]
async fn a_store_that_was_not_closed_has_everything_that_was_answered() {
    let place = Place::new();
    let store = place.open_store();
    let mut jobs = Jobs::default();
    let first = store.enqueue(&mut jobs, "1").await;
    store.enqueue(&mut jobs, "2").await;
    let grant = store.claim(1).await.remove(0);
    assert_eq!(grant.id, first);
    place.clock.advance(20_000);
    drop(store);
    // Time stands still while nobody has the store open, and a lease that lived has its full time again.
    place.clock.advance(1_000_000);
    let store = place.open_store();
    assert_eq!(store.available().await, 1);
    place.clock.advance(29_999);
    let complete = mainstay_testkit::world::settle_op(&grant, mainstay_testkit::world::COMPLETE);
    store.try_ops([complete]).await.unwrap().expect("the lease lives");
    assert!(store.claim(1).await[0].lease.token > grant.lease.token);
}

#[tokio::test]
async fn a_backup_is_a_store_of_its_own() {
    let place = Place::new();
    let store = place.open_store();
    let mut jobs = Jobs::default();
    store.enqueue(&mut jobs, "1").await;
    let copy = place.file("copy.db");
    store.backup(&copy).await.unwrap();
    store.enqueue(&mut jobs, "2").await;
    let again = store.backup(&copy).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Invalid, "nothing is overwritten");

    let copied = place.try_open(|options| options.path = copy).unwrap();
    assert_eq!((store.available().await, copied.available().await), (2, 1));
    assert_eq!(&*copied.claim(1).await[0].body.as_ref().unwrap().payload, "1");
}

#[tokio::test]
async fn a_backup_in_the_place_of_its_store_takes_nothing_from_the_journal_there() {
    let place = Place::new();
    let store = place.open_store();
    let mut jobs = Jobs::default();
    store.enqueue(&mut jobs, "1").await;
    let copy = place.file("copy.db");
    store.backup(&copy).await.unwrap();
    let lost = store.enqueue(&mut jobs, "2").await;
    // The store was killed then, and the copy takes its place.
    let killed = Place::new();
    fs::copy(place.file("jobs.db-log1"), killed.file("jobs.db-log1")).unwrap();
    fs::copy(&copy, killed.path()).unwrap();
    assert!(killed.file_bytes("jobs.db-log1") > 0);
    let store = killed.open_store();
    assert_eq!(store.available().await, 1, "job {lost} is of another life");
}

#[tokio::test]
async fn the_file_can_be_read_by_people() {
    let place = Place::new();
    let store = place.open_store();
    let mut jobs = Jobs::default();
    let id = store.enqueue(&mut jobs, r#"{"to":"me"}"#).await;
    store.enqueue(&mut jobs, "2").await;
    store.claim(1).await;
    // Others see the tables as they are; whoever reads through the store waits until they are up to date.
    store.tables_follow().await;
    let shell = Connection::open(place.path()).unwrap();
    let sql = "SELECT queue, kind, state, payload, created_at FROM jobs WHERE id = ?1";
    let row: (String, String, String, String, String) = shell
        .query_row(sql, [id.to_string()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .unwrap();
    let expected = ("q", "work", "running", r#"{"to":"me"}"#, "2027-01-15T08:00:00.000Z");
    assert_eq!((&*row.0, &*row.1, &*row.2, &*row.3, &*row.4), expected);
    assert_eq!(now(&place).wall.0, 1_800_000_000_000);
    // And reading disturbs nobody.
    store.enqueue(&mut jobs, "3").await;
}

#[tokio::test]
async fn an_interval_syncs_now_and_then_and_says_that_it_is_not_durable() {
    let place = Place::new();
    let every = Duration::from_millis(20);
    let store = place.try_open(|options| options.durability = Durability::Interval(every)).unwrap();
    assert!(!store.capabilities().durable);
    let mut jobs = Jobs::default();
    for _ in 0..50 {
        store.enqueue(&mut jobs, "1").await;
    }
    // What is left over is synced without anybody asking.
    while figure(&store, "syncs_total") == 0.0 {
        tokio::task::yield_now().await;
    }
    assert!(figure(&store, "syncs_total") < figure(&store, "groups_total"));
    close(&store).await;
    assert_eq!(place.open_store().available().await, 50);
}
