//! The app: one life cycle for everything that lives.

mod background;
mod boot;
mod budget;
mod component;
mod control;
mod core;
mod into_result;
mod life;
mod notify;
mod part;
mod pool;
mod reload;
mod report;
mod restart;
mod watchdog;

use std::future::Future;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

pub use boot::Boot;
pub(crate) use budget::Budget;
pub use component::{Component, Starting};
pub(crate) use core::Core;
pub use into_result::IntoResult;
pub(crate) use notify::notify;
pub use part::Overstayer;
pub(crate) use part::Part;
pub use pool::{Pool, PoolStatus, StartingPool};
pub use reload::{OnReload, Reload, Reloaded};
pub use report::Ended;
pub use restart::Restart;

use self::control::Control;
use self::watchdog::Watchdog;
use crate::config::{Loaded, Loader};
use crate::log::{self, Log};
use crate::shutdown::{Phase, Shutdown};
use crate::stage::Stage;
use crate::time::millis;
use crate::{Error, Result, admin, otlp, telemetry};

/// A service: owns runtime, signals, logs, metrics, probes, drain and exit code.
///
/// `C` is the service's configuration; it follows from the `boot` that is run.
pub struct App<C> {
    name: String,
    loader: Arc<Loader<C>>,
    shutdown: Shutdown,
    build: telemetry::Build,
    stage: Stage,
}

