//! Groups are durable in the journal, and the tables follow: nobody who reads may notice, and nothing may be lost between
//! the two.

use std::{collections::BTreeSet, time::Duration};

use mainstay_core::{
    Applied, ErrorKind, JobId, Store,
    id::JobIds,
    job::{Grant, JobFailure, JobRecord, JobState, Outcome, Retry, Unique},
    op::{Claim, Commit, Op, Reply, Settle},
    store::{Batch, JobFilter, Key, Page, Query, Record},
};

use mainstay_postgres::{
    PostgresStore,
    tokio_postgres::{self, Client, NoTls},
};
use mainstay_testkit::cluster::Cluster;
use tokio::task::JoinSet;

use crate::{
    hands::{claim, enqueue, in_tables, job, on_schema, queue, serves, submit, until},
    harness::Place,
    schema::BEFORE_THE_LAST_STEP,
    wire::{Does, Wire},
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

/// A session of somebody else.
struct Other {
    client: Client,
    _tasks: JoinSet<()>,
}

impl Other {
    async fn new() -> Other {
        let (client, connection) = tokio_postgres::connect(&Cluster::url(), NoTls).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        Other { client, _tasks: tasks }
    }

    async fn run(&self, place: &Place, sql: &str) {
        self.client.batch_execute(&sql.replace("{s}", &place.schema)).await.unwrap();
    }
}

fn number(place: &Place, sql: &str) -> u64 {
    on_schema(place, sql).parse().unwrap()
}

fn jobs(place: &Place) -> u64 {
    number(place, "select count(*) from {s}.job")
}

#[tokio::test]
async fn what_the_tables_lack_is_the_same_for_readers_and_for_whoever_leads_next() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let store = place.open_store();
    enqueue_many(&store, &mut ids).await;
    let grants = claim_many(&store).await;
    let found = record(&store, grants[0].id).await;
    assert_eq!(
        (found.state, found.attempt, found.token),
        (JobState::Running, 1, Some(grants[0].lease.token))
    );
    let mut all: Vec<_> = grants.iter().map(|grant| grant.id).collect();
    all.sort_unstable();
    assert_eq!(listed(&store, JobState::Running).await, all);
    assert_eq!(listed(&store, JobState::Available).await, []);

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
    assert_eq!(listed(&store, JobState::Available).await, waiting);
    assert_eq!(listed(&store, JobState::Running).await.len(), MANY as usize - 3);
    assert_eq!(record(&store, going.id).await.token, Some(going.lease.token));
    settle(&store, going, Outcome::Complete { result: None }).await;
    let again = claim_many(&store).await;
    assert_eq!(again.len(), 2, "{again:?}");
    store.close(Duration::from_secs(5)).await.unwrap();
}

/// Nobody has asked for it.
#[tokio::test]
async fn the_tables_follow_by_themselves() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let store = place.open_store();
    enqueue_many(&store, &mut ids).await;
    until("the jobs have rows", async || jobs(&place) == u64::from(MANY)).await;
    let grants = claim_many(&store).await;
    settle(&store, &grants[0], Outcome::Complete { result: None }).await;
    let running = "select count(*) from {s}.job where phase = 2";
    until("their rows say that they run", async || number(&place, running) == u64::from(MANY - 1)).await;
    store.close(Duration::from_secs(5)).await.unwrap();
}

/// Where the leader goes away: what is between groups and tables by then.
#[derive(Clone, Copy, Debug)]
enum Dies {
    BeforeTheTables,
    WithinThem,
    BehindThem,
}

/// Its process is gone, as far as anybody can see, at several points between a group and the tables.
#[tokio::test]
async fn a_leader_that_is_gone_between_group_and_tables_loses_nothing() {
    for dies in [Dies::BeforeTheTables, Dies::WithinThem, Dies::BehindThem] {
        let (place, mut ids) = (Place::new(), JobIds::default());
        let wire = Wire::to(Cluster::shared().expect("the shared cluster"));
        let url = "&sslmode=disable&lease_ms=1000";
        let store = PostgresStore::open(place.options_at(&wire.address(), url)).unwrap();
        let next = PostgresStore::open(place.options_at(&Cluster::url(), "&lease_ms=1000")).unwrap();
        in_tables(&store).await;
        let other = Other::new().await;
        let lock = match dies {
            Dies::BeforeTheTables => "begin; select 1 from {s}.reached for update",
            Dies::WithinThem => "begin; lock table {s}.finished in access exclusive mode",
            Dies::BehindThem => "begin",
        };
        other.run(&place, lock).await;
        if let Dies::BehindThem = dies {
            wire.once("end transaction", Does::SilenceBehind);
        }
        let mut made = BTreeSet::new();
        for _ in 0..20 {
            made.insert(enqueue(&store, &mut ids).await);
        }
        let grants = claim(&store).await;
        settle(&store, &grants[0], Outcome::Complete { result: None }).await;
        match dies {
            Dies::BehindThem => until("the tables have them", async || jobs(&place) == 19).await,
            _ => {
                let waits = format!(
                    "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%{}.%'",
                    place.schema
                );
                until("the tables wait", async || number(&place, &waits) > 0).await;
            }
        }
        wire.silent(true);
        other.run(&place, "commit").await;
        until("another leads", async || next.stats().contains(&("leads", 1.0))).await;
        serves(&next).await;
        in_tables(&next).await;
        assert_eq!(jobs(&place), 19, "{dies:?}");
        assert_eq!(number(&place, "select count(*) from {s}.finished"), 1, "{dies:?}");
        let running: Vec<_> = listed(&next, JobState::Running).await;
        assert_eq!(running.len(), grants.len() - 1, "{dies:?}");
        let left: BTreeSet<_> = claim_many(&next).await.iter().map(|grant| grant.id).collect();
        let claimed: BTreeSet<_> = grants.iter().map(|grant| grant.id).collect();
        assert_eq!(left, &made - &claimed, "{dies:?}");
        next.close(Duration::from_secs(5)).await.unwrap();
    }
}

