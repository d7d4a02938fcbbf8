//! Components: something that is started in its place in the order, and stopped in reverse.

use std::error::Error as StdError;
use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, LocalBoxFuture};

use super::core::{Core, Entry};
use super::{Boot, IntoResult};
use crate::{Error, ErrorKind, Result, secs};

/// How long a component may take to start, unless said otherwise.
const START_LIMIT: Duration = secs(30);
/// How long a component may take to stop, unless said otherwise.
const STOP_LIMIT: Duration = secs(5);

/// Something that exists before it is started, and may hold half of what it needs when its start ends early.
///
/// Where starting *makes* the value, [`Boot::component`] is simpler.
pub trait Component: Send + Sync + 'static {
    /// Acquires what it needs. Dropped where it awaits when its time limit passes or a signal comes.
    fn start(&self) -> impl Future<Output = Result<()>> + Send;

    /// Releases what it holds. Called once, whenever `start` was begun: also when that failed, ran into its time limit
    /// or was interrupted, so it has to cope with a start that got half-way.
    fn stop(&self) -> impl Future<Output = Result<()>> + Send;
}

impl<C> Boot<C> {
    /// Starts a component now: awaits `start` and answers its value. [`Starting::stop`] says what undoes it.
    ///
    /// ```no_run
    /// # use mainstay::{Boot, Result, secs};
    /// # #[derive(Clone)] struct Bus;
    /// # impl Bus {
    /// #     async fn connect(_: &str) -> Result<Bus> { Ok(Bus) }
    /// #     async fn close(self) {}
    /// # }
    /// # async fn boot(b: &mut Boot<()>) -> Result<()> {
    /// let bus = b.component("bus", Bus::connect("bus:4222")).within(secs(10)).stop(Bus::close).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// A start that fails, runs into its time limit or is interrupted by a signal ends the service's start: what was
    /// started before is stopped, in reverse. Its own future is dropped, and with it what it had acquired so far; use
    /// [`start`](Self::start) if giving that back takes more than a drop.
    ///
    /// # Errors
    /// The component's own error, with its name; `TimedOut`; `Interrupted` when a signal came first.
    pub fn component<F, T, E>(&self, name: impl Into<String>, start: F) -> Starting<'_, F, T>
    where
        F: Future<Output = Result<T, E>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        Starting::new(&self.core, name.into(), start)
    }

    /// Starts a component that exists already, and answers it. Its `stop` is called whenever its `start` was begun.
    ///
    /// # Errors
    /// As of [`component`](Self::component).
    pub fn start<T: Component>(
        &self,
        name: impl Into<String>,
        component: T,
    ) -> Starting<'_, impl Future<Output = Result<Arc<T>>>, Arc<T>> {
        let component = Arc::new(component);
        let stopping = component.clone();
        let stop: StopHook = Box::new(move || Box::pin(async move { stopping.stop().await }));
        let start = async move {
            component.start().await?;
            Ok(component)
        };
        let mut starting = Starting::new(&self.core, name.into(), start);
        starting.undo = Undo::Begun(stop);
        starting
    }
}

type StopHook = Box<dyn FnOnce() -> BoxFuture<'static, Result<()>> + Send>;

/// What undoes a start.
enum Undo<T> {
    Nothing,
    /// Called with the value that the start made.
    Made(Box<dyn FnOnce(&T) -> StopHook + Send>),
    /// Called whenever the start was begun.
    Begun(StopHook),
}

/// A component that is about to start: await it.
#[must_use = "a component starts when it is awaited"]
pub struct Starting<'b, F, T> {
    core: &'b Core,
    name: String,
    limit: Duration,
    stop_limit: Duration,
    start: F,
    undo: Undo<T>,
}

impl<'b, F, T> Starting<'b, F, T> {
    pub(super) fn new(core: &'b Core, name: String, start: F) -> Self {
        Self { core, name, limit: START_LIMIT, stop_limit: STOP_LIMIT, start, undo: Undo::Nothing }
    }

    /// Changes the time limit of the start, which defaults to 30 s.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Changes the time limit of the stop, which defaults to 5 s. No hook may take so much of the stop phase that an
    /// equal share is not left for each of the others.
    pub fn stop_within(mut self, limit: Duration) -> Self {
        self.stop_limit = limit;
        self
    }

    /// Stops the component with `hook`, which gets a clone of its value: after the drain, and after everything that
    /// was started later.
    pub fn stop<H, Fut>(mut self, hook: H) -> Self
    where
        T: Clone + Send + 'static,
        H: FnOnce(T) -> Fut + Send + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        self.undo = Undo::Made(Box::new(move |value| {
            let value = value.clone();
            Box::new(move || {
                let stopping = hook(value);
                Box::pin(async move { stopping.await.into_result() })
            })
        }));
        self
    }
}

impl<'b, F, T, E> IntoFuture for Starting<'b, F, T>
where
    F: Future<Output = Result<T, E>> + 'b,
    T: 'b,
    E: Into<Box<dyn StdError + Send + Sync>> + 'b,
{
    type Output = Result<T>;
    type IntoFuture = LocalBoxFuture<'b, Result<T>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { core, name, limit, stop_limit, start, undo } = self;
        Box::pin(async move {
            let register = |stop| core.register(Entry::Hook { name: name.clone(), limit: stop_limit, stop });
            let made = match undo {
                Undo::Nothing => None,
                Undo::Made(bind) => Some(bind),
                Undo::Begun(stop) => {
                    register(stop);
                    None
                }
            };
            let began = tokio::time::Instant::now();
            let start = async { start.await.map_err(Error::from_any) };
            let value = within(core, &name, limit, start).await?;
            // No await in between: what has been started is undone.
            if let Some(bind) = made {
                register(bind(&value));
            }
            tracing::debug!(component = %name, took_ms = began.elapsed().as_millis() as u64, "started");
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
