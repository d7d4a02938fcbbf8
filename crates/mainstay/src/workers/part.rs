//! Workers in the life cycle of a service.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use mainstay_core::{
    job::Outcome,
    op::{Commit, Op, Settle},
    store::Batch,
};

use super::run::Pool;
use crate::{
    Error, Result,
    app::{Overstayer, Part},
    secs,
    tasks::{Task, TaskSet},
};

/// How long giving unfinished jobs back may take.
const GIVE_BACK_LIMIT: Duration = secs(2);

/// Fetches from the start, finishes what it has in the drain, gives back what it could not finish.
pub(crate) struct WorkersPart<S> {
    pool: Arc<Pool<S>>,
    loops: Mutex<Option<Loops>>,
}

struct Loops {
    /// Attempts, owned here: the drain report names their jobs, not their tasks.
    attempts: TaskSet,
    fetch: Option<Task<()>>,
    renew: Task<()>,
    stop: Task<()>,
}

impl<S: Clone + Send + Sync + 'static> WorkersPart<S> {
    pub(super) fn new(pool: Pool<S>) -> Self {
        WorkersPart { pool: Arc::new(pool), loops: Mutex::new(None) }
    }

    fn begin(&self) -> Result<()> {
        let outside = || Error::from("workers start inside of a runtime");
        let tasks = TaskSet::current().ok_or_else(outside)?;
        let pool = &self.pool;
        let attempts = TaskSet::current().ok_or_else(outside)?;
        let fetch = tasks.spawn("fetch jobs", pool.clone().fetch(attempts.clone()));
        let renew = tasks.spawn("renew leases", pool.clone().renew());
        let (shutdown, running) = (pool.shutdown.clone(), pool.running.clone());
        let stop = tasks.spawn("cancel jobs", async move {
            shutdown.cancelled().await;
            running.stop_all();
        });
        let loops = Loops { attempts, fetch: Some(fetch), renew, stop };
        *self.loops.lock().unwrap_or_else(PoisonError::into_inner) = Some(loops);
        Ok(())
    }

    async fn give_back(&self) -> Result<()> {
        let unfinished = self.pool.running.unfinished();
        if unfinished.is_empty() {
            return Ok(());
        }
        let release = |&(id, lease)| {
            let outcome = Outcome::Release { delay_ms: 0 };
            let settle = Settle { id, lease, outcome, repeat_is_ok: true };
            Commit::of(Op::Settle(settle), self.pool.client.entropy())
        };
        let batch =
            Batch { commits: unfinished.iter().map(release).collect(), within: Some(GIVE_BACK_LIMIT) };
        let jobs = unfinished.len();
        tracing::info!(jobs, "giving unfinished jobs back");
        let give_back = self.pool.client.store().submit(batch);
        // A lease that is gone by now is nobody's loss; only a store that does not answer is worth a word.
        match tokio::time::timeout(GIVE_BACK_LIMIT, give_back).await {
            Ok(answers) => answers.map(drop).map_err(Into::into),
            Err(_) => {
                Err(Error::from("the store did not take the unfinished jobs back; their leases will end"))
            }
        }
    }
}

impl<S: Clone + Send + Sync + 'static> Part for WorkersPart<S> {
    fn name(&self) -> String {
        let queues: Vec<_> = self.pool.queues.iter().map(|queue| queue.as_str()).collect();
        format!("workers {}", queues.join(","))
    }

    fn start(self: Arc<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { self.begin() })
    }

    fn drained(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let in_hand = {
                let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
                loops.as_mut().map(|loops| (loops.fetch.take(), loops.attempts.clone()))
            };
            let Some((fetch, attempts)) = in_hand else { return };
            // First the fetcher: it may hold a claim under way whose jobs still have to be run.
            if let Some(fetch) = fetch {
                let _ = fetch.await;
            }
            attempts.idle().await;
        })
    }

    fn in_flight(&self) -> Vec<Overstayer> {
        self.pool.running.overstayers()
    }

    fn abort(&self) {
        self.pool.running.cut_all();
    }

    fn stop(self: Arc<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(loops) = loops {
                loops.renew.abort();
                loops.stop.abort();
                self.pool.running.cut_all();
                let given_back = self.give_back().await;
                loops.attempts.abort();
                return given_back;
            }
            Ok(())
        })
    }
}
