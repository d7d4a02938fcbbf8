//! What nobody sees from outside: that a busy key costs no more than what it stands in the way of.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Lines,
    lines::{Rank, rank},
};
use crate::{
    engine::change::{LiveJob, Phase, PolicyId, QueueId},
    id::{JobId, JobIds},
    job::JobKeys,
    name::Name,
    queue::{Fairness, QueueConfig},
    rules::mix,
    time::Timestamp,
};

const NOW: Timestamp = Timestamp(10);

struct Bench {
    lines: Lines,
    config: QueueConfig,
    ids: JobIds,
    n: i64,
}

impl Bench {
    fn new(is_fair: bool) -> Bench {
        // Of many shares, so that turns begin at many times.
        let weights = (0..60).map(|n| (format!("f{n:04}").into(), 300 + 137 * n)).collect();
        let fairness = is_fair.then(|| Fairness { weights: Arc::new(weights) });
        let config = QueueConfig { fairness, ..QueueConfig::default() };
        let mut lines = Lines::default();
        lines.configure(&config, NOW);
        Bench { lines, config, ids: JobIds::default(), n: 0 }
    }

    fn set_places(&mut self, of_a_key: usize) {
        self.config.key_concurrency = Some(of_a_key as u32);
        self.lines.configure(&self.config, NOW);
    }

    fn add(&mut self, concurrency: Option<&str>, fairness: usize) -> (Arc<JobKeys>, LiveJob) {
        self.add_with(concurrency, Some(fairness), 5)
    }

    fn add_with(
        &mut self,
        concurrency: Option<&str>,
        fairness: Option<usize>,
        priority: u8,
    ) -> (Arc<JobKeys>, LiveJob) {
        let fairness = fairness.map(|fairness| format!("f{fairness:04}").into());
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
            priority,
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
        self.lines.run(keys, true);
    }

    fn first(&mut self) -> Option<JobId> {
        let plain: Option<Rank> = None;
        self.lines.first(plain)
    }
}

/// What a place that comes or goes may move, however many lines there are.
const FEW: usize = 2;

#[test]
fn the_last_place_of_a_key_comes_and_goes_without_moving_its_lines() {
    for is_fair in [false, true] {
        let mut bench = Bench::new(is_fair);
        let jobs: Vec<_> = (0..1_000).map(|n| bench.add(Some("c"), n)).collect();
        for job in &jobs[..500] {
            assert_eq!(bench.first(), Some(job.1.id));
            bench.hand_out(job);
            assert_eq!(bench.first(), None, "no place is free");
            bench.lines.run(&job.0, false);
        }
        assert!(bench.lines.turns.moved <= 2 * 500 * FEW, "{}", bench.lines.turns.moved);
    }
}

#[test]
fn lines_without_a_place_are_in_nobodys_way() {
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
        assert_eq!(bench.first(), None);
        bench.lines.run(&busy[0].0, false);
        for job in busy[1..].iter().chain([&behind]) {
            assert_eq!(bench.first(), Some(job.1.id));
            bench.hand_out(job);
            bench.lines.run(&job.0, false);
        }
        assert_eq!(bench.first(), None);
        assert!(bench.lines.turns.moved <= 2 * 101 * FEW, "{}", bench.lines.turns.moved);
        assert_eq!(bench.lines.runnable(), 0);
    }
}

#[test]
fn a_turn_that_was_passed_by_a_hand_out_that_did_not_happen_is_still_to_come() {
    let mut bench = Bench::new(true);
    let share = |n: usize| Some(format!("f{n:04}").into());
    let (holds, blocked, other) = (bench.add(Some("c"), 0), bench.add(Some("c"), 1), bench.add(None, 2));
    bench.hand_out(&holds);
    bench.lines.turns.swap_pass(&share(1), Some(10));
    bench.lines.turns.swap_pass(&share(2), Some(20));
    // The time passes the turn of the one that has no place, and then there is one.
    assert_eq!(bench.first(), Some(other.1.id));
    bench.lines.turns.swap_now(20);
    bench.hand_out(&other);
    bench.lines.run(&holds.0, false);
    assert_eq!(bench.first(), Some(blocked.1.id));
    // None of it happened.
    bench.lines.run(&holds.0, true);
    bench.lines.run(&other.0, false);
    bench.lines.insert(&other.0, &other.1, NOW);
    bench.lines.turns.swap_now(0);
    bench.lines.look_again();
    bench.lines.run(&holds.0, false);
    let earlier = bench.add(None, 3);
    for job in [&earlier, &blocked, &other] {
        assert_eq!(bench.first(), Some(job.1.id));
        bench.hand_out(job);
    }
}

