//! The alphabet: what may happen, in a world of few names so that steps meet each other.

use mainstay_core::{
    after::AfterFailure,
    job::{Jitter, JobState},
};
use proptest::{collection::vec, option, prelude::*};

use super::locks;

/// Something happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A batch of commits is handed over.
    Submit(Vec<Asked>),
    /// Time passes.
    Advance(u64),
    /// The wall clock is set forwards or back.
    SetWall(i64),
    /// A list is read.
    Look(Look),
    /// The store is closed and opened, if it is durable.
    Restart,
}

/// A commit.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Scope and fingerprint.
    pub key: Option<(u8, u8)>,
    pub require: Option<Pick>,
    /// The token of one of the grants of locks so far is to be live.
    pub require_lock: Option<Pick>,
    pub ops: Vec<Do>,
}

/// One of the jobs or leases so far, counted from the newest; past the oldest: one that never was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick(pub usize);

#[derive(Clone, Debug)]
pub(super) enum Do {
    Enqueue(Box<Work>),
    Claim { queues: Vec<u8>, max: u32, max_bytes: u64, lease_ms: u64, worker: Option<u8> },
    Settle { lease: Pick, how: How, once: bool },
    Extend { lease: Pick, extend_ms: u64, progress: bool },
    Cancel(Pick),
    Retry(Pick),
    Delete(Pick),
    RequeueDead { queue: u8, jobs: Vec<Pick> },
    DeleteDead { queue: u8, jobs: Vec<Pick> },
    Purge { queue: u8, limit: u32 },
    Configure { queue: u8, config: Config },
    Pause { queue: u8, paused: bool },
    DeleteQueue { queue: u8 },
    Grant { token: u8 },
    Revoke { token: u8 },
    Audit(u8),
    Lock(locks::DoLock),
    Schedule { name: u8, what: Plan },
}

/// What happens to a schedule, whose ticks are so many milliseconds from now.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    Put {
        times: u8,
        all: bool,
        next: i64,
    },
    Delete,
    Pause,
    /// Fires what was next when it was last seen to have one.
    Fire {
        tick: bool,
        queue: u8,
        next: Option<i64>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Work {
    pub queue: u8,
    /// One of the ids that callers like.
    pub known_id: Option<u8>,
    pub priority: u8,
    pub due: Due,
    pub expires_in: Option<u64>,
    pub unique: Option<(u8, Option<u64>)>,
    pub concurrency_key: Option<u8>,
    pub fairness_key: Option<u8>,
    pub max_attempts: u32,
    pub max_crashes: Option<u32>,
    pub jitter: Jitter,
    pub timeout_ms: Option<u64>,
    pub retain_ms: Option<u64>,
    pub kind: u8,
    pub tag: Option<u8>,
    pub payload: usize,
    pub after: Vec<Named>,
    pub after_failure: AfterFailure,
}

/// A job to wait for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named {
    Job(Pick),
    /// An op of the same commit.
    Op(u32),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    Now,
    Past(i64),
    In(u64),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    Complete { result: bool },
    Fail,
    FailAfter(u64),
    FailForGood,
    Release(u64),
    Cancel,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    pub max_depth: Option<u64>,
    pub max_age_ms: Option<u64>,
    pub drop_oldest: bool,
    pub max_crashes: Option<u32>,
    pub completed_ms: u64,
    pub completed_count: u64,
    pub dead_ms: u64,
    pub limits: Limits,
}

/// What bounds and orders the hand-out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub concurrency: Option<u32>,
    pub key_concurrency: Option<u32>,
    /// `per_ms` and `count`.
    pub rate: Option<(u64, u64)>,
    /// With weights or without.
    pub fairness: Option<bool>,
    pub ageing_ms: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum Look {
    Jobs { queue: Option<u8>, state: Option<JobState>, kind: Option<u8>, tag: Option<u8>, limit: u32 },
    Dead { queue: u8, kind: Option<u8>, boom: Option<bool>, limit: u32 },
    Queues { limit: u32 },
    Locks { prefix: bool, limit: u32 },
}

/// Sequences of one to `most` steps.
pub(super) fn sequences(most: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..=most)
}

