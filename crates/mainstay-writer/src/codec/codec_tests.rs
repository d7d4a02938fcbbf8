//! What is decoded is what was encoded.

use mainstay_core::{
    JobId, LeaseId, StoreTime, Timestamp, Token,
    access::{AccessToken, AuditRecord, Scope},
    after::{AfterFailure, WaitsFor},
    engine::{change::*, locks::change::*},
    id::JobIds,
    job::{Backoff, FailureRecord, JobBody, JobFailure, JobKeys, JobPolicy, NewJob},
    lock::{LockMode, Owner, Ticket},
    name::Name,
    op::{IdempotencyKey, Reply},
    queue::QueueConfig,
    rules::mix,
    schedule::{CatchUp, Schedule, ScheduleChange, ScheduleRecord, ScheduleState},
};
use proptest::prelude::*;

use super::{super::encode, *};

#[path = "events_tests.rs"]
mod events_tests;

/// Values from chance, small and large, of every shape.
struct Chance(u64);

impl Chance {
    fn number(&mut self) -> u64 {
        self.0 = mix(self.0, 1);
        self.0 >> (self.0 % 64)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    fn flag(&mut self) -> bool {
        self.0 = mix(self.0, 2);
        self.0 & 1 == 1
    }

    fn opt<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| value(self))
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn small(&mut self) -> u32 {
        self.number() as u32
    }

    fn text(&mut self) -> Arc<str> {
        let letters = ["a", "ß", "\"", "\0", "🦀", "{}"];
        (0..self.below(40)).map(|_| self.pick(&letters)).collect::<String>().into()
    }

    fn name(&mut self) -> Name {
        Name::new(&format!("n{}", self.number())).unwrap()
    }

    fn time(&mut self) -> Timestamp {
        Timestamp(if self.flag() { self.number() as i64 } else { -(self.below(1 << 40) as i64) })
    }

    fn id(&mut self) -> JobId {
        JobIds::default().next(self.below(1 << 47) as i64, &self.name(), self.number())
    }

    fn extras(&mut self) -> Extras {
        let keys = |c: &mut Self| JobKeys { concurrency: c.opt(Self::text), fairness: c.opt(Self::text) };
        let (expires_at, unique_key) = (self.opt(Self::time), self.opt(Self::text));
        Extras { expires_at, unique_key, keys: self.opt(keys).map(Arc::new) }
    }

    fn job(&mut self) -> LiveJob {
        LiveJob {
            id: self.id(),
            n: self.number(),
            run_at: self.time(),
            created_at: self.time(),
            queue: QueueId(self.small()),
            policy: PolicyId(self.small()),
            attempt: self.small(),
            size: self.small(),
            crashes: self.small(),
            priority: self.below(10) as u8,
            phase: self.pick(&[Phase::Waiting, Phase::Blocked, Phase::Running]),
            retrying: self.flag(),
            cancel_requested: self.flag(),
            has_extras: false,
        }
    }

    fn job_with_extras(&mut self) -> (LiveJob, Extras) {
        let (job, extras) = (self.job(), self.extras());
        (LiveJob { has_extras: extras != Extras::default(), ..job }, extras)
    }

    fn lease(&mut self) -> LeaseId {
        LeaseId { token: Token(self.number()), nonce: self.number() }
    }

    fn live_lease(&mut self) -> LiveLease {
        LiveLease {
            id: self.lease(),
            until: StoreTime(self.number()),
            ms: self.number(),
            claimed_at: StoreTime(self.number()),
            worker: self.opt(Self::name),
        }
    }

    fn settled(&mut self) -> SettledLease {
        let (verb, state) = (self.pick(&VERBS), self.pick(&STATES));
        SettledLease { id: self.lease(), verb, state, run_at: self.opt(Self::time) }
    }

    fn key(&mut self) -> FinishedKey {
        FinishedKey { queue: QueueId(self.small()), lane: self.pick(&Lane::ALL), f: self.number() }
    }

