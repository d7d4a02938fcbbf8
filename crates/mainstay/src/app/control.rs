//! The thread that answers when the main runtime does not: signals, probes, administration.

use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, oneshot};

use crate::shutdown::Shutdown;
use crate::tasks::TaskSet;
use crate::{Error, Result};

/// An OS thread with a runtime of its own.
pub(crate) struct Control {
    tasks: TaskSet,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Control {
    /// Starts the thread.
    pub fn start() -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Error::from(e).context("cannot start the control runtime"))?;
        let tasks = TaskSet::on(runtime.handle().clone());
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("mainstay-control".to_owned());
        let thread = thread
            .spawn(move || {
                let _ = runtime.block_on(ended);
                runtime.shutdown_timeout(Duration::ZERO);
            })
            .map_err(|e| Error::from(e).context("cannot start the control thread"))?;
        Ok(Self { tasks, end: Some(end), thread: Some(thread) })
    }

    /// What spawns on it.
    pub fn tasks(&self) -> &TaskSet {
        &self.tasks
    }

    /// Installs the handlers of SIGTERM, SIGINT and SIGHUP; they are in place when this returns. The third demand ends
    /// the process at once, with `last` as the last thing done. SIGHUP notifies `reload`.
    pub fn handle_signals(
        &self,
        shutdown: Shutdown,
        reload: Arc<Notify>,
        last: impl Fn() + Send + Sync + 'static,
    ) -> Result<()> {
        let (installed, done) = sync_channel(1);
        self.tasks.spawn("signals", async move {
            let streams = || {
                let [term, int, hup] =
                    [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
                Ok::<_, std::io::Error>((term?, int?, hup?))
            };
            let (term, int, mut hup) = match streams() {
                Ok(streams) => streams,
                Err(error) => {
                    let _ = installed.send(Err(error));
                    return;
                }
            };
            let _ = installed.send(Ok(()));
            let hangups = async {
                while hup.recv().await.is_some() {
                    reload.notify_one()
                }
            };
            tokio::join!(listen(term, int, &shutdown, &last), hangups);
        });
        match done.recv() {
            Ok(installed) => installed.map_err(|e| Error::from(e).context("cannot install signal handlers")),
            Err(_) => Err("the control thread is gone".into()),
        }
    }

    /// Runs a last piece of work on the thread and waits for it, `limit` at most. Not to be called from a runtime.
    pub fn finish(&self, work: impl Future<Output = ()> + Send + 'static, limit: Duration) {
        let (finished, done) = sync_channel(1);
        self.tasks.spawn("finish", async move {
            work.await;
            let _ = finished.send(());
        });
        let _ = done.recv_timeout(limit);
    }

    /// Ends the thread, dropping whatever still runs on it.
    pub fn end(mut self, limit: Duration) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
        // A handler that blocks the thread must not hold up the exit: wait a bounded while, then leave it behind.
        const STEP: Duration = Duration::from_millis(2);
        let mut left = limit;
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) && left > STEP {
            std::thread::sleep(STEP);
            left -= STEP;
        }
    }
}

/// The runtime that code runs on, if any.
pub(crate) fn runtime_here() -> Result<Handle> {
    Handle::try_current().map_err(|_| "an app is run inside a tokio runtime".into())
}

async fn listen(mut term: Signal, mut int: Signal, shutdown: &Shutdown, last: &(dyn Fn() + Send + Sync)) {
    loop {
        // A person who presses Ctrl-C waits for us; no balancer needs time to notice.
        let (number, lame_duck) = tokio::select! {
            Some(()) = term.recv() => (SignalKind::terminate().as_raw_value(), true),
            Some(()) = int.recv() => (SignalKind::interrupt().as_raw_value(), false),
            else => return,
        };
        match shutdown.signal(number, lame_duck) {
            1 => tracing::info!(signal = number, "signal received, stopping"),
            2 => tracing::warn!(signal = number, "second signal, cancelling what is in flight"),
            _ => {
                last();
                std::process::exit(128 + number);
            }
        }
    }
}
