//! Handlers of the log, in whole services over the memory store.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use mainstay::bus::Bus;
use mainstay::core::event::{DeadEventFilter, EventItem, EventOp, EventQuery, Position};
use mainstay::core::job::{Backoff, DeadReason, Jitter};
use mainstay::core::op::Op;
use mainstay::core::store::{Page, Query, Record};
use mainstay::core::{GroupName, event::DeadEvent};
use mainstay::event::{Envelope, EventContext};
#[cfg(feature = "testing")]
use mainstay::policy::Verdict;
use mainstay::{Boot, Client, Ended, Event, Job, JobContext, JobError, Result, Workers, secs};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};

use crate::bus::{Paid, Placed, Seen};
use crate::harness::{PATIENCE, app};

/// Lives one life on a store; `during` runs while it is up.
pub async fn lives(
    settings: &[(&str, &str)],
    boot: impl AsyncFnOnce(&mut Boot<()>) -> Result<()>,
    during: impl Future<Output = ()>,
) -> Ended {
    let mut all = vec![("admin_listen", "off"), ("lame_duck_ms", "0")];
    all.extend_from_slice(settings);
    timeout(PATIENCE, app(&all).run_until(boot, during)).await.expect("it ends in time")
}

pub fn at_once() -> Backoff {
    Backoff { base_ms: 1, max_ms: 1, jitter: Jitter::None, ..Backoff::default() }
}

pub async fn publish(store: &Client, orders: std::ops::Range<u32>) {
    for order in orders {
        store.commit().publish(&Placed { order }).await.unwrap();
    }
}

pub async fn dead(store: &Client, group: &str) -> Vec<DeadEvent> {
    let group = GroupName::new(group).unwrap();
    let filter = DeadEventFilter { group, kind: None, error_type: None };
    let query = Query::Event(EventQuery::Dead(filter));
    let slice = store.store().list(&query, &Page { limit: 100, cursor: None }).await.unwrap();
    let letters = slice.items.into_iter().map(|record| match record {
        Record::Event(EventItem::Dead(letter)) => *letter,
        other => panic!("{other:?}"),
    });
    letters.collect()
}

/// Counts down; resolves at zero.
#[derive(Clone)]
pub struct Left(Arc<(AtomicU32, Notify)>);

impl Left {
    pub fn new(n: u32) -> Self {
        Self(Arc::new((AtomicU32::new(n), Notify::new())))
    }
    pub fn one(&self) {
        if self.0.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.1.notify_one();
        }
    }
    pub async fn none(&self) {
        timeout(PATIENCE, self.0.1.notified()).await.expect("all is done in time");
    }
}

#[tokio::test]
async fn the_same_handler_runs_on_the_log_and_on_a_bus() {
    async fn record(event: Envelope, cx: EventContext<(Seen, Left)>) -> Result<(), JobError> {
        let Placed { order } = event.read()?;
        cx.0.add(format!("{} {order} {:?} {}", cx.subscriber(), cx.seq(), cx.attempt()));
        cx.1.one();
        Ok(())
    }
    let (store, bus, seen, left) = (Client::memory(), Bus::new(), Seen::default(), Left::new(2));
    let state = (seen.clone(), left.clone());
    let (theirs, local) = (store.clone(), bus.clone());
    let ended = lives(
        &[],
        async move |b| {
            b.subscribe(theirs.group("records").with(state.clone()).subscribe("orders.*", record));
            b.subscribe(local.with(state).subscribe("orders.*", record));
            Ok(())
        },
        async {
            store.commit().publish(&Placed { order: 1 }).await.unwrap();
            bus.publish(&Placed { order: 2 }).await.unwrap();
            left.none().await;
        },
    )
    .await;
    let mut all = seen.all();
    all.sort();
    assert_eq!(all, ["record 2 None 1", "records 1 Some(1) 1"]);
    assert_eq!(ended.exit_code(), 0);
}

