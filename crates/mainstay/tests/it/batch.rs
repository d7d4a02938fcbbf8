//! Graphs and batches of jobs, and producers that give way. In virtual time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mainstay::client::{Pace, StoreError};
use mainstay::core::after::AfterFailure;
use mainstay::core::job::{JobFailure, JobState, Outcome, Retry};
use mainstay::core::name::QueueName;
use mainstay::core::op::{Claim, Committed, Failure, Op, Place, Reason, Rejection, Reply};
use mainstay::core::queue::QueueConfig;
use mainstay::core::store::{Batch, Over, Store};
use mainstay::testing::block_on_virtual;
use mainstay::{Client, Context, Job, secs};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

#[derive(Serialize, Deserialize)]
struct Page(u32);
impl Job for Page {
    const KIND: &'static str = "page";
    const QUEUE: &'static str = "pages";
}

#[derive(Serialize, Deserialize)]
struct Book;
impl Job for Book {
    const KIND: &'static str = "book";
    const QUEUE: &'static str = "books";
}

fn pages() -> QueueName {
    QueueName::new("pages").unwrap()
}

/// Ends one job of the queue in this way.
async fn end(store: &Client, outcome: Outcome) {
    let claim = Claim { queues: vec![pages()], max: 1, max_bytes: 1 << 20, lease_ms: 30_000, worker: None };
    let grants = store.claim(claim, None, Duration::ZERO, std::future::pending()).await.unwrap();
    store.commit().settle(grants[0].id, grants[0].lease, outcome).await.unwrap();
}

fn dead() -> Outcome {
    Outcome::Fail { error: JobFailure::default(), retry: Retry::Never }
}

const DONE: Outcome = Outcome::Complete { result: None };

#[test]
fn what_follows_a_batch_runs_when_all_have_ended_or_when_all_have_completed() {
    block_on_virtual(async {
        let store = Client::memory();
        let batch = store
            .batch()
            .add(Page(1))
            .add(Page(2).with().priority(9))
            .then(Book)
            .on_success(Book)
            .await
            .unwrap();
        assert_eq!((batch.jobs.len(), batch.then.len()), (2, 2));
        let state = async |n: usize| store.job(batch.then[n].id).await.unwrap().unwrap().state;
        let progress = async || store.batch_progress(batch.then[0].id).await.unwrap().unwrap();
        assert_eq!((progress().await.total, progress().await.left), (2, 2));
        end(&store, DONE).await;
        assert_eq!((progress().await.left, progress().await.state), (1, JobState::Blocked));
        end(&store, dead()).await;
        assert_eq!((progress().await.left, progress().await.state), (0, JobState::Available));
        assert_eq!(state(1).await, JobState::Blocked, "one is dead, and may be requeued");
        store.apply(Op::Retry { id: batch.jobs[1].id }).await.unwrap();
        end(&store, DONE).await;
        assert_eq!(state(1).await, JobState::Available);
        assert!(store.batch_progress(batch.jobs[0].id).await.unwrap().is_some_and(|p| p.total == 0));
    });
}

#[test]
fn a_batch_is_all_or_nothing() {
    block_on_virtual(async {
        let store = Client::memory();
        let none = store.batch().add(Page(1)).add(Page(2).with().queue("no queue?")).then(Book).await;
        assert!(none.unwrap_err().to_string().contains("queue"));
        let none = store.batch().add(Page(1)).then(Book.with().queue("?")).await;
        assert!(none.unwrap_err().to_string().contains("queue"));
        assert_eq!(store.queue(&pages()).await.unwrap(), None);
        let lonely = store.batch().then(Book).await.unwrap();
        assert_eq!(lonely.then[0].state, JobState::Available, "nothing is over at once");
    });
}

