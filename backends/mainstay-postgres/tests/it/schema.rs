//! Tables are made once, whoever is first.

use mainstay_testkit::cluster::Cluster;

use crate::{
    hands::{on_schema, until},
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
