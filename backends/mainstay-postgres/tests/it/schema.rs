//! Tables are made once, whoever is first, and changed under nobody who would not understand them.

use std::{sync::Arc, time::Duration};

use mainstay_core::{ErrorKind, Store, id::JobIds};
use mainstay_testkit::cluster::{Cluster, PATIENCE};

use crate::{
    hands::{claim, enqueue, on_schema, serves, until},
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

#[tokio::test]
async fn a_migration_takes_the_lead_away_first() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let store = place.open_store();
    let id = enqueue(&store, &mut ids).await;
    let epoch = || on_schema(&place, "select epoch from {s}.leader").parse::<u64>().unwrap();
    let before = epoch();
    // As it was before the last step.
    let sql = "begin; drop table {s}.recent; alter table {s}.job drop column lsn; \
        update {s}.format set version = version - 1; commit";
    on_schema(&place, sql);
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
