//! What workers ask of their store and of their slots: what they batch, whom they serve, whom they give up on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use mainstay::config::Loader;
use mainstay::core::job::{JobRecord, JobState, Outcome};
use mainstay::core::op::{Committed, Failure, Op, Place, Reason, Rejection};
use mainstay::core::store::{Batch, Over, Store};
use mainstay::core::{Error as StoreError, ErrorKind, JobId};
use mainstay::{App, Boot, Client, Ended, Job, JobContext, JobError, Result, Workers, millis, secs};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};

mod ahead;
#[cfg(feature = "testing")]
mod cut_off;
mod short_stop;

#[derive(Serialize, Deserialize)]
struct Note(String);
impl Job for Note {
    const KIND: &'static str = "note";
    const QUEUE: &'static str = "notes";
}

/// What handlers share with their test.
#[derive(Clone)]
struct Seen {
    began: mpsc::Sender<String>,
    order: Arc<Mutex<Vec<String>>>,
    go_on: Arc<Semaphore>,
}

/// Runs workers while `during` runs, then stops them.
async fn with_workers(
    store: Client,
    settings: &[(&str, u64)],
    workers: impl FnOnce(Seen) -> Workers<Seen>,
    during: impl AsyncFnOnce(&Client, &mut mpsc::Receiver<String>, &Seen),
) -> Ended {
    let (began, mut begins) = mpsc::channel(64);
    let seen = Seen { began, order: Arc::default(), go_on: Arc::new(Semaphore::new(0)) };
    let mut loader = Loader::new("test")
        .variables::<String, String>([])
        .flag("admin_listen", "off", "test")
        .flag("lame_duck_ms", 0, "test");
    for (key, value) in settings {
        loader = loader.flag(*key, value, "test");
    }
    let workers = workers(seen.clone()).from(store.clone());
    let boot = async |b: &mut Boot<()>| -> Result<()> {
        b.workers(workers);
        Ok(())
    };
    App::new("test").config(loader).run_until(boot, during(&store, &mut begins, &seen)).await
}

async fn add(store: &Client, text: &str) -> JobId {
    store.enqueue(Note(text.into())).await.unwrap().id
}

async fn add_to(store: &Client, queue: &str, text: &str) -> JobId {
    store.enqueue(Note(text.into()).with().queue(queue)).await.unwrap().id
}

async fn settled(store: &Client, id: JobId) -> JobRecord {
    store.finished(id, secs(20), std::future::pending()).await.unwrap().unwrap()
}

async fn job(store: &Client, id: JobId) -> JobRecord {
    store.job(id).await.unwrap().unwrap()
}

async fn note_order(job: Note, cx: JobContext<Seen>) -> Result<(), JobError> {
    cx.order.lock().unwrap().push(job.0);
    Ok(())
}

/// A store that writes down what it is asked, and does as the test wants.
struct Watched {
    inner: Arc<dyn Store>,
    batches: Mutex<Vec<Vec<&'static str>>>,
    /// Batches with a settle that fail before one gets through.
    failures: AtomicUsize,
    /// Batches with a settle that are never answered, and never happen, before one gets through.
    hangs: AtomicUsize,
    /// Every lease is lost.
    lose: AtomicBool,
    /// Nothing reaches the store.
    cut_off: AtomicBool,
    /// Renewals do not.
    no_renewals: AtomicBool,
    /// A claim waits for a permit, if there are to be any.
    gate: Option<Arc<Semaphore>>,
    asked: Semaphore,
}

impl Watched {
    fn new(failures: usize, gate: Option<Arc<Semaphore>>) -> (Arc<Watched>, Client) {
        let inner = Client::memory().store().clone();
        let batches = Mutex::default();
        let watched = Arc::new(Watched {
            inner,
            batches,
            failures: AtomicUsize::new(failures),
            hangs: AtomicUsize::new(0),
            lose: AtomicBool::new(false),
            cut_off: AtomicBool::new(false),
            no_renewals: AtomicBool::new(false),
            gate,
            asked: Semaphore::new(0),
        });
        (watched.clone(), Client::new(watched))
    }

    fn batches(&self) -> Vec<Vec<&'static str>> {
        self.batches.lock().unwrap().clone()
    }
}

#[async_trait]
impl Over for Watched {
    fn below(&self) -> &dyn Store {
        &*self.inner
    }

