//! What callers of a process that follows see when another begins to lead, and when its own connection breaks.

use std::{sync::Arc, time::Duration};

use mainstay_core::{
    Applied, ErrorKind, Store, Timestamp,
    access::AuditRecord,
    id::JobIds,
    op::Op,
    store::{Interest, Wake},
};
use mainstay_postgres::PostgresStore;
use mainstay_testkit::cluster::{Cluster, PATIENCE};
use tokio::task::JoinSet;

use crate::{
    hands::{claim, enqueue, in_tables, job, on_schema, queue, serves, submit, until},
    harness::Place,
    wire::{Does, Wire},
};

const LEASE: &str = "&lease_ms=1000";
/// Nobody would wait for the end of it.
const LONG: Duration = Duration::from_secs(3_600);

/// How a leader ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// As one that is cut off: nobody hears of it.
    CutOff,
    Closed,
}

/// One that leads over a wire, and some that follow.
fn leader_and(place: &Place, wire: &Wire, followers: usize) -> (PostgresStore, Vec<Arc<PostgresStore>>) {
    let leader = place.options_at(&wire.address(), &format!("&sslmode=disable{LEASE}"));
    let leader = PostgresStore::open(leader).expect("open");
    let follower = |_| Arc::new(PostgresStore::open(place.options_at(&Cluster::url(), LEASE)).expect("open"));
    (leader, (0..followers).map(follower).collect())
}

fn figure(store: &PostgresStore, name: &str) -> f64 {
    store.stats().into_iter().find(|(known, _)| *known == name).map_or(0.0, |(_, value)| value)
}

async fn end(leader: &PostgresStore, wire: &Wire, how: End) {
    match how {
        End::CutOff => wire.silent(true),
        End::Closed => leader.close(Duration::from_secs(5)).await.unwrap(),
    }
}

fn wait(waits: &mut JoinSet<Wake>, store: &Arc<PostgresStore>, interest: Interest) {
    let store = store.clone();
    waits.spawn(async move { store.wait(&[interest], LONG).await.expect("a wait") });
}

/// One of the two that follow leads then, the other goes on following; both wait for all there is.
#[tokio::test]
async fn who_waits_while_the_lead_changes_hands_looks_again() {
    for how in [End::CutOff, End::Closed] {
        let (place, wire, mut ids) = (Place::new(), Wire::to(Cluster::shared().unwrap()), JobIds::default());
        let (leader, followers) = leader_and(&place, &wire, 2);
        let unfinished = enqueue(&leader, &mut ids).await;
        claim(&leader).await;
        let mut waits = JoinSet::new();
        for store in &followers {
            wait(&mut waits, store, Interest::Queue(queue()));
            wait(&mut waits, store, Interest::Finished(unfinished));
            wait(&mut waits, store, Interest::Schedules);
        }
        until("they wait", async || figure(&leader, "waiting_callers") >= 6.0).await;
        end(&leader, &wire, how).await;
        while let Some(woken) = tokio::time::timeout(PATIENCE, waits.join_next()).await.expect("woken") {
            assert!(woken.unwrap().is_woken(), "{how:?}");
        }
    }
}

/// Its wake-up is taken as the thing itself, so it comes for nothing else; and then it comes, whoever leads.
#[tokio::test]
async fn who_waits_for_a_cancellation_goes_on_waiting_at_the_next_leader() {
    let (place, wire, mut ids) = (Place::new(), Wire::to(Cluster::shared().unwrap()), JobIds::default());
    let (leader, followers) = leader_and(&place, &wire, 2);
    let id = enqueue(&leader, &mut ids).await;
    let mut waits = JoinSet::new();
    for store in &followers {
        wait(&mut waits, store, Interest::CancelRequested(id));
    }
    until("they wait", async || figure(&leader, "waiting_callers") >= 2.0).await;
    end(&leader, &wire, End::CutOff).await;
    let waiting = async || followers.iter().map(|store| figure(store, "waiting_callers")).sum::<f64>();
    until("they wait at the next", async || waiting().await >= 2.0).await;
    assert!(waits.try_join_next().is_none());
    submit(&*followers[0], Op::Cancel { id }).await.unwrap();
    while let Some(woken) = tokio::time::timeout(PATIENCE, waits.join_next()).await.expect("woken") {
        assert!(woken.unwrap().is_woken());
    }
}

