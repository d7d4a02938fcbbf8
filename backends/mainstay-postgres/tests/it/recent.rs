//! What has changed of many jobs at once stands beside their rows for a moment: nobody who reads may notice.

use std::time::Duration;

use mainstay_core::{
    JobId, Store,
    id::JobIds,
    job::{Grant, JobFailure, JobRecord, JobState, Outcome, Retry},
    op::{Claim, Commit, Op, Reply, Settle},
    store::{Batch, JobFilter, Key, Page, Query, Record},
};

use crate::{
    hands::{job, on_schema, queue, submit, until},
    harness::Place,
};

const MANY: u32 = 40;

async fn enqueue_many(store: &dyn Store, ids: &mut JobIds) {
    let ops = (0..MANY).map(|_| job(ids, "1")).collect();
    let answers = store.submit(Batch::one(Commit { ops, entropy: 7, ..Commit::default() })).await.unwrap();
    assert!(answers[0].is_ok());
}

async fn claim_many(store: &dyn Store) -> Vec<Grant> {
    let claim =
        Claim { queues: vec![queue()], max: MANY, max_bytes: 16 << 20, lease_ms: 30_000, worker: None };
    match submit(store, Op::Claim(claim)).await.unwrap() {
        Reply::Claimed(grants) => grants,
        other => panic!("{other:?}"),
    }
}

async fn settle(store: &dyn Store, grant: &Grant, outcome: Outcome) {
    let settle = Settle { id: grant.id, lease: grant.lease, outcome, repeat_is_ok: false };
    submit(store, Op::Settle(settle)).await.unwrap();
}

async fn record(store: &dyn Store, id: JobId) -> JobRecord {
    match store.get(&Key::Job(id)).await.unwrap() {
        Some(Record::Job(job)) => *job,
        other => panic!("{other:?}"),
    }
}

async fn listed(store: &dyn Store, state: JobState) -> Vec<JobId> {
    let filter = JobFilter { state: Some(state), ..JobFilter::default() };
    let page = Page { limit: 100, cursor: None };
    let slice = store.list(&Query::Jobs(filter), &page).await.unwrap();
    let id = |record: &Record| match record {
        Record::Job(job) => job.id,
        other => panic!("{other:?}"),
    };
    let mut ids: Vec<_> = slice.items.iter().map(id).collect();
    ids.sort_unstable();
    ids
}

fn rows(place: &Place) -> (String, String) {
    let entries = on_schema(place, "select coalesce(sum(cardinality(ids)), 0) from {s}.recent");
    (entries, on_schema(place, "select count(*) from {s}.job where phase = 2"))
}

#[tokio::test]
async fn jobs_handed_out_together_are_the_same_for_readers_and_for_whoever_leads_next() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let store = place.open_store();
    enqueue_many(&store, &mut ids).await;
    let grants = claim_many(&store).await;
    assert_eq!(rows(&place), (MANY.to_string(), "0".to_owned()), "beside their rows");
    let found = record(&store, grants[0].id).await;
    assert_eq!(
        (found.state, found.attempt, found.token),
        (JobState::Running, 1, Some(grants[0].lease.token))
    );
    let mut all: Vec<_> = grants.iter().map(|grant| grant.id).collect();
    all.sort_unstable();
    assert_eq!(listed(&store, JobState::Running).await, all);
    assert_eq!(listed(&store, JobState::Available).await, []);

    // Each of these is newer than what is said beside it.
    let [back, revived, done, going] = [0, 1, 2, 3].map(|at| &grants[at]);
    settle(&store, back, Outcome::Release { delay_ms: 0 }).await;
    let error = JobFailure { kind: None, message: "no".into(), backtrace: None };
    settle(&store, revived, Outcome::Fail { error, retry: Retry::Never }).await;
    submit(&store, Op::Retry { id: revived.id }).await.unwrap();
    settle(&store, done, Outcome::Complete { result: None }).await;
    let mut waiting = vec![back.id, revived.id];
    waiting.sort_unstable();
    assert_eq!(listed(&store, JobState::Available).await, waiting);

    drop(store);
    let store = place.open_store();
    assert_eq!(rows(&place).0, (MANY - 3).to_string(), "the new leader has written down what counts");
    assert_eq!(listed(&store, JobState::Available).await, waiting);
    assert_eq!(listed(&store, JobState::Running).await.len(), MANY as usize - 3);
    assert_eq!(record(&store, going.id).await.token, Some(going.lease.token));
    settle(&store, going, Outcome::Complete { result: None }).await;
    let again = claim_many(&store).await;
    assert_eq!(again.len(), 2, "{again:?}");
    store.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn jobs_that_live_on_are_put_into_their_rows() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let store = place.open_store();
    enqueue_many(&store, &mut ids).await;
    let grants = claim_many(&store).await;
    settle(&store, &grants[0], Outcome::Complete { result: None }).await;
    until("their rows say that they run", async || {
        // Any group does it.
        submit(&store, job(&mut ids, "1")).await.unwrap();
        rows(&place) == ("0".to_owned(), (MANY - 1).to_string())
    })
    .await;
    for grant in &grants[1..] {
        settle(&store, grant, Outcome::Complete { result: None }).await;
    }
    assert_eq!(rows(&place).1, "0");
    store.close(Duration::from_secs(5)).await.unwrap();
}
