//! Full disks, foreign writers, damage.

use std::{
    fs,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use mainstay_core::{Applied, ErrorKind, Store, op::Op};
use mainstay_sqlite::{Durability, SqliteStore};
use mainstay_testkit::faults::{Disk, On, Trouble};

use crate::harness::{Jobs, Place, Tell, batch, claim, close, figure, journal_on, on, queue};

#[tokio::test]
async fn a_full_disk_refuses_cleanly_and_the_store_goes_on_when_there_is_room() {
    let place = Place::new();
    let store = place.try_open(|options| options.max_file_bytes = Some(1 << 20)).unwrap();
    let mut jobs = Jobs::default();
    let payload = format!("\"{}\"", "x".repeat(20_000));
    let mut kept = 0;
    let error = loop {
        match store.try_ops([jobs.next(&payload)]).await {
            Ok(done) => drop(done.unwrap()),
            Err(error) => break error,
        }
        kept += 1;
        assert!(kept < 100, "the bound holds");
    };
    assert_eq!((error.kind(), error.applied()), (ErrorKind::Unavailable, Applied::No));
    assert!(error.is_retryable() && kept > 10);
    assert_eq!(store.available().await, kept, "nothing of the refused one");
    assert_eq!(figure(&store, "failed_groups_total"), 1.0);
    // It can be read, and what needs no room can be written.
    assert_eq!(store.claim(1).await.len(), 1);
    store.ops([Op::Purge { queue: queue(), limit: 1_000 }]).await;
    store.enqueue(&mut jobs, &payload).await;
    close(&store).await;
    assert_eq!(place.open_store().available().await, 1);
}

#[tokio::test]
async fn what_was_answered_is_synced_in_time_also_while_everything_else_is_refused() {
    let place = Place::new();
    let store = place
        .try_open(|options| {
            options.max_file_bytes = Some(1 << 20);
            // Long enough that the last one is not synced on the way.
            options.durability = Durability::Interval(Duration::from_millis(250));
        })
        .unwrap();
    let mut jobs = Jobs::default();
    let payload = format!("\"{}\"", "x".repeat(20_000));
    while store.try_ops([jobs.next(&payload)]).await.is_ok() {}
    let synced = figure(&store, "syncs_total");
    let refused = async {
        while figure(&store, "syncs_total") == synced {
            assert!(store.try_ops([jobs.next(&payload)]).await.is_err());
        }
    };
    tokio::time::timeout(Duration::from_secs(60), refused).await.expect("the last answered one is synced");
}

#[tokio::test]
async fn one_that_cannot_be_written_does_not_take_its_neighbours_along() {
    let (place, disk) = (Place::new(), Disk::new());
    let journal = journal_on(&disk);
    let store =
        place.try_open(|options| (journal(options), options.max_file_bytes = Some(1 << 20)).1).unwrap();
    let mut jobs = Jobs::default();
    let first = jobs.next("1");
    store.ops([first.clone()]).await;
    let (small, too_large, twice) = (jobs.next("2"), jobs.next(&"1".repeat(2 << 20)), first);
    disk.hold(true);
    let mut held_up = Box::pin(store.submit(batch([jobs.next("0")])));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(held_up.as_mut().poll(&mut cx).is_pending());
    while figure(&store, "queue_bytes") > 0.0 {
        std::thread::yield_now();
    }
    let batches = [batch([jobs.next("3")]), batch([too_large]), batch([twice]), batch([small])];
    let mut answers: Vec<_> = batches.into_iter().map(|batch| Box::pin(store.submit(batch))).collect();
    for answer in &mut answers {
        assert!(answer.as_mut().poll(&mut cx).is_pending());
    }
    disk.hold(false);
    held_up.await.unwrap();
    let mut done = vec![];
    for answer in answers {
        done.push(answer.await.map(|answers| answers[0].is_ok()).unwrap_or(false));
    }
    // The one that was handed over twice is there already; only what does not fit is refused.
    assert_eq!(done, [true, false, true, true]);
    assert_eq!(store.available().await, 4);
}

/// Each was tried alone, in vain, and said so: hundreds of lines a second.
#[tokio::test]
async fn on_a_full_disk_a_group_is_refused_as_a_whole() {
    let (place, disk) = (Place::new(), Disk::new());
    let journal = journal_on(&disk);
    let store = place.try_open(|options| (journal(options), options.segment_bytes = 8 << 10).1).unwrap();
    let mut jobs = Jobs::default();
    let payload = format!("\"{}\"", "x".repeat(600));
    // Then nine of them do not fit into the segment any more, and would into the next.
    for _ in 0..3 {
        store.enqueue(&mut jobs, &payload).await;
    }
    disk.hold(true);
    let mut cx = Context::from_waker(Waker::noop());
    let mut held_up = Box::pin(store.submit(batch([jobs.next("0")])));
    assert!(held_up.as_mut().poll(&mut cx).is_pending());
    while figure(&store, "queue_bytes") > 0.0 {
        std::thread::yield_now();
    }
    let mut answers: Vec<_> = (0..9).map(|_| Box::pin(store.submit(batch([jobs.next(&payload)])))).collect();
    for answer in &mut answers {
        assert!(answer.as_mut().poll(&mut cx).is_pending());
    }
    disk.plan(Trouble::Full, On::Journal, 0);
    disk.hold(false);
    held_up.await.unwrap();
    for answer in answers {
        let error = answer.await.unwrap_err();
        assert_eq!((error.kind(), error.applied()), (ErrorKind::Unavailable, Applied::No), "{error}");
        assert!(error.to_string().contains("no room for the journal"), "{error}");
    }
    assert_eq!(figure(&store, "failed_groups_total"), 1.0, "the nine are one");
    disk.heal();
    store.enqueue(&mut jobs, &payload).await;
    assert_eq!(store.available().await, 5);
    close(&store).await;
}

#[tokio::test]
async fn what_is_left_behind_at_the_end_is_said_and_is_there_at_the_next_start() {
    let (place, disk) = (Place::new(), Disk::new());
    let options = on(&disk, place.options());
    let store = SqliteStore::open(options).unwrap();
    // The journal has room, and SQLite's log has not.
    disk.plan(Trouble::Full, On::Wal, 0);
    store.enqueue(&mut Jobs::default(), "1").await;
    let error = store.close(Duration::from_secs(60)).await.expect_err("the tables lack a job");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("brought there by the next start"), "{error}");
    disk.heal();
    assert_eq!(place.open_store().available().await, 1);
}