    async fn submit(
        &self,
        batch: Batch,
    ) -> std::result::Result<Vec<std::result::Result<Committed, Failure>>, StoreError> {
        let word = |op: &Op| match op {
            Op::Settle(_) => "settle",
            Op::Claim(_) => "claim",
            Op::Extend { .. } => "extend",
            _ => "other",
        };
        let words: Vec<_> = batch.commits.iter().flat_map(|commit| commit.ops.iter().map(word)).collect();
        self.batches.lock().unwrap().push(words.clone());
        let progress = |op: &Op| matches!(op, Op::Extend { progress: Some(_), .. });
        let renews = words.contains(&"extend") && !batch.commits.iter().any(|it| it.ops.iter().any(progress));
        if self.cut_off.load(Ordering::SeqCst) || (renews && self.no_renewals.load(Ordering::SeqCst)) {
            return Err(StoreError::new(ErrorKind::Unavailable, "no way to the store"));
        }
        if words.contains(&"settle") {
            let fails = |left: usize| left.checked_sub(1);
            if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_ok() {
                return Err(StoreError::unknown(ErrorKind::Unavailable, "the disk is full"));
            }
            if self.hangs.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_ok() {
                self.asked.add_permits(1);
                std::future::pending::<()>().await;
            }
        }
        if words.contains(&"extend") && self.lose.load(Ordering::SeqCst) {
            let lost = || Rejection { at: Place::Op(0), reason: Reason::LeaseLost };
            return Ok(words.iter().map(|_| Err(lost().into())).collect());
        }
        if words.contains(&"claim")
            && let Some(gate) = &self.gate
        {
            self.asked.add_permits(1);
            gate.acquire().await.unwrap().forget();
        }
        self.inner.submit(batch).await
    }
}

#[tokio::test]
async fn the_end_of_a_job_and_the_claim_of_the_next_are_one_durable_step() {
    let (watched, store) = Watched::new(0, None);
    let mut last = add(&store, "1").await;
    for text in ["2", "3"] {
        last = add(&store, text).await;
    }
    with_workers(
        store,
        &[],
        |seen| Workers::new("notes", seen).on(note_order).concurrency(1),
        async |store, _, _| assert_eq!(settled(store, last).await.state, JobState::Completed),
    )
    .await;
    let work: Vec<_> = watched.batches().into_iter().filter(|words| !words.contains(&"other")).collect();
    assert_eq!(work[..3], [vec!["claim"], vec!["settle", "claim"], vec!["settle", "claim"]], "{work:?}");
}

#[tokio::test]
async fn a_settle_that_the_store_did_not_take_is_repeated_until_it_does() {
    let (watched, store) = Watched::new(2, None);
    let id = add(&store, "once").await;
    let ended = with_workers(
        store,
        &[],
        |seen| Workers::new("notes", seen).on(note_order).concurrency(1),
        async |store, _, seen| {
            assert_eq!(settled(store, id).await.state, JobState::Completed);
            assert_eq!(*seen.order.lock().unwrap(), ["once"], "it did not run again");
        },
    )
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
    let settles = watched.batches().iter().filter(|words| words.contains(&"settle")).count();
    assert_eq!(settles, 3);
}

#[tokio::test]
async fn jobs_of_a_claim_under_way_when_the_drain_begins_are_handed_back_unspent() {
    let gate = Arc::new(Semaphore::new(0));
    let (watched, store) = Watched::new(0, Some(gate.clone()));
    let id = add(&store, "too late").await;
    let ended = with_workers(
        store.clone(),
        &[],
        |seen| Workers::new("notes", seen).on(note_order).concurrency(1),
        async |_, _, seen| {
            watched.asked.acquire().await.unwrap().forget();
            // The drain begins when this ends; the claim is answered after that.
            let (gate, order) = (gate.clone(), seen.order.clone());
            #[expect(clippy::disallowed_methods, reason = "it outlives the closure, and ends by itself")]
            tokio::task::spawn(async move {
                tokio::task::yield_now().await;
                assert!(order.lock().unwrap().is_empty());
                gate.add_permits(8);
            });
        },
    )
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
    let job = job(&store, id).await;
    assert_eq!((job.state, job.attempt), (JobState::Available, 0), "{job:?}");
}

#[tokio::test]
async fn queues_are_served_in_order_or_by_weight() {
    for (weights, first) in [(None, ["a"; 6]), (Some((2, 1)), ["a", "b", "a", "a", "b", "a"])] {
        let store = Client::memory();
        for n in 0..12 {
            let queue = if n % 2 == 0 { "b" } else { "a" };
            add_to(&store, queue, queue).await;
        }
        with_workers(
            store,
            &[],
            |seen| {
                let workers = Workers::new("a", seen).and_queue("b").on(note_order).concurrency(1);
                match weights {
                    Some((a, b)) => workers.weight("a", a).weight("b", b),
                    None => workers,
                }
            },
            async |_, _, seen| {
                while seen.order.lock().unwrap().len() < 12 {
                    tokio::task::yield_now().await;
                }
                assert_eq!(seen.order.lock().unwrap()[..6], first, "{weights:?}");
            },
        )
        .await;
    }
}

