//! Random sequences about topics, events and groups, on the store under test and on the reference at once.
//!
//! Every answer is compared; and, without any reference: numbers have no gaps, each event that a group was owed is
//! delivered or a dead letter or counted as skipped, and, by a [`Book`] of its own for each group, nothing below the
//! floor is open, and events of one key come one after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mainstay_core::{
    LeaseId, Store, Token,
    event::{
        DeadEvent, Delivery, Event, EventItem, EventOp, EventQuery, EventReply, Fetch, GroupConfig,
        GroupRecord, Nack, Position, Prolong, Publish, SettleDeliveries, TopicConfig, TopicRetention,
    },
    job::Retry,
    memory::MemoryStore,
    op::{Commit, Op, Reply},
    rules::mix,
    store::{Query, Record},
};
use proptest::{collection::vec, option, prelude::*};

use super::{
    event_book::{Book, Shown},
    play::Outcomes,
};
use crate::{
    clock::ManualClock,
    harness::Harness,
    world::{World, boom, name, plain_group, topic_name},
};

const TOPICS: [&str; 4] = ["a.b", "a.c", "a.b.c", "d"];
const GROUPS: [&str; 3] = ["g", "h", "keys"];

/// One step.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Submit(Vec<Do>),
    Advance(u64),
    Restart,
}

/// One op. A lease is named by how long ago it was granted, a dead letter by its place in the list.
#[derive(Clone, Debug)]
pub(super) enum Do {
    Publish {
        topic: usize,
        key: Option<u8>,
        id: Option<u8>,
        size: usize,
    },
    PutTopic {
        topic: usize,
        age_ms: Option<u64>,
        count: Option<u64>,
        bytes: Option<u64>,
    },
    DeleteTopic {
        topic: usize,
    },
    PutGroup {
        group: usize,
        filter: usize,
        start: Start,
        max_deliver: u32,
        max_in_flight: u32,
    },
    DeleteGroup {
        group: usize,
    },
    Fetch {
        group: usize,
        max: u32,
        max_bytes: u64,
    },
    Settle {
        group: usize,
        ack: Vec<usize>,
        nack: Vec<(usize, Option<u64>)>,
        extend: Vec<usize>,
    },
    GiveUp {
        group: usize,
        lease: usize,
    },
    Ack {
        group: usize,
        lease: usize,
    },
    Release {
        lease: usize,
        delay_ms: u64,
    },
    Seek {
        group: usize,
        to: Start,
    },
    Requeue {
        group: usize,
        places: Vec<usize>,
    },
    DeleteDead {
        group: usize,
        place: usize,
    },
    /// Refused: what came before it in its commit has not happened.
    Spoil,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    Latest,
    Earliest,
    Seq(u64),
    Ago(u64),
}

pub(super) fn sequences(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let ops = prop_oneof![
        6 => op().prop_map(|op| vec![op]),
        2 => vec(op(), 2..5),
        1 => vec(op(), 1..4).prop_map(|mut ops| { ops.push(Do::Spoil); ops }),
    ];
    let step = prop_oneof![
        12 => ops.prop_map(Step::Submit),
        3 => prop_oneof![0..2_000_u64, 2_000..40_000_u64, Just(130_000_u64)].prop_map(Step::Advance),
        1 => Just(Step::Restart),
    ];
    vec(step, 1..=most)
}

