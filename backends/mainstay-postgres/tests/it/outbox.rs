//! What other transactions hand in.

use mainstay_core::{
    QueueName, Store,
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
async fn a_full_queue_keeps_nothing_else_waiting() {
    let (place, mut tasks) = (Place::new(), JoinSet::new());
    let store = place.open_store();
    let client = user(&mut tasks).await;
    let config = QueueConfig { max_depth: Some(1), ..QueueConfig::default() };
    let full = QueueName::new("full").unwrap();
    submit(&store, Op::PutQueue { queue: full, config }).await.unwrap();
    // More than are taken at once; and after them what has room.
    let sql = "select {s}.enqueue('full', 'work') from generate_series(1, 1200); \
        select {s}.enqueue('q', 'work'); select {s}.publish('users.created', 'created', '7')";
    client.batch_execute(&sql.replace("{s}", &place.schema)).await.unwrap();
    until("the other job is there", async || !claim(&store).await.is_empty()).await;
    until("the event is there", async || {
        let log = store.read_log(&[], Position::Earliest, LogBudget::default()).await.unwrap();
        log.events.len() == 1
    })
    .await;
}

/// By the rules of a request; what a database can see of it fails the transaction.
#[tokio::test]
async fn what_makes_no_sense_is_refused_in_the_transaction() {
    let (place, mut tasks) = (Place::new(), JoinSet::new());
    let _store = place.open_store();
    let (client, outbox) = (user(&mut tasks).await, Outbox::new(&place.schema).unwrap());
    let is_refused = |refused: tokio_postgres::Error, part: &str| {
        let said = refused.as_db_error().expect("the database says it");
        assert!(said.code().code() == "22023" && said.message().starts_with(part), "{part}: {said:?}");
    };
    let (long, large) = ("x".repeat(257), format!("\"{}\"", "x".repeat(1 << 20)));
    let unique = format!(r#"{{"unique_key":"{long}"}}"#);
    for (queue, kind, payload, options, part) in [
        ("a b", "work", "0", "{}", "queue:"),
        ("q", "", "0", "{}", "kind:"),
        ("q", &*long, "0", "{}", "kind:"),
        ("q", "work", &*large, "{}", "payload:"),
        ("q", "work", "0", "[]", "options:"),
        ("q", "work", "0", r#"{"prio":1}"#, "options:"),
        ("q", "work", "0", r#"{"priority":10}"#, "options.priority:"),
        ("q", "work", "0", r#"{"priority":"3"}"#, "options.priority:"),
        ("q", "work", "0", r#"{"priority":"x"}"#, "options.priority:"),
        ("q", "work", "0", r#"{"priority":2.5}"#, "options.priority:"),
        ("q", "work", "0", r#"{"delay_ms":"60000"}"#, "options.delay_ms:"),
        ("q", "work", "0", r#"{"delay_ms":-1}"#, "options.delay_ms:"),
        ("q", "work", "0", r#"{"delay_ms":3162240000001}"#, "options.delay_ms:"),
        ("q", "work", "0", r#"{"unique_key":5}"#, "options.unique_key:"),
        ("q", "work", "0", r#"{"unique_key":""}"#, "options.unique_key:"),
        ("q", "work", "0", &*unique, "options.unique_key:"),
        ("q", "work", "0", r#"{"id":"0192f7c6-5f2a-4000-8000-00000000ffff"}"#, "options.id:"),
        ("q", "work", "0", r#"{"id":7}"#, "options.id:"),
    ] {
        is_refused(outbox.enqueue_in(&client, queue, kind, payload, options).await.unwrap_err(), part);
    }
    let words = vec!["a"; 17].join(".");
    for (topic, kind, data, options, part) in [
        ("a b", "made", "0", "{}", "topic:"),
        (&*words, "made", "0", "{}", "topic:"),
        ("t", "", "0", "{}", "type:"),
        ("t", "made", &*large, "{}", "data:"),
        ("t", "made", "0", r#"{"subject":7}"#, "options.subject:"),
        ("t", "made", "0", r#"{"partition_key":""}"#, "options.partition_key:"),
        ("t", "made", "0", r#"{"priority":1}"#, "options:"),
    ] {
        is_refused(outbox.publish_in(&client, topic, kind, data, options).await.unwrap_err(), part);
    }
    // What is at the edge of it is taken.
    let kind = "é".repeat(128);
    let edge = r#"{"priority":9,"delay_ms":0,"unique_key":null}"#;
    outbox.enqueue_in(&client, "q", &kind, &large[2..], edge).await.unwrap_err();
    outbox.enqueue_in(&client, "q", &kind, &format!("\"{}", &large[3..]), edge).await.unwrap();
    assert!(Outbox::new("x; drop table y").is_err());
}

/// What two readers could understand differently, SQL does not see.
#[tokio::test]
async fn what_no_request_could_say_is_refused_by_the_one_that_leads() {
    let (place, mut tasks) = (Place::new(), JoinSet::new());
    let store = place.open_store();
    let (client, outbox) = (user(&mut tasks).await, Outbox::new(&place.schema).unwrap());
    let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    for payload in [r#"{"a":1,"a":2}"#, "1e999", r#""\ud800""#, &*deep] {
        outbox.enqueue_in(&client, "q", "work", payload, "{}").await.unwrap();
    }
    let refused = format!("select count(*) from {}.outbox where refused like 'payload%'", place.schema);
    let refused = async || client.query_one(&refused, &[]).await.unwrap().get::<_, i64>(0);
    until("they are refused", async || refused().await == 4).await;
    assert!(claim(&store).await.is_empty());
}

#[tokio::test]
async fn a_job_has_the_id_that_its_transaction_chose() {
    let (place, mut tasks) = (Place::new(), JoinSet::new());
    let store = place.open_store();
    let (client, outbox) = (user(&mut tasks).await, Outbox::new(&place.schema).unwrap());
    let id = "0192f7c6-5f2a-7000-8000-00000000ffff";
    // The second finds the first.
    for payload in ["1", "2"] {
        outbox.enqueue_in(&client, "q", "work", payload, &format!(r#"{{"id":"{id}"}}"#)).await.unwrap();
    }
    let left = format!("select count(*) from {}.outbox", place.schema);
    until("nothing is left", async || client.query_one(&left, &[]).await.unwrap().get::<_, i64>(0) == 0)
        .await;
    let found = claim(&store).await;
    assert_eq!(found.iter().map(|grant| grant.id.to_string()).collect::<Vec<_>>(), [id]);
    assert_eq!(&*found[0].body.as_ref().unwrap().payload, "1");
}
