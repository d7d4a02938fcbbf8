//! Workers in the life cycle of a service.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use mainstay_core::{
    op::{Commit, Op},
    store::Batch,
};

use tokio::task::AbortHandle;

use super::{
    desk::{Desk, release},
    run::Pool,
    running::{Key, Slip},
};
use crate::{
    Error, Result,
    app::{Overstayer, Part},
    millis, secs,
    tasks::{Task, TaskSet},
};

/// How long giving unfinished jobs back may take.
const GIVE_BACK_LIMIT: Duration = secs(2);
/// How long attempts that were cut have to be gone. One that holds its thread is not.
const GONE_LIMIT: Duration = millis(200);
/// How long those that are gone wait for one another, to be given back together. With a short grace there is not much
/// more for all of it.
const TOGETHER: Duration = millis(20);

/// Fetches from the start, finishes what it has in the drain, gives back what it could not finish.
pub(crate) struct WorkersPart<S> {
    pool: Arc<Pool<S>>,
    loops: Mutex<Option<Loops>>,
}

struct Loops {
    /// The loops below.
    tasks: TaskSet,
    /// Attempts, owned here: the drain report names their jobs, not their tasks.
    attempts: TaskSet,
    desk: Option<Task<()>>,
    cut_desk: AbortHandle,
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
        let desk = Desk::new(pool.clone(), attempts.clone());
        let desk = tasks.spawn("fetch and settle jobs", desk.run());
        let renew = tasks.spawn("renew leases", pool.clone().renew());
        let (shutdown, running) = (pool.shutdown.clone(), pool.running.clone());
        let stop = tasks.spawn("cancel jobs", async move {
            shutdown.cancelled().await;
            running.leave();
        });
        let cut_desk = desk.abort_handle();
        let loops = Loops { tasks, attempts, desk: Some(desk), cut_desk, renew, stop };
        *self.loops.lock().unwrap_or_else(PoisonError::into_inner) = Some(loops);
        Ok(())
    }

    /// What has ended and was not taken yet is settled, what has not ended goes back.
    async fn give_back(&self, unfinished: Vec<Key>) -> Result<()> {
        let ended = self.pool.outbox.take(usize::MAX);
        if ended.is_empty() && unfinished.is_empty() {
            return Ok(());
        }
        let releases = unfinished.iter().map(|key| release(*key, Duration::ZERO));
        let settles = ended.iter().map(|ended| ended.settle.clone()).chain(releases);
        let commit = |settle| Commit::of(Op::Settle(settle), self.pool.client.entropy());
        let batch = Batch { commits: settles.map(commit).collect(), within: Some(GIVE_BACK_LIMIT) };
        let (jobs, settled) = (unfinished.len(), ended.len());
        tracing::info!(jobs, settled, "giving unfinished jobs back");
        let give_back = self.pool.client.store().submit(batch);
        // A lease that is gone by now is nobody's loss; only a store that does not answer is worth a word.
        match tokio::time::timeout(GIVE_BACK_LIMIT, give_back).await {
            Ok(answers) => {
                ended.into_iter().filter_map(|ended| ended.slip).for_each(Slip::settled);
                answers.map(drop).map_err(Into::into)
            }
            Err(_) => {
                Err(Error::from("the store did not take the unfinished jobs back; their leases will end"))
            }
        }
    }
}

impl<S: Clone + Send + Sync + 'static> Part for WorkersPart<S> {
    fn name(&self) -> String {
        format!("workers {}", self.pool.label())
    }

    fn start(self: Arc<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { self.begin() })
    }

    fn drained(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let desk = {
                let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
                loops.as_mut().map(|loops| (loops.desk.take(), loops.attempts.clone()))
            };
            let Some((desk, attempts)) = desk else { return };
            // It ends when nothing is in hand any more, and everything has been settled.
            if let Some(desk) = desk {
                let _ = desk.await;
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
                loops.cut_desk.abort();
                loops.renew.abort();
                loops.stop.abort();
                self.pool.running.cut_all();
                loops.attempts.abort();
                let running = &self.pool.running;
                // What the desk had in hand is in the outbox again when it is gone.
                let gone = async { tokio::join!(loops.tasks.idle(), loops.attempts.idle()) };
                let mut gone = pin!(gone);
                // One that holds its thread may take all the time there is, but not the leases of the others.
                if tokio::time::timeout(TOGETHER, &mut gone).await.is_err() {
                    self.give_back(running.take_cut()).await?;
                    let _ = tokio::time::timeout(GONE_LIMIT, gone).await;
                }
                self.give_back(running.unfinished()).await?;
                // What has ended meanwhile, of those that held their threads.
                return self.give_back(running.unfinished()).await;
            }
            Ok(())
        })
    }
}
