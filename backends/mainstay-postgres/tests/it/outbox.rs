//! What other transactions hand in.

use mainstay_core::{
    Store,
    event::{LogBudget, Position},
    op::Op,
    queue::QueueConfig,
};
use mainstay_postgres::{
    Outbox,
    tokio_postgres::{self, Client, NoTls},
};
use mainstay_testkit::cluster::Cluster;
use tokio::task::JoinSet;

use crate::{
    hands::{claim, queue, submit, until},
    harness::Place,
};

async fn user(tasks: &mut JoinSet<()>) -> Client {
    let (client, connection) = tokio_postgres::connect(&Cluster::url(), NoTls).await.expect("connect");
    tasks.spawn(async move { drop(connection.await) });
    client
}

#[tokio::test]
async fn what_is_handed_in_is_done_once_when_its_transaction_commits() {
    let (place, mut tasks) = (Place::new(), JoinSet::new());
    let store = place.open_store();
    let (mut client, outbox) = (user(&mut tasks).await, Outbox::new(&place.schema).unwrap());

    let given_up = client.transaction().await.unwrap();
    outbox.enqueue_in(&given_up, "q", "work", "0", "{}").await.unwrap();
    given_up.rollback().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    outbox.enqueue_in(&transaction, "q", "work", r#"{"b":1,"a":2.50}"#, r#"{"priority":3}"#).await.unwrap();
    outbox.publish_in(&transaction, "users.created", "created", "7", r#"{"subject":"u"}"#).await.unwrap();
    assert!(claim(&store).await.is_empty());
    transaction.commit().await.unwrap();
    // As any other language does it.
    client.batch_execute(&format!("select {}.enqueue('q', 'plain')", place.schema)).await.unwrap();

    let mut found = Vec::new();
    until("the jobs are there", async || {
        found.extend(claim(&store).await);
        found.len() >= 2
    })
    .await;
    let bodies: Vec<_> = found.iter().filter_map(|grant| grant.body.clone()).collect();
    assert_eq!(bodies.len(), 2);
    assert!(bodies.iter().any(|body| &*body.payload == r#"{"b":1,"a":2.50}"# && &*body.kind == "work"));
    assert!(bodies.iter().any(|body| &*body.payload == "null" && &*body.kind == "plain"));
    let log = store.read_log(&[], Position::Earliest, LogBudget::default()).await.unwrap();
    assert_eq!(log.events.len(), 1);
    assert_eq!((log.events[0].topic.as_str(), &*log.events[0].event.kind), ("users.created", "created"));
    let left = format!("select count(*) from {}.outbox", place.schema);
    until("nothing is left", async || client.query_one(&left, &[]).await.unwrap().get::<_, i64>(0) == 0)
        .await;
    assert!(claim(&store).await.is_empty());
}

/// Services have a pool of sessions of their own; its transactions are those of `tokio-postgres`.
#[tokio::test]
async fn a_transaction_of_a_pool_is_one_as_well() {
    let place = Place::new();
    let store = place.open_store();
    let config = Cluster::url().parse().expect("a URL of the cluster");
    let manager = deadpool_postgres::Manager::new(config, NoTls);
    let pool = deadpool_postgres::Pool::builder(manager).max_size(2).build().unwrap();
    let (mut client, outbox) = (pool.get().await.unwrap(), Outbox::new(&place.schema).unwrap());
    let transaction = client.transaction().await.unwrap();
    outbox.enqueue_in(&*transaction, "q", "work", "0", "{}").await.unwrap();
    assert!(claim(&store).await.is_empty());
    transaction.commit().await.unwrap();
    until("the job is there", async || !claim(&store).await.is_empty()).await;
}

/// As when the process that leads dies after it has done it, and before it has let go of the row.
#[tokio::test]
async fn a_row_that_is_still_there_is_not_done_again() {
    let (place, mut tasks) = (Place::new(), JoinSet::new());
    let store = place.open_store();
    let client = user(&mut tasks).await;
    let on_schema = |sql: &str| sql.replace("{s}", &place.schema);
    let left = on_schema("select count(*) from {s}.outbox");
    let is_done = async || client.query_one(&left, &[]).await.unwrap().get::<_, i64>(0) == 0;
    let handed_in = on_schema(
        "insert into {s}.outbox (id, what, target, kind, data, options) overriding system value values \
         (7, 'enqueue', 'q', 'work', '1', '{}'), (8, 'publish', 'users.created', 'created', '1', '{}')",
    );
    for _ in 0..2 {
        client.batch_execute(&handed_in).await.unwrap();
        until("nothing is left", is_done).await;
    }
    assert_eq!(claim(&store).await.len(), 1);
    let log = store.read_log(&[], Position::Earliest, LogBudget::default()).await.unwrap();
    assert_eq!(log.events.len(), 1);
}

#[tokio::test]
async fn what_finds_no_room_is_done_when_there_is_some() {
    let (place, mut tasks) = (Place::new(), JoinSet::new());
    let store = place.open_store();
    let client = user(&mut tasks).await;
    let config = QueueConfig { max_depth: Some(1), ..QueueConfig::default() };
    submit(&store, Op::PutQueue { queue: queue(), config }).await.unwrap();
    let handed_in =
        format!("select {}.enqueue('q', 'work', '{{}}') from generate_series(1, 3)", place.schema);
    client.query(&handed_in, &[]).await.unwrap();
    let mut found = Vec::new();
    until("all three have been there", async || {
        found.extend(claim(&store).await);
        found.len() >= 3
    })
    .await;
    assert_eq!(found.len(), 3);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_the_transaction() {
    let (place, mut tasks) = (Place::new(), JoinSet::new());
    let _store = place.open_store();
    let (client, outbox) = (user(&mut tasks).await, Outbox::new(&place.schema).unwrap());
    for (queue, options, part) in
        [("a b", "{}", "queue"), ("q", r#"{"prio":1}"#, "prio"), ("q", r#"{"priority":10}"#, "priority")]
    {
        let refused = outbox.enqueue_in(&client, queue, "work", "0", options).await.unwrap_err();
        let said = refused.as_db_error().expect("the database says it");
        assert!(said.code().code() == "22023" && said.message().contains(part), "{said:?}");
    }
    assert!(Outbox::new("x; drop table y").is_err());
}