/// The same, of a world in which many jobs crowd before few places.
pub(super) fn crowds(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let one = |op| Step::Submit(vec![alone(op)]);
    let configured = || {
        (0..3_u8, limits()).prop_map(move |(queue, limits)| {
            let config = Config {
                max_depth: None,
                max_age_ms: None,
                drop_oldest: false,
                max_crashes: None,
                completed_ms: 86_400_000,
                completed_count: 1_000_000,
                dead_ms: 86_400_000,
                limits,
            };
            one(Do::Configure { queue: queue.min(1), config })
        })
    };
    let job = (work(), 0..3_u8).prop_map(|(work, queue)| Work {
        queue: queue.min(1),
        known_id: None,
        unique: None,
        expires_in: work.expires_in.filter(|ms| ms % 2 == 0),
        ..work
    });
    let jobs = vec(job.prop_map(|work| Do::Enqueue(Box::new(work))), 1..5);
    let jobs =
        jobs.prop_map(|ops| Step::Submit(vec![Asked { key: None, require: None, require_lock: None, ops }]));
    let claim = (prop::bool::ANY, 1..6_u32, lease()).prop_map(move |(both, max, lease_ms)| {
        let queues = if both { vec![0, 1] } else { vec![0] };
        one(Do::Claim { queues, max, max_bytes: 1 << 20, lease_ms, worker: None })
    });
    let settle = (pick(), how()).prop_map(move |(lease, how)| one(Do::Settle { lease, how, once: false }));
    let step = prop_oneof![
        20 => jobs,
        30 => claim,
        25 => settle,
        12 => prop_oneof![4 => 1..400_u64, 1 => time()].prop_map(Step::Advance),
        4 => configured(),
        8 => vec(asked(), 1..4).prop_map(Step::Submit),
        3 => pick().prop_map(move |pick| one(Do::Cancel(pick))),
        1 => (-5_000_i64..5_000).prop_map(Step::SetWall),
        1 => Just(Step::Restart),
    ];
    (vec(configured(), 2), vec(step, 1..=most))
        .prop_map(|(first, then)| first.into_iter().chain(then).collect())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => op().prop_map(|op| Step::Submit(vec![alone(op)])),
        8 => vec(asked(), 1..4).prop_map(Step::Submit),
        12 => time().prop_map(Step::Advance),
        1 => prop_oneof![-40_000_i64..40_000, -200_000_000_i64..200_000_000].prop_map(Step::SetWall),
        4 => look().prop_map(Step::Look),
        1 => Just(Step::Restart),
    ]
}

/// A commit of one op.
pub(super) fn alone(op: Do) -> Asked {
    Asked { key: None, require: None, require_lock: None, ops: vec![op] }
}

fn asked() -> impl Strategy<Value = Asked> {
    let key = option::weighted(0.4, (0..3_u8, prop_oneof![9 => Just(0_u8), 1 => Just(1)]));
    let requires = (option::weighted(0.2, pick()), option::weighted(0.1, pick()));
    (key, requires, vec(op(), 1..5)).prop_map(|(key, (require, require_lock), ops)| Asked {
        key,
        require,
        require_lock,
        ops,
    })
}

