//! Connection pools as components.

use std::future::{Future, IntoFuture};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time::{sleep, timeout};

use super::Boot;
use super::component::Starting;
use super::core::Core;
use crate::health::Weight;
use crate::time::human;
use crate::{Error, Result, millis, secs};

/// A check has a second; a pool that gives nothing for most of it is exhausted, and can still say so.
const CHECK_LIMIT: Duration = millis(900);
/// Between looks at a pool for its gauges.
const LOOK: Duration = secs(1);

/// A pool of connections. Most pools have these three by other names; for deadpool's:
///
/// ```ignore
/// #[derive(Clone)]
/// struct Db(deadpool_postgres::Pool);
///
/// impl mainstay::Pool for Db {
///     fn status(&self) -> PoolStatus {
///         let s = self.0.status();
///         PoolStatus { max: s.max_size, size: s.size, idle: s.available, waiting: s.waiting }
///     }
///     async fn check(&self) -> Result<()> { self.0.get().await.map(drop).map_err(Error::from_any) }
///     async fn close(&self) { self.0.close() }
/// }
/// ```
pub trait Pool: Clone + Send + Sync + 'static {
    /// What it looks like now. Must not wait.
    fn status(&self) -> PoolStatus;

    /// Whether a connection can be had: gets one, and gives it back. Dropped where it awaits after 900 ms.
    fn check(&self) -> impl Future<Output = Result<()>> + Send;

    /// Gives out no more connections and closes those that are idle.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// What a pool looks like at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// The most connections it may have.
    pub max: usize,
    /// Those it has, idle or in use.
    pub size: usize,
    /// Those that nobody uses.
    pub idle: usize,
    /// Callers that wait for one.
    pub waiting: usize,
}

impl PoolStatus {
    /// Connections in use.
    pub fn in_use(&self) -> usize {
        self.size.saturating_sub(self.idle)
    }
}

impl std::fmt::Display for PoolStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} in use, {} waiting", self.in_use(), self.max, self.waiting)
    }
}

impl<C> Boot<C> {
    /// Starts a pool as a component: gets one connection to see that it works, checks that in the background from
    /// then on, publishes its gauges (`db.client.connection.count`, `….max` and `….pending_requests`), and closes it
    /// after everything that was started later.
    ///
    /// # Errors
    /// `Unavailable` if the pool gives no connection, unless it is [lazy](StartingPool::lazy); those of
    /// [`component`](Self::component).
    pub fn pool<P: Pool>(&self, name: impl Into<String>, pool: P) -> StartingPool<'_, P> {
        let (name, limit) = (name.into(), secs(30));
        StartingPool { core: &self.core, name, pool, limit, lazy: false, weight: Weight::Degraded }
    }
}

/// A pool that is about to start: await it.
#[must_use = "a pool starts when it is awaited"]
pub struct StartingPool<'b, P> {
    core: &'b Core,
    name: String,
    pool: P,
    limit: Duration,
    lazy: bool,
    weight: Weight,
}

impl<P> StartingPool<'_, P> {
    /// Starts without a connection: what the pool leads to may come up later.
    pub fn lazy(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// Changes the time limit for the first connection, which defaults to 30 s.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Changes the weight of its check, which defaults to [`Weight::Degraded`].
    pub fn weight(mut self, weight: Weight) -> Self {
        self.weight = weight;
        self
    }
}

impl<'b, P: Pool> IntoFuture for StartingPool<'b, P> {
    type Output = Result<P>;
    type IntoFuture = LocalBoxFuture<'b, Result<P>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { core, name, pool, limit, lazy, weight } = self;
        let first = pool.clone();
        let start = async move {
            if !lazy {
                let none =
                    |error: Error| Error::unavailable("the pool gives no connection").with_source(error);
                first.check().await.map_err(none)?;
            }
            Ok::<_, Error>(first)
        };
        Box::pin(async move {
            Starting::new(core, name.clone(), start).within(limit).stop(close).await?;
            let checked = pool.clone();
            core.check(format!("pool {name}"), weight.into(), move || check(checked.clone()));
            core.loops.spawn(format!("gauges of pool {name}"), gauges(name, pool.clone()));
            Ok(pool)
        })
    }
}

async fn check<P: Pool>(pool: P) -> Result<(), String> {
    match timeout(CHECK_LIMIT, pool.check()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{} ({})", error.chain(), pool.status())),
        Err(_) => Err(format!("no connection within {} ({})", human(CHECK_LIMIT), pool.status())),
    }
}

async fn close<P: Pool>(pool: P) -> Result<()> {
    pool.close().await;
    match pool.status().in_use() {
        0 => Ok(()),
        left => Err(format!("{left} connections were still in use when the pool was closed").into()),
    }
}

async fn gauges<P: Pool>(name: String, pool: P) {
    const POOL: &str = "db.client.connection.pool.name";
    const STATE: &str = "db.client.connection.state";
    let count = |state: &'static str| metrics::gauge!("db.client.connection.count", POOL => name.clone(), STATE => state);
    let (idle, used) = (count("idle"), count("used"));
    let max = metrics::gauge!("db.client.connection.max", POOL => name.clone());
    let pending = metrics::gauge!("db.client.connection.pending_requests", POOL => name.clone());
    loop {
        let status = pool.status();
        idle.set(status.idle as f64);
        used.set(status.in_use() as f64);
        max.set(status.max as f64);
        pending.set(status.waiting as f64);
        sleep(LOOK).await;
    }
}