#[cfg(feature = "testing")]
#[test]
fn what_a_delivery_calls_is_tried_again_on_its_second_attempt_and_a_long_wait_is_its_own_delay() {
    use std::future::ready;
    use std::io;
    async fn handle(_: Placed, cx: EventContext<(Seen, Left, Instant)>) -> Result<(), JobError> {
        cx.0.add(format!("{} at {} s", cx.attempt(), cx.2.elapsed().as_secs()));
        if cx.attempt() == 1 {
            return Err(JobError::retry("once more"));
        }
        if cx.attempt() == 3 {
            cx.1.one();
            return Ok(());
        }
        let lorries = cx.policy("lorries");
        let fails = |_| {
            cx.0.add("call");
            ready(Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionReset)))
        };
        let _ = lorries.run(fails).await;
        let busy = lorries.call().errors(|_: &io::Error| Verdict::RetryAfter(secs(9)));
        busy.run(|_| {
            cx.0.add("busy");
            ready(Err::<(), _>(io::Error::other("full")))
        })
        .await?;
        Ok(())
    }
    mainstay::testing::block_on_virtual(async {
        let (store, seen, left) = (Client::memory(), Seen::default(), Left::new(1));
        let (theirs, state) = (store.clone(), (seen.clone(), left.clone(), Instant::now()));
        lives(
            &[("policies.lorries.retry.base_ms", "1")],
            async move |b| {
                b.subscribe(theirs.group("records").with(state).on(handle).backoff(at_once()));
                Ok(())
            },
            async {
                publish(&store, 0..1).await;
                left.none().await;
            },
        )
        .await;
        // No slot waits for nine seconds: the delivery does.
        assert_eq!(seen.all(), ["1 at 0 s", "2 at 0 s", "call", "call", "call", "busy", "3 at 9 s"]);
    });
}

#[tokio::test]
async fn a_failing_event_comes_again_and_is_a_dead_letter_in_the_end() {
    async fn handle(event: Placed, cx: EventContext<(Seen, Left)>) -> Result<(), JobError> {
        cx.0.add(format!("{}.{}", event.order, cx.attempt()));
        cx.1.one();
        match event.order {
            0 => Err(JobError::retry("no lorry")),
            1 => Err(JobError::permanent("no such street")),
            2 => Err(JobError::cancel()),
            3 if cx.attempt() < 3 => panic!("oh no"),
            _ => Ok(()),
        }
    }
    let (store, seen, left) = (Client::memory(), Seen::default(), Left::new(3 + 1 + 1 + 3));
    let (theirs, state) = (store.clone(), (seen.clone(), left.clone()));
    lives(
        &[],
        async move |b| {
            let group = theirs.group("lorries").with(state);
            b.subscribe(group.on(handle).backoff(at_once()).max_deliver(3));
            Ok(())
        },
        async {
            publish(&store, 0..4).await;
            left.none().await;
        },
    )
    .await;
    let mut all = seen.all();
    all.sort();
    assert_eq!(all, ["0.1", "0.2", "0.3", "1.1", "2.1", "3.1", "3.2", "3.3"]);
    let mut letters = dead(&store, "lorries").await;
    letters.sort_by_key(|letter| letter.seq);
    let told: Vec<_> = letters
        .iter()
        .map(|letter| (letter.seq, letter.attempts, letter.reason, &*letter.error.as_ref().unwrap().message))
        .collect();
    assert_eq!(
        told,
        [(1, 3, DeadReason::Exhausted, "no lorry"), (2, 1, DeadReason::Permanent, "no such street")]
    );
}

#[tokio::test]
async fn a_group_goes_on_where_its_last_service_stopped() {
    async fn note(event: Placed, cx: EventContext<(Seen, Left)>) -> Result<(), JobError> {
        cx.0.add(event.order.to_string());
        cx.1.one();
        Ok(())
    }
    let (store, seen) = (Client::memory(), Seen::default());
    for life in 0..3 {
        let left = Left::new(2);
        let (theirs, state) = (store.clone(), (seen.clone(), left.clone()));
        lives(
            &[],
            async move |b| {
                b.subscribe(theirs.group("notes").with(state).on(note).concurrency(1));
                Ok(())
            },
            async {
                // The first of the two came while nobody was there, but for the first life.
                if life == 0 {
                    publish(&store, 0..1).await;
                }
                publish(&store, life * 2 + 1..life * 2 + 2).await;
                left.none().await;
            },
        )
        .await;
        publish(&store, life * 2 + 2..life * 2 + 3).await;
    }
    assert_eq!(seen.all(), ["0", "1", "2", "3", "4", "5"]);
}

#[derive(Serialize, Deserialize)]
pub struct Ship {
    pub order: u32,
}
impl Job for Ship {
    const KIND: &'static str = "ship";
    const QUEUE: &'static str = "lorries";
}

