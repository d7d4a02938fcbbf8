//! A caller that does what workers and producers do, on a queue of its own, and with events, locks and schedules that
//! are named after it.

mod locks;
mod schedules;

use mainstay_core::{
    JobId, QueueName, Timestamp, TopicFilter, TopicName,
    access::AuditRecord,
    after::{After, AfterFailure},
    event::{
        Event, EventOp, Fetch, GroupConfig, Nack, Position, Publish, SettleDeliveries, TopicConfig,
        TopicRetention,
    },
    id::JobIds,
    job::{JobBody, JobFailure, NewJob, Outcome, Retry, Unique},
    name::Name,
    op::{Claim, Commit, IdempotencyKey, Op, Require, Settle},
    queue::{QueueConfig, Retention},
    rules::mix,
};
use mainstay_testkit::world::LEASE_MS;

use super::ledger::{Act, Is, Ledger, events::SHORT};

/// What a caller goes through, by the numbers of [`Caller::next`]: locks, schedules and what else is rare.
const TOUR: [usize; 29] = [
    19, 20, 4, 21, 27, 6, 20, 32, 15, 21, 28, 14, 22, 4, 12, 17, 25, 31, 23, 6, 24, 16, 29, 20, 26, 30, 4,
    12, 18,
];

/// The topic of a caller's events.
pub(super) fn topic_of(queue: &QueueName) -> TopicName {
    TopicName::new(queue.as_str()).expect("callers' queues have names that topics may have")
}

/// The one of which only the newest are kept.
pub(super) fn short_topic_of(queue: &QueueName) -> TopicName {
    TopicName::new(&format!("{queue}.short")).expect("the same with a word more")
}

/// What else a caller has is named after its queue.
pub(super) fn name_of(queue: &QueueName, what: &str) -> Name {
    Name::new(&format!("{queue}.{what}")).expect("the same with a word more")
}

/// Its next act follows from its seed and what it was told so far, from nothing else.
pub(super) struct Caller {
    pub(super) ledger: Ledger,
    chance: Chance,
    ids: JobIds,
    acts: u64,
}

/// Numbers by a seed.
pub(super) struct Chance {
    seed: u64,
    draws: u64,
}

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance { seed, draws: 0 }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.draws += 1;
        mix(self.seed, self.draws)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        if all.is_empty() { None } else { Some(all[self.below(all.len())]) }
    }
}

impl Caller {
    pub(super) fn new(queue: &str, seed: u64) -> Caller {
        let ledger = Ledger::new(QueueName::new(queue).expect("a name"));
        Caller { ledger, chance: Chance::new(seed), ids: JobIds::default(), acts: 0 }
    }

