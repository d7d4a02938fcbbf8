//! The log and its groups as a program uses them. In virtual time.

use std::{future::pending, time::Duration};

use mainstay::core::{
    GroupName, TopicFilter, TopicName,
    event::{DeadEventFilter, EventItem, Fetch, GroupConfig, LogBudget, Position, SettleDeliveries, Settled},
    job::Outcome,
    op::{Claim, Op, Reply},
    queue::QueueConfig,
    store::{Page, Record},
};
use mainstay::event::Envelope;
use mainstay::testing::block_on_virtual;
use mainstay::{Client, Event, Job, JobError, TaskSet, secs};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct OrderPlaced {
    order: u64,
}
impl Event for OrderPlaced {
    const TOPIC: &'static str = "orders.placed";
}

#[derive(Serialize, Deserialize)]
struct Ship {
    order: u64,
}
impl Job for Ship {
    const KIND: &'static str = "ship";
    const QUEUE: &'static str = "shipping";
}

fn group() -> GroupName {
    GroupName::new("shipping").unwrap()
}

async fn client() -> Client {
    let client = Client::memory();
    client.put_group(group(), plain(), Position::Earliest).await.unwrap();
    client
}

fn plain() -> GroupConfig {
    GroupConfig::new(vec![TopicFilter::new("orders.*").unwrap()])
}

/// Takes the one job there is, and ends it.
async fn ship_one(client: &Client) -> u64 {
    let claim = Claim {
        queues: vec![Ship::QUEUE.parse().unwrap()],
        max: 1,
        max_bytes: 1 << 20,
        lease_ms: 30_000,
        worker: None,
    };
    let Ok(Reply::Claimed(grants)) = client.apply(Op::Claim(claim)).await else { panic!("no grants") };
    let grant = &grants[0];
    let ship: Ship = serde_json::from_str(&grant.body.as_ref().unwrap().payload).unwrap();
    client.commit().settle(grant.id, grant.lease, Outcome::Complete { result: None }).await.unwrap();
    ship.order
}

fn fetch(max: u32) -> Fetch {
    Fetch { group: group(), max, max_bytes: 1 << 20, consumer: None }
}

fn ship(event: &Envelope) -> Result<Ship, JobError> {
    match event.read::<OrderPlaced>()?.order {
        13 => Err(JobError::retry("an order that nobody ships")),
        order => Ok(Ship { order }),
    }
}

async fn waiting_jobs(client: &Client) -> u64 {
    let queue = client.queue(&Ship::QUEUE.parse().unwrap()).await.unwrap();
    queue.map_or(0, |queue| queue.depth.available)
}

#[test]
fn an_event_and_a_job_are_there_together_or_not_at_all() {
    block_on_virtual(async {
        let client = client().await;
        let config = QueueConfig { max_depth: Some(1), ..QueueConfig::default() };
        client.put_queue(Ship::QUEUE.parse().unwrap(), config).await.unwrap();
        let both = |order| client.commit().publish(&OrderPlaced { order }).enqueue(Ship { order });
        both(1).await.unwrap();
        assert!(both(2).await.unwrap_err().is_full());
        let log = client.read_log(&[], Position::Earliest, LogBudget::default()).await.unwrap();
        assert_eq!((log.events.len(), log.head, waiting_jobs(&client).await), (1, 1, 1));
        let published = client.publish(&OrderPlaced { order: 3 }).await.unwrap();
        assert_eq!((published.seq, published.deduplicated), (2, false));
    });
}

#[test]
fn the_same_id_is_published_once() {
    block_on_virtual(async {
        let client = client().await;
        let event = || OrderPlaced { order: 1 }.with().id("order-1");
        assert_eq!(client.publish(event()).await.unwrap().seq, 1);
        let again = client.publish(event()).await.unwrap();
        assert_eq!((again.seq, again.deduplicated), (1, true));
    });
}

