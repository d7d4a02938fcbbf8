//! A server that is out of something, or slow.

use std::{path::PathBuf, process::Command, time::Duration};

use mainstay_core::{
    Applied, ErrorKind, JobId, Store,
    id::JobIds,
    job::Outcome,
    op::{Op, Settle},
};
use mainstay_postgres::{
    PostgresStore,
    tokio_postgres::{self, NoTls},
};
use mainstay_testkit::cluster::Cluster;
use tokio::task::JoinSet;

use crate::{
    hands::{claim, enqueue, in_tables, job, on_schema, serves, submit, try_claim, until},
    harness::Place,
};

fn shared() -> &'static Cluster {
    Cluster::shared().expect("the shared cluster")
}

/// A role of its own with a schema of its own, and a URL for it.
fn role(place: &Place) -> String {
    let name = &place.schema;
    shared().sql(&format!("create role {name} login; create schema {name} authorization {name}"));
    format!("postgres://{name}@{}/postgres", shared().host())
}

#[tokio::test]
async fn a_server_out_of_connections_refuses_and_serves_when_there_are_some() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let url = role(&place);
    let store = PostgresStore::open(place.options_at(&url, "")).unwrap();
    enqueue(&store, &mut ids).await;
    let name = &place.schema;
    shared().sql(&format!("alter role {name} connection limit 0"));
    shared().sql(&format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{name}'"));
    // The first may hear that its connection broke.
    let mut said = String::new();
    until("it says why", async || {
        let refused = submit(&store, job(&mut ids, "1")).await.expect_err("there are no connections");
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
        said = refused.to_string();
        said.contains("too many connections")
    })
    .await;
    assert!(said.contains("out of disk, memory or connections"), "{said}");
    shared().sql(&format!("alter role {name} connection limit -1"));
    serves(&store).await;
    until("an enqueue", async || submit(&store, job(&mut ids, "2")).await.is_ok()).await;
    assert_eq!(claim(&store).await.len(), 2);
    store.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_statement_that_takes_too_long_refuses_its_group_alone() {
    let (place, mut ids, mut tasks) = (Place::new(), JobIds::default(), JoinSet::new());
    let url = role(&place);
    shared().sql(&format!("alter role {} set statement_timeout = '400ms'", place.schema));
    let store = PostgresStore::open(place.options_at(&url, "")).unwrap();
    enqueue(&store, &mut ids).await;
    let (client, connection) = tokio_postgres::connect(&Cluster::url(), NoTls).await.unwrap();
    tasks.spawn(async move { drop(connection.await) });
    client
        .batch_execute(&format!("begin; lock table {0}.journal_0, {0}.journal_1", place.schema))
        .await
        .unwrap();
    let refused = submit(&store, job(&mut ids, "1")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.applied()), (ErrorKind::Unavailable, Applied::No), "{refused}");
    assert!(refused.to_string().contains("statement timeout"), "{refused}");
    client.batch_execute("commit").await.unwrap();
    enqueue(&store, &mut ids).await;
    assert_eq!(claim(&store).await.len(), 2);
    store.close(Duration::from_secs(5)).await.unwrap();
}

/// Of a text that it cannot keep, callers are not to hear when the group is durable.
#[tokio::test]
async fn a_database_that_cannot_keep_every_text_is_refused() {
    let place = Place::new();
    let name = format!("latin_{}", place.schema);
    shared().sql(&format!("create database {name} encoding 'LATIN1' locale 'C' template template0"));
    let url = shared().address().replace("/postgres", &format!("/{name}"));
    let refused = PostgresStore::open(place.options_at(&url, "")).err().expect("another encoding");
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    assert!(refused.to_string().contains("LATIN1"), "{refused}");
}

/// A small disk of its own, gone with this.
struct Disk(PathBuf);

