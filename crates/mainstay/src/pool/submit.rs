//! How a job gets into a pool.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::shared::Shared;
use super::ticket::{Ticket, Waits};
use super::{Item, Owner, PoolError, PoolJob, WorkerPool};
use crate::context::Context;
use crate::queue::{SendError, Sent};

/// A job with options, about to be submitted.
#[must_use = "a job is submitted by `submit` or `try_submit`"]
pub struct Submission<'p, J, R> {
    pool: &'p Owner<J, R>,
    job: J,
    priority: u8,
    pub(super) limit: Option<Duration>,
    by: Option<Instant>,
}

impl<'p, J: Clone + Send + 'static, R: Send + 'static> Submission<'p, J, R> {
    pub(super) fn new(pool: &'p WorkerPool<J, R>, job: J) -> Self {
        let pool = &*pool.0;
        Self { pool, job, priority: 5, limit: pool.shared.plan.limit, by: None }
    }

    /// 0…9, lower first; more counts as 9. Defaults to 5. Equal ones are first come first served.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// How long it may run. Defaults to the pool's limit.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Waits for room no longer than until `deadline`, or the context's if that is earlier.
    pub fn by(mut self, deadline: Instant) -> Self {
        self.by = Some(deadline);
        self
    }

    /// Submits it, by the pool's rule for when its queue is full.
    ///
    /// # Errors
    /// The job with the reason: full (only with `Overflow::Reject`), timed out, closed.
    ///
    /// # Cancel safety
    /// Dropped before it is done, it has submitted nothing.
    pub async fn submit(self) -> Result<PoolJob<R>, SendError<J>> {
        let (pool, by) = (self.pool, self.by);
        let (item, mut entry) = self.enter();
        let ticket = item.clone();
        let sent = pool.queue.send_until(item, by).await;
        entry.sent(sent, ticket)
    }

    /// Submits it if that is possible at once.
    ///
    /// # Errors
    /// As [`submit`](Self::submit); full also where the queue waits.
    pub fn try_submit(self) -> Result<PoolJob<R>, SendError<J>> {
        let pool = self.pool;
        let (item, mut entry) = self.enter();
        let ticket = item.clone();
        entry.sent(pool.queue.try_send(item), ticket)
    }

    fn enter(self) -> (Item<J, R>, Entry<'p, J, R>) {
        let Self { pool, job, priority, limit, .. } = self;
        let shared = &*pool.shared;
        // Counted before it is in the queue: nobody may find the pool idle in between.
        let id = shared.tally.enter();
        let waits = Waits { job, since: shared.scales.then(Instant::now) };
        let item = Arc::new(Ticket::new(id, waits, priority, limit, Context::current()));
        (item, Entry { shared, taken: false })
    }
}

/// What a queue says of what was put into it.
type Put<T> = Result<Sent<T>, SendError<T>>;

/// Counts a job out again that the queue did not take.
struct Entry<'p, J, R> {
    shared: &'p Shared<J, R>,
    taken: bool,
}

impl<J: Send + 'static, R: Send + 'static> Entry<'_, J, R> {
    fn sent(&mut self, sent: Put<Item<J, R>>, ticket: Item<J, R>) -> Result<PoolJob<R>, SendError<J>> {
        let sent = sent.map_err(|refused| {
            refused.map(|item| match item.begin() {
                Some(waits) => waits.job,
                None => unreachable!("nobody else has seen it"),
            })
        })?;
        self.taken = true;
        if !sent.evicted().is_empty() {
            self.evicted(sent.into_evicted());
        }
        self.shared.call_if_needed();
        Ok(PoolJob(ticket))
    }

    #[cold]
    fn evicted(&self, evicted: Vec<Item<J, R>>) {
        for evicted in evicted {
            self.shared.meter.ended(&PoolError::Evicted);
            evicted.end(Err(PoolError::Evicted));
            self.shared.left();
        }
    }
}

impl<J, R> Drop for Entry<'_, J, R> {
    fn drop(&mut self) {
        if !self.taken {
            self.shared.left();
        }
    }
}

impl<J: std::fmt::Debug, R> std::fmt::Debug for Submission<'_, J, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("Submission");
        fields.field("job", &self.job).field("priority", &self.priority).field("limit", &self.limit);
        fields.finish_non_exhaustive()
    }
}
