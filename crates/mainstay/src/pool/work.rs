//! Jobs that bring their own code.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{PoolBuilder, PoolContext, WorkerPool};
use crate::job::JobError;

/// A job that is its own handler, for a pool of unlike jobs. It can be run again, so that a dead letter can be.
///
/// ```
/// # use mainstay::pool::{Work, WorkerPool};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Work::<u32>::pool("chores").workers(4).open()?;
/// let sum = pool.submit(Work::new(|_cx| async { Ok(1 + 1) })).await?;
/// assert_eq!(sum.await?, 2);
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
/// ```
pub struct Work<R = ()>(Arc<Run<R>>);

type Run<R> = dyn Fn(PoolContext) -> BoxFuture<'static, Result<R, JobError>> + Send + Sync;

impl<R: Send + 'static> Work<R> {
    /// A job that runs `work`.
    pub fn new<F, Fut>(work: F) -> Self
    where
        F: Fn(PoolContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
    {
        Self(Arc::new(move |cx| Box::pin(work(cx))))
    }

    /// A pool of such jobs.
    pub fn pool(name: impl Into<Arc<str>>) -> PoolBuilder<Work<R>, R> {
        WorkerPool::build(name, |work: Work<R>, cx| (work.0)(cx))
    }
}

impl<R> Clone for Work<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R> std::fmt::Debug for Work<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work")
    }
}
