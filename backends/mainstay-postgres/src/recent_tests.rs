use mainstay_core::{
    Timestamp,
    engine::change::{Phase, PolicyId, QueueId},
    id::JobIds,
    name::Name,
};
use mainstay_writer::batch::Row;

use super::*;

fn jobs(count: usize) -> Vec<LiveJob> {
    let (mut ids, queue) = (JobIds::default(), Name::new("q").unwrap());
    let job = |n| LiveJob {
        id: ids.next(1, &queue, n),
        n,
        run_at: Timestamp(0),
        created_at: Timestamp(0),
        queue: QueueId(0),
        policy: PolicyId(0),
        attempt: 1,
        size: 1,
        crashes: 0,
        priority: 5,
        phase: Phase::Running,
        retrying: false,
        cancel_requested: false,
        has_extras: false,
    };
    (0..count as u64).map(job).collect()
}

fn batch(lsn: u64, changed: &[LiveJob], gone: &[LiveJob]) -> Batch {
    let mut batch = Batch { lsn, ..Batch::default() };
    let changes =
        changed.iter().map(|job| (job.id, Some(Job::Changed { job: *job, lease: None, settled: None })));
    let rows = changes.chain(gone.iter().map(|job| (job.id, None)));
    batch.jobs.extend(rows.map(|(id, now)| (id, Row { was: true, now })));
    batch
}

/// How many come, how many change in place, which rows go.
fn write(recent: &mut Recent, batch: &Batch) -> (usize, usize, Vec<u64>) {
    let plan = recent.plan(batch);
    let found = (plan.come.len(), plan.in_place.len(), plan.gone.clone());
    recent.done(plan);
    let left: usize = recent.groups.values().map(|group| group.left).sum();
    assert_eq!(left, recent.jobs.len());
    found
}

#[test]
fn a_row_goes_when_nothing_in_it_counts_any_more() {
    let (mut recent, jobs) = (Recent::default(), jobs(2 * WORTH));
    let (first, second) = jobs.split_at(WORTH);
    assert_eq!(write(&mut recent, &batch(1, first, &[])), (WORTH, 0, vec![]));
    assert_eq!(write(&mut recent, &batch(2, second, &first[1..])), (WORTH, 0, vec![]));
    // The last one changes once more.
    assert_eq!(write(&mut recent, &batch(3, &first[..1], &[])), (0, 1, vec![1]));
    assert_eq!(write(&mut recent, &batch(4, second, &[])), (WORTH, 0, vec![2]));
    assert_eq!(write(&mut recent, &batch(5, &[], &jobs)), (0, 0, vec![4]));
    assert!(recent.groups.is_empty());
}

#[test]
fn what_was_planned_and_not_written_has_changed_nothing() {
    let (mut recent, jobs) = (Recent::default(), jobs(WORTH));
    write(&mut recent, &batch(1, &jobs, &[]));
    drop(recent.plan(&batch(2, &[], &jobs)));
    assert_eq!(write(&mut recent, &batch(2, &[], &jobs)), (0, 0, vec![1]));
}

#[test]
fn what_lives_on_is_put_into_the_rows_of_the_jobs() {
    let (mut recent, jobs) = (Recent::default(), jobs(2 * WORTH));
    let (first, second) = jobs.split_at(WORTH);
    write(&mut recent, &batch(1, first, &[]));
    write(&mut recent, &batch(2, second, &[]));
    assert!(!recent.is_stale());
    recent.after = Duration::ZERO;
    assert!(recent.is_stale());
    // One ends meanwhile, and one changes once more.
    let (ended, again) = (&first[..1], &first[1..2]);
    assert_eq!(write(&mut recent, &batch(3, again, ended)), (0, 2 * WORTH - 1, vec![1, 2]));
    assert!(recent.jobs.is_empty() && !recent.is_stale());
}

#[test]
fn there_are_never_many() {
    let (mut recent, jobs) = (Recent::default(), jobs(2 * MOST));
    for (lsn, some) in jobs.chunks(MOST / 2).enumerate() {
        let (come, in_place, gone) = write(&mut recent, &batch(lsn as u64, some, &[]));
        assert_eq!(come, MOST / 2);
        assert_eq!(in_place, gone.len() * MOST / 2);
        assert!(recent.jobs.len() <= MOST);
    }
    // More than that at once change in place.
    assert_eq!(write(&mut recent, &batch(9, &jobs, &[])), (0, 2 * MOST, vec![2, 3]));
    assert!(recent.jobs.is_empty());
}
