//! Workers over the memory store, in a whole app.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mainstay::pipeline::{Next, Pipeline};
use mainstay::workers::{Attempt, AttemptResult};
use mainstay::{
    App, Boot, Client, Ended, Job, JobContext, JobError, Result, Workers,
    config::Loader,
    core::job::{Backoff, DeadReason, Jitter, JobRecord, JobState},
    secs,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};

#[derive(Serialize, Deserialize)]
struct Note {
    text: String,
}
impl Job for Note {
    const KIND: &'static str = "note";
    const QUEUE: &'static str = "notes";
}
fn note(text: &str) -> Note {
    Note { text: text.into() }
}

/// What a test's handlers share.
#[derive(Clone)]
struct State {
    began: mpsc::Sender<String>,
    go_on: Arc<Semaphore>,
    seen: Arc<Mutex<Vec<String>>>,
}

/// Runs workers while `during` runs, then stops them.
async fn with_workers<F>(
    grace_ms: u64,
    workers: impl FnOnce(State) -> Workers<State>,
    during: impl FnOnce(Client, mpsc::Receiver<String>, State) -> F,
) -> (Ended, Client)
where
    F: Future<Output = ()>,
{
    let (began, begins) = mpsc::channel(64);
    let state = State { began, go_on: Arc::new(Semaphore::new(0)), seen: Arc::default() };
    let client = Client::memory();
    let loader = Loader::new("test")
        .variables(Vec::<(String, String)>::new())
        .flag("admin_listen", "off", "test")
        .flag("lame_duck_ms", 0, "test")
        .flag("grace_ms", grace_ms, "test");
    let workers = workers(state.clone()).from(client.clone());
    let boot = async |b: &mut Boot<NoConfig>| -> Result<()> {
        b.workers(workers);
        Ok(())
    };
    let ended = App::new("test").config(loader).run_until(boot, during(client.clone(), begins, state)).await;
    (ended, client)
}

#[derive(Default, Serialize, Deserialize)]
struct NoConfig {}

