//! What nobody sees from outside: that a busy key costs no more than what it stands in the way of.

use std::sync::Arc;

use super::{Lines, lines::Rank};
use crate::{
    engine::{
        PolicyId,
        change::{LiveJob, Phase, QueueId},
    },
    id::{JobId, JobIds},
    job::JobKeys,
    name::Name,
    queue::{Fairness, QueueConfig},
    time::Timestamp,
};

const NOW: Timestamp = Timestamp(10);

struct Bench {
    lines: Lines,
    ids: JobIds,
    n: i64,
}

impl Bench {
    fn new(is_fair: bool) -> Bench {
        let fairness = is_fair.then(|| Fairness { weights: Arc::default() });
        let mut lines = Lines::default();
        lines.configure(&QueueConfig { fairness, ..QueueConfig::default() }, NOW);
        Bench { lines, ids: JobIds::default(), n: 0 }
    }

    fn add(&mut self, concurrency: Option<&str>, fairness: usize) -> (Arc<JobKeys>, LiveJob) {
        let fairness = Some(format!("f{fairness:04}").into());
        let keys = Arc::new(JobKeys { concurrency: concurrency.map(Into::into), fairness });
        self.n += 1;
        let job = LiveJob {
            id: self.ids.next(self.n, &Name::new("q").unwrap(), 0),
            n: self.n as u64,
            run_at: Timestamp(1),
            created_at: Timestamp(1),
            queue: QueueId(0),
            policy: PolicyId(0),
            attempt: 0,
            size: 0,
            crashes: 0,
            priority: 5,
            phase: Phase::Waiting,
            retrying: false,
            cancel_requested: false,
            has_extras: true,
        };
        self.lines.insert(&keys, &job, NOW);
        (keys, job)
    }

    fn hand_out(&mut self, (keys, job): &(Arc<JobKeys>, LiveJob)) {
        self.lines.remove(keys, job, NOW);
        self.lines.run(keys, true, NOW);
    }

    fn first(&mut self) -> Option<JobId> {
        let plain: Option<Rank> = None;
        self.lines.first(plain)
    }
}

#[test]
fn the_last_place_of_a_key_comes_and_goes_without_moving_its_lines() {
    for is_fair in [false, true] {
        let mut bench = Bench::new(is_fair);
        let jobs: Vec<_> = (0..1_000).map(|n| bench.add(Some("c"), n)).collect();
        for job in &jobs[..500] {
            assert_eq!(bench.first(), Some(job.1.id));
            bench.hand_out(job);
            assert_eq!((bench.first(), bench.lines.moved), (None, 0), "no place is free");
            bench.lines.run(&job.0, false, NOW);
        }
        assert_eq!(bench.lines.moved, 0);
    }
}

#[test]
fn lines_without_a_place_are_put_aside_once_and_come_back_with_it() {
    for is_fair in [false, true] {
        let mut bench = Bench::new(is_fair);
        let busy: Vec<_> = (0..100).map(|n| bench.add(Some("c"), n)).collect();
        let others: Vec<_> = (0..50).map(|n| bench.add(None, 200 + n)).collect();
        let behind = bench.add(Some("c"), 900);
        bench.hand_out(&busy[0]);
        for other in &others {
            assert_eq!(bench.first(), Some(other.1.id));
            bench.hand_out(other);
        }
        assert_eq!(
            (bench.first(), bench.lines.moved),
            (None, 99),
            "one behind the others is in nobody's way"
        );
        bench.lines.run(&busy[0].0, false, NOW);
        for job in busy[1..].iter().chain([&behind]) {
            assert_eq!(bench.first(), Some(job.1.id));
            bench.hand_out(job);
            bench.lines.run(&job.0, false, NOW);
        }
        assert_eq!((bench.first(), bench.lines.moved), (None, 99));
        assert_eq!(bench.lines.runnable(), 0);
    }
}