#[tokio::test]
async fn a_weight_of_a_queue_that_is_not_served_ends_the_start() {
    let ended = with_workers(
        Client::memory(),
        &[],
        |seen| Workers::new("a", seen).on(note_order).weight("b", 2),
        async |_, _, _| std::future::pending().await,
    )
    .await;
    assert_eq!(ended.exit_code(), 78, "{ended:?}");
    assert!(format!("{ended:?}").contains("queue `b`"), "{ended:?}");
}

#[tokio::test]
async fn a_cancelled_handler_that_ignores_it_is_cut_after_its_grace() {
    async fn deaf(job: Note, cx: JobContext<Seen>) -> Result<(), JobError> {
        let _ = cx.began.send(job.0).await;
        std::future::pending().await
    }
    with_workers(
        Client::memory(),
        &[],
        |seen| Workers::new("notes", seen).on(deaf).concurrency(1).grace(millis(10)),
        async |store, begins, _| {
            let id = add(store, "deaf").await;
            begins.recv().await;
            store.cancel(id).await.unwrap();
            assert_eq!(settled(store, id).await.state, JobState::Cancelled);
            // The slot is free.
            add(store, "next").await;
            assert_eq!(begins.recv().await.as_deref(), Some("next"));
        },
    )
    .await;
}

