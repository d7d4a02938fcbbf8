//! What a store can know of its engine before it is asked.

use super::{Engine, nothing::Nothing};
use crate::{
    QueueName,
    id::JobIds,
    job::{JobBody, JobKeys, NewJob, When},
    op::{Claim, Commit, Op, Reply},
    time::{Now, StoreTime, Timestamp},
};

#[test]
fn the_next_bodies_are_those_of_the_jobs_that_are_handed_out_next() {
    let (mut engine, mut ids) = (Engine::new(), JobIds::default());
    let now = Now { wall: Timestamp(1_000), store: StoreTime(1) };
    let mut apply = |op| {
        let applied = engine.apply(&Commit::of(op, 1), now, &mut Nothing).ok().unwrap();
        (applied.unwrap().replies.remove(0), engine.queue_id("q").map(|q| next(&engine, q)))
    };
    fn next(engine: &Engine, queue: super::QueueId) -> Vec<(u64, u32)> {
        let all: Vec<_> = engine.next_bodies(queue, None).collect();
        for (at, (turn, ..)) in all.iter().enumerate() {
            assert!(engine.next_bodies(queue, Some(*turn)).eq(all[at + 1..].iter().copied()));
        }
        all.into_iter().map(|(_, n, size)| (n, size)).collect()
    }
    let queue = QueueName::new("q").unwrap();
    for (i, priority) in [5, 0, 9, 5, 0, 3, 3, 9].into_iter().enumerate() {
        let id = ids.next(1, &queue, i as u64);
        let body = JobBody::new("k", &"1".repeat(i + 1));
        apply(Op::Enqueue(Box::new(NewJob { priority, ..NewJob::new(id, queue.clone(), body) })));
    }
    // These are not due, or their turn is not known.
    let mut other = |change: &dyn Fn(&mut NewJob)| {
        let mut job = NewJob::new(ids.next(1, &queue, 9), queue.clone(), JobBody::new("k", "1"));
        job.priority = 0;
        change(&mut job);
        apply(Op::Enqueue(Box::new(job)));
    };
    other(&|job| job.run_at = Some(When::In(5)));
    other(&|job| job.keys = JobKeys { concurrency: Some("c".into()), ..JobKeys::default() });

    let mut handed_out = 0;
    let claim = || Claim { queues: vec![queue.clone()], max: 1, max_bytes: 99, lease_ms: 9, worker: None };
    let (Reply::Claimed(_), Some(mut expected)) = apply(Op::Claim(claim())) else { panic!() };
    while !expected.is_empty() {
        let (Reply::Claimed(grants), Some(left)) = apply(Op::Claim(claim())) else { panic!() };
        if grants[0].n == 10 {
            // The one with a key comes when it comes.
            assert_eq!(left, expected);
            continue;
        }
        let (n, size) = expected.remove(0);
        assert_eq!((grants[0].n, size), (n, n as u32 + 1), "the kind has a byte too");
        assert_eq!(left, expected);
        handed_out += 1;
    }
    assert!(handed_out >= 7);
}
