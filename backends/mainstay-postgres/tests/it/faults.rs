//! What goes wrong between a store and its database, or in it: what callers see, and that nothing is lost or done twice.

use std::{sync::Arc, time::Duration};

use mainstay_core::{Applied, ErrorKind, Store, id::JobIds};
use mainstay_postgres::PostgresStore;
use mainstay_testkit::cluster::{Cluster, PATIENCE};

use crate::{
    hands::{claim, enqueue, job, on_schema, serves, submit, until},
    harness::Place,
    wire::{Does, Wire},
};

fn shared() -> &'static Cluster {
    Cluster::shared().expect("the shared cluster")
}

/// A store whose connections all go over a wire.
fn over(place: &Place, wire: &Wire) -> PostgresStore {
    PostgresStore::open(place.options_at(&wire.address(), "&sslmode=disable&lease_ms=1500")).expect("open")
}

#[tokio::test]
async fn a_transaction_whose_beginning_failed_does_nothing() {
    for prepare in ["on", "off"] {
        let (place, wire, mut ids) = (Place::new(), Wire::to(shared()), JobIds::default());
        let url = format!("&sslmode=disable&prepare={prepare}");
        let store = PostgresStore::open(place.options_at(&wire.address(), &url)).unwrap();
        enqueue(&store, &mut ids).await;
        wire.once("begin; select", Does::Replace("begun; select"));
        let refused = submit(&store, job(&mut ids, "2")).await.unwrap_err();
        assert!(wire.is_played());
        assert_eq!((refused.kind(), refused.applied()), (ErrorKind::Unavailable, Applied::No), "{refused}");
        assert_eq!(on_schema(&place, "select count(*) from {s}.job"), "1");
        enqueue(&store, &mut ids).await;
        assert_eq!(claim(&store).await.len(), 2);
    }
}

/// The commit has arrived, its answer has not.
#[tokio::test]
async fn a_connection_that_breaks_behind_the_commit_costs_nobody_his_answer() {
    let (place, wire, mut ids) = (Place::new(), Wire::to(shared()), JobIds::default());
    let store = over(&place, &wire);
    enqueue(&store, &mut ids).await;
    wire.once("commit", Does::BreakBehind);
    enqueue(&store, &mut ids).await;
    assert!(wire.is_played());
    serves(&store).await;
    assert_eq!(claim(&store).await.len(), 2);
}

#[tokio::test]
async fn damaged_tables_end_a_process_that_waited_for_its_turn() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let leader = place.open_store();
    enqueue(&leader, &mut ids).await;
    let (told, heard) = std::sync::mpsc::sync_channel(8);
    let hook = move |error: &mainstay_core::Error| told.send(error.kind()).unwrap();
    let waiting = place.try_open(|options| options.on_fatal = Some(Arc::new(hook))).unwrap();
    on_schema(&place, "update {s}.job set queue = 999");
    leader.close(Duration::from_secs(5)).await.unwrap();
    let heard = tokio::task::spawn_blocking(move || (heard.recv_timeout(PATIENCE), heard)).await.unwrap();
    assert_eq!(heard.0, Ok(ErrorKind::Untrusted));
    let epoch = on_schema(&place, "select epoch from {s}.leader");
    until("it says so", async || waiting.ping().await.is_err_and(|e| e.kind() == ErrorKind::Untrusted)).await;
    waiting.close(Duration::from_secs(5)).await.unwrap();
    // It has not tried again.
    assert_eq!(on_schema(&place, "select epoch from {s}.leader"), epoch);
    assert!(heard.1.try_recv().is_err());
}
