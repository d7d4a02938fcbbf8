use mainstay_core::ErrorKind;
use mainstay_testkit::{ManualClock, cluster::Cluster};
use tokio::runtime::Handle;
use tokio_postgres::types::Type;

use super::*;
use crate::{journal, schema};

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

const GROUP: Proof = Proof::Group { epoch: 0, last: None };

fn step(lsn: Param) -> Step {
    let sql = "insert into {s}.journal_0 (lsn, epoch, token, n, f, k, audit, clock, last_seq) \
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
    let refused = link.transaction(GROUP, &[step(Param::i64(1)), step(bad), step(Param::i64(2))]).await;
    assert!(matches!(refused, Err(Trouble::NotSent(e)) if e.kind() == ErrorKind::Invalid));
    assert_eq!(rows(&link).await, 0);
    assert_eq!(link.transaction(GROUP, &[step(Param::i64(1)), step(Param::i64(2))]).await.unwrap(), None);
    assert_eq!(rows(&link).await, 2);
}

#[tokio::test]
async fn a_step_without_its_proof_is_not_sent() {
    let link = link("proof").await;
    let bare = Step { sql: "delete from {s}.leader".to_owned(), params: vec![], rows: None };
    assert!(matches!(link.transaction(GROUP, &[bare]).await, Err(Trouble::NotSent(_))));
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
    assert_eq!(link.transaction(GROUP, &steps).await.unwrap(), None);
    let rows = link.query("select owner, count(*) over () from {s}.leader", vec![]).await.unwrap();
    let order: String = (0..200).map(|i| format!("{i} ")).collect();
    assert_eq!(rows[0].get::<_, &str>(0), order);
}

/// The error of a refusal.
async fn refused(link: &Link, proof: Proof) -> String {
    match link.transaction(proof, &[step(Param::i64(7))]).await {
        Err(Trouble::Refused(e)) => e.code().expect("a code").code().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_tables_are_written_by_whoever_leads_from_where_they_were_left() {
    let link = link("tables").await;
    assert_eq!(refused(&link, Proof::Tables { epoch: 0, left_at: 1 }).await, "MS002");
    assert_eq!(refused(&link, Proof::Tables { epoch: 1, left_at: 0 }).await, "MS001");
    assert_eq!(rows(&link).await, 0);
    let proof = Proof::Tables { epoch: 0, left_at: 0 };
    assert_eq!(link.transaction(proof, &[step(Param::i64(7))]).await.unwrap(), None);
    assert_eq!(rows(&link).await, 1);
    // A group says which one was before it.
    for (table, known) in [(1, false), (0, true)] {
        let proof = Proof::Group { epoch: 0, last: Some(Place { lsn: 7, table }) };
        let done = link.transaction(proof, &[step(Param::i64(8))]).await;
        assert_eq!(done.is_ok(), known, "{done:?}");
    }
}

/// Only a table that the tables have followed wholly is emptied.
#[tokio::test]
async fn what_the_tables_lack_stays_in_the_journal() {
    let link = link("clear").await;
    link.transaction(GROUP, &[step(Param::i64(1))]).await.unwrap();
    let proof = Proof::Tables { epoch: 0, left_at: 0 };
    for step in [journal::clear(0), journal::delete(0)] {
        let _ = link.transaction(proof, &[step]).await.unwrap();
        assert_eq!(rows(&link).await, 1);
    }
    link.run("update {s}.reached set lsn = 1").await.unwrap();
    let proof = Proof::Tables { epoch: 0, left_at: 1 };
    assert_eq!(link.transaction(proof, &[journal::clear(0)]).await.unwrap(), None);
    assert_eq!(rows(&link).await, 0);
}