async fn settled(client: &Client, id: mainstay::core::JobId) -> JobRecord {
    client.finished(id, secs(20), std::future::pending()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_handler_gets_its_payload_and_its_value_is_the_result() {
    async fn shout(job: Note, cx: JobContext<State>) -> Result<String, JobError> {
        cx.seen.lock().unwrap().push(job.text.clone());
        Ok(job.text.to_uppercase())
    }
    let (ended, _) = with_workers(
        5_000,
        |state| Workers::new("notes", state).on(shout).concurrency(1..=4),
        async |client, _, state| {
            let id = client.enqueue(note("hello")).await.unwrap().id;
            let job = settled(&client, id).await;
            assert_eq!((job.state, job.result.as_deref()), (JobState::Completed, Some("\"HELLO\"")));
            assert_eq!(*state.seen.lock().unwrap(), ["hello"]);
        },
    )
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

/// Another program's idea of a note.
#[derive(Serialize, Deserialize)]
struct Number(u64);
impl Job for Number {
    const KIND: &'static str = "note";
    const QUEUE: &'static str = "notes";
}

#[tokio::test]
async fn a_payload_that_does_not_fit_is_dead_at_once_and_the_worker_goes_on() {
    async fn read(_: Note, _: JobContext<State>) -> Result<(), JobError> {
        Ok(())
    }
    let (ended, _) = with_workers(
        5_000,
        |state| Workers::new("notes", state).on(read).concurrency(1..=1),
        async |client, _, _| {
            let unfit = client.enqueue(Number(7)).await.unwrap().id;
            let after = client.enqueue(note("fits")).await.unwrap().id;
            let job = settled(&client, unfit).await;
            assert_eq!(
                (job.state, job.reason, job.attempt),
                (JobState::Dead, Some(DeadReason::Permanent), 1)
            );
            assert!(job.failures[0].failure.message.contains("payload does not fit note"));
            assert_eq!(settled(&client, after).await.state, JobState::Completed);
        },
    )
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

#[tokio::test]
async fn every_way_to_say_no_ends_as_it_says() {
    async fn refuse(job: Note, cx: JobContext<State>) -> Result<(), JobError> {
        match job.text.as_str() {
            "retry" if cx.attempt() == 1 => Err(JobError::retry("not yet")),
            "snooze" if cx.seen.lock().unwrap().is_empty() => {
                cx.seen.lock().unwrap().push("snoozed".into());
                Err(JobError::snooze(Duration::from_millis(1)))
            }
            "permanent" => Err(JobError::permanent("never")),
            "cancel" => Err(JobError::cancel()),
            "panic" => panic!("boom"),
            "error" => Err(std::io::Error::other("disk"))?,
            "timeout" => std::future::pending().await,
            _ => Ok(()),
        }
    }
    let limit = Duration::from_millis(20);
    let at_once = Backoff { base_ms: 0, jitter: Jitter::None, ..Backoff::default() };
    with_workers(
        5_000,
        |state| Workers::new("notes", state).on(refuse).concurrency(8).time_limit(limit),
        async |client, _, _| {
            use DeadReason::{Exhausted, Permanent};
            let dead = JobState::Dead;
            let rows = [
                ("retry", 5, JobState::Completed, None, 2, Some("not yet")),
                ("snooze", 5, JobState::Completed, None, 1, None),
                ("permanent", 5, dead, Some(Permanent), 1, Some("never")),
                ("cancel", 5, JobState::Cancelled, None, 1, None),
                ("panic", 1, dead, Some(Exhausted), 1, Some("boom")),
                ("error", 1, dead, Some(Exhausted), 1, Some("disk")),
                ("timeout", 1, dead, Some(Exhausted), 1, Some("the attempt did not end within 20 ms")),
            ];
            for (text, attempts, state, reason, attempt, message) in rows {
                let job = note(text).with().max_attempts(attempts).backoff(at_once);
                let id = client.enqueue(job).await.unwrap().id;
                let job = settled(&client, id).await;
                let said = job.failures.last().map(|record| record.failure.message.as_ref());
                assert_eq!(
                    (job.state, job.reason, job.attempt, said),
                    (state, reason, attempt, message),
                    "{text}"
                );
            }
        },
    )
    .await;
}

async fn wait_for_go(job: Note, cx: JobContext<State>) -> Result<(), JobError> {
    let _ = cx.began.send(job.text).await;
    cx.go_on.acquire().await?.forget();
    Ok(())
}

#[tokio::test]
async fn the_drain_finishes_what_runs_and_begins_nothing_new() {
    let (ended, client) = with_workers(
        10_000,
        |state| Workers::new("notes", state).on(wait_for_go).concurrency(1),
        async |client, mut begins, state| {
            client.enqueue(note("first")).await.unwrap();
            client.enqueue(note("second")).await.unwrap();
            assert_eq!(begins.recv().await.as_deref(), Some("first"));
            // Released only once the drain has begun: `during` ends here.
            tokio::task::spawn_blocking(move || {
                std::thread::yield_now();
                state.go_on.add_permits(1);
            });
        },
    )
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
    let queue = client.queue(&"notes".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((queue.depth.available + queue.depth.running, queue.depth.dead), (1, 0));
}

#[tokio::test]
async fn a_handler_that_never_ends_is_cut_named_and_its_job_given_back_unspent() {
    let (ended, client) = with_workers(
        2_500,
        |state| Workers::new("notes", state).on(wait_for_go).concurrency(1),
        async |client, mut begins, _| {
            client.enqueue(note("stuck")).await.unwrap();
            begins.recv().await;
        },
    )
    .await;
    assert_eq!(ended.exit_code(), 1, "{ended:?}");
    let cut = ended.cut.iter().find(|cut| cut.what.contains("note"));
    let span = cut.and_then(|cut| cut.span.clone()).unwrap_or_default();
    assert!(span.contains("job.id=") && span.contains("job.kind=note"), "{ended:?}");
    let jobs = client.jobs(Default::default(), mainstay::core::store::Page { limit: 10, cursor: None });
    let [mainstay::core::store::Record::Job(job)] = &jobs.await.unwrap().items[..] else { panic!("one job") };
    assert_eq!((job.state, job.attempt), (JobState::Available, 0));
}

#[tokio::test]
async fn a_handler_learns_that_its_job_was_cancelled() {
    async fn until_cancelled(job: Note, cx: JobContext<State>) -> Result<(), JobError> {
        let _ = cx.began.send(job.text).await;
        cx.cancelled().await;
        Err(JobError::retry("told to stop"))
    }
    with_workers(
        5_000,
        |state| Workers::new("notes", state).on(until_cancelled),
        async |client, mut begins, _| {
            let id = client.enqueue(note("long")).await.unwrap().id;
            begins.recv().await;
            client.cancel(id).await.unwrap();
            assert_eq!(settled(&client, id).await.state, JobState::Cancelled);
        },
    )
    .await;
}

#[tokio::test]
async fn an_unknown_kind_is_given_back_untouched() {
    #[derive(Serialize, Deserialize)]
    struct Other;
    impl Job for Other {
        const KIND: &'static str = "other";
        const QUEUE: &'static str = "notes";
    }
    async fn quick(_: Note, _: JobContext<State>) -> Result<(), JobError> {
        Ok(())
    }
    with_workers(
        5_000,
        |state| Workers::new("notes", state).on(quick).concurrency(1),
        async |client, _, _| {
            let other = client.enqueue(Other).await.unwrap().id;
            let mine = client.enqueue(note("mine")).await.unwrap().id;
            assert_eq!(settled(&client, mine).await.state, JobState::Completed);
            let other = client.job(other).await.unwrap().unwrap();
            assert_eq!((other.state, other.attempt, other.failures.len()), (JobState::Scheduled, 0, 0));
        },
    )
    .await;
}

#[tokio::test]
async fn workers_without_a_store_end_the_start_and_say_what_to_do() {
    async fn quick(_: Note, _: JobContext<()>) -> Result<(), JobError> {
        Ok(())
    }
    let loader =
        Loader::new("test").variables(Vec::<(String, String)>::new()).flag("admin_listen", "off", "test");
    let boot = async |b: &mut Boot<NoConfig>| -> Result<()> {
        b.workers(Workers::new("notes", ()).on(quick));
        Ok(())
    };
    let ended = App::new("test").config(loader).run_until(boot, std::future::pending()).await;
    assert_eq!(ended.exit_code(), 78);
    assert!(format!("{ended:?}").contains("Workers::from"), "{ended:?}");
}

#[tokio::test]
async fn attempts_pass_the_layers_of_their_workers() {
    async fn echo(job: Note, _: JobContext<State>) -> Result<String, JobError> {
        if job.text == "broken" { Err(JobError::retry("broken")) } else { Ok(job.text) }
    }
    type Rest = Next<Attempt, Option<Arc<str>>, JobError>;
    async fn outer(state: State, attempt: Attempt, next: Rest) -> AttemptResult {
        let line = format!("{} {} from {}", attempt.kind(), attempt.number(), attempt.queue());
        state.seen.lock().unwrap().push(line);
        // Errors come out here, and may become something else.
        next.run(attempt).await.map_err(|_| JobError::permanent("caught"))
    }
    async fn inner(attempt: Attempt, next: Rest) -> AttemptResult {
        if attempt.payload().contains("skip") {
            return Ok(Some("\"skipped\"".into()));
        }
        let result = next.run(attempt.with_payload("{\"text\":\"changed\"}")).await?;
        Ok(result.map(|text| text.to_uppercase().into()))
    }
    let pipeline = |state: State| {
        Pipeline::new()
            .middleware("outer", "sees what becomes of it", move |attempt, next| {
                outer(state.clone(), attempt, next)
            })
            .layer("limit", "others' layers fit in", tower::limit::ConcurrencyLimitLayer::new(1))
    };
    with_workers(
        5_000,
        |state| {
            let workers = Workers::new("notes", state.clone()).on(echo);
            let workers = workers.through(pipeline(state).middleware("inner", "changes it", inner));
            assert_eq!(workers.steps().names().collect::<Vec<_>>(), ["outer", "limit", "inner"]);
            workers
        },
        async |client, _, state| {
            for (text, result) in [("hello", "\"CHANGED\""), ("skip", "\"skipped\"")] {
                let id = client.enqueue(note(text)).await.unwrap().id;
                assert_eq!(settled(&client, id).await.result.as_deref(), Some(result));
            }
            assert_eq!(*state.seen.lock().unwrap(), ["note 1 from notes"; 2]);
        },
    )
    .await;
    with_workers(
        5_000,
        |state| Workers::new("notes", state.clone()).on(echo).through(pipeline(state)),
        async |client, _, _| {
            let id = client.enqueue(note("broken")).await.unwrap().id;
            let job = settled(&client, id).await;
            assert_eq!((job.state, job.reason), (JobState::Dead, Some(DeadReason::Permanent)));
        },
    )
    .await;
}