/// It was taken, and nobody will ever answer it.
#[tokio::test]
async fn what_a_leader_took_with_it_is_unknown_soon_after_this_process_leads() {
    let (place, wire, mut ids) = (Place::new(), Wire::to(Cluster::shared().unwrap()), JobIds::default());
    let (_leader, followers) = leader_and(&place, &wire, 1);
    enqueue(&*followers[0], &mut ids).await;
    wire.once("commit", Does::SilenceBefore);
    let asked = submit(&*followers[0], job(&mut ids, "2"));
    let cut_off = async {
        until("it is at the leader", async || wire.is_played()).await;
        wire.silent(true);
        std::future::pending::<()>().await;
    };
    let refused = tokio::select! {
        told = tokio::time::timeout(PATIENCE, asked) => told.expect("told soon").unwrap_err(),
        () = cut_off => unreachable!(),
    };
    assert_eq!((refused.kind(), refused.applied()), (ErrorKind::Unavailable, Applied::Unknown), "{refused}");
    serves(&followers[0]).await;
}

fn note(what: &str) -> Op {
    let record = AuditRecord {
        at: Timestamp(1_800_000_000_000),
        actor: "somebody".to_owned(),
        action: what.to_owned(),
        subject: "something".to_owned(),
        detail: String::new(),
    };
    Op::Audit(record)
}

fn noted(place: &Place) -> String {
    on_schema(place, "select count(*) from {s}.audit")
}

/// The row of calls has arrived, its answer has not. What changes something is sent once.
#[tokio::test]
async fn a_connection_that_breaks_behind_a_call_does_it_once() {
    let (place, wire) = (Place::new(), Wire::to(Cluster::shared().unwrap()));
    let _leader = place.open_store();
    let follower = PostgresStore::open(place.options_at(&wire.address(), "&sslmode=disable")).unwrap();
    submit(&follower, note("before")).await.unwrap();
    wire.once("on-its-way", Does::BreakBehind);
    // The answer comes over the next connection.
    submit(&follower, note("on-its-way")).await.unwrap();
    assert!(wire.is_played());
    submit(&follower, note("after")).await.unwrap();
    in_tables(&follower).await;
    assert_eq!(noted(&place), "3");
}

/// The row of calls has arrived, the word of it cannot be sent.
#[tokio::test]
async fn a_call_of_which_no_word_can_be_sent_is_done_once() {
    let (place, wire) = (Place::new(), Wire::to(Cluster::shared().unwrap()));
    let _leader = place.open_store();
    let follower = PostgresStore::open(place.options_at(&wire.address(), "&sslmode=disable")).unwrap();
    // When it is prepared.
    wire.once("pg_notify", Does::Replace("pg_nothing"));
    submit(&follower, note("first")).await.unwrap();
    assert!(wire.is_played());
    submit(&follower, note("second")).await.unwrap();
    in_tables(&follower).await;
    assert_eq!(noted(&place), "2");
}

/// It never arrives, and is not sent again: nobody knows that here.
#[tokio::test]
async fn a_call_that_was_lost_on_its_way_is_unknown_soon_and_not_done_later() {
    let (place, wire) = (Place::new(), Wire::to(Cluster::shared().unwrap()));
    let _leader = place.open_store();
    let follower =
        PostgresStore::open(place.options_at(&wire.address(), "&sslmode=disable&timeout_ms=500")).unwrap();
    submit(&follower, note("before")).await.unwrap();
    wire.once("on-its-way", Does::SilenceBefore);
    // What only reads is asked again.
    let (lost, ping) = tokio::join!(submit(&follower, note("on-its-way")), follower.ping());
    assert!(wire.is_played());
    let lost = lost.unwrap_err();
    assert_eq!((lost.kind(), lost.applied()), (ErrorKind::Unavailable, Applied::Unknown), "{lost}");
    ping.unwrap();
    submit(&follower, note("after")).await.unwrap();
    in_tables(&follower).await;
    assert_eq!(noted(&place), "2");
}

/// They would take the next wake-ups, each in its turn.
#[tokio::test]
async fn who_waits_no_more_has_no_place_at_the_leader() {
    let place = Place::new();
    let (leader, follower) = (place.open_store(), Arc::new(place.open_store()));
    let mut waits = JoinSet::new();
    for _ in 0..50 {
        wait(&mut waits, &follower, Interest::Queue(queue()));
    }
    until("they wait", async || figure(&leader, "waiting_callers") >= 50.0).await;
    waits.shutdown().await;
    until("nobody waits", async || figure(&leader, "waiting_callers") == 0.0).await;
}

#[tokio::test]
async fn answers_that_nobody_fetches_are_let_go_of() {
    let place = Place::new();
    let leader = PostgresStore::open(place.options_at(&Cluster::url(), "&lease_ms=300")).unwrap();
    // Of a process that has died.
    on_schema(&place, "insert into {s}.replies (caller, body) values ('dead', '')");
    until("it is gone", async || on_schema(&place, "select count(*) from {s}.replies") == "0").await;
    leader.close(Duration::from_secs(5)).await.unwrap();
}