impl Disk {
    /// `None`: this user may not mount one.
    fn of(size: &str, name: &str) -> Option<Disk> {
        let path = shared().folder().join(name);
        std::fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        let done = mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&path).output();
        if !done.is_ok_and(|done| done.status.success()) {
            return None;
        }
        Cluster::give(&path);
        Some(Disk(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Of the journal, by which a group is durable, or of bodies, where the tables cannot follow.
#[tokio::test]
async fn a_full_disk_refuses_what_has_no_room_and_takes_it_when_there_is_some() {
    for tables in [&["journal_0", "journal_1"][..], &["body"]] {
        a_full_disk_of(tables).await;
    }
}

async fn a_full_disk_of(tables: &[&str]) {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let Some(disk) = Disk::of("6m", tables[0]) else {
        eprintln!("not tried: a disk that is full takes the right to mount one");
        return;
    };
    let store = place.try_open(|options| options.behind_bytes = 2 << 20).unwrap();
    shared().sql(&format!("create tablespace small location '{}'", disk.0.display()));
    let moved_to = |space: &str| {
        for table in tables {
            on_schema(&place, &format!("alter table {{s}}.{table} set tablespace {space}"));
        }
    };
    moved_to("small");
    // JSON that does not compress.
    let large = |n: u64| {
        let mut noise = n;
        let digit = move |_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + (noise >> 33) as u8 % 26)
        };
        format!("\"{}\"", (0..400_000).map(digit).collect::<String>())
    };
    let mut answered = 0;
    let refused = loop {
        match submit(&store, job(&mut ids, &large(answered))).await {
            Ok(_) => answered += 1,
            Err(refused) => break refused,
        }
        assert!(answered < 100, "the disk is full by now");
    };
    assert_eq!((refused.kind(), refused.applied()), (ErrorKind::Unavailable, Applied::No), "{refused}");
    assert!(refused.to_string().contains("out of disk"), "{refused}");
    // Small ones have room, or say so; what there is can be worked off.
    moved_to("pg_default");
    until("there is room", async || submit(&store, job(&mut ids, &large(1_000))).await.is_ok()).await;
    in_tables(&store).await;
    assert_eq!(on_schema(&place, "select count(*) from {s}.job"), (answered + 1).to_string());
    let mut there = 0;
    loop {
        let grants = claim(&store).await;
        if grants.is_empty() {
            break;
        }
        there += grants.len() as u64;
    }
    assert_eq!(there, answered + 1);
    store.close(Duration::from_secs(5)).await.unwrap();
    shared().sql("drop tablespace small");
}

async fn complete(store: &PostgresStore, id: JobId, lease: mainstay_core::LeaseId) {
    let outcome = Outcome::Complete { result: None };
    submit(store, Op::Settle(Settle { id, lease, outcome, repeat_is_ok: false })).await.unwrap();
}

/// Somebody holds a snapshot: nothing that was deleted can be cleaned away meanwhile.
#[tokio::test]
async fn under_a_held_snapshot_everything_goes_on() {
    let (place, mut ids, mut tasks) = (Place::new(), JobIds::default(), JoinSet::new());
    let (leader, follower) = (place.open_store(), place.open_store());
    let (client, connection) = tokio_postgres::connect(&Cluster::url(), NoTls).await.unwrap();
    tasks.spawn(async move { drop(connection.await) });
    let count = format!("select count(*) from {}.job", place.schema);
    client.batch_execute("begin isolation level repeatable read").await.unwrap();
    client.query(&count, &[]).await.unwrap();
    for round in 0..200 {
        let store = if round % 4 == 0 { &follower } else { &leader };
        let id = enqueue(store, &mut ids).await;
        let grants = claim(store).await;
        assert_eq!((grants.len(), grants[0].id), (1, id));
        complete(store, id, grants[0].lease).await;
    }
    // Each of these jobs was there for a moment: the table of jobs knows of few.
    let bytes = on_schema(&place, "select pg_relation_size('{s}.job')");
    assert!(bytes.parse::<u64>().unwrap() <= 2 * 8_192, "{bytes}");
    leader.close(Duration::from_secs(5)).await.unwrap();
    serves(&follower).await;
    assert!(claim(&follower).await.is_empty());
    client.batch_execute("commit").await.unwrap();
}

/// The database's clock jumps ahead, so that the lease of who leads seems to be over.
#[tokio::test]
async fn a_lease_that_seems_over_too_early_costs_nothing() {
    let (place, mut ids) = (Place::new(), JobIds::default());
    let (first, second) = (place.open_store(), place.open_store());
    let mut made = vec![enqueue(&first, &mut ids).await, enqueue(&second, &mut ids).await];
    on_schema(&place, "update {s}.leader set expires = '-infinity'");
    // Whoever leads now, both serve.
    for round in 0..20 {
        let store = if round % 2 == 0 { &first } else { &second };
        until("an enqueue", async || match submit(store, job(&mut ids, "1")).await {
            Ok(mainstay_core::op::Reply::Enqueued(done)) => {
                made.push(done.id);
                true
            }
            Ok(other) => panic!("{other:?}"),
            Err(refused) => {
                assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
                false
            }
        })
        .await;
    }
    let mut there = Vec::new();
    until("all are there", async || {
        // It may change hands once more.
        there.extend(try_claim(&second).await.unwrap_or_default().into_iter().map(|grant| grant.id));
        made.iter().all(|id| there.contains(id))
    })
    .await;
    // None twice.
    there.sort_unstable();
    let handed_out = there.len();
    there.dedup();
    assert_eq!(there.len(), handed_out);
}