#[test]
fn who_got_another_head_while_the_time_was_ahead_has_its_turn_when_that_is_taken_back() {
    let mut bench = Bench::new(true);
    let share = |n: usize| Some(format!("f{n:04}").into());
    let (holds, blocked, other) = (bench.add(Some("c"), 0), bench.add(Some("c"), 1), bench.add(None, 2));
    bench.hand_out(&holds);
    bench.lines.turns.swap_pass(&share(1), Some(10));
    bench.lines.turns.swap_pass(&share(2), Some(20));
    let between = bench.add(None, 3);
    bench.lines.turns.swap_pass(&share(3), Some(15));
    // The time passes the turn of the one that has no place, and it gets a more urgent job.
    for (job, now) in [(&between, 15), (&other, 20)] {
        assert_eq!(bench.first(), Some(job.1.id));
        bench.lines.turns.swap_now(now);
        bench.hand_out(job);
    }
    let urgent = bench.add_with(Some("c"), Some(1), 0);
    // None of it happened.
    bench.lines.remove(&urgent.0, &urgent.1, NOW);
    for (job, now) in [(&other, 15), (&between, 0)] {
        bench.lines.run(&job.0, false);
        bench.lines.insert(&job.0, &job.1, NOW);
        bench.lines.turns.swap_now(now);
    }
    bench.lines.look_again();
    bench.lines.run(&holds.0, false);
    for job in [&blocked, &between, &other] {
        assert_eq!(bench.first(), Some(job.1.id));
        bench.hand_out(job);
    }
}

/// A job of a play, and how it was handed out.
type Job = (Arc<JobKeys>, LiveJob);

/// The same without any index.
#[derive(Default)]
struct Naive {
    waiting: Vec<Job>,
    running: Vec<Job>,
    passes: BTreeMap<Option<Arc<str>>, u64>,
    now: u64,
    is_fair: bool,
    places: usize,
}

impl Naive {
    fn share(&self, keys: &JobKeys) -> Option<Arc<str>> {
        if self.is_fair { keys.fairness.clone() } else { None }
    }

    fn first(&self) -> Option<JobId> {
        let is_free = |(keys, _): &&Job| {
            let same = |(other, _): &&Job| other.concurrency == keys.concurrency;
            keys.concurrency.is_none() || self.running.iter().filter(same).count() < self.places
        };
        let place = |(keys, job): &Job| {
            let share = self.share(keys);
            let turn = self.passes.get(&share).copied().unwrap_or(0).max(self.now);
            (turn, share, rank(None, job.priority, (job.run_at, job.id)))
        };
        self.waiting.iter().filter(is_free).map(place).min().map(|(.., (.., id))| id)
    }
}

/// What has happened, to be taken back.
enum Step {
    HandedOut {
        job: Job,
        now: u64,
        pass: Option<u64>,
    },
    Ended(Job),
    Added(Job),
    Cancelled(Job),
    /// How many places a key had.
    Configured(usize),
}

