//! What goes wrong between a store and its database, or in it: what callers see, and that nothing is lost or done twice.

use std::{sync::Arc, time::Duration};

use mainstay_core::{Applied, ErrorKind, Store, id::JobIds};
use mainstay_postgres::PostgresStore;
use mainstay_testkit::cluster::{Cluster, PATIENCE};

use crate::{
    hands::{claim, enqueue, in_tables, job, on_schema, serves, submit, until},
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
        in_tables(&store).await;
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
    in_tables(&leader).await;
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

/// Each caller hears the truth: what was answered is there once, what was refused as not done is not there.
async fn adds_up(place: &Place, store: &PostgresStore, said: &[(mainstay_core::JobId, Option<Applied>)]) {
    serves(store).await;
    in_tables(store).await;
    let there = on_schema(place, "select id from {s}.job");
    for (id, outcome) in said {
        let times =
            there.lines().filter(|line| line.replace('-', "") == id.to_string().replace('-', "")).count();
        match outcome {
            None => assert_eq!(times, 1, "{id} was answered"),
            Some(Applied::No) => assert_eq!(times, 0, "{id} was refused"),
            Some(_) => {}
        }
    }
}

/// Enqueues one; what was said of it.
async fn try_one(store: &PostgresStore, ids: &mut JobIds) -> (mainstay_core::JobId, Option<Applied>) {
    let op = job(ids, "1");
    let mainstay_core::op::Op::Enqueue(new) = &op else { unreachable!() };
    let id = new.id;
    let said = submit(store, op).await;
    if let Err(refused) = &said {
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    }
    (id, said.err().map(|refused| refused.applied()))
}

#[tokio::test]
async fn connections_that_break_cost_nothing_and_do_nothing_twice() {
    let (place, wire, mut ids) = (Place::new(), Wire::to(shared()), JobIds::default());
    let store = over(&place, &wire);
    let mut said = Vec::new();
    for round in 0..40 {
        if round % 5 == 0 {
            wire.reset();
        }
        if round % 7 == 0 {
            wire.once("commit", Does::BreakBehind);
        }
        let (id, outcome) = try_one(&store, &mut ids).await;
        said.push((id, outcome));
        // While it connects anew everything is refused, however long that takes.
        if outcome.is_some() {
            serves(&store).await;
        }
    }
    adds_up(&place, &store, &said).await;
    assert!(said.iter().filter(|(_, outcome)| outcome.is_none()).count() >= 20, "{said:?}");
}

/// Half open: the commit arrives, and from then on nothing of that connection does.
#[tokio::test]
async fn a_connection_that_falls_silent_behind_the_commit_costs_a_wait() {
    let (place, wire, mut ids) = (Place::new(), Wire::to(shared()), JobIds::default());
    let url = "&sslmode=disable&timeout_ms=500";
    let store = PostgresStore::open(place.options_at(&wire.address(), url)).unwrap();
    let mut said = vec![try_one(&store, &mut ids).await];
    wire.once("commit", Does::SilenceBehind);
    said.push(try_one(&store, &mut ids).await);
    assert!(wire.is_played());
    said.push(try_one(&store, &mut ids).await);
    adds_up(&place, &store, &said).await;
    assert_eq!(said[1].1, None, "it has happened");
}

/// The network of the leader falls silent altogether; another takes over, and hands out what there is.
#[tokio::test]
async fn a_leader_that_is_cut_off_is_followed_and_serves_again_when_it_is_back() {
    let (place, wire, mut ids) = (Place::new(), Wire::to(shared()), JobIds::default());
    let url = "&sslmode=disable&timeout_ms=500&lease_ms=1000";
    let cut_off = PostgresStore::open(place.options_at(&wire.address(), url)).unwrap();
    let other = PostgresStore::open(place.options_at(&Cluster::url(), "&lease_ms=1000")).unwrap();
    let mut said = vec![try_one(&cut_off, &mut ids).await];
    wire.silent(true);
    said.push(try_one(&cut_off, &mut ids).await);
    until("another leads", async || other.stats().contains(&("leads", 1.0))).await;
    said.push(try_one(&other, &mut ids).await);
    // Whoever is cut off says so: it has nothing to tell.
    let refused = cut_off.ping().await.expect_err("cut off");
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    wire.silent(false);
    serves(&cut_off).await;
    said.push(try_one(&cut_off, &mut ids).await);
    adds_up(&place, &other, &said).await;
    assert_eq!((said[0].1, said[2].1, said[3].1), (None, None, None), "{said:?}");
}

/// As a process does that is frozen there: its session stays, and with it the lock on the leader's row.
#[tokio::test]
async fn a_leader_that_falls_silent_within_a_transaction_keeps_nobody_from_taking_over() {
    let (place, wire, mut ids) = (Place::new(), Wire::to(shared()), JobIds::default());
    let frozen = over(&place, &wire);
    let other = PostgresStore::open(place.options_at(&Cluster::url(), "&lease_ms=1500")).unwrap();
    enqueue(&frozen, &mut ids).await;
    let groups = || on_schema(&place, "select count(*) from {s}.journal");
    let before = groups();
    wire.once("commit", Does::SilenceBefore);
    let asks = submit(&frozen, job(&mut ids, "2"));
    let others = async {
        until("it is within a transaction", async || wire.is_played()).await;
        wire.silent(true);
        assert_eq!(groups(), before, "it was not committed");
        until("the other serves", async || submit(&other, job(&mut ids, "3")).await.is_ok()).await;
    };
    // What it says of its own job does not matter here.
    let asks = async { drop(asks.await) };
    tokio::pin!(others);
    tokio::select! {
        () = asks => others.await,
        () = &mut others => {}
    }
}
