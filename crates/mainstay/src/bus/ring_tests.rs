use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use mainstay_core::topic::TopicFilter;
use serde::{Deserialize, Serialize};

use super::{
    ListenError,
    ring::{Reader, Ring},
};
use crate::{Event, event::Envelope, tasks::TaskSet};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tick(u64);

impl Event for Tick {
    const TOPIC: &'static str = "tick";
}

fn ring() -> Arc<Ring> {
    Ring::new(0, TopicFilter::new("tick").unwrap())
}

fn tick(number: u64) -> Envelope {
    Envelope::of(&Tick(number))
}

async fn read(reader: &mut Reader) -> Result<u64, ListenError> {
    reader.recv(|event| event.read::<Tick>().unwrap().0).await
}

#[tokio::test]
async fn each_reader_gets_all_in_order_across_blocks_from_where_it_began() {
    let ring = ring();
    let mut early = ring.reader(1_000);
    (0..70).for_each(|n| assert!(ring.publish(tick(n)) > 0));
    let mut late = ring.reader(1_000);
    (70..300).for_each(|n| assert!(ring.publish(tick(n)) > 0));
    for n in 0..300 {
        assert_eq!(read(&mut early).await, Ok(n));
    }
    for n in 70..300 {
        assert_eq!(read(&mut late).await, Ok(n));
    }
    assert_eq!((early.depth(), late.depth()), (0, 0));
    ring.close();
    assert_eq!(read(&mut late).await, Err(ListenError::Closed));
}

#[tokio::test]
async fn a_slow_reader_has_its_own_bound_and_old_blocks_go() {
    let ring = ring();
    let (mut short, mut long) = (ring.reader(3), ring.reader(130));
    (0..1_000).for_each(|n| assert!(ring.publish(tick(n)) > 0));
    assert!(ring.blocks() <= 4, "130 events, and the one that is being filled");
    assert_eq!((short.depth(), long.depth()), (3, 130));
    assert_eq!(read(&mut short).await, Err(ListenError::Lagged(997)));
    assert_eq!(read(&mut short).await, Ok(997));
    assert_eq!(read(&mut long).await, Err(ListenError::Lagged(870)));
    assert_eq!(read(&mut long).await, Ok(870));
    drop(long);
    (1_000..1_200).for_each(|n| assert!(ring.publish(tick(n)) > 0));
    assert!(ring.blocks() <= 2, "nobody wants so many any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost_and_nothing_is_read_twice() {
    const EVENTS: u64 = 20_000;
    let (ring, tasks) = (ring(), TaskSet::current().unwrap());
    let read_so_far = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (mut reader, read_so_far) = (ring.reader(EVENTS as usize), read_so_far.clone());
            tasks.spawn("reader", async move {
                for n in 0..EVENTS {
                    assert_eq!(read(&mut reader).await, Ok(n));
                    read_so_far.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for n in 0..EVENTS {
        ring.publish(tick(n));
        // One at a time, so that every reader falls asleep over and over: a lost wake-up is a hang.
        while n.is_multiple_of(16) && read_so_far.load(SeqCst) < 4 * (n + 1) {
            tokio::task::yield_now().await;
        }
    }
    for reader in readers {
        reader.await.unwrap();
    }
}
