//! What a service says about itself while it starts.

use std::error::Error as StdError;
use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;

use super::core::{Core, Entry};
use super::part::Part;
use crate::config::{Effective, Settings};
use crate::health::Weight;
use crate::log::LogLevel;
use crate::shutdown::Shutdown;
use crate::tasks::TaskSet;
use crate::{Error, ErrorKind, Result, secs};

/// How long a component may take to start, unless said otherwise.
const START_LIMIT: Duration = secs(30);

/// Given to a service's `boot`: what it registers here is started in the order of the lines, stopped in reverse, and
/// undone if a later line fails or a signal arrives.
pub struct Boot<C> {
    /// The service's configuration, read and checked.
    pub config: C,
    pub(crate) core: Arc<Core>,
}

impl<C> Boot<C> {
    pub(super) fn new(config: C, core: Arc<Core>) -> Self {
        Self { config, core }
    }

    /// Starts a component now: awaits `start` within a time limit (30 s, or [`Starting::within`]) and answers its
    /// value. What undoes it is registered with [`on_stop`](Self::on_stop).
    ///
    /// # Errors
    /// The component's own error, with its name; `TimedOut`; `Interrupted` when a signal came first. The future is
    /// dropped in the latter two.
    pub fn component<F, T, E>(&self, name: impl Into<String>, start: F) -> Starting<'_, F>
    where
        F: Future<Output = Result<T, E>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        Starting { core: &self.core, name: name.into(), limit: START_LIMIT, start }
    }

    /// Runs `hook` at stop, after everything registered later has stopped; `limit` is its own, and no hook may take
    /// so much of the stop phase that an equal share is not left for each of the others.
    pub fn on_stop<F, Fut, E>(&self, name: impl Into<String>, limit: Duration, hook: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let stop = move || {
            let hook = hook();
            Box::pin(async move { hook.await.map_err(Error::from_any) }) as _
        };
        self.core.register(Entry::Hook { name: name.into(), limit, stop: Box::new(stop) });
    }

    /// Starts an owned loop. It ends by itself when its [`Shutdown`] says `cancelled()`: after the drain, so that
    /// what work in flight needs is still there. It is waited for at stop, and cut and named if it overstays. When it
    /// panics, the service stops and exits 1.
    pub fn background<F, Fut>(&self, name: impl Into<String>, run: F)
    where
        F: FnOnce(Shutdown) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let name = name.into();
        let (shutdown, on_panic) = (self.shutdown(), self.shutdown());
        let body = std::panic::AssertUnwindSafe(run(shutdown));
        let called = name.clone();
        let task = self.core.loops.spawn(name.clone(), async move {
            use futures_util::FutureExt;
            if let Err(panic) = body.catch_unwind().await {
                let message = crate::tasks::panic_message(&*panic);
                on_panic.fail(Error::new(ErrorKind::Other, format!("loop {called} panicked: {message}")));
            }
        });
        self.core.register(Entry::Loop { name, task });
    }

    /// Checks a dependency in the background: every 5 s (30 s while it is down), each time for 1 s at most. Three
    /// failures in a row take it down, two successes bring it back. Only [`Weight::Critical`] ones make the service
    /// unready.
    pub fn check<F, Fut, E>(&self, name: impl Into<String>, weight: Weight, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let name = name.into();
        let check = self.core.health.register(name.clone(), weight, check);
        self.core.loops.spawn(format!("check {name}"), check);
    }

    /// Runs `hook` when everything has been started, just before the service says that it is ready. Hooks run in the
    /// order they were given; one that fails undoes the start.
    pub fn on_ready<E>(&self, hook: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.core.when_ready(Box::pin(async move { hook.await.map_err(Error::from_any) }));
    }

    /// The owner of the service's tasks: waited for in the drain, cancelled and named if they overstay.
    pub fn tasks(&self) -> TaskSet {
        self.core.tasks.clone()
    }

    /// How far the service is on its way out.
    pub fn shutdown(&self) -> Shutdown {
        self.core.shutdown.clone()
    }

    /// The chassis' own configuration.
    pub fn settings(&self) -> &Settings {
        &self.core.settings
    }

    /// Every effective value of the configuration with its source, secrets redacted.
    pub fn effective(&self) -> &[Effective] {
        &self.core.values
    }

    /// The log level, changeable at run time.
    pub fn log_level(&self) -> LogLevel {
        self.core.level.clone()
    }

    /// Registers something that handles work; it is started in its place in the order once `boot` has returned.
    pub(crate) fn register(&self, part: Arc<dyn Part>) {
        self.core.register(Entry::Part(part));
    }
}

/// A component that is about to start: await it.
#[must_use = "a component starts when it is awaited"]
pub struct Starting<'b, F> {
    core: &'b Core,
    name: String,
    limit: Duration,
    start: F,
}

impl<F> Starting<'_, F> {
    /// Changes the time limit, which defaults to 30 s.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

impl<'b, F, T, E> IntoFuture for Starting<'b, F>
where
    F: Future<Output = Result<T, E>> + 'b,
    T: 'b,
    E: Into<Box<dyn StdError + Send + Sync>> + 'b,
{
    type Output = Result<T>;
    type IntoFuture = LocalBoxFuture<'b, Result<T>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let began = tokio::time::Instant::now();
            let start = async { self.start.await.map_err(Error::from_any) };
            let value = within(self.core, &self.name, self.limit, start).await?;
            tracing::debug!(component = %self.name, took_ms = began.elapsed().as_millis() as u64, "started");
            Ok(value)
        })
    }
}

/// Awaits a step of the start: its own outcome, its time limit, or a signal.
pub(super) async fn within<T>(
    core: &Core,
    name: &str,
    limit: Duration,
    step: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        _ = core.shutdown.demanded(1) => {
            Err(Error::new(ErrorKind::Interrupted, format!("told to stop while starting {name}")))
        }
        started = tokio::time::timeout(limit, step) => match started {
            Ok(outcome) => outcome.map_err(|error| error.context(format!("cannot start {name}"))),
            Err(_) => {
                let limit = crate::time::human(limit);
                Err(Error::new(ErrorKind::TimedOut, format!("{name} did not start within {limit}")))
            }
        }
    }
}