    fn ids(&mut self) -> Vec<JobId> {
        (0..self.below(4)).map(|_| self.id()).collect()
    }

    fn after(&mut self) -> WaitsFor {
        WaitsFor { jobs: self.ids().into(), failure: self.pick(&AfterFailure::ALL) }
    }

    fn after_change(&mut self) -> AfterChange {
        let (id, how) = (self.id(), self.pick(&Ending::ALL));
        match self.below(4) {
            0 => {
                let on = self.ids();
                AfterChange::Opened { waiter: id, on, failure: self.pick(&AfterFailure::ALL) }
            }
            1 => AfterChange::Closed { waiter: id, on: self.ids() },
            2 => AfterChange::Ended { id, how },
            _ => AfterChange::Told { id, how },
        }
    }

    fn limit(&mut self) -> LimitChange {
        let key = match self.below(3) {
            0 => LimitKey::Handed(StoreTime(self.number())),
            1 => LimitKey::Turn(self.opt(Self::text)),
            _ => LimitKey::Now,
        };
        LimitChange { queue: QueueId(self.small()), key, value: self.opt(Self::number) }
    }

    fn body(&mut self) -> Arc<JobBody> {
        Arc::new(JobBody {
            kind: self.text(),
            payload: self.text(),
            meta: self.opt(Self::text),
            tags: (0..self.below(4)).map(|_| self.text()).collect(),
            traceparent: self.opt(Self::text),
            after: self.opt(Self::after),
            unique_for_ms: self.opt(Self::number),
        })
    }

    fn change(&mut self) -> Change {
        let n = self.number();
        match self.below(25 + events_tests::KINDS) {
            0 => {
                let (job, extras) = self.job_with_extras();
                Change::JobPut { job, extras, settled: self.opt(Self::settled), body: self.opt(Self::body) }
            }
            1 => {
                let (lease, settled) = (self.opt(Self::live_lease), self.opt(Self::settled));
                Change::JobUpdated { job: self.job_with_extras().0, lease, settled }
            }
            2 => {
                let (job, extras) = self.job_with_extras();
                let (state, finished_at) = (self.pick(&STATES), self.time());
                let (reason, settled) = (self.opt(|c| c.pick(&REASONS)), self.opt(Self::settled));
                let key = self.key();
                Change::JobFinished(Arc::new(FinishedJob {
                    key,
                    job,
                    extras,
                    state,
                    reason,
                    finished_at,
                    settled,
                }))
            }
            3 => Change::FinishedRevived { key: self.key(), id: self.id() },
            4 => Change::JobRemoved { id: self.id(), n },
            5 => Change::FinishedRemoved(Forgotten {
                key: self.key(),
                id: self.id(),
                n,
                finished_at: self.time(),
            }),
            6 => {
                let config = QueueConfig { max_depth: self.opt(Self::number), ..QueueConfig::default() };
                let (paused, dropped) = (self.flag(), self.flag());
                Change::Queue { id: QueueId(self.small()), name: self.name(), config, paused, dropped }
            }
            7 => Change::QueueRemoved(QueueId(self.small())),
            8 => {
                let backoff = Backoff { base_ms: n, jitter: self.pick(&JITTERS), ..Backoff::default() };
                let policy = JobPolicy {
                    max_attempts: self.small(),
                    max_crashes: self.opt(Self::small),
                    backoff,
                    timeout_ms: self.opt(Self::number),
                    retain_ms: self.opt(Self::number),
                };
                Change::Policy { id: PolicyId(self.small()), policy }
            }
            9 => Change::Result { n, result: self.text() },
            10 => Change::Progress { n, progress: self.text() },
            11 => {
                let failure = JobFailure {
                    kind: self.opt(Self::text),
                    message: self.text(),
                    backtrace: self.opt(Self::text),
                };
                let record = FailureRecord { attempt: self.small(), at: self.time(), failure };
                Change::Failure { n, record: Box::new(record) }
            }
            12 => {
                let (queue, key) = (QueueId(self.small()), self.text());
                Change::Unique { queue, key, id: self.id(), until: self.opt(Self::time) }
            }
            13 => Change::UniqueRemoved { queue: QueueId(self.small()), key: self.text() },
            14 => {
                let key = IdempotencyKey { scope: [self.small() as u8; 16], fingerprint: [7; 16] };
                let settled = Reply::Settled { id: self.id(), state: self.pick(&STATES), run_at: None };
                let replies =
                    [settled, Reply::Count(n), Reply::Done].into_iter().skip(self.below(3) as usize);
                Change::Keyed { k: n, key, at: self.time(), replies: replies.collect() }
            }
            15 => Change::KeyedForgotten { up_to: n },
            16 => {
                let scopes = vec![Scope::parse("jobs:work=a").unwrap()];
                let hash = [self.small() as u8; 32];
                Change::AccessToken(AccessToken { name: self.name(), hash, scopes, created_at: self.time() })
            }
            17 => Change::AccessTokenRemoved(self.name()),
            18 => {
                let mut text = || self.text().to_string();
                let (actor, action, subject, detail) = (text(), text(), text(), text());
                let record = AuditRecord { at: self.time(), actor, action, subject, detail };
                Change::Audit { number: n, record }
            }
            19 => Change::AuditForgotten { up_to: n },
            20 => Change::After(self.after_change()),
            21 => Change::Lock(self.lock_change(n)),
            22 => Change::Limit(self.limit()),
            23 => Change::Schedule(self.schedule()),
            24 => Change::PolicyRemoved(PolicyId(self.small())),
            _ => self.event_change(),
        }
    }