#[tokio::test]
async fn a_foreign_writer_ends_the_store_and_opening_it_again_heals_it() {
    let place = Place::new();
    let told = Arc::new(AtomicUsize::new(0));
    let hook = told.clone();
    let store = place
        .try_open(|options| {
            options.on_fatal = Some(Arc::new(move |error| {
                assert_eq!(error.kind(), ErrorKind::Untrusted);
                hook.fetch_add(1, Ordering::Relaxed);
            }));
        })
        .unwrap();
    let mut jobs = Jobs::default();
    store.enqueue(&mut jobs, "1").await;
    store.tables_follow().await;
    place.shell().execute_batch("UPDATE job SET priority = 1").unwrap();
    // The journal is not theirs: what is answered is kept, and the tables notice when they follow.
    store.enqueue(&mut jobs, "2").await;
    let page = mainstay_core::store::Page { limit: 1, cursor: None };
    let error = store.list(&mainstay_core::store::Query::Audit, &page).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Untrusted);
    assert!(error.to_string().contains("another program"), "{error}");
    for error in [
        store.try_ops([jobs.next("3")]).await.unwrap_err(),
        store.ping().await.unwrap_err(),
        store.get(&mainstay_core::store::Key::Queue(queue())).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
    }
    assert!(close_fails(&store).await);
    assert_eq!(told.load(Ordering::Relaxed), 1);
    assert!(fs::exists(place.file("jobs.db-failed")).unwrap());

    let store = place.open_store();
    assert!(!fs::exists(place.file("jobs.db-failed")).unwrap(), "checked, and sound again");
    let grants = store.claim(10).await;
    assert_eq!(grants.iter().map(|grant| grant.priority).collect::<Vec<_>>(), [1, 5]);
}

async fn close_fails(store: &mainstay_sqlite::SqliteStore) -> bool {
    store.close(std::time::Duration::from_secs(60)).await.is_err()
}

