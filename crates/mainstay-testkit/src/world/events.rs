//! What tests do to topics, events and groups.

use mainstay_core::{
    GroupName, LeaseId, TopicFilter, TopicName,
    event::{
        DeadEvent, DeadEventFilter, Delivery, Event, EventItem, EventKey, EventOp, EventQuery, EventReply,
        Fetch, GroupConfig, GroupRecord, LogBudget, LogSlice, LoggedEvent, Nack, Position, Prolong, Publish,
        SettleDeliveries, Settled, TopicConfig, TopicRecord, TopicRetention,
    },
    job::{Backoff, Jitter, JobFailure, Retry},
    op::{Op, Reason, Reply},
    store::{Key, Query, Record},
};

use super::World;

/// The lease of a delivery, in milliseconds, if a test does not say otherwise: the default of groups.
pub const ACK_WAIT_MS: u64 = 30_000;

impl World {
    /// Publishes an event with an id of its own, which must be new. Answers its number.
    pub async fn publish(&self, topic: &str, data: &str) -> u64 {
        self.publish_event(topic, self.event(topic, data)).await
    }

    /// Publishes an event with a partition key.
    pub async fn publish_keyed(&self, topic: &str, key: &str, data: &str) -> u64 {
        let event = Event { partition_key: Some(key.into()), ..self.event(topic, data) };
        self.publish_event(topic, event).await
    }

    /// Publishes an event that must be new. Answers its number.
    pub async fn publish_event(&self, topic: &str, event: Event) -> u64 {
        let (seq, deduplicated) = self.published(topic, event).await;
        assert!(!deduplicated, "event {seq} was to be new");
        seq
    }

    /// Publishes an event, new or not.
    pub async fn published(&self, topic: &str, event: Event) -> (u64, bool) {
        published(&self.op(publish_op(topic, event)).await)
    }

    /// An event with an id of its own and JSON data.
    pub fn event(&self, topic: &str, data: &str) -> Event {
        Event::new(&self.id("events").to_string(), &topic_name(topic), data)
    }

    /// Configures a topic.
    pub async fn put_topic(&self, topic: &str, retention: TopicRetention) {
        let config = TopicConfig { retention, schema: None };
        let op = EventOp::PutTopic { topic: topic_name(topic), config };
        assert_eq!(self.op(Op::Event(op)).await, Reply::Done);
    }

    /// A group on these topics from the first event on, with every default but a back-off that leaves nothing to
    /// chance.
    pub async fn group(&self, group: &str, topics: &[&str]) {
        self.put_group(group, plain_group(topics), Position::Earliest).await;
    }

    /// A group with another configuration.
    pub async fn group_with(&self, group: &str, topics: &[&str], change: impl FnOnce(&mut GroupConfig)) {
        let mut config = plain_group(topics);
        change(&mut config);
        self.put_group(group, config, Position::Earliest).await;
    }

    /// Creates or configures a group.
    pub async fn put_group(&self, group: &str, config: GroupConfig, start: Position) {
        let op = EventOp::PutGroup { group: super::name(group), config: Box::new(config), start };
        assert_eq!(self.op(Op::Event(op)).await, Reply::Done);
    }

    /// Fetches up to `max` events.
    pub async fn fetch(&self, group: &str, max: u32) -> Vec<Delivery> {
        fetched(self.op(fetch_op(group, max)).await)
    }

    /// Fetches one event, which must be there.
    pub async fn fetch_one(&self, group: &str) -> Delivery {
        self.fetch(group, 1).await.pop().unwrap_or_else(|| panic!("group `{group}` has an event to hand out"))
    }

    /// Fetches everything there is, one after the other, acknowledges it, and says which numbers came.
    pub async fn consume(&self, group: &str) -> Vec<u64> {
        let mut seqs = vec![];
        loop {
            let deliveries = self.fetch(group, 100).await;
            if deliveries.is_empty() {
                return seqs;
            }
            seqs.extend(seqs_of(&deliveries));
            let settle = ack_all(group, &deliveries);
            assert!(self.settle_events(settle).await.iter().all(|settled| *settled == Settled::Acked));
        }
    }

