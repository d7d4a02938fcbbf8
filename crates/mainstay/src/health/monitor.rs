//! Watching from beside the main runtime: what only time tells, and the runtime itself.

use tokio::time::sleep;

use super::run::say;
use super::{Health, NotReady};
use crate::millis;

/// How often it looks, and how finely the runtime's delay is sampled.
const LOOK: std::time::Duration = millis(250);
/// A runtime that has not run a waiting task for this long makes no progress.
const STALL: std::time::Duration = crate::secs(10);
const BEAT: std::time::Duration = millis(500);

impl Health {
    /// Runs on the main runtime: beats as long as that makes progress.
    pub(crate) fn follow_runtime(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let heartbeat = self.heartbeat("runtime", STALL);
        let lag = self.0.lag.clone();
        async move {
            let beating = async {
                loop {
                    heartbeat.beat();
                    sleep(BEAT).await;
                }
            };
            // Under a virtual clock nothing waits, and a wake-up from outside would only stir it.
            if crate::time::is_virtual() {
                beating.await;
            } else {
                tokio::join!(beating, lag.answer());
            }
        }
    }

    /// Runs on the control thread: asks the runtime how long it takes, and tells the log what has changed.
    pub(crate) async fn monitor(self) {
        let (mut live, mut ready) = (true, true);
        loop {
            sleep(LOOK).await;
            self.0.lag.ask();
            self.tell_checks();
            let stalled = if self.live() { Vec::new() } else { self.0.loops.stalled(self.now()) };
            match (live, stalled.is_empty()) {
                (true, false) => tracing::error!(?stalled, "not live: these loops make no progress"),
                (false, true) => tracing::info!("live again"),
                _ => {}
            }
            live = stalled.is_empty();
            // Beginning and end of service tell their own story.
            match self.ready() {
                Ok(()) if !ready => {
                    tracing::info!("ready again");
                    ready = true;
                }
                Err(NotReady::Dependency) if ready => {
                    tracing::warn!(down = ?self.critical_down(), "not ready: a critical check is down");
                    ready = false;
                }
                _ => {}
            }
        }
    }

    /// Results that have become too old.
    fn tell_checks(&self) {
        let now = self.now();
        let news: Vec<_> = {
            let mut checks = self.checks();
            checks.iter_mut().map(|(name, state)| (name.clone(), state.news(now))).collect()
        };
        news.into_iter().for_each(|(name, news)| say(&name, news));
    }

    fn critical_down(&self) -> Vec<String> {
        let now = self.now();
        let checks = self.checks();
        let down = checks.iter().filter(|(_, state)| state.is_critical() && !state.is_up(now));
        down.map(|(name, _)| name.clone()).collect()
    }
}