    /// What it does now. It must then be told the outcome, or the act was not begun.
    pub(super) fn next(&mut self, now: Timestamp) -> Commit {
        self.acts += 1;
        let waiting: Vec<_> = self.ledger.those(Is::Waiting).collect();
        let running: Vec<_> = self.ledger.running().filter_map(|(id, lease)| Some((id, lease?))).collect();
        let dead: Vec<_> = self.ledger.those(Is::Dead).collect();
        let blocked: Vec<_> = self.ledger.those(Is::Blocked).collect();
        let idle = if self.chance.below(3) == 0 && !blocked.is_empty() { &blocked } else { &waiting };
        let a_waiting = self.chance.one_of(idle);
        let a_running = self.chance.one_of(&running);
        let a_dead = self.chance.one_of(&dead);
        let settle = |outcome| {
            let (id, lease) = a_running?;
            Some(vec![Op::Settle(Settle { id, lease, outcome, repeat_is_ok: true })])
        };
        let queue = self.ledger.queue.clone();
        // Dead letters are rare; they get their turn when there are some. So does, every second time, what comes about
        // by chance too seldom.
        let dice = if self.acts.is_multiple_of(2) {
            TOUR[(self.acts / 2) as usize % TOUR.len()]
        } else if a_dead.is_some() && self.chance.below(2) == 0 {
            17 + self.chance.below(2)
        } else {
            self.chance.below(33)
        };
        let ops = match dice {
            0 | 1 if waiting.len() < 30 => Some(self.add(now, 3)),
            2..6 => self.claim(&waiting),
            6..9 => self.finish_and_follow(now, a_running.map(|(id, _)| id)),
            9 => settle(Outcome::Complete { result: None }),
            10 => settle(Outcome::Fail { error: self.failure(), retry: Retry::After(0) }),
            11 => settle(Outcome::Fail { error: self.failure(), retry: Retry::Auto }),
            12 => settle(Outcome::Fail { error: self.failure(), retry: Retry::Never }),
            13 => settle(Outcome::Release { delay_ms: 0 }),
            14 => a_running.map(|(id, lease)| {
                let progress = Some(format!("{{\"act\":{}}}", self.acts).into());
                vec![Op::Extend { id, lease, extend_ms: LEASE_MS, progress }]
            }),
            15 => a_running.map(|(id, _)| id).or(a_waiting).map(|id| vec![Op::Cancel { id }]),
            16 => a_waiting.map(|id| vec![Op::Delete { id }]),
            17 => a_dead.map(|_| vec![Op::RequeueDead { queue: queue.clone(), ids: dead.clone() }]),
            18 => a_dead.map(|id| vec![Op::DeleteDead { queue: queue.clone(), ids: vec![id] }]),
            19 => Some(self.configure()),
            20..27 => self.lock(dice - 20),
            27..31 => self.schedule(dice - 27, now),
            31 => Some((0..1 + self.chance.below(2)).map(|_| self.publish_short()).collect()),
            32 => self.fail_delivery(),
            _ => None,
        };
        let ops = ops.or_else(|| self.claim(&waiting).filter(|_| running.len() < 3));
        let ops = ops.unwrap_or_else(|| self.add(now, 2));
        let entropy = self.chance.next();
        // Who has a lock says so where work is finished, and a stale one would be refused with all of it.
        let held = self.ledger.locks.held().filter(|_| matches!(ops[0], Op::Settle(_)));
        let require = held.map(|(name, lease)| Require::Lock { name: name.clone(), token: lease.token });
        let require = require.into_iter().collect();
        // Enqueues and claims come under keys now and then; those are asked again after a crash.
        let keyed = matches!(ops[0], Op::Enqueue(_) | Op::Claim(_)) && self.chance.below(3) == 0;
        let key = keyed.then(|| {
            let mut scope = [0; 16];
            scope[..8].copy_from_slice(&entropy.to_le_bytes());
            scope[8..].copy_from_slice(&mix(entropy, self.acts).to_le_bytes());
            IdempotencyKey { scope, fingerprint: [7; 16] }
        });
        Commit { key, require, ops, entropy }
    }

    /// The act happened.
    pub(super) fn heard(&mut self, act: &Act, replies: &[mainstay_core::op::Reply], now: Timestamp) {
        self.ledger.heard(act, replies, now);
    }

    fn add(&mut self, now: Timestamp, at_most: usize) -> Vec<Op> {
        (0..1 + self.chance.below(at_most)).map(|_| self.job(now)).collect()
    }

    fn job(&mut self, now: Timestamp) -> Op {
        Op::Enqueue(Box::new(self.new_job(now)))
    }

    fn new_job(&mut self, now: Timestamp) -> NewJob {
        let id = self.id(now);
        // Most bodies are small; some need pages of their own.
        let bytes = if self.chance.below(12) == 0 {
            5_000 + self.chance.below(5_000)
        } else {
            self.chance.below(200)
        };
        let payload = format!("{{\"job\":\"{id}\",\"filling\":\"{}\"}}", "x".repeat(bytes));
        let mut job = NewJob::new(id, self.ledger.queue.clone(), JobBody::new("work", &payload));
        job.priority = self.chance.below(10) as u8;
        if self.chance.below(4) == 0 {
            job.unique = Some(Unique { key: format!("only {id}").into(), for_ms: None });
        }
        let unfinished =
            self.ledger.jobs.iter().filter(|(_, job)| !matches!(job.is, Is::Completed | Is::Cancelled));
        let unfinished: Vec<_> = unfinished.map(|(id, _)| *id).collect();
        for _ in 0..self.chance.below(8).saturating_sub(5) {
            job.after.extend(self.chance.one_of(&unfinished).map(After::Job));
        }
        job.after_failure = self.chance.one_of(&AfterFailure::ALL).unwrap_or_default();
        job
    }

    fn id(&mut self, now: Timestamp) -> JobId {
        self.ids.next(now.0, &self.ledger.queue, self.chance.next())
    }