    /// Settles deliveries.
    pub async fn settle_events(&self, settle: SettleDeliveries) -> Vec<Settled> {
        match self.op(Op::Event(EventOp::Settle(Box::new(settle)))).await {
            Reply::Event(EventReply::Settled(settled)) => settled,
            other => panic!("a settle was answered with {other:?}"),
        }
    }

    /// Settles one delivery.
    pub async fn settle_event(&self, settle: SettleDeliveries) -> Settled {
        let mut settled = self.settle_events(settle).await;
        assert_eq!(settled.len(), 1, "one answer an item");
        settled.remove(0)
    }

    /// Acknowledges a delivery, which must be accepted.
    pub async fn ack(&self, group: &str, delivery: &Delivery) {
        assert_eq!(self.try_ack(group, delivery.lease).await, Settled::Acked);
    }

    /// Acknowledges a delivery, or is refused.
    pub async fn try_ack(&self, group: &str, lease: LeaseId) -> Settled {
        self.settle_event(SettleDeliveries { ack: vec![lease], ..settle_nothing(group) }).await
    }

    /// Refuses a delivery.
    pub async fn nack(&self, group: &str, delivery: &Delivery, retry: Retry) -> Settled {
        let nack = Nack { lease: delivery.lease, retry, error: Some(boom()) };
        self.settle_event(SettleDeliveries { nack: vec![nack], ..settle_nothing(group) }).await
    }

    /// Prolongs a delivery.
    pub async fn prolong(&self, group: &str, delivery: &Delivery, extend_ms: u64) -> Settled {
        let extend = Prolong { lease: delivery.lease, extend_ms };
        self.settle_event(SettleDeliveries { extend: vec![extend], ..settle_nothing(group) }).await
    }

    /// Publishes an event, delivers it to the group and makes it a dead letter of it.
    pub async fn dead_event(&self, group: &str, topic: &str) -> u64 {
        let seq = self.publish(topic, "{}").await;
        let delivery = self.fetch_one(group).await;
        assert_eq!(delivery.seq, seq, "the group has nothing else");
        assert_eq!(self.nack(group, &delivery, Retry::Never).await, Settled::Dead);
        seq
    }

    /// Moves a group. Answers its cursor.
    pub async fn seek(&self, group: &str, to: Position) -> u64 {
        match self.op(Op::Event(EventOp::Seek { group: super::name(group), to })).await {
            Reply::Event(EventReply::Sought { cursor }) => cursor,
            other => panic!("a seek was answered with {other:?}"),
        }
    }

    /// Reads a group, which may be unknown.
    pub async fn try_group(&self, group: &str) -> Option<GroupRecord> {
        match self.store().get(&Key::Event(EventKey::Group(super::name(group)))).await.expect("get") {
            Some(Record::Event(EventItem::Group(group))) => Some(group),
            None => None,
            other => panic!("a group was asked for, and came {other:?}"),
        }
    }

    /// Reads a group, which must be there.
    pub async fn group_record(&self, group: &str) -> GroupRecord {
        self.try_group(group).await.unwrap_or_else(|| panic!("group `{group}` is known"))
    }

    /// Reads a topic, which may be unknown.
    pub async fn try_topic(&self, topic: &str) -> Option<TopicRecord> {
        match self.store().get(&Key::Event(EventKey::Topic(topic_name(topic)))).await.expect("get") {
            Some(Record::Event(EventItem::Topic(topic))) => Some(topic),
            None => None,
            other => panic!("a topic was asked for, and came {other:?}"),
        }
    }

    /// Reads a topic, which must be there.
    pub async fn topic(&self, topic: &str) -> TopicRecord {
        self.try_topic(topic).await.unwrap_or_else(|| panic!("topic `{topic}` is known"))
    }

    /// Reads a piece of the log.
    pub async fn read_log(&self, filters: &[&str], from: Position, events: u32) -> LogSlice {
        let filters: Vec<_> = filters.iter().map(|text| filter(text)).collect();
        let budget = LogBudget { events, ..LogBudget::default() };
        self.store().read_log(&filters, from, budget).await.expect("read_log")
    }

    /// Reads all of the log from a position on, in small pieces.
    pub async fn log(&self, filters: &[&str], from: Position) -> Vec<LoggedEvent> {
        let mut events = vec![];
        let mut from = from;
        loop {
            let slice = self.read_log(filters, from, 3).await;
            assert!(slice.events.len() <= 3, "a piece keeps its budget");
            events.extend(slice.events.iter().map(|event| (**event).clone()));
            if slice.next > slice.head {
                return events;
            }
            from = Position::Seq(slice.next);
        }
    }

