//! What fails stays with whoever failed.

use std::sync::Arc;

use mainstay::bus::{Bus, Requeued};
use mainstay::core::job::DeadReason;
use mainstay::event::{Delivery, EventContext};
use mainstay::pipeline::{Next, Pipeline};
use mainstay::policy::{Retry, retry};
use mainstay::{JobError, millis, secs};
use tokio::time::Instant;

use super::{Placed, Seen, note};

#[tokio::test(start_paused = true)]
async fn an_error_or_a_panic_of_one_handler_does_not_touch_the_others() {
    async fn fails(_: Placed, _: EventContext<Seen>) -> Result<(), JobError> {
        Err(JobError::retry("no"))
    }
    async fn panics(event: Placed, _: EventContext<Seen>) -> Result<(), JobError> {
        panic!("oh no {}", event.order)
    }
    fn panics_before_it_begins(_: Placed, _: EventContext<Seen>) -> std::future::Ready<Result<(), JobError>> {
        panic!("early")
    }
    let (bus, seen) = (Bus::new(), Seen::default());
    let here = bus.with(seen.clone());
    let _subs = [
        here.on(fails).start().unwrap(),
        here.on(panics).start().unwrap(),
        here.on(panics_before_it_begins).start().unwrap(),
        here.on(note).start().unwrap(),
    ];
    for order in 0..3 {
        bus.publish(&Placed { order }).await.unwrap();
    }
    bus.idle().await;
    assert_eq!(seen.all(), ["0", "1", "2"]);
    let dead = bus.dead();
    let of = |name: &str| dead.iter().filter(|letter| &*letter.subscriber == name).count();
    assert_eq!((of("fails"), of("panics"), of("panics_before_it_begins")), (3, 3, 3));
    assert!(dead.iter().all(|letter| letter.attempts == 5 && letter.reason == DeadReason::Exhausted));
    assert!(dead.iter().any(|letter| letter.error == "oh no 2"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_event_is_tried_again_in_its_place() {
    async fn flaky(event: Placed, cx: EventContext<Seen>) -> Result<(), JobError> {
        cx.add(format!("{}.{}", event.order, cx.attempt()));
        if event.order == 1 && cx.attempt() < 3 { Err(JobError::retry("not yet")) } else { Ok(()) }
    }
    let (bus, seen) = (Bus::new(), Seen::default());
    let _sub = bus.with(seen.clone()).on(flaky).start().unwrap();
    for order in 0..3 {
        bus.publish(&Placed { order }).await.unwrap();
    }
    bus.idle().await;
    assert_eq!(seen.all(), ["0.1", "1.1", "1.2", "1.3", "2.1"]);
    assert_eq!(bus.dead().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_calls_on_its_second_attempt_is_tried_again_as_on_its_first() {
    async fn calls(_: Placed, cx: EventContext<Seen>) -> Result<(), JobError> {
        let attempt = cx.attempt();
        let fails = |how: &str| {
            cx.add(format!("{how} {attempt}"));
            std::future::ready(Err::<(), _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset)))
        };
        let _ = retry(Retry::default(), || fails("alone")).await;
        cx.policy("lorries").run(|_| fails("policy")).await?;
        Ok(())
    }
    let (bus, seen) = (Bus::new(), Seen::default());
    let retry = Retry { max_attempts: 2, ..Retry::default() };
    let _sub = bus.with(seen.clone()).on(calls).retry(retry).start().unwrap();
    bus.publish(&Placed { order: 1 }).await.unwrap();
    bus.idle().await;
    let all = seen.all();
    for call in ["alone 1", "policy 1", "alone 2", "policy 2"] {
        assert_eq!(all.iter().filter(|made| *made == call).count(), 3, "{call}: {all:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_says_decides_how_it_goes_on() {
    async fn says(event: Placed, cx: EventContext<Seen>) -> Result<(), JobError> {
        cx.add(format!("{}.{}", event.order, cx.attempt()));
        match (event.order, cx.attempt()) {
            (0, _) => Err(JobError::permanent("useless")),
            (1, _) => Err(JobError::cancel()),
            (2, _) if cx.count() < 5 => Err(JobError::snooze(secs(60))),
            _ => Ok(()),
        }
    }
    let (bus, seen) = (Bus::new(), Seen::default());
    let _sub = bus.with(seen.clone()).on(says).start().unwrap();
    for order in 0..3 {
        bus.publish(&Placed { order }).await.unwrap();
    }
    let began = Instant::now();
    bus.idle().await;
    assert_eq!(seen.all(), ["0.1", "1.1", "2.1", "2.1", "2.1"], "a snooze is no attempt");
    assert_eq!(began.elapsed(), secs(120));
    let dead = bus.dead();
    assert_eq!(dead.len(), 1, "what is not wanted any more is no failure");
    assert_eq!((dead[0].reason, dead[0].attempts, &*dead[0].error), (DeadReason::Permanent, 1, "useless"));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_overruns_its_time_is_cut_and_tried_again() {
    async fn hangs_once(_: Placed, cx: EventContext<Seen>) -> Result<(), JobError> {
        cx.add(cx.attempt().to_string());
        if cx.attempt() == 1 {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
    let (bus, seen) = (Bus::new(), Seen::default());
    let rules = Retry { base_ms: 1, cap_ms: 1, ..Retry::default() };
    let _sub = bus.with(seen.clone()).on(hangs_once).time_limit(secs(2)).retry(rules).start().unwrap();
    bus.publish(&Placed { order: 0 }).await.unwrap();
    let began = Instant::now();
    bus.idle().await;
    assert_eq!(seen.all(), ["1", "2"]);
    assert!((secs(2)..secs(2) + millis(5)).contains(&began.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_delivered_again_to_who_gave_up_and_to_nobody_else() {
    async fn picky(event: Placed, cx: EventContext<Seen>) -> Result<(), JobError> {
        // Once all three are dead, it changes its mind.
        if cx.all().iter().filter(|seen| seen.starts_with('p')).count() < 3 {
            cx.add(format!("p{}", event.order));
            return Err(JobError::permanent("not today"));
        }
        cx.add(format!("ok{}.{}", event.order, cx.attempt()));
        Ok(())
    }
    let (bus, seen, other) = (Bus::new(), Seen::default(), Seen::default());
    let sub = bus.with(seen.clone()).on(picky).start().unwrap();
    let _other = bus.with(other.clone()).on(note).start().unwrap();
    for order in 0..3 {
        bus.publish(&Placed { order }).await.unwrap();
    }
    bus.idle().await;
    let dead = bus.dead();
    assert_eq!(dead.len(), 3);
    let first = dead[0].event.id().to_owned();

    let done = bus.requeue(|letter| letter.event.id() == first);
    assert_eq!((done.matched, done.changed), (1, 1));
    bus.idle().await;
    assert_eq!(seen.all(), ["p0", "p1", "p2", "ok0.1"]);
    assert_eq!(bus.dead().len(), 2);
    assert_eq!(other.count(), 3, "the others had it already");

    assert_eq!(bus.delete_dead(|letter| letter.number == dead[1].number), 1);
    drop(sub);
    let done: Requeued = bus.requeue(|_| true);
    assert_eq!((done.matched, done.changed), (1, 0), "nobody is there to take it");
    assert_eq!(bus.dead().len(), 1, "so it stays");
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_dead_letters_are_kept() {
    async fn fails(_: Placed, _: EventContext) -> Result<(), JobError> {
        Err(JobError::permanent("no"))
    }
    let bus = Bus::new();
    bus.keep_dead(3);
    let _sub = bus.on(fails).start().unwrap();
    for order in 0..10 {
        bus.publish(&Placed { order }).await.unwrap();
    }
    bus.idle().await;
    let orders: Vec<_> =
        bus.dead().iter().map(|letter| letter.event.read::<Placed>().unwrap().order).collect();
    assert_eq!(orders, [7, 8, 9]);
}

#[tokio::test(start_paused = true)]
async fn layers_and_the_policy_stand_around_every_attempt() {
    type Answer = Result<Option<Arc<str>>, JobError>;
    async fn curious(delivery: Delivery, next: Next<Delivery, Option<Arc<str>>, JobError>) -> Answer {
        let (topic, attempt) = (delivery.envelope().topic().to_owned(), delivery.attempt());
        match next.run(delivery).await {
            Err(error) if attempt == 1 => Err(error),
            // A layer may catch what comes out, and answer itself.
            _ => Ok(Some(format!("\"{topic} {attempt}\"").into())),
        }
    }
    async fn slow(_: Placed, _: EventContext) -> Result<(), JobError> {
        std::future::pending().await
    }
    let bus = Bus::new();
    let pipeline = Pipeline::new().middleware("curious", "to see it", curious);
    let sub = bus.on(slow).through(pipeline).policy("default").time_limit(secs(60));
    assert_eq!(sub.steps().to_string(), "1. curious: to see it\n");
    let _sub = sub.start().unwrap();
    let began = Instant::now();
    let answer: String = bus.request(&Placed { order: 1 }).within(secs(60)).await.unwrap();
    assert_eq!(answer, "orders.placed 2");
    // The default policy gives an attempt ten seconds.
    assert!((secs(20)..secs(21)).contains(&began.elapsed()), "{:?}", began.elapsed());
}
