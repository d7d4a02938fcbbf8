//! Who leads, and what becomes of those who did.

use std::{sync::Arc, time::Duration};

use mainstay_core::{
    Applied, ErrorKind, JobId, QueueName, Store,
    id::JobIds,
    job::{Grant, JobBody, NewJob},
    op::{Claim, Commit, Op, Reply},
    store::{Batch, Key, Record},
};
use mainstay_postgres::PostgresStore;
use mainstay_testkit::cluster::{Cluster, PATIENCE};

use crate::harness::Place;

pub(crate) fn queue() -> QueueName {
    QueueName::new("q").expect("a name")
}

pub(crate) fn job(ids: &mut JobIds, payload: &str) -> Op {
    let id = ids.next(1_800_000_000_000, &queue(), 7);
    Op::Enqueue(Box::new(NewJob::new(id, queue(), JobBody::new("work", payload))))
}

pub(crate) async fn submit(store: &dyn Store, op: Op) -> Result<Reply, mainstay_core::Error> {
    let commit = Commit { ops: vec![op], entropy: 7, ..Commit::default() };
    let mut answers = store.submit(Batch::one(commit)).await?;
    Ok(answers.remove(0).expect("accepted").replies.remove(0))
}

pub(crate) async fn enqueue(store: &dyn Store, ids: &mut JobIds) -> JobId {
    match submit(store, job(ids, "1")).await.expect("submit") {
        Reply::Enqueued(done) => done.id,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn claim(store: &dyn Store) -> Vec<Grant> {
    try_claim(store).await.expect("submit")
}

pub(crate) async fn try_claim(store: &dyn Store) -> Result<Vec<Grant>, mainstay_core::Error> {
    let claim = Claim { queues: vec![queue()], max: 10, max_bytes: 16 << 20, lease_ms: 30_000, worker: None };
    match submit(store, Op::Claim(claim)).await? {
        Reply::Claimed(grants) => Ok(grants),
        other => panic!("{other:?}"),
    }
}

/// Until it holds; what is waited for happens in another process.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

pub(crate) async fn serves(store: &PostgresStore) {
    until("the store serves", async || store.ping().await.is_ok()).await;
}

pub(crate) fn on_schema(place: &Place, sql: &str) -> String {
    let cluster = Cluster::shared().expect("the shared cluster");
    cluster.sql(&sql.replace("{s}", &place.schema))
}

/// Until the tables have what was answered: whoever reads them waits for that.
pub(crate) async fn in_tables(store: &dyn Store) {
    let nobody = JobIds::default().next(1, &queue(), 1);
    assert!(store.get(&Key::Job(nobody)).await.expect("the tables follow").is_none());
}

#[tokio::test]
async fn one_that_follows_has_everything_when_the_leader_closes() {
    let place = Place::new();
    let (mut ids, first) = (JobIds::default(), place.open_store());
    let second = place.try_open(|options| options.name = "second".to_owned()).unwrap();
    let id = enqueue(&second, &mut ids).await;
    first.close(Duration::from_secs(5)).await.unwrap();
    serves(&second).await;
    let grants = claim(&second).await;
    assert_eq!(grants.iter().map(|grant| grant.id).collect::<Vec<_>>(), [id]);
}

#[tokio::test]
async fn each_call_of_one_that_follows_gets_its_own_answer() {
    let place = Place::new();
    let (mut ids, _leader) = (JobIds::default(), place.open_store());
    // Of one name, as two programs on one machine can be.
    let followers = [place.open_store(), place.open_store()];
    let mut there = Vec::new();
    for _ in 0..20 {
        there.push(enqueue(&followers[0], &mut ids).await);
    }
    let unknown = ids.next(1_800_000_000_000, &queue(), 7);
    let asked = there.iter().chain([&unknown]).flat_map(|id| followers.iter().map(move |store| (store, *id)));
    let told = futures_util::future::join_all(asked.map(async |(store, id)| {
        let told = tokio::time::timeout(PATIENCE, store.get(&Key::Job(id))).await;
        match told.expect("an answer").expect("the store answers") {
            Some(Record::Job(job)) => (id, Some(job.id)),
            Some(other) => panic!("{other:?}"),
            None => (id, None),
        }
    }));
    for (id, told) in told.await {
        assert_eq!(told, (id != unknown).then_some(id));
    }
}

/// A claim that is taken by the leader after its caller has gone must not keep the job until its lease runs out.
#[tokio::test]
async fn what_nobody_of_another_process_waits_for_goes_back() {
    let place = Place::new();
    let (mut ids, _leader) = (JobIds::default(), place.open_store());
    let follower = place.open_store();
    let id = enqueue(&follower, &mut ids).await;
    let mut dropped = Box::pin(claim(&follower));
    assert!(poll_once(dropped.as_mut()).await.is_none());
    drop(dropped);
    let mut found = Vec::new();
    until("the job is there again", async || {
        found = claim(&follower).await;
        !found.is_empty()
    })
    .await;
    assert_eq!((found[0].id, found[0].attempt), (id, 1));
}

/// Polls once.
async fn poll_once<T>(mut future: std::pin::Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn a_leader_that_was_replaced_changes_nothing() {
    let place = Place::new();
    let (mut ids, store) = (JobIds::default(), place.open_store());
    enqueue(&store, &mut ids).await;
    in_tables(&store).await;
    let jobs = || on_schema(&place, "select count(*) from {s}.job");
    // As another process would.
    on_schema(
        &place,
        "update {s}.leader set epoch = epoch + 1, owner = 'another', expires = now() + interval '1 day'",
    );
    let refused = submit(&store, job(&mut ids, "2")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.applied()), (ErrorKind::Unavailable, Applied::No));
    assert_eq!(jobs(), "1");
    // That one is gone: this one leads again, and knows what there is.
    on_schema(&place, "update {s}.leader set expires = '-infinity'");
    serves(&store).await;
    enqueue(&store, &mut ids).await;
    in_tables(&store).await;
    assert_eq!((jobs(), claim(&store).await.len()), ("2".to_owned(), 2));
}

#[tokio::test]
async fn killed_sessions_cost_nothing_that_was_answered() {
    let place = Place::new();
    let (mut ids, store) = (JobIds::default(), place.open_store());
    let mut answered = Vec::new();
    for round in 0..20 {
        if round % 4 == 0 {
            // All but the one that asks; those of other tests run on other schemas, and are not to be hit.
            let name = "set application_name = 'killer'; ";
            let mine = format!(
                "{name} select count(pg_terminate_backend(pid)) from pg_stat_activity where query like '%{}.%' and pid <> \
                 pg_backend_pid()",
                place.schema
            );
            on_schema(&place, &mine);
        }
        match submit(&store, job(&mut ids, "1")).await {
            Ok(Reply::Enqueued(done)) => answered.push(done.id),
            Ok(other) => panic!("{other:?}"),
            // It says so honestly; then the caller comes again.
            Err(refused) => assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}"),
        }
    }
    serves(&store).await;
    assert!(answered.len() >= 10, "{}", answered.len());
    store.close(Duration::from_secs(5)).await.unwrap();
    let store = place.open_store();
    let mut there: Vec<_> = Vec::new();
    loop {
        let grants = claim(&store).await;
        if grants.is_empty() {
            break;
        }
        there.extend(grants.iter().map(|grant| grant.id));
    }
    answered.retain(|id| !there.contains(id));
    assert!(answered.is_empty(), "lost: {answered:?}");
}

#[tokio::test]
async fn a_database_that_restarts_costs_nothing_that_was_answered() {
    let cluster = Cluster::start("");
    let place = Place::new();
    let url = format!("{}?schema={}", cluster.address(), place.schema);
    let options = mainstay_postgres::Options {
        housekeeping: false,
        database_time: false,
        ..mainstay_postgres::Options::from_url(&url, place.clock.clone()).unwrap()
    };
    let store = Arc::new(PostgresStore::open(options).unwrap());
    let mut ids = JobIds::default();
    let before = enqueue(&*store, &mut ids).await;
    for mode in ["fast", "immediate"] {
        cluster.restart(mode);
        serves(&store).await;
        // The first call may find the old session.
        until("an enqueue", async || submit(&*store, job(&mut ids, "1")).await.is_ok()).await;
    }
    let there: Vec<_> = claim(&*store).await.iter().map(|grant| grant.id).collect();
    assert!(there.contains(&before) && there.len() >= 3, "{there:?}");
    store.close(Duration::from_secs(5)).await.unwrap();
}