#[tokio::test]
async fn a_group_turns_each_event_into_one_job() {
    async fn ship(job: Ship, cx: JobContext<(Seen, Left)>) -> Result<(), JobError> {
        cx.0.add(job.order.to_string());
        cx.1.one();
        Ok(())
    }
    let (store, seen, left) = (Client::memory(), Seen::default(), Left::new(20));
    let (theirs, state) = (store.clone(), (seen.clone(), left.clone()));
    lives(
        &[],
        async move |b| {
            b.subscribe(
                theirs.group("ships").with(()).enqueue(|event: Placed, ()| Ship { order: event.order }),
            );
            b.workers(Workers::new("lorries", state).on(ship).from(theirs));
            Ok(())
        },
        async {
            publish(&store, 0..20).await;
            left.none().await;
        },
    )
    .await;
    let mut all: Vec<u32> = seen.all().iter().map(|order| order.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..20).collect::<Vec<_>>());
    assert!(dead(&store, "ships").await.is_empty());
}

#[tokio::test]
async fn what_a_handler_commits_ends_its_delivery_or_does_not_happen() {
    // The commit happens, and then the handler fails: the event is not delivered again.
    async fn charge(event: Placed, cx: EventContext<Left>) -> Result<(), JobError> {
        cx.commit()?.publish(&Paid { order: event.order }).await?;
        cx.one();
        Err(JobError::retry("after the commit"))
    }
    let (store, left) = (Client::memory(), Left::new(3));
    let (theirs, state) = (store.clone(), left.clone());
    lives(
        &[],
        async move |b| {
            b.subscribe(theirs.group("charges").with(state).on(charge).backoff(at_once()));
            Ok(())
        },
        async {
            publish(&store, 0..3).await;
            left.none().await;
        },
    )
    .await;
    let slice = store.store().read_log(&[], Position::Earliest, Default::default()).await.unwrap();
    let paid = slice.events.iter().filter(|event| event.topic.as_str() == "orders.paid").count();
    assert_eq!((slice.events.len(), paid), (6, 3), "each was paid once");
    let group = store.group_record(&GroupName::new("charges").unwrap()).await.unwrap().unwrap();
    assert_eq!((group.waiting, group.lag, group.redelivered), (0, 0, 0), "and nothing comes again");
    assert!(dead(&store, "charges").await.is_empty());
}

#[tokio::test]
async fn a_service_that_stops_gives_its_events_back_without_spending_a_delivery() {
    async fn stuck(_: Placed, cx: EventContext<(Seen, Left)>) -> Result<(), JobError> {
        cx.0.add(format!("began {}", cx.attempt()));
        cx.1.one();
        cx.cancelled().await;
        cx.0.add("told");
        std::future::pending().await
    }
    async fn note(_: Placed, cx: EventContext<(Seen, Left)>) -> Result<(), JobError> {
        cx.0.add(format!("done {}", cx.attempt()));
        cx.1.one();
        Ok(())
    }
    let (store, seen) = (Client::memory(), Seen::default());
    let left = Left::new(1);
    let (theirs, state) = (store.clone(), (seen.clone(), left.clone()));
    let ended = lives(
        &[("grace_ms", "1500"), ("drain_ms", "100")],
        async move |b| {
            b.subscribe(theirs.group("notes").with(state).on(stuck).time_limit(secs(600)));
            Ok(())
        },
        async {
            publish(&store, 0..1).await;
            left.none().await;
        },
    )
    .await;
    assert_eq!(ended.exit_code(), 1);
    assert!(ended.cut.iter().any(|cut| cut.to_string().contains("event orders.placed ")), "{:?}", ended.cut);

    let left = Left::new(1);
    let (theirs, state) = (store.clone(), (seen.clone(), left.clone()));
    lives(
        &[],
        async move |b| {
            b.subscribe(theirs.group("notes").with(state).on(note));
            Ok(())
        },
        left.none(),
    )
    .await;
    assert_eq!(seen.all(), ["began 1", "told", "done 1"], "at once, and as the first attempt");
}

#[tokio::test]
async fn a_handler_whose_lease_is_gone_is_cut() {
    struct Cut(Arc<Semaphore>);
    impl Drop for Cut {
        fn drop(&mut self) {
            self.0.add_permits(1);
        }
    }
    async fn stuck(_: Placed, cx: EventContext<(Arc<Semaphore>, Left)>) -> Result<(), JobError> {
        let _cut = Cut(cx.0.clone());
        cx.1.one();
        std::future::pending().await
    }
    let (store, cut, left) = (Client::memory(), Arc::new(Semaphore::new(0)), Left::new(1));
    let (theirs, state) = (store.clone(), (cut.clone(), left.clone()));
    lives(
        &[],
        async move |b| {
            b.subscribe(theirs.group("notes").with(state).on(stuck).lease(secs(1)).time_limit(secs(600)));
            Ok(())
        },
        async {
            publish(&store, 0..1).await;
            left.none().await;
            // Open leases are void when the group is moved.
            let group = GroupName::new("notes").unwrap();
            store.apply(Op::Event(EventOp::Seek { group, to: Position::Latest })).await.unwrap();
            let _ = timeout(PATIENCE, cut.acquire()).await.expect("it is cut in time").unwrap();
        },
    )
    .await;
}

