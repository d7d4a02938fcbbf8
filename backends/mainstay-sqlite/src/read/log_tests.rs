//! Readers behind the tail, while retention goes on.

use mainstay_core::{
    TopicName,
    engine::change::{Change, Counters, EventChange, EventMeta},
    event::{EventData, TopicConfig},
    time::Timestamp,
};

use mainstay_core::engine::change::Archive;
use proptest::prelude::*;

use super::*;
use crate::{
    behind::Handed,
    schema::migrate,
    tables::{Mark, Tables},
    tail::{Note, Reading},
};

const BUDGET: LogBudget = LogBudget { events: 100, bytes: 1 << 20 };

fn name(topic: u32) -> TopicName {
    TopicName::new(&format!("t.{topic}")).unwrap()
}

fn event() -> Arc<Event> {
    let text = |text: &str| text.into();
    Arc::new(Event {
        id: text("i"),
        source: text("/s"),
        kind: text("k"),
        subject: None,
        time: None,
        partition_key: None,
        content_type: None,
        data_schema: None,
        extensions: Default::default(),
        data: EventData::None,
    })
}

/// Tables with these events, and a tail that has none of them.
fn log(topics: u32, events: &[(u64, u32)]) -> (Connection, Tail) {
    let conn = Connection::open_in_memory().unwrap();
    let path = Path::new("a test");
    migrate(&conn, path).unwrap();
    let topic = |id| EventChange::Topic {
        id: TopicId(id),
        name: name(id),
        config: TopicConfig::default(),
        dropped: false,
    };
    let published = |(seq, topic): &(u64, u32)| {
        let at = Timestamp(1);
        let meta =
            EventMeta { seq: *seq, topic: TopicId(*topic), size: 1, ord: *seq, total: *seq, at, key: 0 };
        EventChange::Published { meta, event: event(), dedup: None, topic: name(*topic) }
    };
    let changes = (0..topics).map(topic).chain(events.iter().map(published)).map(Change::Event).collect();
    let mut batch = Batch::default();
    batch.add(Handed { lsn: 1, counters: Counters::default(), changes, bytes: 0, growth: 0 });
    let mark = Mark { epoch: 1, lsn: 1, clean: false };
    Tables::new(&conn, path).unwrap().apply(&batch, &Counters::default(), mark).unwrap();
    let names: Vec<_> = (0..topics).map(name).collect();
    let known = (0..topics).zip(&names).map(|(id, name)| (TopicId(id), name, 0));
    let tail = Tail::new(events.last().map_or(0, |(seq, _)| *seq), known);
    (conn, tail)
}

/// What the tail says to a reader who begins at the first event.
fn asked(tail: &Tail, filters: &[&str]) -> LogQuery {
    let filters: Arc<[TopicFilter]> = filters.iter().map(|text| TopicFilter::new(text).unwrap()).collect();
    match tail.read(&filters, 1, BUDGET) {
        Reading::Older { until, head } => LogQuery { filters, from: 1, budget: BUDGET, until, head },
        Reading::Here(_) => panic!("the tail has none of it"),
    }
}

fn seqs(slice: &LogSlice) -> Vec<u64> {
    slice.events.iter().map(|event| event.seq).collect()
}

#[test]
fn retention_that_overtakes_a_reading_of_the_tables_is_told() {
    for filters in [&["t.0"][..], &["t.*"], &[]] {
        let (conn, tail) = log(1, &[(1, 0), (2, 0), (3, 0)]);
        let query = asked(&tail, filters);
        // It waits for a thread; meanwhile the first two go, of the one block that has them all.
        tail.add([Note::Removed(TopicId(0), 2)].into_iter());
        let slice = read(&conn, Path::new("a test"), &tail, &query).unwrap();
        assert_eq!((seqs(&slice), slice.next, slice.removed_up_to), (vec![3], 4, 2), "{filters:?}");
    }
}

#[test]
fn what_is_gone_when_the_reading_ends_is_left_out() {
    let (_conn, tail) = log(2, &[(1, 0), (2, 1), (3, 0)]);
    let query = asked(&tail, &[]);
    let logged = |seq, topic| {
        let logged = LoggedEvent { topic: name(topic), seq, published_at: Timestamp(1), event: event() };
        (TopicId(topic), Arc::new(logged))
    };
    let read = vec![logged(1, 0), logged(2, 1), logged(3, 0)];
    tail.add([Note::Removed(TopicId(0), 1), Note::TopicDropped(TopicId(1))].into_iter());
    let LogQuery { filters, from, head, .. } = query;
    let slice = LogSlice { from, events: vec![], next: 4, head, removed_up_to: 0, removed: vec![] };
    let slice = tail.add_living(&filters, read, slice);
    assert_eq!((seqs(&slice), slice.removed_up_to), (vec![3], 1));
}

