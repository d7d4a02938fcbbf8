//! Reading the configuration again while running: SIGHUP, or [`Reload::now`].

use std::any::Any;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::core::Core;
use super::{Boot, IntoResult};
use crate::config::{Effective, Loaded, Prints};
use crate::shutdown::Phase;
use crate::time::human;
use crate::{Error, ErrorKind, Result, secs};

/// How long one hook may take.
const HOOK_LIMIT: Duration = secs(10);
/// The chassis applies this one by itself.
const LOG_LEVEL: &str = "log_level";

impl<C: Send + Sync + 'static> Boot<C> {
    /// Runs `hook` at every reload (SIGHUP, or [`Reload::now`]) with the configuration that was read, within 10 s each
    /// and in the order they were given. [`OnReload::applies`] says which keys it puts into effect; what else has
    /// changed is reported as needing a restart. The log level is applied without a hook.
    ///
    /// ```no_run
    /// # use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
    /// # use mainstay::Boot;
    /// # struct Config { rate: u32 }
    /// # fn boot(b: &mut Boot<Config>, rate: Arc<AtomicU32>) {
    /// b.on_reload("rate", move |config| std::future::ready(rate.store(config.rate, Ordering::Relaxed))).applies(["rate"]);
    /// # }
    /// ```
    pub fn on_reload<F, Fut>(&self, name: impl Into<String>, hook: F) -> OnReload<'_>
    where
        F: Fn(Arc<C>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        let run = move |config: Config| match config.downcast::<C>() {
            Ok(config) => {
                let hook = hook(config);
                Box::pin(async move { hook.await.into_result() }) as BoxFuture<'static, _>
            }
            Err(_) => Box::pin(std::future::ready(Ok(()))), // the app's loader gives nothing else
        };
        let reloads = &self.core.reloads;
        reloads.hooks().push(Hook { name: name.into(), applies: Vec::new(), run: Arc::new(run) });
        OnReload { reloads, index: reloads.hooks().len() - 1 }
    }
}

impl<C> Boot<C> {
    /// Reads the configuration again from within, as SIGHUP does from outside.
    pub fn reload(&self) -> Reload {
        Reload(Arc::downgrade(&self.core))
    }
}

/// A registered reload hook.
pub struct OnReload<'b> {
    reloads: &'b Reloads,
    index: usize,
}

impl OnReload<'_> {
    /// The keys (dotted, if in a table) that the hook puts into effect.
    pub fn applies<K: Into<String>>(self, keys: impl IntoIterator<Item = K>) {
        if let Some(hook) = self.reloads.hooks().get_mut(self.index) {
            hook.applies.extend(keys.into_iter().map(Into::into));
        }
    }
}

/// Reads the configuration again. Cheap to clone.
#[derive(Clone)]
pub struct Reload(Weak<Core>);

/// What a reload came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// Keys that have changed and are in effect.
    pub applied: Vec<String>,
    /// Keys that differ from what the process runs with until it is restarted.
    pub needs_restart: Vec<String>,
    /// Hooks that failed, and why. The keys they apply are not in effect.
    pub failed: Vec<(String, String)>,
}

impl Reload {
    /// Reads the configuration from all its layers again, applies what can be changed, and runs the hooks. One reload
    /// at a time.
    ///
    /// # Errors
    /// `Config` with everything that is wrong; nothing has changed then. `Interrupted` when the service is not
    /// running: it reads its configuration at its start, and needs none at its end.
    pub async fn now(&self) -> Result<Reloaded> {
        let running = self.0.upgrade().filter(|core| core.shutdown.phase() == Phase::Running);
        match running {
            Some(core) => reload(&core).await,
            None => Err(Error::new(ErrorKind::Interrupted, "the service is not running")),
        }
    }
}

type Config = Arc<dyn Any + Send + Sync>;
type Load = Box<dyn Fn() -> Result<Fresh> + Send + Sync>;

/// A configuration that was read again.
pub(crate) struct Fresh {
    config: Config,
    level: String,
    values: Vec<Effective>,
    prints: Prints,
    warnings: Vec<String>,
}

impl Fresh {
    pub fn new<C: Send + Sync + 'static>(loaded: Loaded<C>) -> Self {
        Self {
            config: Arc::new(loaded.config),
            level: loaded.settings.log_level,
            values: loaded.values,
            prints: loaded.prints,
            warnings: loaded.warnings,
        }
    }
}

