//! A service about to be run in a test.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::{TestApp, assert_drained};
use crate::config::Loader;
use crate::shutdown::Phase;
use crate::stage::Stage;
use crate::{App, Boot, Ended, Result};

/// What [`TestApp::new`] makes: the service with its configuration `C`, not running yet.
#[must_use = "the service runs in `run`"]
pub struct TestBoot<C> {
    life: Box<dyn FnOnce(App<C>) -> LocalBoxFuture<'static, Ended>>,
    settings: Vec<(String, String)>,
    may_be_cut: bool,
}

impl<C: Serialize + DeserializeOwned + Default + Send + Sync + 'static> TestBoot<C> {
    pub(super) fn new<B>(boot: B) -> Self
    where
        B: AsyncFnOnce(&mut Boot<C>) -> Result<()> + 'static,
    {
        let life = |app: App<C>| app.run_until(boot, std::future::pending()).boxed_local();
        Self { life: Box::new(life), settings: Vec::new(), may_be_cut: false }
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
        let stage = Stage::in_a_test();
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
        let ((), (outcome, ended)) = join(life, tested).await;
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