#[tokio::test]
async fn a_damaged_page_is_reported_with_its_place() {
    let place = Place::new();
    let store = place.open_store();
    let mut jobs = Jobs::default();
    store.ops((0..500).map(|_| jobs.next("\"some text to fill a few pages\"")).collect::<Vec<_>>()).await;
    close(&store).await;
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'job'";
    let root = place.shell().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as usize;
    let mut bytes = fs::read(place.path()).unwrap();
    bytes[(root - 1) * 4_096..root * 4_096].fill(0xa5);
    fs::write(place.path(), bytes).unwrap();
    let error = place.try_open(|_| {}).err().expect("it is damaged");
    assert_eq!(error.kind(), ErrorKind::Untrusted);
    let text = error.to_string();
    assert!(text.contains("jobs.db") && text.contains(&format!("page {root}")), "{text}");
    assert!(text.contains("restore a backup"), "{text}");
}

/// Damages a closed store by hand, opens it, and has `meet` come upon it: that ends the store, which says why, once, to
/// its owner too. It is not opened again. Answers what was said.
async fn ended_by(damage: impl FnOnce(&Place), meet: impl AsyncFnOnce(&SqliteStore)) -> String {
    let place = Place::new();
    let store = place.open_store();
    let mut jobs = Jobs::default();
    // No job's grant fits beside another's.
    store.ops((0..100).map(|_| jobs.next(&format!("\"{}\"", "x".repeat(1_000)))).collect::<Vec<_>>()).await;
    close(&store).await;
    damage(&place);
    let (tell, told) = std::sync::mpsc::sync_channel(8);
    let tell = std::sync::Mutex::new(tell);
    let store = place
        .try_open(|options| {
            options.on_fatal = Some(Arc::new(move |error| {
                drop(tell.lock().unwrap().send((error.kind(), error.to_string())));
            }));
        })
        .expect("nothing that opening reads is damaged");
    meet(&store).await;
    assert!(close_fails(&store).await);
    let said: Vec<_> = told.try_iter().collect();
    assert!(matches!(&said[..], [(ErrorKind::Untrusted, _)]), "{said:?}");
    for error in [store.try_ops([jobs.next("3")]).await.unwrap_err(), store.ping().await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
    }
    assert!(place.file("jobs.db-failed").exists() && place.file("jobs.db-log1").exists());
    said.into_iter().next().unwrap().1
}

/// Zeroes the header of a page that has rows of `body`; answers its number.
fn damage_bodies(place: &Place) -> u32 {
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'body'";
    let root = place.shell().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as usize;
    let mut bytes = fs::read(place.path()).unwrap();
    let at = (root - 1) * 4_096;
    assert_eq!(bytes[at], 5, "the root has pages below it");
    // The first of them has the oldest jobs.
    let first = at + usize::from(u16::from_be_bytes([bytes[at + 12], bytes[at + 13]]));
    let page = u32::from_be_bytes(bytes[first..first + 4].try_into().unwrap());
    bytes[(page as usize - 1) * 4_096..][..8].fill(0);
    fs::write(place.path(), bytes).unwrap();
    page
}