fn op() -> impl Strategy<Value = Do> {
    let (topic, group, lease) = (|| 0..TOPICS.len(), || 0..GROUPS.len(), || 0..12_usize);
    let publish = (topic(), option::of(0..3_u8), option::weighted(0.2, 0..6_u8), 0..80_usize)
        .prop_map(|(topic, key, id, size)| Do::Publish { topic, key, id, size });
    let put_topic = (topic(), option::of(0..60_000_u64), option::of(0..8_u64), option::of(0..900_u64))
        .prop_map(|(topic, age_ms, count, bytes)| Do::PutTopic { topic, age_ms, count, bytes });
    let put_group = (group(), 0..4_usize, start(), 1..4_u32, prop_oneof![1..4_u32, Just(1_000)]).prop_map(
        |(group, filter, start, max_deliver, max_in_flight)| Do::PutGroup {
            group,
            filter,
            start,
            max_deliver,
            max_in_flight,
        },
    );
    let fetch = (group(), 1..6_u32, prop_oneof![3 => Just(1_u64 << 20), 1 => 1..300_u64])
        .prop_map(|(group, max, max_bytes)| Do::Fetch { group, max, max_bytes });
    let nack = (lease(), option::of(0..20_000_u64));
    let settle = (group(), vec(lease(), 0..4), vec(nack, 0..2), vec(lease(), 0..2))
        .prop_map(|(group, ack, nack, extend)| Do::Settle { group, ack, nack, extend });
    prop_oneof![
        30 => publish,
        2 => put_topic,
        1 => topic().prop_map(|topic| Do::DeleteTopic { topic }),
        6 => put_group,
        1 => group().prop_map(|group| Do::DeleteGroup { group }),
        25 => fetch,
        20 => settle,
        4 => (group(), lease()).prop_map(|(group, lease)| Do::GiveUp { group, lease }),
        3 => (group(), lease()).prop_map(|(group, lease)| Do::Ack { group, lease }),
        3 => (lease(), prop_oneof![Just(0), 0..20_000_u64])
            .prop_map(|(lease, delay_ms)| Do::Release { lease, delay_ms }),
        2 => (group(), start()).prop_map(|(group, to)| Do::Seek { group, to }),
        3 => (group(), vec(0..4_usize, 1..3)).prop_map(|(group, places)| Do::Requeue { group, places }),
        1 => (group(), 0..4_usize).prop_map(|(group, place)| Do::DeleteDead { group, place }),
    ]
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        1 => Just(Start::Latest),
        2 => Just(Start::Earliest),
        1 => (0..40_u64).prop_map(Start::Seq),
        1 => (0..60_000_u64).prop_map(Start::Ago),
    ]
}

/// Plays `steps` on `world`, whose store is fresh.
pub(super) async fn play(world: &mut World, steps: &[Step]) -> Outcomes {
    let clock = world.harness().clock().clone();
    let reference = World::open(Box::new(Reference(clock))).await;
    let (owed, books) = (BTreeMap::new(), BTreeMap::new());
    let mut play = Play { reference, leases: vec![], draws: 0, seq: 0, owed, books };
    for (n, step) in steps.iter().enumerate() {
        play.step(world, step).await.map_err(|what| format!("step {n}, {step:?}: {what}"))?;
    }
    play.nothing_is_forgotten(world).await
}

/// The engine in RAM, on the clock of the store under test.
pub(super) struct Reference(pub(super) Arc<ManualClock>);

#[async_trait::async_trait]
impl Harness for Reference {
    fn clock(&self) -> &Arc<ManualClock> {
        &self.0
    }
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(MemoryStore::new(self.0.clone()).without_housekeeping())
    }
}

/// What a group was owed since it was last told where to be, and what came of it.
#[derive(Default)]
struct Owed {
    events: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
    skipped_before: u64,
}

struct Play {
    reference: World,
    /// Every grant: its group, the tested store's lease, the reference's.
    leases: Vec<(usize, u64, LeaseId, LeaseId)>,
    draws: u64,
    /// The last number given.
    seq: u64,
    owed: BTreeMap<usize, Owed>,
    books: BTreeMap<usize, Book>,
}

impl Play {
    async fn step(&mut self, world: &mut World, step: &Step) -> Outcomes {
        match step {
            Step::Submit(ops) => self.submit(world, ops).await?,
            Step::Advance(ms) => world.advance(*ms),
            Step::Restart if world.harness().durable() => self.restart(world).await?,
            Step::Restart => {}
        }
        self.maintain(world).await;
        self.compare(world).await
    }

    async fn maintain(&self, world: &World) {
        world.maintain().await;
        self.reference.maintain().await;
    }