#[test]
fn a_consumer_waits_for_its_event_and_settles_it() {
    block_on_virtual(async {
        let client = client().await;
        let tasks = TaskSet::current().unwrap();
        let publisher = client.clone();
        tasks.spawn("publisher", async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            publisher.publish(&OrderPlaced { order: 1 }).await.unwrap();
        });
        let began = tokio::time::Instant::now();
        let deliveries = client.fetch(fetch(5), None, secs(60), pending()).await.unwrap();
        assert_eq!((deliveries.len(), began.elapsed()), (1, Duration::from_secs(5)));
        assert!(client.fetch(fetch(5), None, secs(60), async {}).await.unwrap().is_empty(), "it was stopped");
        let ack = vec![deliveries[0].lease];
        let settle = SettleDeliveries { group: group(), ack, nack: vec![], extend: vec![] };
        assert_eq!(client.settle(settle).await.unwrap(), [Settled::Acked]);
        assert_eq!(client.group_record(&group()).await.unwrap().unwrap().lag, 0);
        let topic = TopicName::new(OrderPlaced::TOPIC).unwrap();
        assert_eq!(client.topic(&topic).await.unwrap().unwrap().count, 1);
        assert!(tasks.drain(secs(1)).await.is_empty());
    });
}

#[test]
fn a_bridge_makes_each_event_one_job_and_keeps_what_it_cannot() {
    block_on_virtual(async {
        let client = client().await;
        for order in [1, 13, 2] {
            client.publish(&OrderPlaced { order }).await.unwrap();
        }
        let bridged = client.bridge(&group(), Duration::ZERO, pending(), ship).await.unwrap();
        assert_eq!((bridged.moved, bridged.refused, bridged.lost), (2, 1, 0));
        assert_eq!(waiting_jobs(&client).await, 2);
        // It comes again by the group's rules until it is a dead letter, and nothing else does.
        for _ in 0..10 {
            let bridged = client.bridge(&group(), secs(60), pending(), ship).await.unwrap();
            assert_eq!(bridged.moved, 0);
        }
        assert_eq!(waiting_jobs(&client).await, 2);
        let filter = DeadEventFilter { group: group(), kind: None, error_type: Some("bridge".into()) };
        let dead = client.dead_events(filter, Page { limit: 10, cursor: None }).await.unwrap().items;
        let [Record::Event(EventItem::Dead(dead))] = &dead[..] else { panic!("one dead letter: {dead:?}") };
        assert_eq!((dead.seq, dead.attempts), (2, 5));
        assert_eq!(client.requeue_events(group(), vec![dead.number]).await.unwrap(), 1);
        assert_eq!(client.seek(group(), Position::Latest).await.unwrap(), 4);
    });
}

#[test]
fn a_bridge_puts_an_event_off_whose_queue_is_full() {
    block_on_virtual(async {
        let client = client().await;
        let config = GroupConfig { max_deliver: 1, ordered_by_key: true, ..plain() };
        client.put_group(group(), config, Position::Earliest).await.unwrap();
        let bounded = QueueConfig { max_depth: Some(1), ..QueueConfig::default() };
        client.put_queue(Ship::QUEUE.parse().unwrap(), bounded).await.unwrap();
        for order in 1..=3 {
            client.publish(OrderPlaced { order }.with().key("a customer")).await.unwrap();
        }
        let mut moved = Vec::new();
        for _ in 0..3 {
            let bridged = client.bridge(&group(), secs(60), pending(), ship).await.unwrap();
            assert_eq!((bridged.moved, bridged.refused, bridged.put_off), (1, 0, 0));
            // The next of its key finds the queue full, however often it comes, and whoever is behind it waits.
            for _ in 0..5 {
                let began = tokio::time::Instant::now();
                let bridged = client.bridge(&group(), secs(600), pending(), ship).await.unwrap();
                let left = 3 - moved.len() as u32 - 1;
                assert_eq!((bridged.moved, bridged.refused, bridged.put_off), (0, 0, left.min(1)));
                let waited = began.elapsed();
                assert!(left == 0 || waited <= secs(60), "as the queue says: {waited:?}");
            }
            let record = client.group_record(&group()).await.unwrap().unwrap();
            assert_eq!(
                (record.floor, record.dead),
                (moved.len() as u64 + 2, 0),
                "the floor has not passed it"
            );
            moved.push(ship_one(&client).await);
        }
        assert_eq!(moved, [1, 2, 3]);
    });
}