    fn lock_change(&mut self, n: u64) -> LockChange {
        let (name, owner) = (self.name(), Owner::new(&format!("me {n}")).unwrap());
        let permits = self.small();
        let mode = self.pick(&[LockMode::Exclusive, LockMode::Shared, LockMode::Semaphore { permits }]);
        let ticket = Ticket { scope: [self.small() as u8; 16], fingerprint: [self.small() as u8; 16] };
        let (ttl_ms, delay_ms) = (self.number(), self.number());
        match self.below(5) {
            0 => LockChange::Granted(Box::new(LockGrantRow {
                name,
                lease: self.lease(),
                owner,
                mode,
                until: self.opt(|c| StoreTime(c.number())),
                acquired_at: self.time(),
                ttl_ms,
                ms: self.number(),
                delay_ms,
                ticket: self.opt(|_| ticket),
            })),
            1 => LockChange::Renewed { name, token: Token(n), until: StoreTime(self.number()), ms: ttl_ms },
            2 => LockChange::Freed { name, token: Token(n) },
            3 => {
                let since = self.time();
                let row = LockWaiterRow { place: n, name, owner, mode, ttl_ms, delay_ms, ticket, since };
                LockChange::Queued(Box::new(row))
            }
            _ => LockChange::Left { name, place: n, scope: None },
        }
    }
}

impl Chance {
    fn schedule(&mut self) -> ScheduleChange {
        let state = ScheduleState {
            revision: self.number(),
            paused: self.flag(),
            next: self.opt(Self::time),
            last: self.opt(Self::time),
            last_job: self.opt(Self::id),
            fired: self.number(),
            missed: self.number(),
        };
        match self.below(3) {
            0 => ScheduleChange::Removed(self.name()),
            1 => ScheduleChange::Moved { name: self.name(), state },
            _ => {
                let job = NewJob::new(self.id(), self.name(), JobBody::new("k", &self.text()));
                let (name, cron, timezone) = (self.name(), self.text(), self.text());
                let catch_up = self.pick(&[CatchUp::Skip, CatchUp::One, CatchUp::All]);
                let schedule = Arc::new(Schedule { name, cron, timezone, catch_up, job });
                let (created_at, updated_at) = (self.time(), self.time());
                ScheduleChange::Put(Box::new(ScheduleRecord { schedule, state, created_at, updated_at }))
            }
        }
    }
}