/// The connection of the tables breaks behind their commit, again and again: what it did is not done twice.
#[tokio::test]
async fn tables_whose_connection_breaks_are_written_once() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let wire = Wire::to(Cluster::shared().expect("the shared cluster"));
    let store = PostgresStore::open(place.options_at(&wire.address(), "&sslmode=disable")).unwrap();
    for round in 1..=6 {
        wire.once("end transaction", Does::BreakBehind);
        enqueue(&store, &mut ids).await;
        until("the tables follow", async || {
            let nobody = JobIds::default().next(1, &queue(), 1);
            store.get(&Key::Job(nobody)).await.is_ok() && wire.is_played()
        })
        .await;
        assert_eq!(jobs(&place), round);
    }
    store.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_leader_that_was_replaced_cannot_bring_the_tables_further() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let store = place.open_store();
    enqueue(&store, &mut ids).await;
    in_tables(&store).await;
    let other = Other::new().await;
    other.run(&place, "begin; select 1 from {s}.reached for update").await;
    enqueue(&store, &mut ids).await;
    let waits = format!(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%{}.prove_tables%'",
        place.schema
    );
    until("the tables wait", async || number(&place, &waits) == 1).await;
    // As another process would, which waits for the same lock next.
    let epoch =
        "update {s}.leader set epoch = epoch + 1, owner = 'another', expires = now() + interval '1 day'";
    on_schema(&place, epoch);
    other.run(&place, "commit").await;
    until("it does not lead", async || store.stats() == [("leads", 0.0)]).await;
    assert_eq!(jobs(&place), 1);
    on_schema(&place, "update {s}.leader set expires = '-infinity'");
    serves(&store).await;
    in_tables(&store).await;
    assert_eq!((jobs(&place), claim(&store).await.len()), (2, 2));
    store.close(Duration::from_secs(5)).await.unwrap();
}

/// Many groups, with a journal whose tables are to be emptied often.
async fn come_and_go(store: &PostgresStore, ids: &mut JobIds, rounds: u32) {
    for _ in 0..rounds {
        enqueue(store, ids).await;
        let grants = claim(store).await;
        settle(store, &grants[0], Outcome::Complete { result: None }).await;
        in_tables(store).await;
    }
}

fn open_with_a_short_journal(place: &Place) -> PostgresStore {
    place.try_open(|options| options.journal_bytes = 1_000).unwrap()
}

const GROUPS: &str = "select count(*) from {s}.journal";