#[tokio::test]
async fn a_handler_that_has_ended_its_delivery_itself_is_not_cut() {
    #[derive(Clone)]
    struct Both {
        began: Left,
        cut: Arc<Semaphore>,
        ended: Left,
    }
    struct Cut(Arc<Semaphore>);
    impl Drop for Cut {
        fn drop(&mut self) {
            self.0.add_permits(1);
        }
    }
    // One has ended its delivery; the other loses its own, and is cut when both are renewed.
    async fn handle(event: Placed, cx: EventContext<Both>) -> Result<(), JobError> {
        if event.order == 1 {
            let _cut = Cut(cx.cut.clone());
            cx.began.one();
            return std::future::pending().await;
        }
        cx.commit()?.publish(&Paid { order: event.order }).await?;
        cx.began.one();
        cx.cut.acquire().await?.forget();
        cx.ended.one();
        Ok(())
    }
    let both = Both { began: Left::new(2), cut: Arc::new(Semaphore::new(0)), ended: Left::new(1) };
    let (store, state) = (Client::memory(), both.clone());
    let theirs = store.clone();
    lives(
        &[],
        async move |b| {
            let group = theirs.group("notes").with(state);
            b.subscribe(group.on(handle).lease(secs(1)).time_limit(secs(600)));
            Ok(())
        },
        async {
            publish(&store, 0..2).await;
            both.began.none().await;
            let group = GroupName::new("notes").unwrap();
            store.apply(Op::Event(EventOp::Seek { group, to: Position::Latest })).await.unwrap();
            both.ended.none().await;
        },
    )
    .await;
}

#[tokio::test]
async fn events_of_one_key_keep_their_order_and_a_failing_one_holds_up_only_its_key() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Step {
        account: String,
        n: u32,
    }
    impl Event for Step {
        const TOPIC: &'static str = "steps";
        fn key(&self) -> Option<std::borrow::Cow<'_, str>> {
            Some(self.account.as_str().into())
        }
    }
    async fn step(event: Step, cx: EventContext<(Arc<Mutex<Vec<Step>>>, Left)>) -> Result<(), JobError> {
        if event.account == "a" && event.n == 0 && cx.attempt() < 3 {
            return Err(JobError::retry("not yet"));
        }
        cx.0.lock().unwrap().push(event);
        cx.1.one();
        Ok(())
    }
    let (store, done, left) = (Client::memory(), Arc::<Mutex<Vec<Step>>>::default(), Left::new(40));
    let (theirs, state) = (store.clone(), (done.clone(), left.clone()));
    lives(
        &[],
        async move |b| {
            let group = theirs.group("steps").with(state);
            b.subscribe(group.on(step).ordered_by_key().backoff(at_once()));
            Ok(())
        },
        async {
            for n in 0..10 {
                for account in ["a", "b", "c", "d"] {
                    store.commit().publish(&Step { account: account.into(), n }).await.unwrap();
                }
            }
            left.none().await;
        },
    )
    .await;
    let done = done.lock().unwrap();
    for account in ["a", "b", "c", "d"] {
        let order: Vec<_> = done.iter().filter(|step| step.account == account).map(|step| step.n).collect();
        assert_eq!(order, (0..10).collect::<Vec<_>>(), "{account}");
    }
}

#[tokio::test]
async fn a_group_that_is_subscribed_twice_ends_the_start() {
    async fn note(_: Placed, _: EventContext) -> Result<(), JobError> {
        Ok(())
    }
    let store = Client::memory();
    let ended = lives(
        &[],
        async move |b| {
            b.subscribe(store.group("notes").with(()).on(note));
            b.subscribe(store.group("notes").with(()).on(note));
            Ok(())
        },
        std::future::pending(),
    )
    .await;
    assert_eq!(ended.exit_code(), 78);
    let told = ended.error.expect("an error").chain();
    assert!(told.contains("group `notes` is subscribed twice"), "{told}");
}
