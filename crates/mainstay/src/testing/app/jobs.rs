//! What the service has enqueued, and running it.

use std::time::Duration;

use mainstay_core::{
    job::JobRecord,
    store::{JobFilter, Page, Query, Record},
};

use super::TestApp;
use crate::{Job, millis, secs};

/// Work that has not ended after this much time never will.
const LIMIT: Duration = secs(86_400);
/// Between two looks. Time that is virtual stands still while anything runs.
const LOOKS: (Duration, Duration) = (millis(1), secs(1));

impl TestApp {
    /// All jobs of kind `J` that the store knows, finished ones too, in the order of their coming.
    ///
    /// # Panics
    /// If the store does not answer, or the payload of one is not a `J`.
    pub async fn enqueued<J: Job>(&self) -> Vec<J> {
        let jobs = self.jobs_of(J::KIND).await;
        let read = |job: &JobRecord| {
            serde_json::from_str(&job.body.payload).unwrap_or_else(|error| {
                panic!("job {} is no {}: {error}: {}", job.id, J::KIND, job.body.payload)
            })
        };
        jobs.iter().map(read).collect()
    }

    /// Fails unless a job of kind `J` has been enqueued for which `fits` says yes; answers the first.
    ///
    /// # Panics
    /// With what was enqueued instead.
    pub async fn assert_enqueued<J: Job>(&self, fits: impl Fn(&J) -> bool) -> J {
        let mut all = self.enqueued::<J>().await;
        match all.iter().position(fits) {
            Some(at) => all.swap_remove(at),
            None => {
                let jobs = self.jobs_of(J::KIND).await;
                let seen: Vec<_> = jobs.iter().map(|job| format!("\n  {}", job.body.payload)).collect();
                panic!("no job `{}` of that kind was enqueued, but {}:{}", J::KIND, seen.len(), seen.concat())
            }
        }
    }

    /// Lets the workers run until no job waits to be run again: retries and delays are waited for, paused queues and
    /// blocked jobs are not.
    ///
    /// # Panics
    /// If that is not so after a day, with what is left: nobody works on it, or it never ends.
    pub async fn run_jobs(&self) {
        let (mut pause, mut waited) = (LOOKS.0, Duration::ZERO);
        loop {
            let busy = self.unfinished().await;
            if busy.is_empty() {
                return;
            }
            assert!(waited < LIMIT, "after {LIMIT:?} there are still jobs to be run: {}", busy.join(", "));
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(LOOKS.1);
        }
    }

    async fn unfinished(&self) -> Vec<String> {
        let mut busy = Vec::new();
        for record in self.all(Query::Queues).await {
            let Record::Queue(queue) = record else { continue };
            let depth = queue.depth;
            let left = depth.available + depth.running + depth.scheduled + depth.retryable;
            if left > 0 && !queue.paused {
                busy.push(format!("{left} in `{}`", queue.name));
            }
        }
        busy
    }

    async fn jobs_of(&self, kind: &str) -> Vec<JobRecord> {
        let filter = JobFilter { kind: Some(kind.to_owned()), ..JobFilter::default() };
        let mut jobs: Vec<_> = self
            .all(Query::Jobs(filter))
            .await
            .into_iter()
            .filter_map(|record| match record {
                Record::Job(job) => Some(*job),
                _ => None,
            })
            .collect();
        jobs.reverse(); // lists begin with the newest
        jobs
    }

    async fn all(&self, query: Query) -> Vec<Record> {
        let (store, mut all) = (self.store(), Vec::new());
        let mut page = Page { limit: 1_000, cursor: None };
        loop {
            let slice = store.store().list(&query, &page).await.expect("the store answers");
            all.extend(slice.items);
            match slice.next {
                Some(next) => page.cursor = Some(next),
                None => return all,
            }
        }
    }
}