fn op() -> impl Strategy<Value = Do> {
    let claim = (vec(queue(), 1..3), 1..4_u32, prop_oneof![4 => Just(1 << 20), 1 => 1..200_u64], lease())
        .prop_flat_map(|(queues, max, max_bytes, lease_ms)| {
            option::of(0..2_u8).prop_map(move |worker| {
                let queues = queues.clone();
                Do::Claim { queues, max, max_bytes, lease_ms, worker }
            })
        });
    let settle = (pick(), how(), any::<bool>());
    prop_oneof![
        24 => work().prop_map(|work| Do::Enqueue(Box::new(work))),
        20 => claim,
        20 => settle.prop_map(|(lease, how, once)| Do::Settle { lease, how, once }),
        6 => (pick(), lease(), any::<bool>())
            .prop_map(|(lease, extend_ms, progress)| Do::Extend { lease, extend_ms, progress }),
        5 => pick().prop_map(Do::Cancel),
        5 => pick().prop_map(Do::Retry),
        3 => pick().prop_map(Do::Delete),
        2 => (queue(), vec(pick(), 0..4)).prop_map(|(queue, jobs)| Do::RequeueDead { queue, jobs }),
        1 => (queue(), vec(pick(), 0..4)).prop_map(|(queue, jobs)| Do::DeleteDead { queue, jobs }),
        1 => (queue(), 1..4_u32).prop_map(|(queue, limit)| Do::Purge { queue, limit }),
        4 => (queue(), config()).prop_map(|(queue, config)| Do::Configure { queue, config }),
        3 => (queue(), prop::bool::weighted(0.4)).prop_map(|(queue, paused)| Do::Pause { queue, paused }),
        2 => queue().prop_map(|queue| Do::DeleteQueue { queue }),
        1 => (0..3_u8).prop_map(|token| Do::Grant { token }),
        1 => (0..3_u8).prop_map(|token| Do::Revoke { token }),
        1 => any::<u8>().prop_map(Do::Audit),
        30 => locks::op().prop_map(Do::Lock),
        6 => (0..2_u8, plan()).prop_map(|(name, what)| Do::Schedule { name, what }),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let next = || prop_oneof![-5_000_i64..0, 0..40_000_i64];
    prop_oneof![
        3 => (0..2_u8, any::<bool>(), next()).prop_map(|(times, all, next)| Plan::Put { times, all, next }),
        1 => Just(Plan::Delete),
        1 => Just(Plan::Pause),
        8 => (prop::bool::weighted(0.8), queue(), option::weighted(0.9, next()))
            .prop_map(|(tick, queue, next)| Plan::Fire { tick, queue, next }),
    ]
}

fn work() -> impl Strategy<Value = Work> {
    let due = prop_oneof![
        5 => Just(Due::Now),
        1 => (1..100_000_i64).prop_map(Due::Past),
        3 => time().prop_map(Due::In),
    ];
    let where_and_when =
        (queue(), option::weighted(0.2, 0..4_u8), prop_oneof![3 => Just(5), 1 => 0..10_u8], due);
    let limits = (
        option::weighted(0.15, time()),
        option::weighted(0.25, (0..3_u8, option::weighted(0.4, time()))),
        prop_oneof![1 => Just(20), 2 => 1..4_u32],
        option::weighted(0.3, 1..3_u32),
        prop_oneof![Just(Jitter::None), Just(Jitter::Full), Just(Jitter::Equal)],
        option::weighted(0.2, time().prop_map(|ms| ms + 1)),
        option::weighted(0.15, time()),
    );
    let body = (0..2_u8, option::of(0..2_u8), 0..60_usize);
    let keys = (option::weighted(0.5, 0..3_u8), option::weighted(0.5, 0..3_u8));
    (where_and_when, limits, body, after(), keys).prop_map(|(a, b, c, d, keys)| Work {
        queue: a.0,
        known_id: a.1,
        priority: a.2,
        due: a.3,
        expires_in: b.0,
        unique: b.1,
        max_attempts: b.2,
        max_crashes: b.3,
        jitter: b.4,
        timeout_ms: b.5,
        retain_ms: b.6,
        kind: c.0,
        tag: c.1,
        payload: c.2,
        after: d.0,
        after_failure: d.1,
        concurrency_key: keys.0,
        fairness_key: keys.1,
    })
}

fn after() -> impl Strategy<Value = (Vec<Named>, AfterFailure)> {
    let named = prop_oneof![
        9 => pick().prop_map(Named::Job),
        2 => (0..4_u32).prop_map(Named::Op),
    ]
    .boxed();
    let many = prop_oneof![3 => Just(0..1_usize), 2 => Just(1..3)];
    let failure = prop::sample::select(AfterFailure::ALL.to_vec());
    (many.prop_flat_map(move |many| vec(named.clone(), many)), failure)
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        4 => any::<bool>().prop_map(|result| How::Complete { result }),
        3 => Just(How::Fail),
        1 => time().prop_map(How::FailAfter),
        2 => Just(How::FailForGood),
        2 => prop_oneof![Just(0), time()].prop_map(How::Release),
        1 => Just(How::Cancel),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let ms = || prop_oneof![3 => Just(86_400_000_u64), 1 => 0..20_000_u64];
    (
        (option::of(0..5_u64), option::weighted(0.2, time())),
        any::<bool>(),
        option::of(1..4_u32),
        ms(),
        prop_oneof![2 => Just(1_000_000_u64), 1 => 0..4_u64],
        ms(),
        limits(),
    )
        .prop_map(
            |(bounds, drop_oldest, max_crashes, completed_ms, completed_count, dead_ms, limits)| {
                let (max_depth, max_age_ms) = bounds;
                Config {
                    max_depth,
                    max_age_ms,
                    drop_oldest,
                    max_crashes,
                    completed_ms,
                    completed_count,
                    dead_ms,
                    limits,
                }
            },
        )
}

fn limits() -> impl Strategy<Value = Limits> {
    (
        option::weighted(0.4, 1..4_u32),
        option::weighted(0.5, 1..3_u32),
        option::weighted(0.25, (1..3_000_u64, 1..4_u64)),
        option::weighted(0.4, any::<bool>()),
        option::weighted(0.3, 1..5_000_u64),
    )
        .prop_map(|(concurrency, key_concurrency, rate, fairness, ageing_ms)| Limits {
            concurrency,
            key_concurrency,
            rate,
            fairness,
            ageing_ms,
        })
}

fn look() -> impl Strategy<Value = Look> {
    use JobState::*;
    let state = prop::sample::select(vec![
        Scheduled, Blocked, Available, Running, Retryable, Completed, Cancelled, Dead,
    ]);
    let limit = || prop_oneof![1..4_u32, Just(1_000)];
    let jobs = (option::of(queue()), option::of(state), option::of(0..2_u8), option::of(0..2_u8), limit())
        .prop_map(|(queue, state, kind, tag, limit)| Look::Jobs { queue, state, kind, tag, limit });
    let dead = (queue(), option::of(0..2_u8), option::of(any::<bool>()), limit())
        .prop_map(|(queue, kind, boom, limit)| Look::Dead { queue, kind, boom, limit });
    let locks = (any::<bool>(), limit()).prop_map(|(prefix, limit)| Look::Locks { prefix, limit });
    prop_oneof![4 => jobs, 2 => dead, 1 => limit().prop_map(|limit| Look::Queues { limit }), 1 => locks]
}

fn queue() -> impl Strategy<Value = u8> {
    0..3_u8
}

pub(super) fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![4 => 0..4_usize, 1 => 0..80_usize].prop_map(Pick)
}

/// Leases are a few seconds, so that they run out among the steps.
fn lease() -> impl Strategy<Value = u64> {
    prop_oneof![1 => 1..1_000_u64, 3 => 1_000..30_000_u64]
}

pub(super) fn time() -> impl Strategy<Value = u64> {
    prop_oneof![2 => 0..50_u64, 3 => 50..5_000_u64, 2 => 5_000..40_000_u64, 1 => Just(90_000_000_u64)]
}
