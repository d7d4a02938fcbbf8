//! A service about to be run in a test.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join3};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::{TestApp, assert_drained};
use crate::config::Loader;
use crate::shutdown::Phase;
use crate::stage::{Mode, Scene, Stage};
use crate::testing::sockets_in_use;
use crate::{App, Boot, Ended, Result};

/// What [`TestApp::new`] makes: the service with its configuration `C`, not running yet.
#[must_use = "the service runs in `run`"]
pub struct TestBoot<C> {
    life: Box<dyn FnOnce(App<C>) -> LocalBoxFuture<'static, Ended>>,
    settings: Vec<(String, String)>,
    may_be_cut: bool,
    scene: Scene,
}

impl<C: Serialize + DeserializeOwned + Default + Send + Sync + 'static> TestBoot<C> {
    pub(super) fn new<B>(boot: B) -> Self
    where
        B: AsyncFnOnce(&mut Boot<C>) -> Result<()> + 'static,
    {
        let life = |app: App<C>| app.run_until(boot, std::future::pending()).boxed_local();
        Self { life: Box::new(life), settings: Vec::new(), may_be_cut: false, scene: Scene::default() }
    }

    /// Sets a key of the configuration (dotted, if in a table), as a flag would.
    pub fn set(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        self.settings.push((key.into(), value.to_string()));
        self
    }

    /// Lets work be cut at the service's end: for tests of what never ends.
    pub fn may_be_cut(mut self) -> Self {
        self.may_be_cut = true;
        self
    }

    /// Has every job and every delivery of an event wait until the test lets it begin: one by one with
    /// [`step_job`](TestApp::step_job) and [`step_event`](TestApp::step_event), or all of them with
    /// [`run_jobs`](TestApp::run_jobs), [`run_events`](TestApp::run_events) and
    /// [`run_until_idle`](TestApp::run_until_idle). Schedules fire as time passes; their jobs wait like others.
    ///
    /// What still waits at the test's end stays in the store; events on a [`Bus`](crate::bus::Bus) are handled in the
    /// drain, as always.
    pub fn manual(mut self) -> Self {
        self.scene.mode = Mode::Manual;
        self
    }

    /// Has every call that enqueues or publishes answer only when what is due then has been done, with what that has
    /// made in turn. Retries and delays of jobs and groups are not waited for (see
    /// [`run_until_idle`](TestApp::run_until_idle)), those of a [`Bus`](crate::bus::Bus) are. Calls of a job or an event
    /// handler do not wait: the call that caused them does.
    pub fn inline(mut self) -> Self {
        self.scene.mode = Mode::Inline;
        self
    }

    /// Binds the service's listeners, each to a free port of the loopback address: [`TestApp::address`]. For real
    /// clients, event streams and WebSockets. On virtual time see [`Runtime::with_sockets`](crate::testing::Runtime::with_sockets),
    /// which it switches on.
    pub fn with_sockets(mut self) -> Self {
        self.scene.sockets = true;
        self
    }

    /// Does not run the service's health checks. They go on beside the test, every 5 s of virtual time, and use up the
    /// steps of a [`Script`](crate::testing::Script) that stands for what they check.
    pub fn without_checks(mut self) -> Self {
        self.scene.without_checks = true;
        self
    }

    /// Starts the service, runs `test` beside it, and stops it in good order, also when the test panics or has stopped
    /// it by itself. Not cancel safe: dropped under way, the service is dropped without its drain.
    ///
    /// On virtual time the whole of it takes none. On real time the service has no lame duck unless it is
    /// [`set`](Self::set).
    ///
    /// # Panics
    /// As `test` does; if the service does not start, or fails; and if something of it had to be cut at its end, unless
    /// it [may](Self::may_be_cut).
    pub async fn run<T>(self, test: impl AsyncFnOnce(&TestApp) -> T) -> T {
        let stage = Stage::in_a_test(self.scene);
        if self.scene.sockets {
            sockets_in_use();
        }
        let mut loader =
            Loader::new("test").variables::<String, String>([]).default_value("admin_listen", "off");
        if crate::clock::virtual_wall().is_none() {
            loader = loader.default_value("lame_duck_ms", 0);
        }
        for (key, value) in &self.settings {
            loader = loader.flag(key, value, format!("set(\"{key}\", …)"));
        }
        let app = App::new("test").config(loader).on(stage.clone());
        let shutdown = app.shutdown();
        let (tell, ended) = watch::channel(None);
        let cues = stage.cues();
        let app_here = TestApp { stage, shutdown: shutdown.clone(), ended };
        let life = (self.life)(app);
        let life = async move { _ = tell.send(Some(Arc::new(life.await))) };
        let tested = async {
            shutdown.reached(Phase::Running).await;
            // A service that does not start goes on to its end.
            if shutdown.phase() > Phase::LameDuck {
                app_here.end().await;
            }
            let outcome = match failure_to_start(&app_here) {
                None => AssertUnwindSafe(test(&app_here)).catch_unwind().await,
                Some(error) => Err(Box::new(error) as _),
            };
            let ended = app_here.stop().await;
            (outcome, ended)
        };
        let closing = async {
            shutdown.draining().await;
            cues.close();
        };
        let ((), (outcome, ended), ()) = join3(life, tested, closing).await;
        let value = outcome.unwrap_or_else(|panic| resume_unwind(panic));
        if !self.may_be_cut {
            assert_drained(&ended);
        }
        value
    }
}

fn failure_to_start(app: &TestApp) -> Option<String> {
    let ended = app.ended.borrow().clone()?;
    let error = ended
        .error
        .as_ref()
        .map_or_else(|| "it stopped by itself".to_owned(), |error| error.chain().to_string());
    let told = format!("the service did not start: {error}");
    // A panic that goes on is not printed again.
    eprintln!("{told}");
    Some(told)
}
