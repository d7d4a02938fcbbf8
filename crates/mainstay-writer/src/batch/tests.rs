use mainstay_core::{
    JobId, LeaseId, StoreTime, Timestamp, Token,
    engine::change::{Forgotten, Lane, Phase},
    job::JobState,
};

use super::*;
use crate::codec::encode;

fn job(n: u64, phase: Phase) -> LiveJob {
    let mut id = [n as u8; 16];
    (id[6], id[8]) = (0x70, 0x80);
    LiveJob {
        id: JobId::from_bytes(id).unwrap(),
        n,
        run_at: Timestamp(1),
        created_at: Timestamp(1),
        queue: QueueId(0),
        policy: PolicyId(0),
        attempt: 1,
        size: 300,
        crashes: 0,
        priority: 5,
        phase,
        retrying: false,
        cancel_requested: false,
        has_extras: false,
    }
}

/// A job comes, is handed out and completed, and, if `forgotten`, retention has it go.
fn life(n: u64, forgotten: bool) -> Vec<Change> {
    let lease = LiveLease {
        id: LeaseId { token: Token(n), nonce: 7 },
        until: StoreTime(9),
        ms: 9,
        claimed_at: StoreTime(1),
        worker: None,
    };
    let key = FinishedKey { queue: QueueId(0), lane: Lane::Done, f: n };
    let body = Arc::new(JobBody::new("kind", &"x".repeat(300)));
    let (waits, runs) = (job(n, Phase::Waiting), job(n, Phase::Running));
    let finished = FinishedJob {
        key,
        job: runs,
        extras: Extras::default(),
        state: JobState::Completed,
        reason: None,
        finished_at: Timestamp(2),
        settled: None,
    };
    let mut all = vec![
        Change::JobPut { job: waits, extras: Extras::default(), settled: None, body: Some(body) },
        Change::JobUpdated { job: runs, lease: Some(lease), settled: None },
        Change::JobFinished(Arc::new(finished)),
    ];
    if forgotten {
        let gone = Forgotten { key, id: waits.id, n, finished_at: Timestamp(2) };
        all.push(Change::FinishedRemoved(gone));
    }
    all
}

/// As the writer counts it.
fn group(lsn: u64, changes: Vec<Change>) -> Handed {
    let mut record = vec![];
    changes.iter().for_each(|change| encode::change(&mut record, change));
    let bytes = record.len() + changes.len() * size_of::<Change>();
    Handed { lsn, counters: Counters::default(), changes, bytes, growth: 0 }
}

#[test]
fn what_came_and_went_within_a_batch_counts_for_little() {
    let whole = group(1, life(1, true)).bytes;
    let mut batch = Batch::default();
    (1..=50).for_each(|n| batch.add(group(n, life(n, true))));
    assert!(batch.new.is_empty() && batch.jobs.is_empty() && batch.gone.is_empty());
    assert!(batch.finished.is_empty() && batch.bodies.is_empty());
    assert!(batch.bytes < 50 * whole / 6, "{} of {} bytes", batch.bytes, 50 * whole);
}

#[test]
fn what_stays_in_a_batch_counts_for_what_it_holds() {
    let mut batch = Batch::default();
    (1..=50).for_each(|n| batch.add(group(n, life(n, false))));
    let held = 50 * (size_of::<FinishedJob>() + batch.bodies.get(1).unwrap().size());
    assert!(batch.bytes >= held, "{} bytes for {held}", batch.bytes);
}
