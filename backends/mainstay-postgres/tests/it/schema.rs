//! Tables are made once, whoever is first, and changed under nobody who would not understand them.

use std::{sync::Arc, time::Duration};

use mainstay_core::{ErrorKind, Store, id::JobIds};
use mainstay_testkit::cluster::{Cluster, PATIENCE};

use crate::{
    hands::{claim, enqueue, in_tables, on_schema, serves, until},
    harness::Place,
};

#[tokio::test]
async fn steps_that_another_process_takes_are_not_counted() {
    let place = Place::new();
    let cluster = Cluster::shared().expect("the shared cluster");
    let name = format!("mainstay.migrate.{}", place.schema);
    // Held until all three wait for it.
    let (client, connection) =
        mainstay_postgres::tokio_postgres::connect(&Cluster::url(), mainstay_postgres::tokio_postgres::NoTls)
            .await
            .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    client
        .batch_execute(&format!("begin; select pg_advisory_xact_lock(hashtextextended('{name}', 0))"))
        .await
        .unwrap();
    let options = || place.options();
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let options = options();
            std::thread::spawn(move || mainstay_postgres::migrate(options).unwrap())
        })
        .collect();
    let waiting = format!(
        "select count(*) from pg_stat_activity where wait_event = 'advisory' and query like '%{name}%' and pid <> pg_backend_pid()"
    );
    until("three wait", async || cluster.sql(&waiting) == "3").await;
    client.batch_execute("commit").await.unwrap();
    let taken: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(taken.to_string(), on_schema(&place, "select version from {s}.format"));
    assert_eq!(mainstay_postgres::migrate(options()).unwrap(), 0);
}

/// Brings a schema back to what it was before the last step.
pub(crate) const BEFORE_THE_LAST_STEP: &str = "begin; drop view {s}.journal; drop table {s}.journal_1, {s}.reached; \
    drop function {s}.prove_tables(bigint, bigint), {s}.clear_journal(int); \
    alter table {s}.journal_0 drop column data; alter table {s}.journal_0 rename to journal; \
    alter table {s}.job add column lsn bigint not null default 0; \
    create table {s}.recent (lsn bigint primary key, ids uuid[] not null, changes bytea[] not null); \
    update {s}.format set version = version - 1; commit";

#[tokio::test]
async fn a_migration_takes_the_lead_away_first() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let store = place.open_store();
    let id = enqueue(&store, &mut ids).await;
    let epoch = || on_schema(&place, "select epoch from {s}.leader").parse::<u64>().unwrap();
    let before = epoch();
    in_tables(&store).await;
    on_schema(&place, BEFORE_THE_LAST_STEP);
    let options = place.options();
    let migrated = tokio::task::spawn_blocking(move || mainstay_postgres::migrate(options).unwrap()).await;
    assert_eq!(migrated.unwrap(), 1);
    assert!(epoch() > before);
    // It is of this build, so it leads again.
    until("it leads again", async || epoch() > before + 1).await;
    serves(&store).await;
    assert_eq!(claim(&store).await.iter().map(|grant| grant.id).collect::<Vec<_>>(), [id]);
}

#[tokio::test]
async fn a_newer_build_that_has_changed_the_tables_ends_those_that_are_older() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let (told, heard) = std::sync::mpsc::sync_channel(8);
    let open = |name: &str| {
        let (told, from) = (told.clone(), name.to_owned());
        let hook = move |error: &mainstay_core::Error| told.send((from.clone(), error.kind())).unwrap();
        let change = |options: &mut mainstay_postgres::Options| {
            options.name = name.to_owned();
            options.on_fatal = Some(Arc::new(hook));
        };
        place.try_open(change).unwrap()
    };
    let stores = [open("leads"), open("follows")];
    enqueue(&stores[1], &mut ids).await;
    let sql = "begin; update {s}.leader set epoch = epoch + 1, expires = '-infinity', owner = null, backend_pid = null; \
        update {s}.format set version = version + 1; commit; select epoch from {s}.leader";
    let epoch = on_schema(&place, sql);
    let ended =
        tokio::task::spawn_blocking(move || [heard.recv_timeout(PATIENCE), heard.recv_timeout(PATIENCE)]);
    let mut ended = ended.await.unwrap().map(Result::unwrap);
    ended.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(ended, ["follows", "leads"].map(|name| (name.to_owned(), ErrorKind::Untrusted)));
    for store in &stores {
        // The hook is called just before.
        let says_so =
            async || store.ping().await.is_err_and(|e| e.to_string().contains("use the newer mainstay"));
        until("it says so", says_so).await;
        store.close(Duration::from_secs(5)).await.unwrap();
    }
    // Whoever has tried has written nothing.
    let since = format!("select count(*) from {{s}}.journal where epoch >= {epoch}");
    assert_eq!(on_schema(&place, &since), "0");
}

/// Somebody uses a table that the step changes, and does not end. Whoever else comes is not kept waiting, and when the
/// migration says that it failed, nothing of it comes later.
#[tokio::test]
async fn a_migration_that_gets_no_table_keeps_nobody_waiting_and_does_nothing() {
    let (place, mut tasks) = (Place::new(), tokio::task::JoinSet::new());
    place.open_store().close(Duration::from_secs(5)).await.unwrap();
    on_schema(&place, BEFORE_THE_LAST_STEP);
    let url = Cluster::url();
    let (client, connection) =
        mainstay_postgres::tokio_postgres::connect(&url, mainstay_postgres::tokio_postgres::NoTls)
            .await
            .unwrap();
    tasks.spawn(async move { drop(connection.await) });
    let holds = format!("begin; lock table {}.job in row exclusive mode", place.schema);
    client.batch_execute(&holds).await.unwrap();
    let options = place.options();
    let migration = tokio::task::spawn_blocking(move || mainstay_postgres::migrate(options));
    let name = format!("mainstay.migrate.{}", place.schema);
    let tries = format!(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%{name}%'"
    );
    until("it tries", async || on_schema(&place, &tries) != "0").await;
    assert_eq!(on_schema(&place, "select count(*) from {s}.job"), "0");
    let refused = migration.await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    assert!(refused.to_string().contains("nothing was changed"), "{refused}");
    let format = || on_schema(&place, "select version from {s}.format").parse::<i32>().unwrap();
    let before = format();
    client.batch_execute("commit").await.unwrap();
    assert_eq!((on_schema(&place, &tries), format()), ("0".to_owned(), before));
    let options = place.options();
    let migrated = tokio::task::spawn_blocking(move || mainstay_postgres::migrate(options).unwrap()).await;
    assert_eq!((migrated.unwrap(), format()), (1, before + 1));
}
