//! Who gets what, in which order.

use std::sync::Arc;

use mainstay::bus::{Bus, PublishError};
use mainstay::event::{Envelope, EventContext};
use mainstay::{Event, JobError, millis, secs};
use serde::{Deserialize, Serialize};
use tokio::sync::{Barrier, Semaphore};
use tokio::time::Instant;

use super::{Paid, Placed, Seen, note};

#[tokio::test(start_paused = true)]
async fn a_subscription_handles_events_in_the_order_in_which_they_were_published() {
    async fn slow_every_third(event: Placed, cx: EventContext<Seen>) -> Result<(), JobError> {
        if event.order.is_multiple_of(3) {
            tokio::time::sleep(secs(1)).await;
        }
        cx.add(event.order.to_string());
        Ok(())
    }
    let (bus, seen) = (Bus::new(), Seen::default());
    let _sub = bus.with(seen.clone()).on(slow_every_third).start().unwrap();
    for order in 0..500 {
        bus.publish(&Placed { order }).await.unwrap();
    }
    bus.idle().await;
    assert_eq!(seen.all(), (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn subscriptions_of_one_event_run_at_the_same_time() {
    // Each waits for the other: one after the other they would never end.
    async fn meet(_: Placed, cx: EventContext<Barrier>) -> Result<(), JobError> {
        cx.wait().await;
        Ok(())
    }
    let bus = Bus::new();
    let both = bus.with(Barrier::new(2));
    let _subs = [both.on(meet).start().unwrap(), both.on(meet).start().unwrap()];
    let published = bus.publish(&Placed { order: 1 }).await.unwrap();
    assert_eq!(published.subscribers, 2);
    bus.idle().await;
    assert_eq!(bus.dead().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_more_events_are_handled_at_once_than_was_said() {
    struct Gate {
        inside: Arc<Semaphore>,
        open: Arc<Semaphore>,
    }
    async fn enter(_: Placed, cx: EventContext<Gate>) -> Result<(), JobError> {
        cx.inside.add_permits(1);
        cx.open.acquire().await?.forget();
        Ok(())
    }
    let (inside, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let bus = Bus::new();
    let gate = Gate { inside: inside.clone(), open: open.clone() };
    let sub = bus.with(gate).on(enter).concurrency(3).start().unwrap();
    for order in 0..10 {
        bus.publish(&Placed { order }).await.unwrap();
    }
    inside.acquire_many(3).await.unwrap().forget();
    // Time passes only when nothing else can happen: nobody else comes in.
    tokio::time::sleep(secs(1)).await;
    assert_eq!((inside.available_permits(), sub.depth()), (0, 7));
    open.add_permits(10);
    bus.idle().await;
    assert_eq!(inside.available_permits(), 7);
}

#[tokio::test(start_paused = true)]
async fn wildcards_get_what_they_match_and_nothing_else() {
    async fn name(event: Envelope, cx: EventContext<Seen>) -> Result<(), JobError> {
        cx.add(format!("{} {}", cx.subscriber(), event.topic()));
        Ok(())
    }
    let (bus, seen) = (Bus::new(), Seen::default());
    let here = bus.with(seen.clone());
    let filters = ["orders.placed", "orders.*", "*.placed", "orders.>", ">", "*", "orders", "users.>"];
    let _subs: Vec<_> =
        filters.iter().map(|filter| here.subscribe(*filter, name).name(*filter).start().unwrap()).collect();
    bus.publish(&Placed { order: 1 }).await.unwrap();
    bus.idle().await;
    bus.publish(Placed { order: 1 }.with().topic("orders.eu.placed")).await.unwrap();
    bus.idle().await;
    let mut first = seen.all();
    let mut second = first.split_off(5);
    first.sort();
    second.sort();
    let of = |filters: &[&str], topic| {
        let mut all: Vec<_> = filters.iter().map(|filter| format!("{filter} {topic}")).collect();
        all.sort();
        all
    };
    assert_eq!(first, of(&["orders.placed", "orders.*", "*.placed", "orders.>", ">"], "orders.placed"));
    assert_eq!(second, of(&["orders.>", ">"], "orders.eu.placed"));
}

#[tokio::test(start_paused = true)]
async fn a_filter_or_topic_that_is_none_is_refused_with_its_name() {
    let bus = Bus::new();
    for filter in ["", "orders..placed", "orders.>.x", "orders.pl*"] {
        let refused = bus.with(Seen::default()).subscribe(filter, note).start().unwrap_err();
        assert!(refused.to_string().contains(&format!("`{filter}`")), "{refused}");
    }
    let refused = bus.publish(Placed { order: 1 }.with().topic("orders.*")).await.unwrap_err();
    assert!(matches!(&refused, PublishError::Invalid(what) if what.contains("`orders.*`")), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_ends_when_it_is_dropped_and_what_it_has_is_still_handled() {
    let (bus, seen) = (Bus::new(), Seen::default());
    let sub = bus.with(seen.clone()).on(note).start().unwrap();
    bus.publish(&Placed { order: 1 }).await.unwrap();
    drop(sub);
    let published = bus.publish(&Placed { order: 2 }).await.unwrap();
    assert_eq!(published.subscribers, 0);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(seen.all(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_subscription_says_what_was_left() {
    async fn stuck(_: Placed, cx: EventContext) -> Result<(), JobError> {
        cx.cancelled().await;
        Ok(())
    }
    let bus = Bus::new();
    let sub = bus.on(stuck).start().unwrap();
    for order in 0..3 {
        bus.publish(&Placed { order }).await.unwrap();
    }
    let drained = sub.stop_by(Instant::now() + secs(1)).await;
    assert_eq!(drained.to_string(), "subscriber stuck: 2 left, 1 unfinished");
}

#[tokio::test(start_paused = true)]
async fn who_subscribes_later_does_not_get_what_was_published_before() {
    let (bus, seen) = (Bus::new(), Seen::default());
    bus.publish(&Placed { order: 1 }).await.unwrap();
    let _sub = bus.with(seen.clone()).on(note).start().unwrap();
    bus.publish(&Placed { order: 2 }).await.unwrap();
    bus.idle().await;
    assert_eq!(seen.all(), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn a_closed_bus_takes_nothing_and_its_subscriptions_end() {
    let (bus, seen) = (Bus::new(), Seen::default());
    let sub = bus.with(seen.clone()).on(note).start().unwrap();
    bus.publish(&Placed { order: 1 }).await.unwrap();
    bus.close();
    assert_eq!(bus.publish(&Placed { order: 2 }).await, Err(PublishError::Closed));
    assert!(bus.with(seen.clone()).on(note).start().is_err());
    assert!(sub.is_ended());
    let drained = sub.stop_by(Instant::now() + secs(1)).await;
    assert!(drained.is_complete());
    assert_eq!(seen.all(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn idle_waits_for_what_handlers_publish_on_the_way() {
    async fn charge(event: Placed, cx: EventContext<(Bus, Seen)>) -> Result<(), JobError> {
        tokio::time::sleep(secs(1)).await;
        cx.0.publish(&Paid { order: event.order }).await?;
        Ok(())
    }
    async fn ship(event: Paid, cx: EventContext<(Bus, Seen)>) -> Result<(), JobError> {
        tokio::time::sleep(secs(1)).await;
        cx.1.add(format!("shipped {}", event.order));
        Ok(())
    }
    let (bus, seen) = (Bus::new(), Seen::default());
    let shop = bus.with((bus.clone(), seen.clone()));
    // The later one first: nothing may hang on the order of subscribing.
    let _subs = [shop.on(ship).start().unwrap(), shop.on(charge).start().unwrap()];
    bus.publish(&Placed { order: 7 }).await.unwrap();
    bus.idle().await;
    assert_eq!(seen.all(), ["shipped 7"]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_handles_what_is_queued_and_what_follows_and_says_what_is_left() {
    async fn charge(event: Placed, cx: EventContext<Bus>) -> Result<(), JobError> {
        tokio::time::sleep(secs(1)).await;
        cx.publish(&Paid { order: event.order }).await?;
        Ok(())
    }
    async fn ship(_: Paid, cx: EventContext<Bus>) -> Result<(), JobError> {
        let _ = &cx;
        tokio::time::sleep(secs(1)).await;
        Ok(())
    }
    for (limit, told) in [
        (secs(60), "everything was handled"),
        (secs(2), "subscriber charge: 4 left, 1 unfinished; subscriber ship: 0 left, 1 unfinished"),
    ] {
        let bus = Bus::new();
        let both = bus.with(bus.clone());
        let _subs = [both.on(charge).start().unwrap(), both.on(ship).start().unwrap()];
        for order in 0..6 {
            bus.publish(&Placed { order }).await.unwrap();
        }
        let drained = bus.drain_by(Instant::now() + limit - millis(1)).await;
        assert_eq!(drained.to_string(), told);
        assert_eq!(drained.is_complete(), limit > secs(10));
        assert!(bus.is_closed());
    }
}

#[tokio::test(start_paused = true)]
async fn older_versions_are_read_and_newer_ones_are_dead_letters() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Old {
        cents: u32,
    }
    impl Event for Old {
        const TOPIC: &'static str = "price";
    }
    #[derive(Clone, Serialize, Deserialize)]
    struct New {
        amount: String,
    }
    impl Event for New {
        const TOPIC: &'static str = "price";
        const VERSION: u32 = 2;
        fn read(version: u32, data: &str) -> Result<Self, JobError> {
            if version == 1 {
                let old: Old = serde_json::from_str(data)?;
                return Ok(New { amount: format!("{}.{:02}", old.cents / 100, old.cents % 100) });
            }
            Ok(serde_json::from_str(data)?)
        }
    }
    async fn reads_new(event: New, cx: EventContext<Seen>) -> Result<(), JobError> {
        cx.add(event.amount);
        Ok(())
    }
    async fn reads_old(event: Old, cx: EventContext<Seen>) -> Result<(), JobError> {
        cx.add(event.cents.to_string());
        Ok(())
    }
    let (bus, seen) = (Bus::new(), Seen::default());
    let here = bus.with(seen.clone());
    let _subs = [here.on(reads_new).start().unwrap(), here.on(reads_old).start().unwrap()];
    bus.publish(&Old { cents: 1_205 }).await.unwrap();
    bus.publish(&New { amount: "3.00".into() }).await.unwrap();
    bus.idle().await;
    let mut all = seen.all();
    all.sort();
    assert_eq!(all, ["12.05", "1205", "3.00"]);
    let dead = bus.dead();
    assert_eq!(dead.len(), 1);
    assert!(
        dead[0].error.contains("does not fit price: it is of version 2, and this reader knows up to 1"),
        "{}",
        dead[0].error
    );
    assert_eq!((&*dead[0].subscriber, dead[0].attempts), ("reads_old", 1));
}

#[tokio::test(start_paused = true)]
async fn an_envelope_shows_the_attributes_it_was_published_with() {
    async fn show(event: Envelope, cx: EventContext<Seen>) -> Result<(), JobError> {
        cx.add(format!(
            "{} {} {} {:?} {:?} {}",
            event.id(),
            event.kind(),
            event.source(),
            event.key(),
            event.subject(),
            event.json()?
        ));
        Ok(())
    }
    let (bus, seen) = (Bus::new(), Seen::default());
    let _sub = bus.with(seen.clone()).subscribe(">", show).start().unwrap();
    let event = Placed { order: 7 }.with().id("e1").source("/shop").key("k").subject("s");
    bus.publish(event).await.unwrap();
    bus.publish(&Placed { order: 8 }).await.unwrap();
    bus.idle().await;
    let all = seen.all();
    assert_eq!(all[0], r#"e1 orders.placed /shop Some("k") Some("s") {"order":7}"#);
    let id = all[1].split(' ').next().unwrap();
    assert!(mainstay::core::JobId::parse(id).is_ok(), "{id} is a UUIDv7");
    assert!(all[1].ends_with(r#" orders.placed /mainstay Some("8") None {"order":8}"#), "{}", all[1]);
}
