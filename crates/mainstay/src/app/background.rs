//! Owned loops, and what happens when one fails.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use super::core::Entry;
use super::restart::Restart;
use super::{Boot, IntoResult};
use crate::health::Weight;
use crate::shutdown::Shutdown;
use crate::time::human;
use crate::{Error, ErrorKind, Result};

impl<C> Boot<C> {
    /// Starts an owned loop. It ends by itself when its [`Shutdown`] says `cancelled()`: after the drain, so that
    /// what work in flight needs is still there. It is waited for at stop, and cut and named if it overstays.
    ///
    /// When it fails (an error or a panic), the service stops, with the error's exit code. When it returns without an
    /// error it has done its work. See [`supervise`](Self::supervise) for one that is to be restarted.
    pub fn background<F, Fut>(&self, name: impl Into<String>, run: F)
    where
        F: FnOnce(Shutdown) -> Fut,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        let (name, shutdown) = (name.into(), self.shutdown());
        let run = run(self.shutdown());
        let called = name.clone();
        self.own(name, async move {
            let ended = caught(async move { run.await.into_result() }).await;
            ended.unwrap_or_else(|error| fail(&shutdown, &called, error));
        });
    }

    /// Starts an owned loop like [`background`](Self::background), and starts it again when it fails, after a delay
    /// that grows with every failure in a row; after too many the service stops. Restarts are logged and counted
    /// (`mainstay.background.restarts`), and a loop that keeps failing shows in the health as a degraded check.
    ///
    /// ```no_run
    /// # use mainstay::{Boot, Restart, Result, Shutdown, secs};
    /// # async fn tail(_: String, _: Shutdown) -> Result<()> { Ok(()) }
    /// # fn boot(b: &mut Boot<()>) {
    /// let url = "redis://cache".to_owned();
    /// b.supervise("tail", Restart::default().delays(secs(1)..=secs(60)), move |shutdown| tail(url.clone(), shutdown));
    /// # }
    /// ```
    pub fn supervise<F, Fut>(&self, name: impl Into<String>, restart: Restart, mut run: F)
    where
        F: FnMut(Shutdown) -> Fut + Send + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        let (name, shutdown) = (name.into(), self.shutdown());
        let trouble = Trouble::default();
        let asked = trouble.clone();
        self.check(format!("loop {name}"), Weight::Degraded, move || std::future::ready(asked.check()));
        let called = name.clone();
        self.own(name, async move {
            let mut failures = 0;
            loop {
                let began = Instant::now();
                let running = caught(async { run(shutdown.clone()).await.into_result() });
                let Err(error) = trouble.over_after(restart.healthy_after, running).await else { return };
                if shutdown.is_cancelled() {
                    return fail(&shutdown, &called, error);
                }
                failures = if began.elapsed() < restart.healthy_after { failures + 1 } else { 1 };
                metrics::counter!("mainstay.background.restarts", "name" => called.clone()).increment(1);
                if restart.gives_up(failures) {
                    let times = format!("loop {called} failed {failures} times in a row");
                    return shutdown.fail(error.context(times));
                }
                let delay = restart.delay(failures, crate::clock::random());
                let (delay_ms, error) = (delay.as_millis() as u64, error.chain());
                tracing::warn!(component = %called, error, failures, delay_ms, "loop failed, restarting it");
                trouble.is(format!("failed {failures} times in a row: {error}"));
                if shutdown.unless_cancelled(sleep(delay)).await.is_none() {
                    return;
                }
            }
        });
    }

    fn own(&self, name: String, run: impl Future<Output = ()> + Send + 'static) {
        let task = self.core.loops.spawn(name.clone(), run);
        self.core.register(Entry::Loop { name, task });
    }
}

/// A loop has ended with an error that nobody restarts it from.
fn fail(shutdown: &Shutdown, name: &str, error: Error) {
    if shutdown.is_cancelled() {
        // It was to end anyway.
        tracing::warn!(component = %name, error = %error.chain(), "did not stop cleanly");
    } else {
        shutdown.fail(error.context(format!("loop {name} failed")));
    }
}

async fn caught(run: impl Future<Output = Result<()>>) -> Result<()> {
    match AssertUnwindSafe(run).catch_unwind().await {
        Ok(ended) => ended,
        Err(panic) => {
            metrics::counter!("mainstay.task.panics").increment(1);
            let message = crate::tasks::panic_message(&*panic);
            Err(Error::new(ErrorKind::Other, format!("panicked: {message}")))
        }
    }
}

/// Why a loop is not well, as its check tells.
#[derive(Clone, Default)]
struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    fn is(&self, what: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    fn check(&self) -> Result<(), String> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(what) => Err(what.clone()),
            None => Ok(()),
        }
    }

    fn over(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    /// Awaits a run; the trouble is over when it has lasted for `long`, or has done its work before.
    async fn over_after(&self, long: Duration, run: impl Future<Output = Result<()>>) -> Result<()> {
        let mut run = std::pin::pin!(run);
        tokio::select! {
            biased;
            ended = &mut run => {
                if ended.is_ok() {
                    self.over();
                }
                return ended;
            }
            () = sleep(long) => {}
        }
        if self.over() {
            tracing::info!(after = %human(long), "loop is well again");
        }
        run.await
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;
    use crate::secs;

    #[tokio::test(start_paused = true)]
    async fn a_run_that_does_its_work_ends_the_trouble_however_soon() {
        let trouble = Trouble::default();
        trouble.is("failed once".to_owned());
        trouble.over_after(secs(60), ready(Err("again".into()))).await.unwrap_err();
        assert_eq!(trouble.check(), Err("failed once".to_owned()), "a failure changes nothing");
        trouble.over_after(secs(60), ready(Ok(()))).await.unwrap();
        assert_eq!(trouble.check(), Ok(()));
    }
}