#[test]
fn a_wildcard_of_few_topics_is_read_topic_by_topic() {
    let (conn, tail) = log(3, &[(1, 0), (2, 1), (3, 2), (4, 1)]);
    let few = |filters: &[&str], few| match tail.matching(&asked(&tail, filters).filters, few) {
        Matching::These(topics) => Some(topics.len()),
        Matching::Filtered => None,
    };
    assert_eq!(few(&["t.*"], 3), Some(3));
    assert_eq!(few(&["t.*"], 2), None);
    assert_eq!(few(&["nothing.>"], 2), Some(0));
    assert_eq!(few(&[], 3), None);
    let slice = read(&conn, Path::new("a test"), &tail, &asked(&tail, &["t.*"])).unwrap();
    assert_eq!((seqs(&slice), slice.next), (vec![1, 2, 3, 4], 5));
}

/// What the log is, said plainly, beside tables that got it in batches.
struct World<'c> {
    conn: &'c Connection,
    tables: Tables<'c>,
    lsn: u64,
    all: Vec<(EventMeta, Arc<Event>)>,
    removed: Vec<u64>,
    chance: u64,
}

const PATH: &str = "a test";

impl<'c> World<'c> {
    fn new(conn: &'c Connection, topics: u32, seed: u64) -> World<'c> {
        migrate(conn, Path::new(PATH)).unwrap();
        let tables = Tables::new(conn, Path::new(PATH)).unwrap();
        let removed = vec![0; topics as usize];
        let mut world = World { conn, tables, lsn: 0, all: vec![], removed, chance: seed };
        let topic = |id| EventChange::Topic {
            id: TopicId(id),
            name: name(id),
            config: TopicConfig::default(),
            dropped: false,
        };
        world.apply((0..topics).map(topic).collect());
        world
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.chance = mainstay_core::rules::mix(self.chance, 1);
        self.chance % bound.max(1)
    }

    fn apply(&mut self, changes: Vec<EventChange>) {
        self.lsn += 1;
        let mut batch = Batch::default();
        let (counters, changes) = (Counters::default(), changes.into_iter().map(Change::Event).collect());
        batch.add(Handed { lsn: self.lsn, counters, changes, bytes: 0, growth: 0 });
        let mark = Mark { epoch: 1, lsn: self.lsn, clean: false };
        self.tables.apply(&batch, &counters, mark).unwrap();
    }

    /// Some events, of which some may go again.
    fn batch(&mut self) {
        let many = [1, 5, 40, 700][self.below(4) as usize];
        let mut changes = vec![];
        for _ in 0..many {
            changes.push(self.publish());
            if self.below(60) == 0 {
                changes.push(self.remove());
            }
        }
        self.apply(changes);
    }

    fn publish(&mut self) -> EventChange {
        let topics = self.removed.len() as u64;
        // The first topics have most of the events.
        let topic = self.below(topics).min(self.below(topics)) as u32;
        let (seq, at) = (self.all.len() as u64 + 1, Timestamp(1_000 + self.below(50) as i64));
        let data = vec![7; if self.below(200) == 0 { 70_000 } else { self.below(60) as usize }];
        let event =
            Event { id: seq.to_string().into(), data: EventData::Binary(data.into()), ..(*event()).clone() };
        let size = event.size() as u32;
        let before = self.all.iter().rev().find(|(meta, _)| meta.topic.0 == topic);
        let (ord, total) = before.map_or((0, 0), |(meta, _)| (meta.ord, meta.total));
        let (topic, key) = (TopicId(topic), self.below(2) * u64::MAX);
        let meta = EventMeta { seq, topic, size, ord: ord + 1, total: total + u64::from(size), at, key };
        self.all.push((meta, Arc::new(event)));
        let event = self.all.last().unwrap().1.clone();
        EventChange::Published { meta, event, dedup: None, topic: name(topic.0) }
    }

    /// Retention removes up to one of the topic's events.
    fn remove(&mut self) -> EventChange {
        let topic = self.below(self.removed.len() as u64) as u32;
        let of_topic = |(meta, _): &&(EventMeta, _)| meta.topic.0 == topic;
        let count = self.all.iter().filter(of_topic).count() as u64;
        let at = self.below(count) as usize;
        let seq = self.all.iter().filter(of_topic).nth(at).map_or(0, |(meta, _)| meta.seq);
        let removed = &mut self.removed[topic as usize];
        *removed = seq.max(*removed);
        EventChange::EventsRemoved { topic: TopicId(topic), up_to: *removed }
    }

    fn living(&self, topics: &[u32], from: u64) -> Vec<&(EventMeta, Arc<Event>)> {
        let lives = |meta: &EventMeta| {
            let topic = meta.topic.0;
            meta.seq >= from && meta.seq > self.removed[topic as usize] && topics.contains(&topic)
        };
        self.all.iter().filter(|(meta, _)| lives(meta)).collect()
    }

    fn tail(&self) -> Tail {
        let names: Vec<_> = (0..self.removed.len() as u32).map(name).collect();
        let known = (0..).map(TopicId).zip(&names).zip(&self.removed);
        Tail::new(self.all.len() as u64, known.map(|((id, name), removed)| (id, name, *removed)))
    }

    /// Reads the log as a reader would, piece by piece.
    fn read_along(&mut self, topics: &[u32], everything: bool) {
        let (tail, count) = (self.tail(), self.all.len() as u64);
        // One event at a time takes long: then it is the end that is read.
        let tiny = self.below(4) == 0;
        let from = if tiny { count.saturating_sub(self.below(40)) } else { self.below(count) }.max(1);
        let least = if tiny { (0, 0) } else { (50, 20_000) };
        let texts: Vec<String> = topics.iter().map(|topic| format!("t.{topic}")).collect();
        let filters = if everything { vec![] } else { texts };
        let filters: Arc<[TopicFilter]> =
            filters.iter().map(|text| TopicFilter::new(text).unwrap()).collect();
        let budget =
            LogBudget { events: least.0 + self.below(300) as u32, bytes: least.1 + self.below(200_000) };
        let (mut next, until) = (from, self.all.len() as u64 + 1);
        let mut seen: Vec<Arc<LoggedEvent>> = vec![];
        while next < until {
            let query = LogQuery { filters: filters.clone(), from: next, budget, until, head: until - 1 };
            let slice = read(self.conn, Path::new(PATH), &tail, &query).unwrap();
            assert!(slice.next > next && slice.next <= until, "{} does not go on from {next}", slice.next);
            let bytes: usize = slice.events.iter().map(|event| event.event.size()).sum();
            let fits = slice.events.len() <= budget.events as usize && bytes as u64 <= budget.bytes;
            assert!(
                fits || slice.events.len() <= 1,
                "{} events, {bytes} bytes of {budget:?}",
                slice.events.len()
            );
            seen.extend(slice.events);
            next = slice.next;
        }
        let expected = self.living(topics, from);
        assert_eq!(seen.len(), expected.len());
        for (seen, (meta, event)) in seen.iter().zip(expected) {
            assert_eq!((seen.seq, seen.published_at, &seen.topic), (meta.seq, meta.at, &name(meta.topic.0)));
            assert_eq!(&seen.event, event);
        }
    }

    /// Asks what the engine would ask.
    fn look_up(&mut self) {
        let path = Path::new(PATH);
        let mut archive = crate::archive::recent(self.conn, path).unwrap();
        let topics: Vec<u32> = (0..self.removed.len() as u32).collect();
        let topic = self.below(topics.len() as u64) as u32;
        for (topic, topics) in [(None, &topics[..]), (Some(TopicId(topic)), &[topic])] {
            let (from, limit) = (self.below(self.all.len() as u64 + 2), self.below(500) as usize + 1);
            let found = archive.events(topic, from, limit).unwrap();
            let expected = self.living(topics, from);
            let expected: Vec<_> = expected.into_iter().map(|(meta, _)| *meta).take(limit).collect();
            assert_eq!(found, expected, "{limit} of {topic:?} from {from}");
        }
        let mut bodies = Bodies { conn: self.conn, path, lacking: None, blocks: HashMap::new() };
        for (meta, event) in self.living(&topics, 1).iter().rev().take(30) {
            assert_eq!(bodies.logged(&name(meta.topic.0), meta.seq).unwrap().as_ref(), Some(event));
            assert_eq!(bodies.logged(&name(99), meta.seq).unwrap(), None);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_log_is_read_from_blocks_as_it_was_written(seed: u64, topics in 1..40_u32, batches in 1..12_usize) {
        let conn = Connection::open_in_memory().unwrap();
        let mut world = World::new(&conn, topics, seed);
        let all: Vec<u32> = (0..topics).collect();
        for _ in 0..batches {
            world.batch();
            world.read_along(&all, true);
            let few: Vec<u32> = (0..3).map(|_| world.below(u64::from(topics)) as u32).collect();
            world.read_along(&few, false);
            world.read_along(&all, false);
            world.look_up();
        }
        // Of blocks that are gone as a whole, nothing is left.
        let left: i64 = conn
            .query_row(
                "SELECT count(*) FROM event_block JOIN topic ON topic.id = topic WHERE last <= removed_up_to",
                [],
                |row| row.get(0),
            )
            .unwrap();
        prop_assert_eq!(left, 0);
    }
}

#[test]
fn a_damaged_block_is_named_and_not_passed_over() {
    for (sql, place) in [
        ("UPDATE event_block SET bodies = zeroblob(length(bodies)) WHERE topic = 1", "column bodies"),
        ("UPDATE event_block SET heads = substr(heads, 2) WHERE topic = 1", "column heads"),
        ("UPDATE event_block SET last = last + 1 WHERE topic = 1", "column last"),
    ] {
        let (conn, tail) = log(2, &[(1, 0), (2, 1)]);
        conn.execute(sql, []).unwrap();
        for filters in [&[][..], &["t.1"]] {
            let error = read(&conn, Path::new(PATH), &tail, &asked(&tail, filters)).unwrap_err();
            assert_eq!(error.kind(), mainstay_core::ErrorKind::Untrusted);
            let text = error.to_string();
            assert!(text.contains("table event_block, row 2, ") && text.contains(place), "{text}");
        }
        let error = crate::connection::check(&conn, Path::new(PATH)).unwrap_err();
        assert!(error.to_string().contains("table event_block, row 2, "), "{error}");
    }
}