    fn claim(&mut self, waiting: &[JobId]) -> Option<Vec<Op>> {
        if waiting.is_empty() {
            return None;
        }
        let queues = vec![self.ledger.queue.clone()];
        let max = 1 + self.chance.below(3) as u32;
        let claim = Claim { queues, max, max_bytes: 16 << 20, lease_ms: LEASE_MS, worker: None };
        let mut ops = vec![Op::Claim(claim)];
        if self.ledger.events.has_group {
            let group = self.ledger.queue.clone();
            ops.push(Op::Event(EventOp::Fetch(Fetch { group, max: 2, max_bytes: 16 << 20, consumer: None })));
        }
        Some(ops)
    }

    /// The work is done, and more follows from it: across tables, both or neither.
    fn finish_and_follow(&mut self, now: Timestamp, id: Option<JobId>) -> Option<Vec<Op>> {
        let id = id?;
        let lease = self.ledger.running().find(|(running, _)| *running == id)?.1?;
        let result = Some(format!("[{}]", self.acts).into());
        let outcome = Outcome::Complete { result };
        let mut ops = vec![Op::Settle(Settle { id, lease, outcome, repeat_is_ok: false })];
        ops.extend(self.add(now, 2));
        ops.push(Op::Audit(AuditRecord {
            at: now,
            actor: "caller".into(),
            action: "test.finish".into(),
            subject: self.ledger.queue.to_string(),
            detail: format!("act {}", self.acts),
        }));
        ops.push(self.publish(topic_of(&self.ledger.queue)));
        // What was handed out is acknowledged with it, a tick is fired, a lock is given back.
        if let Some(lease) = self.ledger.events.deliveries.iter().find_map(|delivery| delivery.lease) {
            ops.push(Op::Event(EventOp::Ack { group: self.ledger.queue.clone(), lease }));
        }
        if self.chance.below(3) == 0 {
            ops.extend(self.fire(now));
            ops.extend(self.release());
        }
        Some(ops)
    }

    fn publish(&mut self, topic: TopicName) -> Op {
        let id = format!("act {} {:x}", self.acts, self.chance.next());
        let event = Event::new(&id, &topic, &format!("[{}]", self.acts));
        Op::Event(EventOp::Publish(Box::new(Publish::new(topic, event))))
    }

    fn publish_short(&mut self) -> Op {
        self.publish(short_topic_of(&self.ledger.queue))
    }

    /// An event was not handled: it comes again, or is a dead letter.
    fn fail_delivery(&mut self) -> Option<Vec<Op>> {
        let lease = self.ledger.events.deliveries.iter().find_map(|delivery| delivery.lease)?;
        let retry = if self.chance.below(2) == 0 { Retry::Never } else { Retry::After(0) };
        let nack = vec![Nack { lease, retry, error: Some(self.failure()) }];
        let group = self.ledger.queue.clone();
        let settle = SettleDeliveries { group, ack: vec![], nack, extend: vec![] };
        Some(vec![Op::Event(EventOp::Settle(Box::new(settle)))])
    }

    fn failure(&self) -> JobFailure {
        JobFailure {
            kind: Some("Boom".into()),
            message: format!("act {}", self.acts).into(),
            backtrace: None,
        }
    }

    fn configure(&self) -> Vec<Op> {
        let retention = Retention { completed_count: 3, ..Retention::default() };
        let config = QueueConfig { max_depth: Some(1_000 + self.acts), retention, ..QueueConfig::default() };
        let put = Op::PutQueue { queue: self.ledger.queue.clone(), config };
        let filter = TopicFilter::new(topic_of(&self.ledger.queue).as_str()).expect("a topic is a filter");
        // Deliveries never run out of time: whoever has one knows it.
        let config = GroupConfig { ack_wait_ms: 1 << 50, ..GroupConfig::new(vec![filter]) };
        let (group, config) = (self.ledger.queue.clone(), Box::new(config));
        let retention = TopicRetention { count: Some(SHORT as u64), ..TopicRetention::default() };
        let topic = short_topic_of(&self.ledger.queue);
        let short = EventOp::PutTopic { topic, config: TopicConfig { retention, schema: None } };
        let group = EventOp::PutGroup { group, config, start: Position::Earliest };
        vec![put, Op::Event(group), Op::Event(short)]
    }
}
