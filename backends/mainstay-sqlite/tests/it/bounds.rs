//! What stays small however much is written.

use mainstay_core::{
    Store,
    op::{Commit, Op},
    queue::{QueueConfig, Retention},
    store::Batch,
};
use mainstay_sqlite::SqliteStore;

use crate::harness::{Jobs, Place, Tell, figure, queue};

/// How large the journal may become while somebody writes without a pause, in bytes.
const JOURNAL_BOUND: u64 = 160 << 20;

/// Half a megabyte of jobs in one group, which go again at once.
async fn come_and_go(store: &SqliteStore, jobs: &mut Jobs) {
    let payload = format!("\"{}\"", "x".repeat(50_000));
    let enqueues = (0..10).map(|_| jobs.next(&payload));
    let purge = Op::Purge { queue: queue(), limit: 1_000 };
    let commits = vec![Commit { ops: enqueues.collect(), ..Commit::default() }, Commit::of(purge, 0)];
    store.submit(Batch { commits, within: None }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_stays_bounded_under_constant_writing() {
    let place = Place::new();
    let store = place.open_store();
    let mut jobs = Jobs::default();
    let mut largest = 0;
    // About 600 MB.
    for _ in 0..1_200 {
        come_and_go(&store, &mut jobs).await;
        largest = largest.max(place.file_bytes("jobs.db-wal"));
    }
    assert!(largest < JOURNAL_BOUND, "{largest} bytes");
    assert!(figure(&store, "checkpoints_total") > 0.0);
}

/// Bytes of the store's own journal.
fn log_bytes(place: &Place) -> u64 {
    let segments = (1..).map(|n| place.file(&format!("jobs.db-log{n}"))).take_while(|path| path.exists());
    segments.map(|path| std::fs::metadata(path).unwrap().len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_and_went_leaves_no_long_journal() {
    const MIB: u64 = 1 << 20;
    let place = Place::new();
    let store =
        place.try_open(|options| (options.behind_bytes, options.segment_bytes) = (4 << 20, MIB)).unwrap();
    // Somebody reads: no checkpoint says how far the tables are durable.
    let mut jobs = Jobs::default();
    store.enqueue(&mut jobs, "1").await;
    store.tables_follow().await;
    let reader = place.shell();
    let snapshot = reader.unchecked_transaction().unwrap();
    snapshot.query_row("SELECT count(*) FROM job", [], |row| row.get::<_, i64>(0)).unwrap();
    let mut largest = 0;
    // 200 MB, of which the tables never see much.
    for _ in 0..400 {
        come_and_go(&store, &mut jobs).await;
        largest = largest.max(log_bytes(&place));
    }
    // What it may hold, the segment that is being filled, and one that is made in advance.
    assert!(largest <= 3 * 4 * MIB + 3 * MIB, "{largest} bytes");
    drop(snapshot);
}

#[tokio::test]
async fn finished_jobs_are_trimmed_while_others_finish() {
    let place = Place::new();
    let store = place.try_open(|options| options.housekeeping = true).unwrap();
    let retention = Retention { completed_count: 100, ..Retention::default() };
    let config = QueueConfig { retention, ..QueueConfig::default() };
    store.ops([Op::PutQueue { queue: queue(), config }]).await;
    let mut jobs = Jobs::default();
    for _ in 0..30 {
        let enqueued = store.ops((0..100).map(|_| jobs.next("1")).collect::<Vec<_>>()).await;
        let ids = enqueued.iter().map(|reply| match reply {
            mainstay_core::op::Reply::Enqueued(done) => done.id,
            other => panic!("{other:?}"),
        });
        store.ops(ids.map(|id| Op::Cancel { id }).collect::<Vec<_>>()).await;
    }
    store.tables_follow().await;
    let count = |table: &str| -> i64 {
        place.shell().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    assert!((100..=700).contains(&count("finished")), "{}", count("finished"));
    assert_eq!(count("finished"), count("body"));
}