#[test]
fn whatever_comes_and_goes_the_first_is_the_first_of_all() {
    for seed in 0..60 {
        let mut draws = 0;
        let mut below = |limit: u64| {
            draws += 1;
            mix(seed, draws) % limit
        };
        // Few keys for many, many keys for few, and both.
        let (keys, shares) = [(2, 60), (60, 3), (25, 25)][seed as usize % 3];
        let is_fair = seed % 5 > 0;
        let mut bench = Bench::new(is_fair);
        let mut naive = Naive { is_fair, places: 1, ..Naive::default() };
        let mut steps: Vec<Step> = Vec::new();
        for n in 0..600 {
            match below(13) {
                0..=4 => {
                    let key = below(keys + 1);
                    let key = (key < keys).then(|| format!("c{key}"));
                    let share = below(shares + 1);
                    let share = (share < shares).then_some(share as usize);
                    let job = bench.add_with(key.as_deref(), share, 4 + below(2) as u8);
                    steps.push(Step::Added(job.clone()));
                    naive.waiting.push(job);
                }
                5..=7 => {
                    let Some(id) = bench.first() else { continue };
                    let at = naive.waiting.iter().position(|(_, job)| job.id == id).unwrap();
                    let job = naive.waiting.remove(at);
                    let share = naive.share(&job.0);
                    let (now, pass) = (naive.now, naive.passes.get(&share).copied());
                    if let Some((turn, next)) = bench.lines.turns.turn(&share) {
                        if turn > bench.lines.turns.now() {
                            bench.lines.turns.swap_now(turn);
                            naive.now = turn;
                        }
                        bench.lines.turns.swap_pass(&share, Some(next));
                        naive.passes.insert(share, next);
                    }
                    bench.hand_out(&job);
                    naive.running.push(job.clone());
                    steps.push(Step::HandedOut { job, now, pass });
                }
                8 if !naive.running.is_empty() => {
                    let at = below(naive.running.len() as u64) as usize;
                    let job = naive.running.remove(at);
                    bench.lines.run(&job.0, false);
                    steps.push(Step::Ended(job));
                }
                9 if !naive.waiting.is_empty() => {
                    let at = below(naive.waiting.len() as u64) as usize;
                    let job = naive.waiting.remove(at);
                    bench.lines.remove(&job.0, &job.1, NOW);
                    steps.push(Step::Cancelled(job));
                }
                10 if below(4) == 0 => {
                    steps.push(Step::Configured(naive.places));
                    naive.places = 1 + below(2) as usize;
                    bench.set_places(naive.places);
                }
                // What came before is a commit that stands.
                11 => steps.clear(),
                // It did not happen: in the order of an undo.
                _ => {
                    for _ in 0..below(6) {
                        let (job, now, pass) = match steps.pop() {
                            None => break,
                            Some(Step::Ended(job)) => {
                                bench.lines.run(&job.0, true);
                                naive.running.push(job);
                                continue;
                            }
                            Some(Step::Added(job)) => {
                                bench.lines.remove(&job.0, &job.1, NOW);
                                naive.waiting.retain(|(_, waiting)| waiting.id != job.1.id);
                                continue;
                            }
                            Some(Step::Cancelled(job)) => {
                                bench.lines.insert(&job.0, &job.1, NOW);
                                naive.waiting.push(job);
                                continue;
                            }
                            Some(Step::Configured(places)) => {
                                naive.places = places;
                                bench.set_places(places);
                                continue;
                            }
                            Some(Step::HandedOut { job, now, pass }) => (job, now, pass),
                        };
                        naive.running.retain(|(_, running)| running.id != job.1.id);
                        bench.lines.run(&job.0, false);
                        bench.lines.insert(&job.0, &job.1, NOW);
                        if is_fair {
                            let share = naive.share(&job.0);
                            bench.lines.turns.swap_pass(&share, pass);
                            bench.lines.turns.swap_now(now);
                            match pass {
                                Some(pass) => naive.passes.insert(share, pass),
                                None => naive.passes.remove(&share),
                            };
                            naive.now = now;
                        }
                        naive.waiting.push(job);
                    }
                    bench.lines.look_again();
                }
            }
            // A pass that says nothing any more may be forgotten at any time.
            if let Some(share) = bench.lines.turns.forgettable().filter(|_| steps.is_empty() && below(3) == 0)
            {
                bench.lines.turns.swap_pass(&share, None);
                naive.passes.remove(&share);
            }
            assert_eq!(bench.first(), naive.first(), "seed {seed}, step {n}");
        }
    }
}