impl<C> App<C>
where
    C: Serialize + DeserializeOwned + Default + Send + Sync + 'static,
{
    /// An app of this name, which in capitals is the prefix of its variables (`SHOP_GRACE_MS`).
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            loader: Arc::new(Loader::new(&name)),
            name,
            shutdown: Shutdown::new(),
            build: telemetry::Build::default(),
            stage: Stage::default(),
        }
    }

    /// Reads the configuration with this loader, which may know of a file, flags and rules.
    #[must_use]
    pub fn config(mut self, loader: Loader<C>) -> Self {
        self.loader = Arc::new(loader);
        self
    }

    /// The version that the metric `mainstay.build.info` shows: `env!("CARGO_PKG_VERSION")`.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.build.version = version.into();
        self
    }

    /// The commit that the metric `mainstay.build.info` shows, where the build knows it:
    /// `option_env!("GIT_COMMIT").unwrap_or_default()`.
    #[must_use]
    pub fn commit(mut self, commit: impl Into<String>) -> Self {
        self.build.commit = commit.into();
        self
    }

    /// Plays it in a test.
    #[cfg(feature = "testing")]
    pub(crate) fn on(mut self, stage: Stage) -> Self {
        self.stage = stage;
        self
    }

    /// Follows and begins the app's shutdown from outside of it.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Runs the service until a signal, `POST /admin/drain` or a failure ends it, and answers the exit code: 0 when
    /// everything drained, 1 when something had to be cut or did not stop cleanly, 69 when a store is unavailable at start, 74 when one
    /// cannot be trusted any more, 78 for a wrong configuration.
    ///
    /// To be called from `main`, outside of any runtime. The process is gone a second before the grace ends, whatever
    /// happens.
    pub fn run<B>(self, boot: B) -> ExitCode
    where
        B: AsyncFnOnce(&mut Boot<C>) -> Result<()>,
    {
        let name = self.name.clone();
        match self.process(boot) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                // Before there is a log.
                eprintln!("{name}: {}", error.chain());
                ExitCode::from(error.exit_code())
            }
        }
    }

    /// Runs the app inside the caller's runtime until `until` resolves or its [`shutdown`](Self::shutdown) begins:
    /// without signals, watchdog, panic hook and export of traces, for embedding and tests.
    ///
    /// Not cancel safe: dropping the future drops the app without draining it.
    pub async fn run_until<B>(self, boot: B, until: impl Future<Output = ()>) -> Ended
    where
        B: AsyncFnOnce(&mut Boot<C>) -> Result<()>,
    {
        let shutdown = self.shutdown.clone();
        let life = async {
            let loaded = self.loader.load()?;
            let log = start_log(&loaded)?;
            let control = Control::start()?;
            let (core, config) = self.assemble(loaded, &log, control::runtime_here()?, &control);
            telemetry::statsd::start(&core);
            admin::open(&core, control.tasks()).await?;
            let ended = life::live(&core, config, boot).await;
            telemetry::statsd::finish(&core, millis(200)).await;
            admin::close(&core, millis(200)).await;
            tokio::task::spawn_blocking(move || control.end(millis(200))).await.ok();
            Ok(ended)
        };
        let mut life = std::pin::pin!(life);
        let ended: Result<Ended> = tokio::select! {
            biased;
            ended = &mut life => ended,
            () = until => {
                shutdown.begin();
                life.await
            }
        };
        shutdown.advance(Phase::Ended);
        let ended = ended.unwrap_or_else(|error| Ended { error: Some(error), ..Ended::default() });
        ended.log();
        ended
    }

    /// `main` in phases: signals, configuration, log, watchdog, runtime, admin listener, life, flush.
    fn process<B>(self, boot: B) -> Result<u8>
    where
        B: AsyncFnOnce(&mut Boot<C>) -> Result<()>,
    {
        admin::adopt_passed_sockets();
        // First of all, so that a signal that comes while we start is not the end of us.
        let control = Control::start()?;
        let log_slot = Arc::new(OnceLock::<Log>::new());
        let last = log_slot.clone();
        let reload = Arc::new(Notify::new());
        control.handle_signals(self.shutdown.clone(), reload.clone(), move || {
            if let Some(log) = last.get() {
                log.flush(millis(100));
            }
        })?;

        let loaded = self.loader.load()?;
        let log = start_log(&loaded)?;
        let _ = log_slot.set(log.clone());
        log::panics::install();
        otlp::start(&self.name, &loaded.settings.otlp_endpoint);

        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.enable_all().thread_name(format!("{}-worker", self.name));
        if let Some(threads) = loaded.settings.threads {
            builder.worker_threads(threads);
        }
        let runtime = builder.build().map_err(|e| Error::from(e).context("cannot start the runtime"))?;
        let (core, config) = self.assemble(loaded, &log, runtime.handle().clone(), &control);
        telemetry::statsd::start(&core);
        arm_watchdog(&core)?;
        control.tasks().spawn("reload", reload::on_request(Arc::downgrade(&core), reload));
        control.tasks().spawn("signs of life", notify::watchdog(core.health.clone()));

        let ended = runtime.block_on(async {
            let ended = match admin::open(&core, control.tasks()).await {
                Ok(()) => life::live(&core, config, boot).await,
                Err(error) => {
                    tracing::error!(error = %error.chain(), "cannot start");
                    Ended { error: Some(error), ..Ended::default() }
                }
            };
            ended.log();
            ended
        });
        // What blocks a thread of the runtime is left behind: the exit ends it.
        // All of it fits into the phase: 2 + 2 + 2 + 1 + 1 eighths.
        let slice = core.budget.flush / 8;
        runtime.shutdown_timeout(slice * 2);
        // A collector that does not answer costs this, and no more.
        otlp::flush(slice * 2);
        log.flush(slice * 2);
        let closing = core.clone();
        let last_figures = async move {
            telemetry::statsd::finish(&closing, slice / 2).await;
            admin::close(&closing, slice / 2).await;
        };
        control.finish(last_figures, slice);
        core.shutdown.advance(Phase::Ended);
        control.end(slice);
        Ok(ended.exit_code())
    }

    fn assemble(
        &self,
        loaded: Loaded<C>,
        log: &Log,
        runtime: tokio::runtime::Handle,
        control: &Control,
    ) -> (Arc<Core>, C) {
        let core = Core::new(core::Given {
            name: self.name.clone(),
            settings: loaded.settings,
            values: loaded.values,
            log: log.clone(),
            shutdown: self.shutdown.clone(),
            runtime,
            control: control.tasks().clone(),
            build: telemetry::Build { name: self.name.clone(), ..self.build.clone() },
            stage: self.stage.clone(),
        });
        let loader = self.loader.clone();
        self.stage.offer(core.health.clone());
        core.reloads.prepare(loaded.prints, move || Ok(reload::Fresh::new(loader.load()?)));
        (core, loaded.config)
    }
}

fn start_log<C>(loaded: &Loaded<C>) -> Result<Log> {
    let log = log::install(loaded.settings.log_options())?;
    telemetry::install(loaded.settings.max_series);
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    Ok(log)
}

/// Armed by the first demand, on the thread that makes it: it works when everything else is stuck.
fn arm_watchdog(core: &Arc<Core>) -> Result<()> {
    let witness = Arc::downgrade(core);
    let watchdog = Watchdog::start(move || {
        let Some(core) = witness.upgrade() else { return String::new() };
        let loops = core.loops.list().into_iter().map(Overstayer::from);
        let all = core.in_flight().into_iter().chain(loops);
        all.map(|item| format!("still running: {item}")).collect::<Vec<_>>().join("\n")
    })
    .map_err(|e| Error::from(e).context("cannot start the watchdog"))?;
    let after: Duration = core.budget.watchdog();
    core.shutdown.on_begin(move || watchdog.arm(after));
    Ok(())
}
