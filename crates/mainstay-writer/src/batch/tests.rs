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

/// What a batch does to the table of unfinished jobs: rows that go, that come, that change.
fn rows_of(batch: &Batch) -> (Vec<JobId>, Vec<JobId>, Vec<JobId>) {
    let (mut come, mut change): (Vec<_>, _) = (batch.new.iter().map(|(_, row)| row.job.id).collect(), vec![]);
    for (id, job) in &batch.jobs {
        match job {
            Job::Back(_) => come.push(*id),
            Job::Changed { .. } => change.push(*id),
        }
    }
    (batch.gone.clone(), come, change)
}

#[test]
fn what_goes_from_the_tables_goes_once() {
    let all = life(1, false);
    let (put, rest) = all.split_first().unwrap();
    let Change::JobFinished(finished) = &rest[1] else { unreachable!() };
    let (id, key) = (finished.job.id, finished.key);
    let back = |size| {
        let mut job = job(1, Phase::Waiting);
        job.size = size;
        Change::JobPut { job, extras: Extras::default(), settled: None, body: None }
    };
    let revived = |size| vec![Change::FinishedRevived { key, id }, back(size)];
    let rows = |groups: &[Vec<Change>]| {
        let mut batch = Batch::default();
        groups.iter().zip(1..).for_each(|(changes, n)| batch.add(group(n, changes.clone())));
        (rows_of(&batch), batch)
    };
    let (none, one) = (vec![], vec![id]);
    // One that was there changes; changes and goes; goes, is back, and goes again.
    assert_eq!(rows(&[rest[..1].to_vec()]).0, (none.clone(), none.clone(), one.clone()));
    assert_eq!(rows(&[rest.to_vec()]).0, (one.clone(), none.clone(), none.clone()));
    assert_eq!(rows(&[rest.to_vec(), revived(7)]).0, (one.clone(), one.clone(), none.clone()));
    assert_eq!(
        rows(&[rest.to_vec(), revived(7), rest.to_vec()]).0,
        (one.clone(), none.clone(), none.clone())
    );
    // One that came with the batch never was there.
    let came = [vec![put.clone()], rest.to_vec(), revived(7)];
    let (of_came, batch) = rows(&came);
    assert_eq!(of_came, (none.clone(), one.clone(), none.clone()));
    assert!(matches!(batch.live(id), Some(Some(Live::Whole(row))) if row.job.size == 7));
    let gone = rows(&[&came[..], &[rest.to_vec()]].concat());
    assert_eq!((gone.0, gone.1.live(id).is_none()), ((none.clone(), none.clone(), none), true));
    // A reader sees that it is gone.
    assert!(matches!(rows(&[rest.to_vec()]).1.live(id), Some(None)));
}
