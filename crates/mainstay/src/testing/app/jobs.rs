//! What the service has enqueued, and running it.

use std::time::Duration;

use mainstay_core::{
    id::JobId,
    job::{JobRecord, JobState},
    schedule::ScheduleOrder,
    store::{JobFilter, Page, Query, Record},
};

use super::TestApp;
use crate::{Client, Job, stage::Cues, testing::wait, time::human};

impl TestApp {
    /// All jobs of kind `J` that the store knows, finished ones too, in the order of their coming.
    ///
    /// # Panics
    /// If the store does not answer, or the payload of one is not a `J`.
    pub async fn enqueued<J: Job>(&self) -> Vec<J> {
        let jobs = self.jobs_of(Some(J::KIND)).await;
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
                let (mine, others): (Vec<_>, Vec<_>) =
                    self.jobs_of(None).await.into_iter().partition(|job| &*job.body.kind == J::KIND);
                let line = |job: JobRecord| format!("\n  {} {}", job.state.as_str(), job.body.payload);
                let seen: Vec<_> = mine.into_iter().map(line).collect();
                let but = but(&seen, others.iter().map(|job| &*job.body.kind));
                panic!("no job `{}` that fits was enqueued, but {but}", J::KIND)
            }
        }
    }

    /// Lets the workers run until no job waits to be run again: retries and delays are waited for, paused queues and
    /// blocked jobs are not. Jobs that events will make are not there yet: [`run_until_idle`](Self::run_until_idle).
    ///
    /// # Panics
    /// If nobody works on a job that is left; if one is left after a day (30 s on real time): it never ends.
    pub async fn run_jobs(&self) {
        self.settle(true, false).await;
    }

    /// Lets the workers begin one job, waits for the end of that attempt, and answers the job as it is then: completed,
    /// to be tried again, dead. The next that is due is begun; if none is, time passes until one is, through back-offs
    /// and delays and to the next tick of a schedule. Needs [`manual`](super::TestBoot::manual).
    ///
    /// # Panics
    /// If there is no job to be run, and no schedule that will make one; if none is begun within six days (30 s on real
    /// time).
    pub async fn step_job(&self) -> JobRecord {
        self.must_be_manual("step_job");
        let (left, scheduled) = (self.unfinished().await, self.is_scheduled().await);
        assert!(
            !left.is_empty() || scheduled,
            "there is no job to be run: none is unfinished, and no schedule will make one"
        );
        if let Some(far) = self.too_far(wait::limit()).await {
            panic!("no job can be begun: {far}");
        }
        let cues = self.cues();
        cues.take_begun();
        let _one = cues.open(Cues::jobs, Some(1));
        let stepped = self.when_moved(async || cues.take_begun().pop());
        let id = match self.step(stepped).await {
            Ok(id) => id,
            Err(limit) => {
                panic!("no job was begun within {limit:?}; left: {}", self.told(&self.unfinished().await))
            }
        };
        let ended = self.when_moved(async || self.job(id).await.filter(|job| job.state != JobState::Running));
        match self.step(ended).await {
            Ok(job) => job,
            Err(limit) => panic!("the attempt at job {id} has not ended within {limit:?}"),
        }
    }

    async fn job(&self, id: JobId) -> Option<JobRecord> {
        for store in self.stores() {
            if let Some(job) = store.job(id).await.expect("the store answers") {
                return Some(job);
            }
        }
        None
    }

    /// How many jobs each queue still has to run.
    pub(super) async fn unfinished(&self) -> Vec<(String, u64)> {
        let mut busy = Vec::new();
        for record in self.all(Query::Queues).await {
            let Record::Queue(queue) = record else { continue };
            let depth = queue.depth;
            let left = depth.available + depth.running + depth.scheduled + depth.retryable;
            if left > 0 && !queue.paused {
                busy.push((queue.name.to_string(), left));
            }
        }
        busy
    }

    /// `2 in `mail` (nobody works on it)`
    pub(super) fn told(&self, left: &[(String, u64)]) -> String {
        let all = left.iter().map(|(queue, left)| {
            let idle = if self.is_worked_on(queue) { "" } else { " (nobody works on it)" };
            format!("{left} in `{queue}`{idle}")
        });
        all.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn is_worked_on(&self, queue: &str) -> bool {
        self.cues().queues().iter().any(|known| known.as_str() == queue)
    }

    /// Why nothing will be due for so long that nobody waits for it; `None` if something is due before.
    pub(super) async fn too_far(&self, limit: Duration) -> Option<String> {
        let mut jobs = self.jobs_of(None).await;
        jobs.retain(|job| !job.state.is_finished() && job.state != JobState::Blocked);
        let next = jobs.iter().min_by_key(|job| job.run_at)?;
        let now = self.store().now().wall;
        let left = Duration::from_millis(next.run_at.ms_since(now));
        if left < limit || self.is_scheduled().await {
            return None;
        }
        let (kind, id, left) = (&next.body.kind, next.id, human(left));
        Some(format!(
            "the next job, `{kind}` {id}, is due in {left}, which takes too long even on virtual time; look at its \
             `run_at` for the delay, and make it due with `app.store().retry(id)`"
        ))
    }

    async fn is_scheduled(&self) -> bool {
        let schedules = self.all(Query::Schedules(ScheduleOrder::Next)).await;
        schedules
            .iter()
            .any(|record| matches!(record, Record::Schedule(schedule) if schedule.state.next.is_some()))
    }

    async fn jobs_of(&self, kind: Option<&str>) -> Vec<JobRecord> {
        let filter = JobFilter { kind: kind.map(str::to_owned), ..JobFilter::default() };
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

    /// Everything in all stores of the service.
    async fn all(&self, query: Query) -> Vec<Record> {
        let mut all = Vec::new();
        for store in self.stores() {
            let mut page = Page { limit: 1_000, cursor: None };
            loop {
                let slice = store.store().list(&query, &page).await.expect("the store answers");
                all.extend(slice.items);
                match slice.next {
                    Some(next) => page.cursor = Some(next),
                    None => break,
                }
            }
        }
        all
    }

    pub(super) fn stores(&self) -> Vec<Client> {
        self.stage.offered()
    }
}

/// What was seen instead: a line each, and the other kinds or topics.
pub(super) fn but<'a>(seen: &[String], others: impl Iterator<Item = &'a str>) -> String {
    let mut told = match seen.len() {
        0 => "none at all".to_owned(),
        n => format!("{n}:{}", seen.concat()),
    };
    let mut others: Vec<_> = others.map(|name| format!("`{name}`")).collect();
    others.sort();
    others.dedup();
    if !others.is_empty() {
        told += &format!("\nof others: {}", others.join(", "));
    }
    told
}