    async fn submit(&mut self, world: &World, ops: &[Do]) -> Outcomes {
        self.draws += 1;
        let entropy = mix(0x6576_656e_7473, self.draws);
        let mut sides = [vec![], vec![]];
        for (n, op) in ops.iter().enumerate() {
            let dead = match op {
                Do::Requeue { group, .. } | Do::DeleteDead { group, .. } => {
                    [self.dead_numbers(world, *group).await, self.dead_numbers(&self.reference, *group).await]
                }
                _ => [vec![], vec![]],
            };
            for side in 0..2 {
                sides[side].push(self.op(world, op, n, side, &dead[side]));
            }
        }
        let asked = sides[0].clone();
        let skipped = self.skipped(world).await;
        let [tested, expected] = sides.map(|ops| Commit { ops, entropy, ..Commit::default() });
        let answer = world.commit(tested).await;
        let expected = self.reference.commit(expected).await;
        let plain = |replies: &[Reply]| replies.iter().cloned().map(without_leases).collect::<Vec<_>>();
        match (&answer, &expected) {
            (Ok(answer), Ok(expected)) => {
                let (a, b) = (plain(&answer.replies), plain(&expected.replies));
                same("an answer", &a, &b)?;
                for (n, (op, reply)) in ops.iter().zip(&answer.replies).enumerate() {
                    self.note(world, (op, ops), reply, &expected.replies[n], &skipped).await?;
                    self.book(world, (op, ops), &asked[n], reply).await?;
                }
                Ok(())
            }
            (answer, expected) => same("an answer", &answer.as_ref().err(), &expected.as_ref().err()),
        }
    }

    /// What each group counts as skipped.
    async fn skipped(&self, world: &World) -> BTreeMap<usize, u64> {
        let mut skipped = BTreeMap::new();
        for (group, name) in GROUPS.iter().enumerate() {
            if let Some(record) = world.try_group(name).await {
                skipped.insert(group, record.skipped);
            }
        }
        skipped
    }

    async fn dead_numbers(&self, world: &World, group: usize) -> Vec<u64> {
        world.dead_events(GROUPS[group]).await.iter().map(|dead| dead.number).collect()
    }

    fn op(&self, world: &World, op: &Do, n: usize, side: usize, dead: &[u64]) -> Op {
        let group = |group: &usize| name(GROUPS[*group]);
        let lease = |back: usize| match self.leases.len().checked_sub(back + 1).map(|at| &self.leases[at]) {
            Some((_, _, tested, reference)) => [*tested, *reference][side],
            None => LeaseId { token: Token(1), nonce: 1 },
        };
        let number = |place: &usize| dead.get(*place).copied().unwrap_or(1 << 50);
        Op::Event(match op {
            Do::Publish { topic, key, id, size } => {
                let topic = topic_name(TOPICS[*topic]);
                let own = id.map(|id| format!("id{id}"));
                let fresh = format!("fresh {} {n}", self.draws);
                let event = Event {
                    partition_key: key.map(|key| format!("k{key}").into()),
                    ..Event::new(own.as_deref().unwrap_or(&fresh), &topic, &"x".repeat(*size))
                };
                let publish = if own.is_some() {
                    Publish::new(topic, event)
                } else {
                    Publish::with_fresh_id(topic, event)
                };
                EventOp::Publish(Box::new(publish))
            }
            Do::PutTopic { topic, age_ms, count, bytes } => {
                let retention = TopicRetention { age_ms: *age_ms, count: *count, bytes: *bytes };
                let config = TopicConfig { retention, schema: None };
                EventOp::PutTopic { topic: topic_name(TOPICS[*topic]), config }
            }
            Do::DeleteTopic { topic } => EventOp::DeleteTopic { topic: topic_name(TOPICS[*topic]) },
            Do::PutGroup { group: which, filter, start, max_deliver, max_in_flight } => {
                let config = config(*which, *filter, *max_deliver, *max_in_flight);
                let start = position(world, *start);
                EventOp::PutGroup { group: group(which), config: Box::new(config), start }
            }
            Do::DeleteGroup { group: which } => EventOp::DeleteGroup { group: group(which) },
            Do::Fetch { group: which, max, max_bytes } => EventOp::Fetch(Fetch {
                group: group(which),
                max: *max,
                max_bytes: *max_bytes,
                consumer: None,
            }),
            Do::Settle { group: which, ack, nack, extend } => EventOp::Settle(Box::new(SettleDeliveries {
                group: group(which),
                ack: ack.iter().map(|back| lease(*back)).collect(),
                nack: nack
                    .iter()
                    .map(|(back, delay)| Nack {
                        lease: lease(*back),
                        retry: delay.map_or(Retry::Auto, Retry::After),
                        error: Some(boom()),
                    })
                    .collect(),
                extend: extend
                    .iter()
                    .map(|back| Prolong { lease: lease(*back), extend_ms: 20_000 })
                    .collect(),
            })),
            Do::GiveUp { group: which, lease: back } => EventOp::Settle(Box::new(SettleDeliveries {
                group: group(which),
                ack: vec![],
                nack: vec![Nack { lease: lease(*back), retry: Retry::Never, error: None }],
                extend: vec![],
            })),
            Do::Ack { group: which, lease: back } => {
                EventOp::Ack { group: group(which), lease: lease(*back) }
            }
            Do::Release { lease: back, delay_ms } => {
                EventOp::Release { leases: vec![lease(*back)], delay_ms: *delay_ms }
            }
            Do::Seek { group: which, to } => EventOp::Seek { group: group(which), to: position(world, *to) },
            Do::Requeue { group: which, places } => {
                let numbers = places.iter().map(number).collect();
                EventOp::RequeueDead { group: group(which), numbers }
            }
            Do::DeleteDead { group: which, place } => {
                EventOp::DeleteDead { group: group(which), numbers: vec![number(place)] }
            }
            Do::Spoil => return Op::DeleteQueue { queue: name("nobody") },
        })
    }

