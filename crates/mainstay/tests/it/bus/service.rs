//! A bus in the life of a service.

use std::sync::Arc;

use mainstay::bus::{Bus, PublishError};
use mainstay::event::EventContext;
use mainstay::{Boot, Ended, JobError, Result, secs};
use tokio::sync::Semaphore;

use super::{Paid, Placed, Seen, note};
use crate::harness::app;

/// Lives one life with what `boot` subscribes; `during` runs while it is up.
async fn lives(
    settings: &[(&str, &str)],
    boot: impl AsyncFnOnce(&mut Boot<()>) -> Result<()>,
    during: impl Future<Output = ()> + Send,
) -> Ended {
    let mut all = vec![("admin_listen", "off"), ("lame_duck_ms", "0")];
    all.extend_from_slice(settings);
    app(&all).run_until(boot, during).await
}

#[tokio::test]
async fn what_is_queued_when_the_service_stops_is_handled_with_all_that_follows_from_it() {
    struct Shop {
        bus: Bus,
        open: Arc<Semaphore>,
        seen: Seen,
    }
    async fn charge(event: Placed, cx: EventContext<Shop>) -> Result<(), JobError> {
        cx.open.acquire().await?.forget();
        cx.bus.publish(&Paid { order: event.order }).await?;
        Ok(())
    }
    async fn ship(event: Paid, cx: EventContext<Shop>) -> Result<(), JobError> {
        cx.seen.add(event.order.to_string());
        Ok(())
    }
    let (bus, open, seen) = (Bus::new(), Arc::new(Semaphore::new(0)), Seen::default());
    let (theirs, gate, shipped) = (bus.clone(), open.clone(), seen.clone());
    let ended = lives(
        &[],
        async move |b| {
            let shop = theirs.with(Shop { bus: theirs.clone(), open: gate, seen: shipped });
            b.subscribe(shop.on(charge));
            b.subscribe(shop.on(ship));
            // Opened when the end has begun.
            let (shutdown, open) = (b.shutdown(), open.clone());
            b.tasks().spawn("opens", async move {
                shutdown.draining().await;
                open.add_permits(9);
            });
            Ok(())
        },
        async {
            for order in 0..5 {
                bus.publish(&Placed { order }).await.unwrap();
            }
        },
    )
    .await;
    assert_eq!(seen.all(), ["0", "1", "2", "3", "4"]);
    assert_eq!((ended.exit_code(), ended.cut.len()), (0, 0), "{ended:?}");
    assert_eq!(bus.publish(&Placed { order: 6 }).await, Err(PublishError::Closed));
}

#[tokio::test]
async fn a_handler_that_overstays_is_named_told_and_cut() {
    async fn stuck(event: Placed, cx: EventContext<Seen>) -> Result<(), JobError> {
        if event.order == 0 {
            cx.cancelled().await;
            cx.add("told");
        }
        std::future::pending().await
    }
    let (bus, seen) = (Bus::new(), Seen::default());
    let (theirs, told) = (bus.clone(), seen.clone());
    let ended = lives(
        &[("grace_ms", "1500"), ("drain_ms", "100")],
        async move |b| {
            b.subscribe(theirs.with(told).on(stuck).time_limit(secs(600)));
            Ok(())
        },
        async {
            for order in 0..3 {
                bus.publish(&Placed { order }).await.unwrap();
            }
        },
    )
    .await;
    let cut: Vec<_> = ended.cut.iter().map(ToString::to_string).collect();
    let has = |what: &str| cut.iter().any(|line| line.contains(what));
    assert!(has("event orders.placed ") && has("subscriber stuck") && has("2 events that wait"), "{cut:?}");
    assert_eq!(seen.all(), ["told"]);
    assert_eq!(ended.exit_code(), 1);
}

#[tokio::test]
async fn events_that_boot_publishes_are_handled_once_the_service_is_up() {
    let (bus, seen) = (Bus::new(), Seen::default());
    let (theirs, handled) = (bus.clone(), seen.clone());
    let ended = lives(
        &[],
        async move |b| {
            b.subscribe(theirs.with(handled).on(note));
            theirs.publish(&Placed { order: 1 }).await.unwrap();
            Ok(())
        },
        async { bus.idle().await },
    )
    .await;
    assert_eq!((seen.all(), ended.exit_code()), (vec!["1".to_owned()], 0));
}

#[tokio::test]
async fn a_mistake_in_a_subscription_ends_the_start() {
    let bus = Bus::new();
    let ended = lives(
        &[],
        async move |b| {
            b.subscribe(bus.with(Seen::default()).subscribe("orders.>.x", note));
            Ok(())
        },
        std::future::pending(),
    )
    .await;
    assert_eq!(ended.exit_code(), 78);
    let told = ended.error.expect("an error").chain();
    assert!(told.contains("orders.>.x"), "{told}");
}