/// The store was opened and everything that came upon it was answered with an error that passes: the queue stood still
/// for ever, in silence.
#[tokio::test]
async fn a_damaged_page_that_a_reader_comes_upon_ends_the_store_with_its_place() {
    let mut page = 0;
    let text = ended_by(
        |place| page = damage_bodies(place),
        async |store| {
            let error = store.try_ops([claim(1)]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
            assert!(error.to_string().contains("table body"), "{error}");
        },
    )
    .await;
    assert!(text.contains("table body") && text.contains(&format!("page {page}")), "{text}");
    assert!(text.contains("restore a backup"), "{text}");

    // Whoever comes upon it: somebody who looks at a list...
    ended_by(
        |place| page = damage_bodies(place),
        async |store| {
            let page = mainstay_core::store::Page { limit: 100, cursor: None };
            let query = mainstay_core::store::Query::Jobs(mainstay_core::store::JobFilter::default());
            let error = store.list(&query, &page).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
        },
    )
    .await;
}

#[tokio::test]
async fn a_job_without_a_body_is_not_taken_for_one_that_was_forgotten() {
    let text = ended_by(
        |place| {
            place.shell().execute_batch("DELETE FROM body WHERE n = (SELECT min(n) FROM body)").unwrap();
        },
        async |store| {
            let error = store.try_ops([claim(1)]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
        },
    )
    .await;
    assert!(text.contains("its body is not there"), "{text}");
}

#[tokio::test]
async fn a_row_that_makes_no_sense_is_reported_with_its_place() {
    for (damage, place_of_it) in [
        ("UPDATE job SET phase = 9", "column phase"),
        ("UPDATE job SET queue = 77", "column queue"),
        ("UPDATE job SET run_at = 'soon'", "column run_at"),
        ("UPDATE queue SET config = '{'", "column config"),
        ("DELETE FROM meta", "table meta"),
    ] {
        let place = Place::new();
        let store = place.open_store();
        store.enqueue(&mut Jobs::default(), "1").await;
        close(&store).await;
        place.shell().execute_batch(damage).unwrap();
        let error = place.try_open(|_| {}).err().expect(damage);
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{damage}");
        assert!(error.to_string().contains(place_of_it), "{damage}: {error}");
    }
}

#[tokio::test]
async fn a_whole_check_finds_nothing_in_a_sound_file() {
    let place = Place::new();
    let store = place.open_store();
    store.enqueue(&mut Jobs::default(), "1").await;
    close(&store).await;
    close(&place.try_open(|options| options.check = true).unwrap()).await;
}

/// What takes long can be told from what hangs.
#[tokio::test]
async fn opening_a_large_file_shows_that_it_goes_on() {
    let place = Place::new();
    let signs_of_life = |check| {
        let signs = Arc::new(AtomicUsize::new(0));
        let seen = signs.clone();
        let store = place.try_open(|options| {
            options.check = check;
            options.on_progress = Some(Arc::new(move || {
                seen.fetch_add(1, Ordering::Relaxed);
            }));
        });
        (store.unwrap(), signs)
    };
    let (store, signs) = signs_of_life(true);
    let empty = signs.load(Ordering::Relaxed);
    let mut jobs = Jobs::default();
    for _ in 0..10 {
        store.ops((0..1_000).map(|_| jobs.next("1")).collect::<Vec<_>>()).await;
    }
    close(&store).await;
    drop(store);
    // Each kind of work by itself: reading what is kept in memory, and checking.
    let (store, reading) = signs_of_life(false);
    close(&store).await;
    drop(store);
    let (store, checking) = signs_of_life(true);
    close(&store).await;
    let (reading, checking) = (reading.load(Ordering::Relaxed), checking.load(Ordering::Relaxed));
    assert!(empty + 5 < reading && reading + 5 < checking, "{empty}, {reading}, {checking}");
}

#[tokio::test]
async fn a_sync_that_fails_while_the_store_closes_is_not_a_good_end() {
    let (place, disk) = (Place::new(), Disk::new());
    let store = SqliteStore::open(on(&disk, place.options())).unwrap();
    let mut jobs = Jobs::default();
    // Nothing but a checkpoint syncs the file itself.
    disk.plan(Trouble::FailSync, On::Main, 0);
    store.enqueue(&mut jobs, "1").await;
    store.tables_follow().await;
    disk.hold(true);
    let mut nobody = Context::from_waker(Waker::noop());
    // The writer is held up by this one, and the store can close no further.
    let mut last = pin!(store.submit(batch([jobs.next("2")])));
    assert!(last.as_mut().poll(&mut nobody).is_pending());
    let mut closing = pin!(store.close(Duration::from_secs(60)));
    assert!(closing.as_mut().poll(&mut nobody).is_pending());
    while disk.struck() == 0 {
        std::thread::yield_now();
    }
    disk.hold(false);
    let error = closing.await.expect_err("nobody knows what of the tables is on the disk");
    assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
    assert!(place.file("jobs.db-failed").exists() && place.file("jobs.db-log1").exists());
    disk.heal();
    let answered = 1 + u64::from(last.await.is_ok());
    assert!(place.open_store().available().await >= answered);
}
