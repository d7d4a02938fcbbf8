//! Jobs and events of a service under test: free, inline, and step by step.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use axum::{Json, Router, extract::State, routing::post};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::{failure, says};
use crate::{
    Boot, Client, Event, EventContext, Job, JobContext, JobError, Workers,
    bus::Bus,
    core::job::{Backoff, Jitter, JobState},
    http::ApiError,
    millis, secs,
    testing::{Gate, TestApp, TestBoot, block_on_virtual},
};

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Bill {
    order: String,
}
impl Job for Bill {
    const KIND: &'static str = "bill";
    const QUEUE: &'static str = "money";
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Ship {
    order: String,
}
impl Job for Ship {
    const KIND: &'static str = "ship";
    const QUEUE: &'static str = "lorries";
}

#[derive(Clone, Serialize, Deserialize, Debug, PartialEq)]
struct Placed {
    order: String,
}
impl Event for Placed {
    const TOPIC: &'static str = "orders.placed";
}

#[derive(Clone, Serialize, Deserialize, Debug, PartialEq)]
struct Paid {
    order: String,
}
impl Event for Paid {
    const TOPIC: &'static str = "orders.paid";
}

/// What happened, in its order.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn put(&self, note: impl Into<String>) {
        self.0.lock().unwrap().push(note.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[derive(Clone)]
struct Shop {
    store: Client,
    bus: Bus,
    notes: Notes,
}

async fn place(State(shop): State<Shop>, Json(order): Json<String>) -> Result<(), ApiError> {
    shop.store.publish(&Placed { order: order.clone() }).await?;
    shop.bus.publish(&Placed { order }).await?;
    shop.notes.put("answered");
    Ok(())
}

/// Bills an order, the first time in vain; then it is paid.
async fn bill(job: Bill, cx: JobContext<Shop>) -> Result<(), JobError> {
    cx.notes.put(format!("bill {} #{}", job.order, cx.attempt()));
    if job.order.starts_with("hard") && cx.attempt() == 1 {
        return Err(JobError::retry("the bank is busy"));
    }
    cx.store.publish(&Paid { order: job.order }).await?;
    Ok(())
}

async fn ship(job: Ship, cx: JobContext<Shop>) -> Result<(), JobError> {
    cx.notes.put(format!("ship {}", job.order));
    Ok(())
}

async fn look(event: Placed, cx: EventContext<Shop>) -> Result<(), JobError> {
    cx.notes.put(format!("look {} #{}", event.order, cx.attempt()));
    if event.order.starts_with("odd") && cx.attempt() == 1 {
        return Err(JobError::retry("cannot look"));
    }
    Ok(())
}

/// placed → (log) bill → paid → (log) ship; placed → (bus) look.
fn shop(notes: &Notes) -> TestBoot<()> {
    let notes = notes.clone();
    TestApp::new(async move |b: &mut Boot<()>| {
        let shop = Shop { store: b.store("memory:").await?, bus: Bus::new(), notes };
        b.workers(Workers::new("money", shop.clone()).on(bill));
        b.workers(Workers::new("lorries", shop.clone()).on(ship));
        let backoff = Backoff { base_ms: 60_000, jitter: Jitter::None, ..Backoff::default() };
        let billing = shop.store.group("billing").with(shop.clone());
        b.subscribe(
            billing
                .enqueue(move |event: Placed, _: &Shop| Bill { order: event.order }.with().backoff(backoff)),
        );
        let shipping = shop.store.group("shipping").with(shop.clone());
        b.subscribe(shipping.enqueue(|event: Paid, _: &Shop| Ship { order: event.order }));
        b.subscribe(shop.bus.with(shop.clone()).on(look).name("look"));
        b.http("127.0.0.1:80", Router::new().route("/orders", post(place)).with_state(shop));
        Ok(())
    })
}

#[test]
fn stepped_work_begins_when_the_test_says_so_and_not_before() {
    let notes = Notes::default();
    block_on_virtual(shop(&notes).manual().run(async |app| {
        app.request(order("easy")).await.assert_status(200);
        sleep(secs(86_400)).await;
        assert_eq!(notes.take(), ["answered"], "a day has passed, and nothing has begun");

        let handled = [app.step_event().await, app.step_event().await];
        let mut handled =
            handled.map(|done| (done.subscriber, done.event.topic().to_owned(), done.attempt, done.result));
        handled.sort();
        let placed = |who: &str| (who.to_owned(), "orders.placed".to_owned(), 1, Ok(()));
        assert_eq!(handled, [placed("billing"), placed("look")]);
        assert_eq!(notes.take(), ["look easy #1"]);
        app.assert_enqueued(|bill: &Bill| bill.order == "easy").await;

        let billed = app.step_job().await;
        assert_eq!((&*billed.body.kind, billed.state), ("bill", JobState::Completed));
        assert_eq!(notes.take(), ["bill easy #1"]);
        assert_eq!(app.enqueued::<Ship>().await, [], "the event that it made waits, too");
        assert_eq!(app.step_event().await.subscriber, "shipping");
        assert_eq!(app.step_job().await.state, JobState::Completed);
        assert_eq!(notes.take(), ["ship easy"]);
        says(&failure_of(app.step_job()).await, &["there is no job to be run"]);
        says(&failure_of(app.step_event()).await, &["there is no event to be handled"]);
    }));
}

fn order(name: &str) -> http::Request<axum::body::Body> {
    let json = http::Request::post("/orders").header("content-type", "application/json");
    json.body(format!("\"{name}\"").into()).unwrap()
}

/// What a future says when it panics.
async fn failure_of<T>(work: impl Future<Output = T>) -> String {
    use futures_util::FutureExt;
    match std::panic::AssertUnwindSafe(work).catch_unwind().await {
        Ok(_) => panic!("it should have failed"),
        Err(panic) => crate::tasks::panic_message(&*panic),
    }
}

#[test]
fn a_step_is_one_attempt_and_the_next_waits_for_its_time() {
    let notes = Notes::default();
    block_on_virtual(shop(&notes).manual().run(async |app| {
        app.store().enqueue(Bill { order: "hard".into() }.with().delay(secs(30))).await.unwrap();
        let began = Instant::now();
        let failed = app.step_job().await;
        assert_eq!((failed.state, failed.attempt), (JobState::Retryable, 1));
        assert_eq!(&*failed.failures[0].failure.message, "the bank is busy");
        assert!(began.elapsed() >= secs(30), "{:?}", began.elapsed());
        let done = app.step_job().await;
        assert_eq!((done.state, done.attempt), (JobState::Completed, 2));
        assert!(began.elapsed() >= secs(30) && began.elapsed() < secs(33), "{:?}", began.elapsed());
        assert_eq!(notes.take(), ["bill hard #1", "bill hard #2"]);
    }));
}

#[test]
fn a_step_is_one_job_from_its_beginning_to_its_end() {
    let notes = Notes::default();
    let mine = notes.clone();
    let boot = async move |b: &mut Boot<()>| {
        b.store("memory:").await?;
        let slow = async |job: Bill, cx: JobContext<Notes>| {
            cx.put(format!("begin {}", job.order));
            sleep(secs(60)).await;
            cx.put(format!("end {}", job.order));
            Ok(())
        };
        b.workers(Workers::new("money", mine).on(slow).concurrency(2));
        Ok(())
    };
    block_on_virtual(TestApp::new(boot).manual().run(async |app| {
        for order in ["x", "y"] {
            app.store().enqueue(Bill { order: order.into() }).await.unwrap();
        }
        for order in ["x", "y"] {
            assert_eq!(app.step_job().await.state, JobState::Completed);
            assert_eq!(notes.take(), [format!("begin {order}"), format!("end {order}")]);
        }
    }));
}

#[test]
fn a_step_of_an_event_is_one_attempt_on_a_bus_as_in_the_log() {
    let notes = Notes::default();
    block_on_virtual(shop(&notes).manual().run(async |app| {
        app.request(order("odd")).await.assert_status(200);
        let mut looks = Vec::new();
        for _ in 0..3 {
            let done = app.step_event().await;
            if done.subscriber == "look" {
                looks.push((done.attempt, done.result));
            }
        }
        assert_eq!(looks, [(1, Err("cannot look".to_owned())), (2, Ok(()))]);
    }));
}

#[test]
fn a_failed_delivery_of_a_group_is_told_and_comes_again() {
    let boot = async |b: &mut Boot<()>| {
        let store = b.store("memory:").await?;
        let read = async |event: Placed, cx: EventContext<AtomicU32>| match cx.fetch_add(1, Ordering::SeqCst)
        {
            0 => Err(JobError::retry(format!("no {}", event.order))),
            1 => Err(JobError::snooze(secs(3_600))),
            _ => Ok(()),
        };
        b.subscribe(store.group("readers").with(AtomicU32::new(0)).on(read));
        Ok(())
    };
    block_on_virtual(TestApp::new(boot).manual().run(async |app| {
        app.store().publish(&Placed { order: "x".into() }).await.unwrap();
        let began = Instant::now();
        let results = [app.step_event().await, app.step_event().await, app.step_event().await];
        let results = results.map(|done| (done.attempt, done.result));
        assert_eq!(results, [(1, Err("no x".into())), (2, Err("it was put off".into())), (2, Ok(()))]);
        assert!(began.elapsed() >= secs(3_600), "{:?}", began.elapsed());
    }));
}

#[test]
fn the_ticks_of_a_schedule_are_steps() {
    let notes = Notes::default();
    let mine = notes.clone();
    let boot = async move |b: &mut Boot<()>| {
        let store = b.store("memory:").await?;
        let shop = Shop { store, bus: Bus::new(), notes: mine };
        b.schedule("bills", "0 9 * * *", Bill { order: "daily".into() }).await?;
        b.workers(Workers::new("money", shop).on(bill));
        Ok(())
    };
    block_on_virtual(TestApp::new(boot).manual().run(async |app| {
        // 08:00 is when virtual time begins.
        let began = Instant::now();
        for day in 0..2 {
            assert_eq!(app.step_job().await.state, JobState::Completed);
            let passed = began.elapsed();
            assert!(
                passed >= secs(3_600 + day * 86_400) && passed < secs(3_602 + day * 86_400),
                "{passed:?}"
            );
        }
        assert_eq!(notes.take(), ["bill daily #1", "bill daily #1"]);
    }));
}

#[test]
fn jobs_and_events_can_be_let_go_apart_and_together() {
    let notes = Notes::default();
    block_on_virtual(shop(&notes).manual().run(async |app| {
        app.request(order("easy")).await.assert_status(200);
        app.run_jobs().await;
        assert_eq!(notes.take(), ["answered"], "the job comes of an event, which waits");
        app.run_events().await;
        assert_eq!(notes.take(), ["look easy #1"]);
        app.run_jobs().await;
        assert_eq!(notes.take(), ["bill easy #1"]);
        app.run_until_idle().await;
        assert_eq!(notes.take(), ["ship easy"]);
        // Closed again.
        app.request(order("hard")).await.assert_status(200);
        sleep(secs(3_600)).await;
        assert_eq!(notes.take(), ["answered"]);
        app.run_until_idle().await;
        assert_eq!(notes.take().len(), 4);
    }));
}

#[test]
fn all_work_is_done_with_what_it_makes_through_its_retries() {
    let notes = Notes::default();
    block_on_virtual(shop(&notes).run(async |app| {
        app.request(order("hard")).await.assert_status(200);
        app.run_until_idle().await;
        let mut done = notes.take();
        done.sort();
        assert_eq!(done, ["answered", "bill hard #1", "bill hard #2", "look hard #1", "ship hard"]);
    }));
}

#[test]
fn inline_work_is_done_before_the_call_answers_that_made_it() {
    let notes = Notes::default();
    block_on_virtual(shop(&notes).inline().run(async |app| {
        app.request(order("easy")).await.assert_status(200);
        assert_eq!(notes.take(), ["bill easy #1", "ship easy", "look easy #1", "answered"]);
        let began = Instant::now();
        app.store().enqueue(Bill { order: "hard".into() }).await.unwrap();
        assert_eq!(notes.take(), ["bill hard #1"], "its back-off is not waited for");
        assert!(began.elapsed() < millis(1), "{:?}", began.elapsed());
        app.run_until_idle().await;
        assert_eq!(notes.take(), ["bill hard #2", "ship hard"]);
    }));
}

#[test]
fn an_inline_job_that_makes_another_does_not_wait_for_itself() {
    let notes = Notes::default();
    let mine = notes.clone();
    let boot = async move |b: &mut Boot<()>| {
        let store = b.store("memory:").await?;
        let shop = Shop { store, bus: Bus::new(), notes: mine };
        let again = async |job: Bill, cx: JobContext<Shop>| {
            cx.notes.put(format!("begin {}", job.order));
            if job.order.len() < 3 {
                cx.store.enqueue(Bill { order: job.order.clone() + "x" }).await?;
            }
            cx.notes.put(format!("end {}", job.order));
            Ok(())
        };
        b.workers(Workers::new("money", shop).on(again).concurrency(1));
        Ok(())
    };
    block_on_virtual(TestApp::new(boot).inline().run(async |app| {
        app.store().enqueue(Bill { order: "x".into() }).await.unwrap();
        assert_eq!(notes.take(), ["begin x", "end x", "begin xx", "end xx", "begin xxx", "end xxx"]);
    }));
}

#[test]
fn what_still_waits_at_the_end_is_no_failure() {
    let notes = Notes::default();
    block_on_virtual(shop(&notes).manual().run(async |app| {
        app.request(order("easy")).await.assert_status(200);
        app.store().enqueue(Bill { order: "easy".into() }).await.unwrap();
    }));
    // A bus is drained, as always; the store keeps its jobs and events.
    assert_eq!(notes.take(), ["answered", "look easy #1"]);
}

#[test]
fn a_job_in_hand_ends_in_the_drain_also_when_it_was_a_step() {
    let (gate, notes) = (Gate::new(), Notes::default());
    let (wait, mine) = (gate.clone(), notes.clone());
    let boot = async move |b: &mut Boot<()>| {
        b.store("memory:").await?;
        let slow = async |_: Bill, cx: JobContext<(Gate, Notes)>| {
            cx.0.pass().await;
            cx.1.put("done");
            Ok(())
        };
        b.workers(Workers::new("money", (wait, mine)).on(slow));
        Ok(())
    };
    block_on_virtual(TestApp::new(boot).manual().run(async |app| {
        app.store().enqueue(Bill { order: "x".into() }).await.unwrap();
        tokio::select! {
            _ = app.step_job() => panic!("it hangs at the gate"),
            () = gate.until_arrived(1) => {}
        }
        gate.open();
        app.assert_drained().await;
    }));
    assert_eq!(notes.take(), ["done"]);
}

#[test]
fn the_same_program_does_the_same_in_every_run() {
    let run = || {
        let notes = Notes::default();
        block_on_virtual(shop(&notes).run(async |app| {
            for name in ["easy", "hard", "odd", "easy 2"] {
                app.request(order(name)).await.assert_status(200);
            }
            app.run_until_idle().await;
        }));
        notes.take()
    };
    let first = run();
    for _ in 0..10 {
        assert_eq!(run(), first);
    }
}

#[test]
fn what_was_published_is_found_in_the_log_and_on_buses() {
    let notes = Notes::default();
    block_on_virtual(shop(&notes).run(async |app| {
        app.request(order("easy")).await.assert_status(200);
        let both = [Placed { order: "easy".into() }, Placed { order: "easy".into() }];
        assert_eq!(app.published::<Placed>().await, both, "once in the log, once on the bus");
        assert_eq!(app.assert_published(|event: &Placed| event.order == "easy").await, both[0]);
        app.run_until_idle().await;
        let told = failure_of(app.assert_published(|event: &Placed| event.order == "hard")).await;
        assert_eq!(
            told,
            "no event `orders.placed` that fits was published, but 2:\n  {\"order\":\"easy\"}\n  {\"order\":\"easy\"}\nof others: `orders.paid`"
        );
        let told = failure_of(app.assert_enqueued(|bill: &Bill| bill.order == "hard")).await;
        assert_eq!(
            told,
            "no job `bill` that fits was enqueued, but 1:\n  completed {\"order\":\"easy\"}\nof others: `ship`"
        );
    }));
}

#[test]
fn steps_are_for_work_that_waits() {
    let told = failure(|| block_on_virtual(shop(&Notes::default()).run(async |app| app.step_job().await)));
    says(&told, &["step_job()", ".manual()"]);
}

#[test]
fn what_is_due_in_a_fortnight_is_told_and_can_be_made_due() {
    let notes = Notes::default();
    block_on_virtual(shop(&notes).manual().run(async |app| {
        let job =
            app.store().enqueue(Bill { order: "late".into() }.with().delay(secs(14 * 86_400))).await.unwrap();
        let parts = ["due in", "`bill`", &job.id.to_string(), "retry(id)"];
        says(&failure_of(app.step_job()).await, &parts);
        says(&failure_of(app.run_jobs()).await, &parts);
        app.store().retry(job.id).await.unwrap();
        assert_eq!(app.step_job().await.state, JobState::Completed);
    }));
}
