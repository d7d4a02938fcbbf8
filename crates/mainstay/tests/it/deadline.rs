//! Calls of a client to its store end with the context's deadline. In virtual time.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mainstay::core::error::{Error, ErrorKind};
use mainstay::core::event::{LogBudget, LogSlice, Position};
use mainstay::core::op::{Claim, Committed, Failure};
use mainstay::core::queue::QueueConfig;
use mainstay::core::store::{Batch, DeadFilter, JobFilter, Key, Over, Page, Query, Record, Slice, Store};
use mainstay::core::{JobId, TopicFilter, name::QueueName};
use mainstay::testing::block_on_virtual;
use mainstay::{Client, Context, ErrorKind as Kind, Job, StoreError, millis, secs};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

#[derive(Serialize, Deserialize)]
struct Note;
impl Job for Note {
    const KIND: &'static str = "note";
    const QUEUE: &'static str = "notes";
}

/// A store that does as it is asked, and takes its time to say so.
struct Slow {
    inner: Arc<dyn Store>,
    takes: Duration,
    within: Mutex<Vec<Option<Duration>>>,
}

#[async_trait]
impl Over for Slow {
    fn below(&self) -> &dyn Store {
        &*self.inner
    }

    async fn submit(&self, batch: Batch) -> Result<Vec<Result<Committed, Failure>>, Error> {
        self.within.lock().unwrap().push(batch.within);
        let answer = self.inner.submit(batch).await;
        tokio::time::sleep(self.takes).await;
        answer
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        tokio::time::sleep(self.takes).await;
        self.inner.get(key).await
    }

    async fn list(&self, query: &Query, page: &Page) -> Result<Slice, Error> {
        tokio::time::sleep(self.takes).await;
        self.inner.list(query, page).await
    }

    async fn read_log(
        &self,
        filters: &[TopicFilter],
        from: Position,
        budget: LogBudget,
    ) -> Result<LogSlice, Error> {
        tokio::time::sleep(self.takes).await;
        self.inner.read_log(filters, from, budget).await
    }
}

/// A client of a store that takes this long for each answer.
fn slow(takes: Duration) -> (Client, Arc<Slow>) {
    let inner = Client::memory().store().clone();
    let store = Arc::new(Slow { inner, takes, within: Mutex::default() });
    (Client::new(store.clone()), store)
}

fn within(limit: Duration) -> Context {
    Context::new().with_time_limit(limit)
}

fn claim() -> Claim {
    Claim { queues: vec![queue()], max: 1, max_bytes: 1_000, lease_ms: 30_000, worker: None }
}

fn page() -> Page {
    Page { limit: 10, cursor: None }
}

fn queue() -> QueueName {
    QueueName::new("notes").unwrap()
}

/// It is too late, and the error says so and whether something may have changed.
fn is_late(error: &StoreError, may_have_happened: bool) {
    assert_eq!(error.failure().map(Error::kind), Some(ErrorKind::DeadlineExceeded), "{error}");
    assert_eq!(error.may_have_happened(), may_have_happened, "{error}");
    assert!(error.to_string().contains("deadline"), "{error}");
    assert_eq!(mainstay::Error::from(error.clone()).kind(), Kind::TimedOut);
}

#[test]
fn what_is_asked_after_the_deadline_does_not_reach_the_store() {
    block_on_virtual(async {
        let (client, store) = slow(Duration::ZERO);
        let late = within(Duration::ZERO);
        let refused = late.scope(async { client.enqueue(Note).await }).await.unwrap_err();
        is_late(&refused, false);
        assert!(store.within.lock().unwrap().is_empty());
        assert_eq!(client.queue(&queue()).await.unwrap(), None, "nothing was enqueued");
        is_late(&late.scope(async { client.queue(&queue()).await }).await.unwrap_err(), false);
    });
}

#[test]
fn a_store_is_told_how_long_a_commit_may_wait_to_begin() {
    block_on_virtual(async {
        let (client, store) = slow(Duration::ZERO);
        client.enqueue(Note).await.unwrap();
        within(millis(700)).scope(async { client.enqueue(Note).await }).await.unwrap();
        let own = Batch { within: Some(millis(300)), ..Batch::default() };
        within(millis(700)).scope(async { client.submit(own).await }).await.unwrap();
        assert_eq!(*store.within.lock().unwrap(), [None, Some(millis(700)), Some(millis(300))]);
    });
}

#[test]
fn an_answer_that_takes_longer_than_the_deadline_is_not_waited_for() {
    block_on_virtual(async {
        let (client, _) = slow(secs(60));
        let began = Instant::now();
        let late = within(secs(1)).scope(async { client.put_queue(queue(), QueueConfig::default()).await });
        is_late(&late.await.unwrap_err(), true);
        let late = within(secs(1)).scope(async { client.queue(&queue()).await });
        is_late(&late.await.unwrap_err(), false);
        let late = within(secs(1)).scope(async { client.jobs(JobFilter::default(), page()).await });
        is_late(&late.await.unwrap_err(), false);
        let dead = DeadFilter { queue: queue(), kind: None, error_type: None };
        let late = within(secs(1)).scope(async { client.dead(dead, page()).await });
        is_late(&late.await.unwrap_err(), false);
        assert_eq!(began.elapsed(), secs(4));
        // Without a deadline it is waited for.
        client.put_queue(queue(), QueueConfig::default()).await.unwrap();
    });
}

#[test]
fn waits_are_over_at_the_deadline_or_at_their_own_end_whichever_comes_first() {
    block_on_virtual(async {
        let (client, _) = slow(Duration::ZERO);
        let began = Instant::now();
        // Not a whole number of milliseconds: a wait of nothing would be asked for again and again.
        let odd = Duration::from_micros(1_500_300);
        let late = within(odd).scope(async { client.claim(claim(), None, secs(20), pending()).await });
        is_late(&late.await.unwrap_err(), false);
        assert_eq!(began.elapsed().as_millis(), 1_501);

        let began = Instant::now();
        let none = within(secs(20)).scope(async { client.claim(claim(), None, secs(1), pending()).await });
        assert!(none.await.unwrap().is_empty());
        assert_eq!(began.elapsed().as_millis(), 1_000);

        let id: JobId = client.enqueue(Note).await.unwrap().id;
        let began = Instant::now();
        let late = within(secs(2)).scope(async { client.finished(id, secs(20), pending()).await });
        is_late(&late.await.unwrap_err(), false);
        assert_eq!(began.elapsed().as_millis(), 2_000);
        let job = within(secs(20)).scope(async { client.finished(id, secs(1), pending()).await });
        assert_eq!(job.await.unwrap().unwrap().state.as_str(), "available");
    });
}