#[tokio::test]
async fn a_held_snapshot_keeps_nothing_of_the_journal() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let store = open_with_a_short_journal(&place);
    let other = Other::new().await;
    other.run(&place, "begin isolation level repeatable read; select count(*) from {s}.job").await;
    come_and_go(&store, &mut ids, 40).await;
    assert!(number(&place, GROUPS) < 40, "of 120");
    let bytes =
        number(&place, "select pg_relation_size('{s}.journal_0') + pg_relation_size('{s}.journal_1')");
    assert!(bytes <= 4 * 8_192, "nothing dead is left: {bytes}");
    other.run(&place, "commit").await;
    store.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_lock_on_the_journal_keeps_it_from_being_emptied_and_nobody_from_writing() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let store = open_with_a_short_journal(&place);
    let other = Other::new().await;
    // As a dump does.
    other.run(&place, "begin isolation level repeatable read; select count(*) from {s}.journal").await;
    come_and_go(&store, &mut ids, 40).await;
    assert!(number(&place, GROUPS) < 100, "what is old is deleted row by row");
    other.run(&place, "commit").await;
    come_and_go(&store, &mut ids, 20).await;
    assert!(number(&place, GROUPS) < 40);
    let bytes =
        number(&place, "select pg_relation_size('{s}.journal_0') + pg_relation_size('{s}.journal_1')");
    assert!(bytes <= 4 * 8_192, "{bytes}");
    enqueue(&store, &mut ids).await;
    store.close(Duration::from_secs(5)).await.unwrap();
    let store = place.open_store();
    assert_eq!(claim(&store).await.len(), 1);
    store.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn tables_that_cannot_follow_hold_up_writers_within_a_bound() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    // Groups wait for no such lock.
    let options = place.options_at(&Cluster::url(), "&options=-c%20lock_timeout%3D200");
    let store = PostgresStore::open(mainstay_postgres::Options { behind_bytes: 40_000, ..options }).unwrap();
    in_tables(&store).await;
    let other = Other::new().await;
    other.run(&place, "begin; lock table {s}.body in access exclusive mode").await;
    let mut made = 0;
    let refused = loop {
        match submit(&store, job(&mut ids, "1")).await {
            Ok(_) => made += 1,
            Err(refused) => break refused,
        }
        assert!(made < 1_000, "there is a bound");
    };
    assert_eq!((refused.kind(), refused.applied()), (ErrorKind::Unavailable, Applied::No));
    assert!(refused.to_string().contains("the tables cannot follow"), "{refused}");
    // Who reads hears of it, too; what the engine has is answered.
    let nobody = JobIds::default().next(1, &queue(), 1);
    let unread = store.get(&Key::Job(nobody)).await.unwrap_err();
    assert!(unread.to_string().contains("the tables cannot follow"), "{unread}");
    assert!(store.get(&Key::Queue(queue())).await.unwrap().is_some());
    other.run(&place, "commit").await;
    until("there is room", async || submit(&store, job(&mut ids, "1")).await.is_ok()).await;
    in_tables(&store).await;
    assert_eq!(jobs(&place), made + 1);
    store.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn what_the_tables_cannot_hold_is_refused_before_it_is_in_the_journal() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let store = place.open_store();
    let refused = submit(&store, job(&mut ids, "\"a\0b\"")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.applied()), (ErrorKind::Invalid, Applied::No), "{refused}");
    let mut long = job(&mut ids, "1");
    if let Op::Enqueue(job) = &mut long {
        job.unique = Some(Unique { key: "k".repeat(3_000).into(), for_ms: None });
    }
    let refused = submit(&store, long).await.unwrap_err();
    assert_eq!((refused.kind(), refused.applied()), (ErrorKind::Invalid, Applied::No), "{refused}");
    enqueue(&store, &mut ids).await;
    in_tables(&store).await;
    assert_eq!(jobs(&place), 1);
    store.close(Duration::from_secs(5)).await.unwrap();
}

/// What stood beside the rows of jobs in format 5 becomes a group that they follow.
#[tokio::test]
async fn what_changed_lately_in_the_format_before_is_not_lost() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let store = place.open_store();
    enqueue_many(&store, &mut ids).await;
    in_tables(&store).await;
    let grants = claim_many(&store).await;
    let before = number(&place, "select max(lsn) from {s}.reached");
    store.close(Duration::from_secs(5)).await.unwrap();
    // A change of each job stands in the journal, one behind the other; each is as long.
    let data = on_schema(
        &place,
        &format!("select encode(data, 'hex') from {{s}}.journal where lsn > {before} and length(data) > 0"),
    );
    let changes: Vec<&str> = (0..MANY as usize)
        .map(|i| &data[i * data.len() / MANY as usize..(i + 1) * data.len() / MANY as usize])
        .collect();
    let ids_of: Vec<String> = changes.iter().map(|change| change[2..34].to_owned()).collect();
    let array = |all: &[String], of: &str| format!("array[{}]{of}", all.join(", "));
    let uuids: Vec<_> = ids_of.iter().map(|id| format!("'{id}'::uuid")).collect();
    let bytes: Vec<_> = changes.iter().map(|change| format!("decode('{change}', 'hex')")).collect();
    on_schema(&place, BEFORE_THE_LAST_STEP);
    // Their rows as they were: they wait. The first has been written since by a later group; what is said of it is old.
    on_schema(&place, "update {s}.job set phase = 0, attempt = 0, token = null, lsn = 3");
    on_schema(&place, &format!("update {{s}}.job set lsn = 5 where id = {}", uuids[0]));
    let recent = format!(
        "insert into {{s}}.recent values (4, {}, {})",
        array(&uuids, "::uuid[]"),
        array(&bytes, "::bytea[]")
    );
    on_schema(&place, &recent);
    let store = place.open_store();
    in_tables(&store).await;
    assert_eq!(number(&place, "select count(*) from {s}.job where phase = 2"), u64::from(MANY) - 1);
    assert_eq!(listed(&store, JobState::Running).await.len(), MANY as usize - 1);
    let last = grants.iter().find(|grant| uuids[0] != format!("'{}'::uuid", hex(grant.id))).unwrap();
    settle(&store, last, Outcome::Complete { result: None }).await;
    assert_eq!(claim_many(&store).await.len(), 1, "the one whose row is newer waits");
    store.close(Duration::from_secs(5)).await.unwrap();
}

fn hex(id: JobId) -> String {
    id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