/// What a running app knows about reloading.
#[derive(Default)]
pub(crate) struct Reloads {
    load: OnceLock<Load>,
    /// Of what is in effect.
    prints: Mutex<Prints>,
    hooks: Mutex<Vec<Hook>>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Hook {
    name: String,
    applies: Vec<String>,
    run: Arc<dyn Fn(Config) -> BoxFuture<'static, Result<()>> + Send + Sync>,
}

impl Reloads {
    /// How to read the configuration, and what it came to at the start.
    pub fn prepare(&self, prints: Prints, load: impl Fn() -> Result<Fresh> + Send + Sync + 'static) {
        *self.prints.lock().unwrap_or_else(PoisonError::into_inner) = prints;
        let _ = self.load.set(Box::new(load));
    }

    fn hooks(&self) -> MutexGuard<'_, Vec<Hook>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn reload(core: &Arc<Core>) -> Result<Reloaded> {
    let reloads = &core.reloads;
    let _turn = reloads.turn.lock().await;
    let theirs = core.clone();
    // It reads files, and this thread may have probes to answer.
    let loaded = tokio::task::spawn_blocking(move || theirs.reloads.load.get().map(|load| load()));
    let Some(fresh) = loaded.await.map_err(Error::from_any)? else { return Ok(Reloaded::default()) };
    let fresh = fresh?;
    fresh.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));

    let running = reloads.prints.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let keys: BTreeSet<_> = running.keys().chain(fresh.prints.keys()).cloned().collect();
    let changed: Vec<_> = keys.into_iter().filter(|key| running.get(key) != fresh.prints.get(key)).collect();
    let mut report = Reloaded::default();
    let mut in_effect = BTreeSet::new();
    // Only if the configuration says something new: a level set at run time stays otherwise.
    if changed.iter().any(|key| key == LOG_LEVEL) {
        match core.log.level().set(&fresh.level) {
            Ok(()) => _ = in_effect.insert(LOG_LEVEL.to_owned()),
            Err(error) => report.failed.push((LOG_LEVEL.to_owned(), error)),
        }
    }
    let hooks = reloads.hooks().clone();
    for hook in hooks {
        match run(core, &hook, fresh.config.clone()).await {
            Ok(()) => in_effect.extend(hook.applies),
            Err(error) => report.failed.push((hook.name, error.chain())),
        }
    }
    (report.applied, report.needs_restart) = changed.into_iter().partition(|key| in_effect.contains(key));
    core.values_changed(&fresh.values, &report.applied);
    let mut prints = reloads.prints.lock().unwrap_or_else(PoisonError::into_inner);
    for key in &report.applied {
        match fresh.prints.get(key) {
            Some(print) => _ = prints.insert(key.clone(), *print),
            None => _ = prints.remove(key),
        }
    }
    Ok(report)
}

/// After a rotation the log goes to the file that has its name now.
async fn reopen_log(core: &Weak<Core>) {
    let Some(log) = core.upgrade().map(|core| core.log.clone()) else { return };
    // It waits for what is queued, and this thread has probes to answer.
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || log.reopen()).await {
        tracing::error!(error = %error.chain(), "cannot open the log anew, the old one stays in use");
    }
}

/// On the main runtime, where what it touches lives.
async fn run(core: &Core, hook: &Hook, config: Config) -> Result<()> {
    let task = core.loops.spawn(format!("reload {}", hook.name), (hook.run)(config));
    let abort = task.abort_handle();
    match timeout(HOOK_LIMIT, task).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) => Err(Error::from_any(error)),
        Err(_) => {
            abort.abort();
            Err(Error::new(ErrorKind::TimedOut, format!("it did not end within {}", human(HOOK_LIMIT))))
        }
    }
}

/// Opens the log anew and reloads whenever `asked` is notified, and says in the log what came of it. Runs on the control thread.
pub(super) async fn on_request(core: Weak<Core>, asked: Arc<tokio::sync::Notify>) {
    loop {
        asked.notified().await;
        // Anywhere else in its life `READY=1` would be a lie: not up yet, or on its way out.
        let running = || core.upgrade().is_some_and(|core| core.shutdown.phase() == Phase::Running);
        let told = running();
        if told {
            super::notify::reloading();
        }
        reopen_log(&core).await;
        match Reload(core.clone()).now().await {
            Ok(report) => {
                for (hook, error) in &report.failed {
                    tracing::error!(hook = %hook, %error, "reload hook failed");
                }
                let (applied, needs_restart) = (report.applied.join(" "), report.needs_restart.join(" "));
                if needs_restart.is_empty() {
                    tracing::info!(%applied, "configuration reloaded");
                } else {
                    tracing::warn!(%applied, %needs_restart, "configuration reloaded, but some of it needs a restart");
                }
            }
            Err(error) => {
                tracing::error!(error = %error.chain(), "cannot reload the configuration, nothing changed")
            }
        }
        if told && running() {
            super::notify::notify("READY=1");
        }
    }
}