    /// What an op that happened means for the books. `op` is one of `all`, and `skipped` what groups counted before them.
    async fn note(
        &mut self,
        world: &World,
        (op, all): (&Do, &[Do]),
        reply: &Reply,
        expected: &Reply,
        skipped: &BTreeMap<usize, u64>,
    ) -> Outcomes {
        match (op, reply) {
            (Do::Publish { topic, .. }, Reply::Event(EventReply::Published { seq, deduplicated: false })) => {
                if *seq != self.seq + 1 {
                    return Err(format!("event {seq} came after {}", self.seq));
                }
                self.seq = *seq;
                for (group, owed) in &mut self.owed {
                    let Some(record) = world.try_group(GROUPS[*group]).await else { continue };
                    if record.config.topics.iter().any(|f| f.matches(&topic_name(TOPICS[*topic]))) {
                        owed.events.insert(*seq);
                    }
                }
            }
            // From here on, it is owed what is published; not what was.
            (Do::PutGroup { group, .. } | Do::Seek { group, .. }, _) => {
                let record = world.try_group(GROUPS[*group]).await;
                let begins_now = record.as_ref().is_none_or(|record| record.cursor <= self.seq + 1);
                // What it skips in this commit, by an op behind this one, counts.
                let anew =
                    all.iter().any(|op| matches!(op, Do::DeleteGroup { group: gone } if gone == group));
                let skipped_before = skipped.get(group).copied().filter(|_| !anew).unwrap_or(0);
                self.owed.remove(group);
                if begins_now {
                    self.owed.insert(*group, Owed { skipped_before, ..Owed::default() });
                }
            }
            (Do::DeleteGroup { group }, _) => drop(self.owed.remove(group)),
            // A dead letter that is deleted is nobody's business any more.
            (Do::DeleteDead { group, .. }, Reply::Count(1)) => drop(self.owed.remove(group)),
            (Do::Fetch { group, .. }, Reply::Event(EventReply::Fetched(deliveries))) => {
                let Reply::Event(EventReply::Fetched(expected)) = expected else { return Ok(()) };
                // A commit that fetches and deletes the group has leases of nothing.
                let void =
                    all.iter().any(|op| matches!(op, Do::DeleteGroup { group: gone } if gone == group));
                for (delivery, expected) in deliveries.iter().zip(expected) {
                    if delivery.event.is_none() && !void {
                        return Err(format!("event {} came without what happened", delivery.seq));
                    }
                    self.leases.push((*group, delivery.seq, delivery.lease, expected.lease));
                    if let Some(owed) = self.owed.get_mut(group) {
                        owed.delivered.insert(delivery.seq);
                    }
                }
                if GROUPS[*group] == "keys" {
                    one_of_a_key(deliveries)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What it means for the book of its group. `op` is one of `all`.
    async fn book(&mut self, world: &World, (op, all): (&Do, &[Do]), asked: &Op, reply: &Reply) -> Outcomes {
        match (op, reply) {
            (Do::DeleteGroup { group } | Do::Seek { group, .. }, _) => drop(self.books.remove(group)),
            (Do::Fetch { group, .. }, Reply::Event(EventReply::Fetched(deliveries))) => {
                let shown = shown(world, *group).await;
                // What the same commit has made of a dead letter was one when this was handed out.
                let revives = |op: &Do| matches!(op, Do::Requeue { group: of, .. } if of == group);
                let ordered = GROUPS[*group] == "keys" && !all.iter().any(revives);
                self.books.entry(*group).or_default().fetched(deliveries, ordered, &shown)?;
            }
            // A lease says of which group it is.
            _ => self.books.values_mut().for_each(|book| book.note(asked, reply, world.now())),
        }
        Ok(())
    }

    /// All that can be seen, on both sides.
    async fn compare(&self, world: &World) -> Outcomes {
        let (tested, expected) = (everything(world).await, everything(&self.reference).await);
        same("what can be seen", &tested, &expected)?;
        for group in &tested.groups {
            if group.floor > group.cursor {
                return Err(format!("the floor is ahead of the cursor: {group:?}"));
            }
            let number = GROUPS.iter().position(|name| *name == group.name.as_str());
            if let Some((number, book)) = number.and_then(|number| Some((number, self.books.get(&number)?))) {
                book.judge_floor(group.floor, &shown(world, number).await)?;
            }
        }
        let log = world.log(&[], Position::Earliest).await;
        same("the log", &log, &self.reference.log(&[], Position::Earliest).await)?;
        if !log.is_sorted_by(|a, b| a.seq < b.seq) {
            return Err("the log is not in order".into());
        }
        Ok(())
    }

    /// A restart gives live leases their last granted time again, which the reference cannot do. So they are given it
    /// just before, by an extend on both sides: then both end at the same instant.
    async fn restart(&mut self, world: &mut World) -> Outcomes {
        // Retention may act a second late; a store that opens looks at once.
        world.advance(1_000);
        self.maintain(world).await;
        for (group, _, tested, reference) in &self.leases {
            let extend = |lease| {
                let extend = vec![Prolong { lease, extend_ms: 20_000 }];
                let group = name(GROUPS[*group]);
                Op::Event(EventOp::Settle(Box::new(SettleDeliveries {
                    group,
                    ack: vec![],
                    nack: vec![],
                    extend,
                })))
            };
            let answers =
                (world.try_op(extend(*tested)).await, self.reference.try_op(extend(*reference)).await);
            same("an extend before a restart", &answers.0, &answers.1)?;
        }
        world.reopen().await;
        // It looks at all topics when it opens, and not again for a second. So does the reference.
        for record in self.reference.list_by(&Query::Event(EventQuery::Topics), 1_000).await {
            if let Record::Event(EventItem::Topic(topic)) = record {
                let put = EventOp::PutTopic { topic: topic.name, config: topic.config };
                self.reference.try_op(Op::Event(put)).await.map_err(|why| format!("{why:?}"))?;
            }
        }
        Ok(())
    }

    /// Every event that a group was owed was delivered, is a dead letter, or is counted as skipped.
    async fn nothing_is_forgotten(&mut self, world: &World) -> Outcomes {
        for (group, owed) in std::mem::take(&mut self.owed) {
            let (group, mut delivered) = (GROUPS[group], owed.delivered);
            let mut config = match world.try_group(group).await {
                Some(record) => record.config,
                None => continue,
            };
            config.max_in_flight = 1_000;
            world.put_group(group, config, Position::Latest).await;
            for _ in 0..100 {
                let deliveries = world.fetch(group, 100).await;
                for delivery in &deliveries {
                    delivered.insert(delivery.seq);
                    world.ack(group, delivery).await;
                }
                let record = world.group_record(group).await;
                if record.lag + record.in_flight == 0 {
                    break;
                }
                world.pass(20_000).await;
            }
            let record = world.group_record(group).await;
            if (record.lag, record.in_flight) != (0, 0) {
                return Err(format!("a group does not come to its end: {record:?}"));
            }
            let dead: BTreeSet<u64> = world.dead_events(group).await.iter().map(|dead| dead.seq).collect();
            let missed =
                owed.events.iter().filter(|seq| !delivered.contains(seq) && !dead.contains(seq)).count();
            let skipped = record.skipped - owed.skipped_before;
            if missed as u64 > skipped {
                return Err(format!(
                    "group {group} missed {missed} events, and counted {skipped} as skipped"
                ));
            }
        }
        Ok(())
    }
}

async fn shown(world: &World, group: usize) -> Shown {
    Shown {
        now: world.now(),
        log: world.log(&[], Position::Earliest).await.iter().map(|event| event.seq).collect(),
        dead: world.dead_events(GROUPS[group]).await.iter().map(|dead| dead.seq).collect(),
    }
}

/// All that a store shows of topics and groups.
#[derive(Debug, PartialEq)]
struct View {
    topics: Vec<Record>,
    groups: Vec<GroupRecord>,
    dead: Vec<Vec<DeadEvent>>,
}

async fn everything(world: &World) -> View {
    let topics = world.list_by(&Query::Event(EventQuery::Topics), 3).await;
    let (mut groups, mut dead) = (vec![], vec![]);
    for record in world.list_by(&Query::Event(EventQuery::Groups), 2).await {
        let Record::Event(EventItem::Group(group)) = record else {
            panic!("a list of groups held {record:?}")
        };
        let mut letters = world.dead_events(group.name.as_str()).await;
        // The store's own business.
        letters.iter_mut().for_each(|letter| letter.number = 0);
        dead.push(letters);
        groups.push(group);
    }
    View { topics, groups, dead }
}

fn config(group: usize, filter: usize, max_deliver: u32, max_in_flight: u32) -> GroupConfig {
    let filters = [&["a.*"][..], &[">"], &["a.b", "d"], &["*", "a.b.c"]][filter];
    GroupConfig {
        max_deliver,
        max_in_flight,
        ack_wait_ms: 20_000,
        ordered_by_key: GROUPS[group] == "keys",
        ..plain_group(filters)
    }
}

fn position(world: &World, start: Start) -> Position {
    match start {
        Start::Latest => Position::Latest,
        Start::Earliest => Position::Earliest,
        Start::Seq(seq) => Position::Seq(seq),
        Start::Ago(ms) => Position::Time(mainstay_core::Timestamp(world.now().0 - ms as i64)),
    }
}

/// No two events of one key are handed out together.
fn one_of_a_key(deliveries: &[Delivery]) -> Outcomes {
    let mut keys = BTreeSet::new();
    for delivery in deliveries {
        let key = delivery.event.as_ref().and_then(|event| event.partition_key.clone());
        if key.is_some_and(|key| !keys.insert(key)) {
            return Err("two events of one key were handed out together".into());
        }
    }
    Ok(())
}

fn without_leases(mut reply: Reply) -> Reply {
    if let Reply::Event(EventReply::Fetched(deliveries)) = &mut reply {
        for delivery in deliveries {
            delivery.lease = LeaseId { token: Token(0), nonce: 0 };
            delivery.dead = delivery.dead.map(|_| 0);
        }
    }
    reply
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, tested: &T, expected: &T) -> Outcomes {
    if tested == expected {
        return Ok(());
    }
    Err(format!("{what} differs\n     tested: {tested:?}\n  reference: {expected:?}"))
}