    /// The numbers of all events there are.
    pub async fn log_seqs(&self, filters: &[&str]) -> Vec<u64> {
        self.log(filters, Position::Earliest).await.iter().map(|event| event.seq).collect()
    }

    /// The dead letters of a group, newest first.
    pub async fn dead_events(&self, group: &str) -> Vec<DeadEvent> {
        let filter = DeadEventFilter { group: super::name(group), kind: None, error_type: None };
        dead_events(self.list_by(&Query::Event(EventQuery::Dead(filter)), 2).await)
    }

    /// Delivers dead letters again. Answers how many.
    pub async fn requeue_events(&self, group: &str, numbers: Vec<u64>) -> u64 {
        count(self.op(Op::Event(EventOp::RequeueDead { group: super::name(group), numbers })).await)
    }

    /// Does one op about events, which must be refused.
    pub async fn refused_event(&self, op: EventOp) -> Reason {
        self.refused(Op::Event(op)).await
    }

    /// Lets a back-off or a lease pass, and the second in which a store must notice.
    pub async fn pass(&self, ms: u64) {
        self.advance(ms);
        self.maintain().await;
    }
}

/// A group's configuration with every default, but a back-off of 1 s, 2 s, 4 s… without jitter.
pub fn plain_group(topics: &[&str]) -> GroupConfig {
    let backoff = Backoff { jitter: Jitter::None, ..Backoff::default() };
    GroupConfig { backoff, ..GroupConfig::new(topics.iter().map(|text| filter(text)).collect()) }
}

/// A topic that is known to be one.
pub fn topic_name(text: &str) -> TopicName {
    TopicName::new(text).expect("a test names topics by the rules")
}

/// A filter that is known to be one.
pub fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).expect("a test writes filters by the rules")
}

/// The publish of an event whose id its publisher chose.
pub fn publish_op(topic: &str, event: Event) -> Op {
    Op::Event(EventOp::Publish(Box::new(Publish::new(topic_name(topic), event))))
}

/// A fetch of up to `max` events.
pub fn fetch_op(group: &str, max: u32) -> Op {
    let group: GroupName = super::name(group);
    Op::Event(EventOp::Fetch(Fetch { group, max, max_bytes: 16 << 20, consumer: None }))
}

/// The answer to a publish.
pub fn published(reply: &Reply) -> (u64, bool) {
    match reply {
        Reply::Event(EventReply::Published { seq, deduplicated }) => (*seq, *deduplicated),
        other => panic!("a publish was answered with {other:?}"),
    }
}

/// The answer to a fetch.
pub fn fetched(reply: Reply) -> Vec<Delivery> {
    match reply {
        Reply::Event(EventReply::Fetched(deliveries)) => deliveries,
        other => panic!("a fetch was answered with {other:?}"),
    }
}

/// The answer to a bulk op.
pub fn count(reply: Reply) -> u64 {
    match reply {
        Reply::Count(count) => count,
        other => panic!("a bulk op was answered with {other:?}"),
    }
}

/// A settle without items.
pub fn settle_nothing(group: &str) -> SettleDeliveries {
    SettleDeliveries { group: super::name(group), ack: vec![], nack: vec![], extend: vec![] }
}

/// An ack of all of these.
pub fn ack_all(group: &str, deliveries: &[Delivery]) -> SettleDeliveries {
    let ack = deliveries.iter().map(|delivery| delivery.lease).collect();
    SettleDeliveries { ack, ..settle_nothing(group) }
}

/// The numbers of deliveries.
pub fn seqs_of(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.seq).collect()
}

/// Records that must be dead letters of a group.
pub fn dead_events(records: Vec<Record>) -> Vec<DeadEvent> {
    let dead = |record| match record {
        Record::Event(EventItem::Dead(dead)) => *dead,
        other => panic!("a list of dead letters held {other:?}"),
    };
    records.into_iter().map(dead).collect()
}

/// A failure of the type `Boom`.
pub fn boom() -> JobFailure {
    JobFailure { kind: Some("Boom".into()), message: "boom".into(), backtrace: None }
}
