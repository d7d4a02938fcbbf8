//! Readers behind the tail, while retention goes on.

use mainstay_core::{
    TopicName,
    engine::change::{Change, Counters, EventChange, EventMeta},
    event::{EventData, TopicConfig},
    time::Timestamp,
};

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
        // It waits for a thread; meanwhile the first two go, and the tables have followed for one of them.
        tail.add([Note::Removed(TopicId(0), 2)].into_iter(), 3);
        conn.execute("DELETE FROM event WHERE seq = 1", []).unwrap();
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
    tail.add([Note::Removed(TopicId(0), 1), Note::TopicDropped(TopicId(1))].into_iter(), 3);
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
