//! The rules of jobs are kept once, and go when no job has them any more.

use mainstay_core::{
    JobId, Store,
    op::{Op, Reply},
    store::{Budget, Key, Record},
};
use mainstay_sqlite::SqliteStore;
use rusqlite::Connection;

use crate::harness::{Jobs, Place, Tell, close};

/// A job for each of these time limits.
async fn come(store: &SqliteStore, jobs: &mut Jobs, limits: std::ops::Range<u64>) -> Vec<JobId> {
    let ops = limits.map(|ms| {
        let Op::Enqueue(mut job) = jobs.next("1") else { unreachable!() };
        job.policy.timeout_ms = Some(ms);
        Op::Enqueue(job)
    });
    let id = |reply| match reply {
        Reply::Enqueued(done) => done.id,
        other => panic!("{other:?}"),
    };
    store.ops(ops.collect::<Vec<_>>()).await.into_iter().map(id).collect()
}

async fn go(store: &SqliteStore, ids: &[JobId]) {
    store.ops(ids.iter().map(|id| Op::Delete { id: *id }).collect::<Vec<_>>()).await;
}

async fn tidy(store: &SqliteStore) {
    while store.maintain(Budget::default()).await.unwrap().more {}
    store.tables_follow().await;
}

async fn limit(store: &SqliteStore, id: JobId) -> Option<u64> {
    match store.get(&Key::Job(id)).await.unwrap() {
        Some(Record::Job(job)) => job.policy.timeout_ms,
        other => panic!("{other:?}"),
    }
}

fn rows(shell: &Connection) -> i64 {
    shell.query_row("SELECT count(*) FROM policy", [], |row| row.get(0)).unwrap()
}

/// What is kept of those that no job has, at most.
const FEW: i64 = 20;

#[tokio::test]
async fn rules_that_no_job_has_leave_the_file() {
    let place = Place::new();
    let store = place.open_store();
    let mut jobs = Jobs::default();
    for round in 0..5 {
        let ids = come(&store, &mut jobs, 1_000 * round + 1..1_000 * round + 301).await;
        store.ops(ids[..100].iter().map(|id| Op::Cancel { id: *id }).collect::<Vec<_>>()).await;
        tidy(&store).await;
        assert!(rows(&place.shell()) >= 300, "those that have finished count");
        assert_eq!(limit(&store, ids[99]).await, Some(1_000 * round + 100));
        go(&store, &ids).await;
        tidy(&store).await;
        assert!(rows(&place.shell()) <= FEW, "{} are left", rows(&place.shell()));
    }
}

#[tokio::test]
async fn a_store_full_of_rules_that_no_job_has_gets_rid_of_them() {
    let place = Place::new();
    let mut jobs = Jobs::default();
    let store = place.open_store();
    let ids = come(&store, &mut jobs, 1..11).await;
    store.ops(ids[..5].iter().map(|id| Op::Cancel { id: *id }).collect::<Vec<_>>()).await;
    close(&store).await;
    // As builds left it that never removed a row.
    let old = "WITH RECURSIVE n (i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO policy \
               SELECT i, 20, NULL, 1000, 2000, 3600000, 0, 100000 + i, NULL FROM n";
    place.shell().execute_batch(old).unwrap();
    assert!(rows(&place.shell()) > 4_900);
    for _ in 0..2 {
        let store = place.open_store();
        tidy(&store).await;
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(
                limit(&store, *id).await,
                Some(n as u64 + 1),
                "of those that live and those that ended"
            );
        }
        let more = come(&store, &mut jobs, 50..60).await;
        go(&store, &more).await;
        tidy(&store).await;
        close(&store).await;
        assert!(rows(&place.shell()) <= FEW + 10, "{} are left", rows(&place.shell()));
    }
}
