//! What every piece of a running app shares.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use super::part::Part;
use super::reload::Reloads;
use super::{Budget, Overstayer};
use crate::Result;
use crate::admin::Admin;
use crate::client::Client;
use crate::config::{Effective, Settings};
use crate::health::{Check, CheckOptions, Health};
use crate::log::Log;
use crate::policy::Policies;
use crate::shutdown::Shutdown;
use crate::stage::Stage;
use crate::tasks::{Task, TaskInfo, TaskSet};
use crate::telemetry::{self, Build, Collector, statsd::Statsd};

/// The shared state of one app.
pub(crate) struct Core {
    pub name: String,
    pub settings: Settings,
    pub budget: Budget,
    /// The effective configuration as it was at the start.
    pub values: Vec<Effective>,
    /// As it is now, for `GET /admin/config`.
    values_now: Mutex<Arc<Vec<Effective>>>,
    pub log: Log,
    pub shutdown: Shutdown,
    /// Work: waited for in the drain.
    pub tasks: TaskSet,
    /// Owned loops and checks: ended at stop.
    pub loops: TaskSet,
    /// What runs beside the main runtime, on the thread that answers probes; never blocks.
    pub control: TaskSet,
    pub collector: Collector,
    pub statsd: Option<Statsd>,
    pub health: Health,
    pub admin: Admin,
    /// What the service calls, with the state that all callers share.
    pub policies: Policies,
    pub reloads: Reloads,
    pub stage: Stage,
    /// The store that was opened last: what workers take jobs from unless told otherwise.
    pub store: Mutex<Option<Client>>,
    /// The groups that are subscribed to: each once.
    pub groups: Mutex<HashSet<String>>,
    /// A drain longer than the plan's, because something in flight may need it.
    longer_drain: Mutex<Option<Duration>>,
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    /// In the order of `boot`'s lines.
    entries: Vec<Entry>,
    ready: Vec<BoxFuture<'static, Result<()>>>,
    /// Parts that have been started, for reports from any thread.
    parts: Vec<Arc<dyn Part>>,
}

/// Something to be undone.
pub(crate) enum Entry {
    /// A component's stop hook.
    Hook { name: String, limit: Duration, stop: Box<dyn FnOnce() -> BoxFuture<'static, Result<()>> + Send> },
    /// An owned loop.
    Loop { name: String, task: Task<()> },
    /// Something that handles work.
    Part(Arc<dyn Part>),
}

/// What a core is made from.
pub(crate) struct Given {
    pub name: String,
    pub settings: Settings,
    pub values: Vec<Effective>,
    pub log: Log,
    pub shutdown: Shutdown,
    pub runtime: Handle,
    pub control: TaskSet,
    pub build: Build,
    pub stage: Stage,
}

impl Core {
    pub fn new(given: Given) -> Arc<Self> {
        let health = Health::new(given.shutdown.clone());
        let registry = telemetry::install(given.settings.max_series);
        Arc::new(Self {
            name: given.name,
            // Refused before, if it does not fit.
            budget: Budget::plan(&given.settings).unwrap_or_default(),
            // Refused before, if one is wrong.
            policies: Policies::new(given.settings.policies.clone()).unwrap_or_default(),
            statsd: Statsd::from_settings(registry, &given.settings),
            settings: given.settings,
            values_now: Mutex::new(Arc::new(given.values.clone())),
            values: given.values,
            log: given.log,
            collector: Collector::new(registry, given.runtime.clone(), health.clone(), given.build),
            health,
            shutdown: given.shutdown,
            tasks: TaskSet::on(given.runtime.clone()),
            loops: TaskSet::on(given.runtime),
            control: given.control,
            admin: Admin::default(),
            reloads: Reloads::default(),
            stage: given.stage,
            store: Mutex::default(),
            groups: Mutex::default(),
            longer_drain: Mutex::default(),
            registry: Mutex::default(),
        })
    }

    pub fn register(&self, entry: Entry) {
        self.registry().entries.push(entry);
    }

    /// Runs a check in the background.
    pub fn check(&self, name: String, options: CheckOptions, check: impl Check) {
        if self.stage.is_without_checks() {
            return;
        }
        if let Err(mistake) = self.health.check(name, options, check, &self.loops, &self.control) {
            // Told where it can be: at the start, with everything before it undone.
            self.when_ready(Box::pin(std::future::ready(Err(mistake))));
        }
    }

    pub fn when_ready(&self, hook: BoxFuture<'static, Result<()>>) {
        self.registry().ready.push(hook);
    }

    pub fn take_entries(&self) -> Vec<Entry> {
        std::mem::take(&mut self.registry().entries)
    }

    pub fn take_ready(&self) -> Vec<BoxFuture<'static, Result<()>>> {
        std::mem::take(&mut self.registry().ready)
    }

    pub fn begun(&self, part: Arc<dyn Part>) {
        self.registry().parts.push(part);
    }

    pub fn parts(&self) -> Vec<Arc<dyn Part>> {
        self.registry().parts.clone()
    }

    /// The work that is in flight now, from any thread.
    pub fn in_flight(&self) -> Vec<Overstayer> {
        let mut all: Vec<_> = self.parts().iter().flat_map(|part| part.in_flight()).collect();
        all.extend(self.tasks.list().into_iter().map(Overstayer::from));
        all
    }

    #[cfg(feature = "http")]
    pub fn values_now(&self) -> Arc<Vec<Effective>> {
        self.values_now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// These keys have taken their new values.
    pub fn values_changed(&self, fresh: &[Effective], keys: &[String]) {
        let mut now = self.values_now.lock().unwrap_or_else(PoisonError::into_inner);
        let stays = now.iter().filter(|value| !keys.contains(&value.key));
        let comes = fresh.iter().filter(|value| keys.contains(&value.key));
        let mut all: Vec<_> = stays.chain(comes).cloned().collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        *now = Arc::new(all);
    }

    /// How long the drain may take.
    pub fn drain(&self) -> Duration {
        self.longer_drain.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(self.budget.drain)
    }

    /// Makes the drain at least this long.
    ///
    /// # Errors
    /// What has to be set for it, in words for whoever configures the service.
    pub fn want_drain(&self, drain: Duration) -> Result<(), String> {
        if drain <= self.drain() {
            return Ok(());
        }
        self.budget.has_room_for(drain, self.settings.drain_ms)?;
        *self.longer_drain.lock().unwrap_or_else(PoisonError::into_inner) = Some(drain);
        Ok(())
    }

    pub fn last_store(&self) -> Option<Client> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<TaskInfo> for Overstayer {
    fn from(task: TaskInfo) -> Self {
        Overstayer::new(format!("task {}", task.name), task.location, task.age).in_span(task.span)
    }
}
