//! Waiting for the service's work to go on.

use std::time::Duration;

use tokio::time::timeout;

use super::TestApp;
use crate::{
    secs,
    stage::{Cues, Mode},
    testing::wait,
};

/// Work that has not ended after this much time never will.
const LIMIT: Duration = secs(86_400);
/// Between two looks when nothing is heard.
const LOOK: Duration = secs(60);

fn limit() -> Duration {
    wait::limit().min(LIMIT)
}

impl TestApp {
    /// Lets everything run until no job and no event is left: with what they make in turn, through retries and delays.
    ///
    /// # Panics
    /// As [`run_jobs`](Self::run_jobs).
    pub async fn run_until_idle(&self) {
        self.settle(true, true).await;
    }

    pub(super) async fn settle(&self, jobs: bool, events: bool) {
        let cues = self.cues();
        let _jobs = jobs.then(|| cues.open(Cues::jobs, None));
        let _events = events.then(|| cues.open(Cues::events, None));
        let done = self.when_moved(async || {
            while let Some(bus) = self.busy_bus().filter(|_| events) {
                bus.idle().await;
            }
            let left = if jobs { self.unfinished().await } else { Vec::new() };
            // Nobody will ever run it, whatever else goes on.
            if let Some((queue, _)) = left.iter().find(|(queue, _)| !self.is_worked_on(queue)) {
                panic!("nobody works on `{queue}`, and there are jobs to be run: {}", self.told(&left));
            }
            if !left.is_empty()
                && let Some(far) = self.too_far(limit()).await
            {
                panic!("jobs are left that are not waited for: {far}");
            }
            let done = left.is_empty() && (!events || self.unhandled().await.is_empty());
            done.then_some(())
        });
        if timeout(limit(), done).await.is_err() {
            let mut left = vec![self.told(&self.unfinished().await)];
            left.extend(self.unhandled().await);
            panic!("after {:?} there is still work to be done: {}", limit(), left.join(", "));
        }
        cues.take_begun();
        cues.take_ended();
    }

    /// Looks now, and whenever the work has moved on.
    pub(super) async fn when_moved<T>(&self, look: impl AsyncFn() -> Option<T>) -> T {
        let mut moved = self.cues().watch().expect("the service plays in a test");
        loop {
            moved.mark_unchanged();
            if let Some(found) = look().await {
                return found;
            }
            // Time that passes can be all that was missing.
            let _ = timeout(LOOK, moved.changed()).await;
        }
    }

    /// A step may wait for a schedule's tick.
    pub(super) async fn step<T>(&self, work: impl Future<Output = T>) -> Result<T, Duration> {
        timeout(wait::limit(), work).await.map_err(|_| wait::limit())
    }

    pub(super) fn cues(&self) -> Cues {
        self.stage.cues()
    }

    #[track_caller]
    pub(super) fn must_be_manual(&self, what: &str) {
        assert!(
            self.cues().mode() == Mode::Manual,
            "{what}() is for a service whose work waits for the test: `TestApp::new(boot).manual()`"
        );
    }
}
