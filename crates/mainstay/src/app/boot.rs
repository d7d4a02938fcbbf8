//! What a service says about itself while it starts.

use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::IntoResult;
use super::core::{Core, Entry};
use super::part::Part;
use crate::config::{Effective, Settings};
use crate::health::{Check, CheckOptions, Health, Heartbeat};
use crate::log::{Log, LogLevel};
use crate::policy::Policies;
use crate::shutdown::Shutdown;
use crate::tasks::TaskSet;
use crate::{Error, Result};

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

    /// Runs `hook` at stop, after everything registered later has stopped, as [`Starting::stop`](super::Starting::stop)
    /// does for a component; `limit` is its own, and no hook may take
    /// so much of the stop phase that an equal share is not left for each of the others.
    pub fn on_stop<F, Fut>(&self, name: impl Into<String>, limit: Duration, hook: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        let stop = move || {
            let hook = hook();
            Box::pin(async move { hook.await.into_result() }) as _
        };
        self.core.register(Entry::Hook { name: name.into(), limit, stop: Box::new(stop) });
    }

    /// Checks a dependency in the background: every 5 s (30 s while it is down), each time for 1 s at most. Three
    /// failures in a row take it down, two successes bring it back. Only critical ones make the service unready.
    ///
    /// `options` is a [`Weight`](crate::Weight), or a [`CheckOptions`] that changes these numbers. A mistake in them,
    /// or a second check of the same name, ends the start.
    pub fn check(&self, name: impl Into<String>, options: impl Into<CheckOptions>, check: impl Check) {
        self.core.check(name.into(), options.into(), check);
    }

    /// Watches a loop of the service: liveness fails when it has not beaten for `limit`.
    pub fn heartbeat(&self, name: impl Into<String>, limit: Duration) -> Heartbeat {
        self.core.health.heartbeat(name, limit)
    }

    /// Health, whose probes are on the admin listener and can be merged into an API's router.
    pub fn health(&self) -> Health {
        self.core.health.clone()
    }

    /// Calls `read` before metrics are exported, for figures that are read rather than recorded:
    /// `b.observe(move || metrics::gauge!("pool.idle").set(pool.idle() as f64))`. It runs on the thread that answers
    /// probes and must not block. A panic costs what it was to read, and is logged once.
    pub fn observe(&self, read: impl Fn() + Send + Sync + 'static) {
        self.core.collector.add(Box::new(move |_| read()));
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

    /// What the service calls: its targets by name, under the setting `policies`.
    pub fn policies(&self) -> Policies {
        self.core.policies.clone()
    }

    /// The chassis' own configuration.
    pub fn settings(&self) -> &Settings {
        &self.core.settings
    }

    /// Every effective value of the configuration with its source, secrets redacted.
    pub fn effective(&self) -> &[Effective] {
        &self.core.values
    }

    /// The process's log: flushes it, opens its file anew.
    pub fn log(&self) -> Log {
        self.core.log.clone()
    }

    /// The log level, changeable at run time.
    pub fn log_level(&self) -> LogLevel {
        self.core.log.level()
    }

    /// Registers something that handles work; it is started in its place in the order once `boot` has returned.
    pub(crate) fn register(&self, part: Arc<dyn Part>) {
        self.core.register(Entry::Part(part));
    }
}
