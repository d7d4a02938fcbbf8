//! A pool in the life cycle of a service.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{PoolBuilder, WorkerPool};
use crate::app::{Overstayer, Part};
use crate::{Boot, Result, Shutdown, TaskSet};

impl<C> Boot<C> {
    /// Opens a pool as a part of the service. It takes jobs until the end of the drain, since what is in flight may need
    /// it, and everything in it is done in the drain. Then what runs is told to stop, cut and named; what waits is named.
    ///
    /// # Errors
    /// Outside of a runtime.
    pub fn worker_pool<J, R>(&self, pool: PoolBuilder<J, R>) -> Result<WorkerPool<J, R>>
    where
        J: Clone + Send + 'static,
        R: Send + 'static,
    {
        let outside = || crate::Error::from("a worker pool is opened inside of a runtime");
        let pool = pool.open_on(TaskSet::current().ok_or_else(outside)?);
        self.register(Arc::new(PoolPart { pool: pool.clone(), shutdown: self.shutdown() }));
        Ok(pool)
    }
}

struct PoolPart<J, R> {
    pool: WorkerPool<J, R>,
    shutdown: Shutdown,
}

impl<J: Clone + Send + 'static, R: Send + 'static> Part for PoolPart<J, R> {
    fn name(&self) -> String {
        format!("pool {}", self.pool.0.shared.plan.name)
    }

    fn start(self: Arc<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn drained(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let shared = &self.pool.0.shared;
            tokio::select! {
                biased;
                () = shared.idle() => return,
                () = self.shutdown.cancelled() => {}
            }
            shared.cancel_all();
            shared.idle().await;
        })
    }

    fn in_flight(&self) -> Vec<Overstayer> {
        let shared = &self.pool.0.shared;
        let mut all = shared.running();
        let waiting = self.pool.0.queue.depth() + shared.later.len();
        if waiting > 0 {
            let what = format!("{waiting} jobs that wait");
            all.push(Overstayer::new(what, self.name(), Duration::ZERO));
        }
        all
    }

    fn abort(&self) {
        self.pool.close();
        self.pool.0.shared.tasks.abort();
    }

    fn stop(self: Arc<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let began = Instant::now();
            let report = self.pool.stop(Duration::ZERO).await;
            if report.is_complete() {
                return Ok(());
            }
            let took = crate::time::human(began.elapsed());
            Err(format!("{report} (after {took}): submit those again at the next start").into())
        })
    }
}
