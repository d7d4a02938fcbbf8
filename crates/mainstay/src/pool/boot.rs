//! A pool in the life cycle of a service.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::shared::Shared;
use super::{PoolBuilder, WorkerPool};
use crate::app::{Overstayer, Part};
use crate::{Boot, Result, Shutdown, TaskSet, millis};

/// A supervisor in a service looks at least this often while there are jobs.
const REMIND: Duration = millis(500);

impl<C> Boot<C> {
    /// Opens a pool as a part of the service. It takes jobs until the end of the drain, since what is in flight may need
    /// it, and everything in it is done in the drain. Then nothing begins any more: what runs is told to stop, cut and named;
    /// what waits is named.
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
        let name = format!("pool {}", pool.0.shared.plan.name);
        self.core.control.spawn(name, remind(Arc::downgrade(&pool.0.shared)));
        self.register(Arc::new(PoolPart { pool: pool.clone(), shutdown: self.shutdown() }));
        Ok(pool)
    }
}

/// Calls the supervisor from outside of its runtime. A handler that holds the one thread that watches the runtime's
/// timers would else keep it from seeing just that.
async fn remind<J, R>(shared: Weak<Shared<J, R>>) {
    loop {
        sleep(REMIND).await;
        let Some(shared) = shared.upgrade() else { return };
        match shared.pending() {
            0 if shared.is_closed() => return,
            0 => {}
            _ => shared.call.notify_one(),
        }
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
            // Nothing begins any more. What waits is in the report of `stop`.
            shared.hand_back(&self.pool.0).await;
            shared.cancel_all();
            shared.idle().await;
        })
    }

    fn in_flight(&self) -> Vec<Overstayer> {
        let shared = &self.pool.0.shared;
        let mut all = shared.running();
        let waiting = self.pool.0.queue.depth() + shared.later.len() + shared.given_back();
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
