use mainstay_core::ErrorKind;
use mainstay_testkit::{ManualClock, cluster::Cluster};
use tokio::runtime::Handle;
use tokio_postgres::types::Type;

use super::*;
use crate::schema;

/// A schema of its own, led by nobody: epoch 0 is proved.
async fn link(schema: &str) -> Link {
    let schema = format!("u{}_{schema}", std::process::id());
    let options = Options::from_url(&format!("{}?schema={schema}", Cluster::url()), ManualClock::new());
    let link = Link::open(&Target::new(options.unwrap(), Handle::current()).unwrap(), None).await.unwrap();
    schema::migrate(&link, &schema).await.unwrap();
    // Each step of a migration has counted on.
    link.run("update {s}.leader set epoch = 0").await.unwrap();
    link
}

fn step(lsn: Param) -> Step {
    let sql = "insert into {s}.journal (lsn, epoch, token, n, f, k, audit, clock, last_seq) \
               select $1, 0, 0, 0, 0, 0, 0, 0, 0 where {p}";
    Step { sql: sql.to_owned(), params: vec![lsn], rows: Some(1) }
}

async fn rows(link: &Link) -> i64 {
    link.query("select count(*) from {s}.journal", vec![]).await.unwrap()[0].get(0)
}

#[tokio::test]
async fn what_stands_beside_a_step_that_cannot_be_sent_is_not_done() {
    let link = link("whole").await;
    let bad = Param::new("seven", Type::INT8);
    let refused = link.transaction(0, 0, &[step(Param::i64(1)), step(bad), step(Param::i64(2))]).await;
    assert!(matches!(refused, Err(Trouble::NotSent(e)) if e.kind() == ErrorKind::Invalid));
    assert_eq!(rows(&link).await, 0);
    assert_eq!(link.transaction(0, 0, &[step(Param::i64(1)), step(Param::i64(2))]).await.unwrap(), None);
    assert_eq!(rows(&link).await, 2);
}

#[tokio::test]
async fn a_step_without_its_proof_is_not_sent() {
    let link = link("proof").await;
    let bare = Step { sql: "delete from {s}.leader".to_owned(), params: vec![], rows: None };
    assert!(matches!(link.transaction(0, 0, &[bare]).await, Err(Trouble::NotSent(_))));
    // One that is sent by itself does nothing.
    let sql = step(Param::i64(1)).sql.replace("{p}", "current_setting('mainstay.proved', true) = $2");
    link.query(&sql, vec![Param::i64(1), Param::text("0")]).await.unwrap();
    assert_eq!(rows(&link).await, 0);
}

/// More than sets of futures would poll in order.
#[tokio::test]
async fn many_steps_are_one_transaction_in_their_order() {
    let link = link("many").await;
    let sql = "update {s}.leader set owner = coalesce(owner, '') || $1 || ' ' where {p}";
    let one = |i: u64| Step { sql: sql.to_owned(), params: vec![Param::text(&i.to_string())], rows: Some(1) };
    let steps: Vec<_> = (0..200).map(one).collect();
    assert_eq!(link.transaction(0, 0, &steps).await.unwrap(), None);
    let rows = link.query("select owner, count(*) over () from {s}.leader", vec![]).await.unwrap();
    let order: String = (0..200).map(|i| format!("{i} ")).collect();
    assert_eq!(rows[0].get::<_, &str>(0), order);
}
