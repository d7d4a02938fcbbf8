//! Who claims what.

use mainstay_core::{
    job::Grant,
    op::{Claim, Op},
    store::{Query, Record},
    worker::{WORKER_KEPT_MS, WorkerRecord},
};

use crate::world::{LEASE_MS, World, claim_of, extend_op, name};

async fn workers(w: &World) -> Vec<WorkerRecord> {
    let records = w.list_by(&Query::Workers, 1).await;
    let of = |record| match record {
        Record::Worker(worker) => worker,
        other => panic!("a list of workers held {other:?}"),
    };
    records.into_iter().map(of).collect()
}

async fn running(w: &World) -> Vec<(String, u64)> {
    workers(w).await.into_iter().map(|worker| (worker.name.to_string(), worker.running)).collect()
}

async fn claim_as(w: &World, worker: &str, queues: &[&str], max: u32) -> Vec<Grant> {
    w.claims(Claim { worker: Some(name(worker)), ..claim_of(queues, max) }).await
}

fn rows(rows: &[(&str, u64)]) -> Vec<(String, u64)> {
    rows.iter().map(|(name, running)| ((*name).to_owned(), *running)).collect()
}

pub(super) async fn a_worker_is_listed_with_its_queues_and_what_it_has(w: &mut World) {
    assert_eq!(workers(w).await, []);
    for _ in 0..3 {
        w.enqueue(w.job("q")).await;
    }
    claim_as(w, "b", &["q", "other"], 2).await;
    w.advance(5);
    claim_as(w, "a", &["empty"], 1).await;
    let seen = |text: &str, queues: &[&str], running, last_seen| WorkerRecord {
        name: name(text),
        queues: queues.iter().map(|queue| name(queue)).collect(),
        running,
        last_seen,
    };
    let now = w.now();
    let before = mainstay_core::Timestamp(now.0 - 5);
    assert_eq!(workers(w).await, [seen("a", &["empty"], 0, now), seen("b", &["q", "other"], 2, before)]);
    // The queues are those of the last claim.
    claim_as(w, "b", &["q"], 5).await;
    assert_eq!(workers(w).await[1], seen("b", &["q"], 3, now));
}

pub(super) async fn a_worker_has_what_it_has_not_ended_or_lost(w: &mut World) {
    for _ in 0..4 {
        w.enqueue(w.job("q")).await;
    }
    let grants = claim_as(w, "a", &["q"], 4).await;
    w.complete(&grants[0]).await;
    w.fail(&grants[1]).await;
    assert_eq!(running(w).await, rows(&[("a", 2)]));
    w.release(&grants[2], 0).await;
    assert_eq!(running(w).await, rows(&[("a", 1)]));
    w.lose(LEASE_MS).await;
    assert_eq!(running(w).await, rows(&[("a", 0)]));
    // Somebody else takes one over.
    claim_as(w, "b", &["q"], 1).await;
    assert_eq!(running(w).await, rows(&[("a", 0), ("b", 1)]));
    // A commit that does not happen leaves no trace.
    let claim = Op::Claim(Claim { worker: Some(name("a")), ..claim_of(&["q"], 1) });
    let commit = w.ops([claim, Op::Delete { id: w.id("q") }]);
    w.commit(commit).await.expect_err("there is no such job");
    assert_eq!(running(w).await, rows(&[("a", 0), ("b", 1)]));
}

pub(super) async fn a_worker_that_has_nothing_and_does_not_call_is_forgotten(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let grant = claim_as(w, "busy", &["q"], 1).await.remove(0);
    claim_as(w, "idle", &["q"], 1).await;
    w.advance(1_000);
    w.op(extend_op(&grant, 2 * WORKER_KEPT_MS)).await;
    let at = w.now();
    w.advance(WORKER_KEPT_MS - 1_001);
    assert_eq!(running(w).await, rows(&[("busy", 1), ("idle", 0)]));
    w.advance(1);
    let left = workers(w).await;
    assert_eq!((left.len(), left[0].name.as_str(), left[0].last_seen), (1, "busy", at));
}

pub(super) async fn a_claim_that_names_nobody_is_nobodys(w: &mut World) {
    w.enqueue(w.job("q")).await;
    w.claim("q").await;
    assert_eq!(workers(w).await, []);
}

pub(super) async fn a_worker_is_known_after_a_restart_by_what_it_has(w: &mut World) {
    for queue in ["q", "r"] {
        w.enqueue(w.job(queue)).await;
    }
    let grants = claim_as(w, "busy", &["r", "q", "other"], 2).await;
    claim_as(w, "idle", &["q"], 1).await;
    w.reopen().await;
    let mut known = workers(w).await;
    known[0].queues.sort();
    let (queues, running) = (vec![name("q"), name("r")], 2);
    assert_eq!(known, [WorkerRecord { name: name("busy"), queues, running, last_seen: w.now() }]);
    w.complete(&grants[0]).await;
    assert_eq!(workers(w).await[0].running, 1);
}