#[test]
fn a_commit_refers_to_what_it_adds() {
    block_on_virtual(async {
        let store = Client::memory();
        let known = store.enqueue(Page(0)).await.unwrap().id;
        let mut commit = store.commit();
        let first = commit.add(Page(1));
        let second = commit.add(Page(2).with().after(first).after(known).after_failure(AfterFailure::Cancel));
        commit.add(Book.with().after(second));
        let replies = commit.await.unwrap();
        let states: Vec<_> = replies
            .iter()
            .map(|reply| match reply {
                Reply::Enqueued(job) => job.state,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(states, [JobState::Available, JobState::Blocked, JobState::Blocked]);
        end(&store, dead()).await;
        let Reply::Enqueued(last) = &replies[2] else { unreachable!() };
        assert_eq!(store.job(last.id).await.unwrap().unwrap().state, JobState::Cancelled);
    });
}

async fn full() -> Client {
    let store = Client::memory();
    store.put_queue(pages(), QueueConfig { max_depth: Some(1), ..QueueConfig::default() }).await.unwrap();
    store.enqueue(Page(0)).await.unwrap();
    store
}

#[test]
fn a_full_queue_is_an_error_at_once_for_who_does_not_ask_for_more() {
    block_on_virtual(async {
        let began = Instant::now();
        assert!(full().await.enqueue(Page(1)).await.unwrap_err().is_full());
        assert_eq!(began.elapsed(), Duration::ZERO);
    });
}

#[test]
fn a_paced_producer_waits_for_room() {
    block_on_virtual(async {
        let store = full().await;
        let paced = store.paced(Pace { wait: secs(10), ..Pace::default() });
        let began = Instant::now();
        let room = async {
            tokio::time::sleep(secs(3)).await;
            end(&store, DONE).await;
        };
        let (made, ()) = tokio::join!(paced.enqueue(Page(1)), room);
        made.unwrap();
        // The last pause is a second at most, and the answer of a full queue is held back for a tenth.
        assert!((secs(3)..secs(5)).contains(&began.elapsed()), "{:?}", began.elapsed());
    });
}

/// A store with a queue that is always full, and says when to come back.
struct Full {
    below: Arc<dyn Store>,
    after_ms: u64,
    asked: Mutex<Vec<Instant>>,
}

#[async_trait]
impl Over for Full {
    fn below(&self) -> &dyn Store {
        &*self.below
    }

    async fn submit(
        &self,
        batch: Batch,
    ) -> std::result::Result<Vec<std::result::Result<Committed, Failure>>, mainstay::core::Error> {
        self.asked.lock().unwrap().push(Instant::now());
        let reason = Reason::QueueFull { queue: pages(), max_depth: 1, retry_ms: self.after_ms };
        let full = || Err(Rejection { at: Place::Op(0), reason: reason.clone() }.into());
        Ok(batch.commits.iter().map(|_| full()).collect())
    }
}

#[test]
fn a_paced_producer_comes_back_when_the_store_says_and_once_more_at_its_limit() {
    let asked = |after_ms, wait, deadline: Option<Duration>| {
        block_on_virtual(async {
            let below = Client::memory().store().clone();
            let full = Arc::new(Full { below, after_ms, asked: Mutex::default() });
            let paced = Client::new(full.clone()).paced(Pace { wait, ..Pace::default() });
            let began = Instant::now();
            let call = async { paced.enqueue(Page(1)).await.unwrap_err() };
            let error = match deadline {
                Some(limit) => Context::new().with_time_limit(limit).scope(call).await,
                None => call.await,
            };
            assert!(error.is_full(), "it says what it waited for: {error}");
            let asked = full.asked.lock().unwrap();
            asked.iter().map(|at| (*at - began).as_millis()).collect::<Vec<_>>()
        })
    };
    assert_eq!(asked(4_000, secs(10), None), [0, 4_000, 8_000, 10_000]);
    assert_eq!(asked(60_000, secs(10), None), [0, 10_000], "when the store says is a guess");
    assert_eq!(asked(60_000, Duration::ZERO, None), [0]);
    // In time for the answer.
    assert_eq!(asked(60_000, secs(10), Some(secs(2))), [0, 1_800]);
}

#[test]
fn no_wait_for_room_outlasts_its_limit_or_the_deadline() {
    block_on_virtual(async {
        let store = full().await;
        let waits = async |pace: Pace, deadline: Option<Duration>| -> (Duration, StoreError) {
            let began = Instant::now();
            let paced = store.paced(pace);
            let call = async { paced.enqueue(Page(1)).await.unwrap_err() };
            let error = match deadline {
                Some(limit) => Context::new().with_time_limit(limit).scope(call).await,
                None => call.await,
            };
            (began.elapsed(), error)
        };
        for (pace, deadline, limit) in [
            (Pace { wait: secs(4), ..Pace::default() }, None, secs(4)),
            (Pace { wait: secs(60), ..Pace::default() }, Some(secs(2)), secs(2)),
            (Pace { wait: Duration::ZERO, ..Pace::default() }, None, Duration::ZERO),
        ] {
            let (waited, error) = waits(pace, deadline).await;
            assert!(waited <= limit && waited + secs(1) >= limit, "{waited:?} of {limit:?}");
            assert!(error.is_full(), "it says what it waited for: {error}");
        }
    });
}

#[test]
fn a_producer_is_slowed_down_before_the_queue_is_full() {
    block_on_virtual(async {
        let store = Client::memory();
        let config = QueueConfig { max_depth: Some(10), ..QueueConfig::default() };
        store.put_queue(pages(), config).await.unwrap();
        let pace = Pace { slow_by: secs(1), ..Pace::default() };
        let paced = store.paced(pace);
        let mut took = vec![];
        for page in 0..10 {
            let began = Instant::now();
            paced.enqueue(Page(page)).await.unwrap();
            took.push(began.elapsed().as_millis().div_ceil(100));
        }
        assert_eq!(took, [0, 0, 0, 0, 0, 0, 0, 0, 5, 10]);
        // Nobody is made late by it.
        end(&store, DONE).await;
        let began = Instant::now();
        let soon = Context::new().with_time_limit(Duration::from_millis(500));
        soon.scope(async { paced.enqueue(Page(11)).await }).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    });
}