fn counters(chance: &mut Chance) -> Counters {
    let (token, n, f) = (chance.number(), chance.number(), chance.number());
    let (k, audit, clock) = (chance.number(), chance.number(), StoreTime(chance.number()));
    Counters { token, n, f, k, audit, clock }
}

fn encoded(counters: &Counters, changes: &[Change]) -> Vec<u8> {
    let mut bytes = vec![];
    encode::counters(&mut bytes, counters);
    changes.iter().for_each(|change| encode::change(&mut bytes, change));
    bytes
}

proptest! {
    #[test]
    fn a_group_comes_back_as_it_was(seed: u64, many in 0..12_usize) {
        let mut chance = Chance(seed);
        let changes: Vec<_> = (0..many).map(|_| chance.change()).collect();
        let counters = counters(&mut chance);
        let read = group(&encoded(&counters, &changes)).expect("it was written like this");
        prop_assert_eq!(read, (counters, changes));
    }

    #[test]
    fn bytes_that_make_no_sense_are_an_error_and_never_a_panic(seed: u64, cut: u16, flip: u16) {
        let mut chance = Chance(seed);
        let changes: Vec<_> = (0..4).map(|_| chance.change()).collect();
        let mut bytes = encoded(&counters(&mut chance), &changes);
        let at = usize::from(flip) % bytes.len();
        bytes[at] ^= 1 << (flip % 8);
        bytes.truncate(usize::from(cut) % (bytes.len() + 1));
        let _ = group(&bytes);
    }
}

/// Found by fuzzing: it was read, and would have been written without them.
#[test]
fn keys_of_a_job_without_what_stands_before_them_are_damage() {
    const FLAGS: usize = 62;
    let mut chance = Chance(7);
    let keys = Some(Arc::new(JobKeys { concurrency: None, fairness: None }));
    let extras = Extras { expires_at: None, unique_key: None, keys };
    let job = LiveJob { has_extras: true, ..chance.job() };
    let mut bytes = vec![];
    encode::change(&mut bytes, &Change::JobPut { job, extras, settled: None, body: None });
    assert_eq!(one(&bytes).map(|_| ()), Ok(()));
    bytes[FLAGS] &= !encode::HAS_EXTRAS;
    bytes.drain(FLAGS + 1..FLAGS + 3);
    assert!(one(&bytes).is_err());
}

#[test]
fn every_kind_of_change_is_tried() {
    let kinds: std::collections::BTreeSet<_> =
        (0..2_000).map(|seed| encoded(&Counters::default(), &[Chance(mix(seed, 3)).change()])[48]).collect();
    let of_events = 50..50 + events_tests::KINDS as u8;
    let kinds_there_are =
        (1..=22).chain(40..=44).chain(of_events).chain(70..=72).chain(80..=84).chain(90..=92);
    assert_eq!(kinds, kinds_there_are.collect());
}

/// What version 1 looks like, to the byte: a released build must read it for ever.
#[test]
fn the_form_of_version_1_never_changes() {
    let change = Change::Result { n: 258, result: "ok".into() };
    let mut bytes = vec![];
    encode::change(&mut bytes, &change);
    assert_eq!(bytes, [10, 2, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'o', b'k']);
    let id = JobId::parse("0192f7c6-5f2a-7000-8000-000000000000").unwrap();
    bytes.clear();
    encode::change(&mut bytes, &Change::JobRemoved { id, n: 1 });
    assert_eq!(bytes[..9], [5, 0x01, 0x92, 0xf7, 0xc6, 0x5f, 0x2a, 0x70, 0x00]);
    assert_eq!(bytes.len(), 25);
    bytes.clear();
    let removed = EventChange::EventsRemoved { topic: TopicId(1), up_to: 2 };
    encode::change(&mut bytes, &Change::Event(removed));
    assert_eq!(bytes, [53, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
}