#[tokio::test]
async fn a_handler_that_gives_up_because_the_process_ends_has_spent_no_attempt() {
    async fn polite(job: Note, cx: JobContext<Seen>) -> Result<(), JobError> {
        let _ = cx.began.send(job.0).await;
        cx.cancelled().await;
        Err(JobError::retry("interrupted"))
    }
    let store = Client::memory();
    let id = add(&store, "long").await;
    let ended = with_workers(
        store.clone(),
        &[("drain_ms", 20)],
        |seen| Workers::new("notes", seen).on(polite).concurrency(1),
        async |_, begins, _| drop(begins.recv().await),
    )
    .await;
    assert_eq!(ended.exit_code(), 1, "it overstayed the drain: {ended:?}");
    let job = job(&store, id).await;
    assert_eq!((job.state, job.attempt, job.failures.len()), (JobState::Available, 0, 0), "{job:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_holds_its_thread_loses_its_slot_and_not_the_pool() {
    let (let_go, held) = std::sync::mpsc::sync_channel::<()>(1);
    let held = Arc::new(Mutex::new(held));
    let blocking = move |job: Note, cx: JobContext<Seen>| {
        let held = held.clone();
        async move {
            if job.0 == "blocks" {
                let _ = held.lock().unwrap().recv_timeout(secs(20));
            }
            cx.order.lock().unwrap().push(job.0);
            Ok::<_, JobError>(())
        }
    };
    let store = Client::memory();
    let ended = with_workers(
        store.clone(),
        &[],
        |seen| {
            let workers = Workers::new("notes", seen).on(blocking).concurrency(1);
            workers.time_limit(millis(20)).grace(millis(20))
        },
        async |store, _, seen| {
            let stuck = store.enqueue(Note("blocks".into()).with().max_attempts(1)).await.unwrap().id;
            let next = add(store, "next").await;
            assert_eq!(settled(store, next).await.state, JobState::Completed);
            assert_eq!(*seen.order.lock().unwrap(), ["next"]);
            let job = settled(store, stuck).await;
            let failure = &job.failures[0].failure;
            assert_eq!((job.state, failure.kind.as_deref()), (JobState::Dead, Some("stuck")), "{job:?}");
            let_go.send(()).unwrap();
        },
    )
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_holds_its_thread_when_its_lease_is_lost_loses_its_slot() {
    let (let_go, held) = std::sync::mpsc::sync_channel::<()>(1);
    let held = Arc::new(Mutex::new(held));
    let blocking = move |job: Note, cx: JobContext<Seen>| {
        let held = held.clone();
        async move {
            let _ = cx.began.send(job.0.clone()).await;
            if job.0 == "blocks" {
                let _ = held.lock().unwrap().recv_timeout(secs(20));
            }
            Ok::<_, JobError>(())
        }
    };
    let (watched, store) = Watched::new(0, None);
    let ended = with_workers(
        store,
        &[],
        |seen| {
            let workers = Workers::new("notes", seen).on(blocking).concurrency(1);
            workers.lease(secs(1)).grace(millis(20))
        },
        async |store, begins, _| {
            let stuck = add(store, "blocks").await;
            assert_eq!(begins.recv().await.as_deref(), Some("blocks"));
            watched.lose.store(true, Ordering::SeqCst);
            let next = add(store, "next").await;
            assert_eq!(settled(store, next).await.state, JobState::Completed);
            let_go.send(()).unwrap();
            let settles = |words: &Vec<&str>| words.iter().filter(|word| **word == "settle").count();
            let settles: usize = watched.batches().iter().map(settles).sum();
            assert_eq!(settles, 1, "the lost one's end is nobody's to tell");
            assert_ne!(job(store, stuck).await.state, JobState::Cancelled);
        },
    )
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

#[tokio::test]
async fn a_settle_that_a_stop_interrupts_is_made_before_the_end() {
    let (watched, store) = Watched::new(0, None);
    watched.hangs.store(1, Ordering::SeqCst);
    let id = add(&store, "done").await;
    with_workers(
        store.clone(),
        &[("drain_ms", 20)],
        |seen| Workers::new("notes", seen).on(note_order).concurrency(1),
        async |_, _, _| watched.asked.acquire().await.unwrap().forget(),
    )
    .await;
    let job = job(&store, id).await;
    assert_eq!((job.state, job.attempt), (JobState::Completed, 1), "{job:?}");
}

#[tokio::test]
async fn workers_that_need_a_longer_drain_get_it_or_say_what_to_set() {
    async fn slow(job: Note, cx: JobContext<Seen>) -> Result<(), JobError> {
        let _ = cx.began.send(job.0).await;
        cx.go_on.acquire().await?.forget();
        Ok(())
    }
    let refused = async |settings: &[(&str, u64)]| {
        let ended = with_workers(
            Client::memory(),
            settings,
            |seen| Workers::new("notes", seen).on(slow).drain(secs(60)),
            async |_, _, _| std::future::pending().await,
        )
        .await;
        assert_eq!(ended.exit_code(), 78, "{ended:?}");
        format!("{ended:?}")
    };
    assert!(refused(&[("grace_ms", 30_000)]).await.contains("set `grace_ms` to"));
    assert!(
        refused(&[("grace_ms", 90_000), ("drain_ms", 1_000)]).await.contains("`drain_ms` is set to 1000")
    );

    let store = Client::memory();
    let id = add(&store, "long").await;
    let ended = with_workers(
        store.clone(),
        &[("grace_ms", 90_000)],
        |seen| Workers::new("notes", seen).on(slow).drain(secs(60)),
        async |_, begins, seen| {
            begins.recv().await;
            seen.go_on.add_permits(1);
        },
    )
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
    assert_eq!(job(&store, id).await.state, JobState::Completed);
}

#[cfg(feature = "testing")]
mod on_virtual_time {
    use super::*;
    use mainstay::testing::{Logs, block_on_virtual};

    #[test]
    fn slots_grow_with_the_backlog_up_to_the_ceiling() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        async fn slow(job: Note, cx: JobContext<Seen>) -> Result<(), JobError> {
            MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(secs(1)).await;
            RUNNING.fetch_sub(1, Ordering::SeqCst);
            cx.order.lock().unwrap().push(job.0);
            Ok(())
        }
        block_on_virtual(async {
            let logs = Logs::capture();
            let store = Client::memory();
            for n in 0..40 {
                add(&store, &n.to_string()).await;
            }
            let began = tokio::time::Instant::now();
            with_workers(
                store,
                &[],
                |seen| Workers::new("notes", seen).on(slow).concurrency(1..=4),
                async |_, _, seen| {
                    tokio::task::yield_now().await;
                    assert_eq!(RUNNING.load(Ordering::SeqCst).min(2), RUNNING.load(Ordering::SeqCst));
                    while seen.order.lock().unwrap().len() < 40 {
                        tokio::time::sleep(millis(100)).await;
                    }
                },
            )
            .await;
            assert_eq!(MOST.load(Ordering::SeqCst), 4);
            assert!(began.elapsed() < secs(13), "40 s of work by four: {:?}", began.elapsed());
            mainstay::testing::assert_logged!(logs, INFO, "workers scale", to = 4);
        });
    }

    #[test]
    fn a_job_beyond_its_own_time_limit_has_failed_and_not_crashed() {
        async fn endless(job: Note, cx: JobContext<Seen>) -> Result<(), JobError> {
            if job.0 == "tells" {
                tokio::time::sleep(secs(1)).await;
                cx.progress(&1).await?;
            }
            std::future::pending().await
        }
        // Within one lease, within a renewed one, with a lease that the handler extends itself, and beyond a lease.
        for (text, limit, least) in
            [("a", 5, 5_000), ("b", 15, 15_000), ("tells", 15, 14_000), ("c", 28, 27_000), ("d", 90, 89_000)]
        {
            block_on_virtual(async {
                let store = Client::memory();
                with_workers(
                    store,
                    &[],
                    |seen| Workers::new("notes", seen).on(endless).concurrency(1),
                    async |store, _, _| {
                        let began = tokio::time::Instant::now();
                        let job = Note(text.into()).with().timeout(secs(limit)).max_attempts(1);
                        let id = store.enqueue(job).await.unwrap().id;
                        let mut job = store.job(id).await.unwrap().unwrap();
                        while !job.state.is_finished() && job.crashes == 0 {
                            tokio::time::sleep(millis(50)).await;
                            job = store.job(id).await.unwrap().unwrap();
                        }
                        let kinds: Vec<_> =
                            job.failures.iter().map(|it| it.failure.kind.as_deref()).collect();
                        assert_eq!((job.crashes, kinds), (0, vec![Some("timeout")]), "{text} {job:?}");
                        let took = began.elapsed();
                        assert!(
                            took >= millis(least) && took <= secs(limit) + millis(200),
                            "{text}: {took:?}"
                        );
                    },
                )
                .await;
            });
        }
    }

    #[test]
    fn the_end_of_a_job_is_told_as_soon_as_the_store_is_back_while_its_lease_lives() {
        block_on_virtual(async {
            // 50 s, longer than a lease that nobody renews.
            let (_, store) = Watched::new(100, None);
            let id = add(&store, "once").await;
            with_workers(
                store,
                &[],
                |seen| Workers::new("notes", seen).on(note_order).concurrency(1),
                async |store, _, seen| {
                    let mut job = job(store, id).await;
                    while !job.state.is_finished() {
                        tokio::time::sleep(secs(1)).await;
                        job = super::job(store, id).await;
                    }
                    assert_eq!((job.state, job.attempt, job.crashes), (JobState::Completed, 1, 0), "{job:?}");
                    assert_eq!(*seen.order.lock().unwrap(), ["once"], "it did not run again");
                },
            )
            .await;
        });
    }

    #[test]
    fn a_time_limit_longer_than_the_drain_is_warned_of_at_the_start() {
        block_on_virtual(async {
            let logs = Logs::capture();
            with_workers(
                Client::memory(),
                &[],
                |seen| Workers::new("notes", seen).on(note_order).time_limit(secs(60)),
                async |_, _, _| {},
            )
            .await;
            mainstay::testing::assert_logged!(logs, WARN, "longer than the drain", kind = "any");
        });
    }
}

#[tokio::test]
async fn a_handler_that_has_ended_its_job_itself_is_not_cut() {
    struct Cut(Arc<Semaphore>);
    impl Drop for Cut {
        fn drop(&mut self) {
            self.0.add_permits(1);
        }
    }
    // One ends its job itself; the other's is taken from it, and it is cut when both are renewed.
    async fn handle(job: Note, cx: JobContext<Seen>) -> Result<(), JobError> {
        if job.0 == "loses" {
            let _cut = Cut(cx.go_on.clone());
            let taken = Outcome::Release { delay_ms: 3_600_000 };
            cx.store().commit().settle(cx.id(), cx.lease(), taken).await?;
            cx.began.send(job.0).await?;
            return std::future::pending().await;
        }
        cx.commit().await?;
        cx.began.send(job.0).await?;
        cx.go_on.acquire().await?.forget();
        cx.began.send("ended".into()).await?;
        Ok(())
    }
    let workers = |seen| Workers::new("notes", seen).on(handle).concurrency(2).lease(secs(1));
    with_workers(Client::memory(), &[], workers, async |store, begins, _| {
        add(store, "ends").await;
        assert_eq!(begins.recv().await.as_deref(), Some("ends"));
        add(store, "loses").await;
        assert_eq!(begins.recv().await.as_deref(), Some("loses"));
        let ended = tokio::time::timeout(secs(20), begins.recv()).await.expect("it runs to its end");
        assert_eq!(ended.as_deref(), Some("ended"));
    })
    .await;
}
