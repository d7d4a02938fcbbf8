//! Servers that take no writes, and ones that are promoted although they lag.

use std::time::Duration;

use mainstay_core::{Applied, ErrorKind, Store, Token, id::JobIds};
use mainstay_postgres::{Options, PostgresStore};
use mainstay_testkit::cluster::{Cluster, USER};

use crate::{
    hands::{claim, enqueue, job, submit, until},
    harness::Place,
};

fn options(place: &Place, url: &str, more: &str) -> Options {
    // Wall time is the database's, as in production: tokens rest on it.
    Options { database_time: true, ..place.options_at(url, more) }
}

#[tokio::test]
async fn a_standby_is_no_store_and_says_whom_to_name() {
    let primary = Cluster::start("");
    let place = Place::new();
    let store = PostgresStore::open(options(&place, &primary.address(), "")).unwrap();
    let standby = primary.standby();
    until("the tables are there", async || {
        standby.sql(&format!("select count(*) from pg_tables where schemaname = '{}'", place.schema)) != "0"
    })
    .await;
    let refused = PostgresStore::open(options(&place, &standby.address(), "")).err().expect("no writes");
    assert_eq!((refused.kind(), refused.applied()), (ErrorKind::Unavailable, Applied::No));
    assert!(refused.to_string().contains("name the primary"), "{refused}");
    store.close(Duration::from_secs(5)).await.unwrap();
}

/// What the standby lacks is lost, as in every database that does not wait for its standby; tokens are not given twice.
#[tokio::test]
async fn after_a_fail_over_to_a_stale_standby_tokens_grow_on() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let primary = Cluster::start("");
    let setup = PostgresStore::open(options(&place, &primary.address(), "")).unwrap();
    let kept = enqueue(&setup, &mut ids).await;
    setup.close(Duration::from_secs(5)).await.unwrap();
    let standby = primary.standby();
    // As with `host=a,b` and `target_session_attrs=read-write`.
    let url = format!("postgres://{USER}@{},{}/postgres", primary.host(), standby.host());
    let store = PostgresStore::open(options(&place, &url, "&target_session_attrs=read-write")).unwrap();
    let journal = format!("select coalesce(max(lsn), 0) from {}.journal", place.schema);
    until("it has caught up", async || standby.sql(&journal) == primary.sql(&journal)).await;
    // From here on it is stale.
    standby.sql("alter system set primary_conninfo = ''");
    standby.sql("select pg_reload_conf()");
    until("it does not listen", async || standby.sql("select count(*) from pg_stat_wal_receiver") == "0")
        .await;
    let mut granted: Vec<Token> = Vec::new();
    for _ in 0..20 {
        enqueue(&store, &mut ids).await;
        granted.extend(claim(&store).await.iter().map(|grant| grant.lease.token));
    }
    assert_eq!(granted.len(), 21);
    drop(primary);
    standby.promote();
    until("the store is there", async || submit(&store, job(&mut ids, "1")).await.is_ok()).await;
    let again = claim(&store).await;
    let last = granted.iter().max().copied().unwrap();
    assert!(again.iter().all(|grant| grant.lease.token > last), "{again:?} after {last:?}");
    // What happened to it is gone with the database that knew of it, also for the process that had done it.
    assert!(again.iter().any(|grant| grant.id == kept && grant.attempt == 1), "{again:?}");
    // From the first on, they rest on the database's clock; that of this process is weeks away.
    let database: u64 = standby.sql("select extract(epoch from now())::bigint").parse().unwrap();
    assert!(
        granted.iter().all(|token| (token.0 >> 20).abs_diff(database) < 3_600),
        "{granted:?} at {database}"
    );
    store.close(Duration::from_secs(5)).await.unwrap();
}
