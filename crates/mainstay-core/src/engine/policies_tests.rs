use super::super::nothing::Nothing;
use super::*;
use crate::{
    id::{JobId, JobIds},
    job::{JobBody, NewJob},
    name::Name,
    op::{Commit, Op},
    store::Budget,
    time::{Now, StoreTime, Timestamp},
};

const NOW: Now = Now { wall: Timestamp(1_000_000), store: StoreTime(0) };

struct Bench {
    engine: Engine,
    ids: JobIds,
    draws: u64,
}

impl Bench {
    fn new() -> Bench {
        Bench { engine: Engine::new(), ids: JobIds::default(), draws: 0 }
    }

    /// A job that may take so long.
    fn job(&mut self, timeout_ms: u64) -> NewJob {
        let queue = Name::new("q").unwrap();
        self.draws += 1;
        let mut job = NewJob::new(self.ids.next(1, &queue, self.draws), queue, JobBody::new("k", "null"));
        job.policy.timeout_ms = Some(timeout_ms);
        job
    }

    fn come(&mut self, timeouts: std::ops::Range<u64>) -> Vec<JobId> {
        let jobs: Vec<_> = timeouts.map(|ms| self.job(ms)).collect();
        let ids = jobs.iter().map(|job| job.id).collect();
        assert!(self.apply(jobs.into_iter().map(|job| Op::Enqueue(Box::new(job))).collect()));
        ids
    }

    fn go(&mut self, ids: &[JobId]) {
        assert!(self.apply(ids.iter().map(|id| Op::Delete { id: *id }).collect()));
    }

    fn apply(&mut self, ops: Vec<Op>) -> bool {
        self.engine.apply(&Commit { ops, ..Commit::default() }, NOW, &mut Nothing).unwrap().is_ok()
    }

    fn maintain(&mut self, rows: u32) -> bool {
        self.engine.maintain(Budget { rows }, NOW, &mut Nothing).unwrap().more
    }

    fn timeout(&self, id: JobId) -> Option<u64> {
        let (job, ..) = self.engine.job(id).unwrap();
        self.engine.policy(job.policy).timeout_ms
    }

    /// All that there is to know of them, but for numbers that only move on.
    fn state(&self) -> (Vec<(PolicyId, JobPolicy, Users)>, Vec<PolicyId>) {
        let policies = &self.engine.policies;
        assert_eq!(policies.ids.len(), policies.kept.len());
        for (id, kept) in &policies.kept {
            assert_eq!(policies.find(&kept.policy), Some(*id));
        }
        let mut kept: Vec<_> =
            policies.kept.iter().map(|(id, kept)| (*id, kept.policy, kept.users)).collect();
        kept.sort_unstable_by_key(|(id, ..)| *id);
        (kept, policies.idle.values().copied().collect())
    }

    fn kept(&self) -> usize {
        self.state().0.len()
    }
}

#[test]
fn what_no_job_has_is_forgotten_in_steps_but_for_a_few() {
    let mut bench = Bench::new();
    let ids = bench.come(0..100);
    let shared = bench.come(99..100);
    bench.go(&ids);
    bench.engine.commit_group();
    assert_eq!((bench.kept(), bench.maintain(10)), (100, true));
    assert_eq!((bench.kept(), bench.maintain(1_000)), (90, false));
    assert_eq!(bench.kept(), IDLE_KEPT + 1, "what is kept, and what one job of two still has");
    assert_eq!(bench.timeout(shared[0]), Some(99));
    // Who comes again may find its own: those that were in use last are kept.
    let changes = |bench: &mut Bench| {
        let mut changes = Vec::new();
        bench.engine.take_changes(&mut changes);
        changes.retain(|change| matches!(change, Change::Policy { .. }));
        changes.len()
    };
    changes(&mut bench);
    bench.come(90..99);
    assert_eq!(changes(&mut bench), 0);
    bench.come(0..9);
    assert_eq!(changes(&mut bench), 9);
}

#[test]
fn numbers_are_used_again() {
    let mut bench = Bench::new();
    for round in 0..50 {
        let ids = bench.come(100 * round..100 * (round + 1));
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(bench.timeout(*id), Some(100 * round + at as u64));
        }
        bench.go(&ids);
        bench.maintain(1_000);
        bench.engine.commit_group();
    }
    assert!(bench.engine.policies.last <= 100 + IDLE_KEPT as u32, "{} numbers", bench.engine.policies.last);
}

#[test]
fn what_did_not_happen_leaves_no_trace_of_policies() {
    let mut bench = Bench::new();
    let ids = bench.come(0..60);
    bench.go(&ids[..30]);
    bench.maintain(4);
    bench.engine.commit_group();
    let before = bench.state();
    for round in 0..3 {
        // Refused: another comes, a known one comes again, one that nobody had any more is wanted, one goes.
        let mut ops: Vec<_> = [500, 501, 45, 20].map(|ms| Op::Enqueue(Box::new(bench.job(ms)))).into();
        ops.extend([Op::Delete { id: ids[59] }, Op::Delete { id: ids[0] }]);
        assert!(!bench.apply(ops));
        assert_eq!(bench.state(), before, "round {round}");
        // Not written: the same, and housekeeping, whose numbers the next ones get.
        bench.maintain(7);
        bench.come(600..610);
        bench.go(&ids[40..50]);
        let more = bench.come(700..720);
        bench.go(&more[..5]);
        bench.maintain(100);
        bench.come(800..830);
        assert_ne!(bench.state(), before);
        bench.engine.rollback_group();
        assert_eq!(bench.state(), before, "round {round}");
    }
    assert_eq!(bench.timeout(ids[45]), Some(45));
}

#[test]
fn a_store_that_opens_with_few_keeps_them_and_one_with_many_counts() {
    for count in [false, true] {
        let mut bench = Bench::new();
        let policy = |ms: u32| JobPolicy { timeout_ms: Some(ms.into()), ..JobPolicy::default() };
        (1..=100).for_each(|ms| bench.engine.load_policy(PolicyId(ms), policy(ms)));
        assert!(!bench.engine.has_many_policies());
        if count {
            bench.engine.load_policy_users([(PolicyId(7), 2), (PolicyId(9), 1)]);
        }
        bench.engine.finish_load(NOW);
        bench.maintain(1_000);
        assert_eq!(bench.kept(), if count { 2 + IDLE_KEPT } else { 100 });
        bench.engine.leave_policy(PolicyId(7));
        bench.come(2_000..2_020);
        assert_eq!(bench.engine.policy(PolicyId(7)), policy(7), "one of two still has it");
    }
}
