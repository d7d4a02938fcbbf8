//! A group of jobs, and the jobs that run when the group has ended.
//!
//! ```
//! # use mainstay::{Client, Job};
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Serialize, Deserialize)] struct Thumbnail(u32);
//! # impl Job for Thumbnail { const KIND: &'static str = "thumbnail"; const QUEUE: &'static str = "images"; }
//! # #[derive(Serialize, Deserialize)] struct Publish;
//! # impl Job for Publish { const KIND: &'static str = "publish"; const QUEUE: &'static str = "images"; }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let store = Client::memory();
//! let batch = store.batch().add(Thumbnail(1)).add(Thumbnail(2)).then(Publish).await?;
//! let publish = batch.then[0].id;
//! let progress = store.batch_progress(publish).await?.unwrap();
//! assert_eq!((progress.total, progress.left), (2, 2));
//! # Ok::<_, mainstay::StoreError>(())
//! # }).unwrap();
//! ```

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use mainstay_core::{
    after::{After, AfterFailure},
    id::JobId,
    job::{JobState, NewJob},
    op::{Enqueued, IdempotencyKey, Reply},
};

use super::{Client, CommitBuilder, Result, StoreError};
use crate::job::IntoNewJob;

/// A group of jobs in the making; `.await` adds all of it in one commit, or nothing. With what follows it has at most
/// as many jobs as a commit of the store has ops (10,000).
#[must_use = "a batch happens when it is awaited"]
pub struct BatchBuilder {
    client: Client,
    commit: CommitBuilder,
    members: Vec<After>,
    /// What follows, and what it makes of a dead member.
    followers: Vec<(NewJob, AfterFailure)>,
    mistake: Option<StoreError>,
}

/// A group of jobs that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobBatch {
    /// Its jobs, in the order in which they were named.
    pub jobs: Vec<Enqueued>,
    /// The jobs that follow, likewise.
    pub then: Vec<Enqueued>,
}

/// How far the jobs are that another one waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchProgress {
    /// How many there are.
    pub total: u32,
    /// How many it still waits for: 0 once it can run, has run, or was cancelled.
    pub left: u32,
    /// The state of the one that waits.
    pub state: JobState,
}

impl Client {
    /// A group of jobs with jobs that run when it has ended: add them, then `.await`.
    pub fn batch(&self) -> BatchBuilder {
        BatchBuilder {
            client: self.clone(),
            commit: self.commit(),
            members: Vec::new(),
            followers: Vec::new(),
            mistake: None,
        }
    }

    /// How far the group is that this job follows (or whatever else it was to wait for). `None`: no such job.
    ///
    /// # Errors
    /// The store's.
    pub async fn batch_progress(&self, follower: JobId) -> Result<Option<BatchProgress>> {
        Ok(self.job(follower).await?.map(|job| BatchProgress {
            total: job.body.after.as_ref().map_or(0, |after| after.jobs.len() as u32),
            left: job.waiting_for,
            state: job.state,
        }))
    }
}

impl BatchBuilder {
    /// Adds a job to the group.
    // It is what a batch does with a job, and no sum.
    #[expect(clippy::should_implement_trait, reason = "a batch is not a number")]
    pub fn add(mut self, job: impl IntoNewJob) -> Self {
        let member = self.commit.add(job);
        self.members.push(member);
        self
    }

    /// A job that runs when all of the group have ended, dead ones too. (A member that is cancelled or deleted cancels
    /// it: nobody wants what it would sum up.)
    pub fn then(self, job: impl IntoNewJob) -> Self {
        self.follow(job, AfterFailure::Run)
    }

    /// A job that runs when all of the group have completed. While a member is dead it waits: the dead one may be
    /// requeued.
    pub fn on_success(self, job: impl IntoNewJob) -> Self {
        self.follow(job, AfterFailure::Wait)
    }

    /// Repeating the batch under the same key (for 24 h) gets the first answer again.
    pub fn idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.commit = self.commit.idempotency_key(key);
        self
    }

    fn follow(mut self, job: impl IntoNewJob, failure: AfterFailure) -> Self {
        match job.into_new_job(&self.client) {
            Ok(job) => self.followers.push((job, failure)),
            Err(error) => self.mistake = self.mistake.or(Some(error)),
        }
        self
    }
}

impl IntoFuture for BatchBuilder {
    /// The jobs of the group, and those that follow.
    type Output = Result<JobBatch>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(mut self) -> Self::IntoFuture {
        for (job, failure) in self.followers {
            // What else it waits for keeps its meaning: one word is for all.
            let mut after = job.after;
            after.extend_from_slice(&self.members);
            self.commit.push(NewJob { after, after_failure: failure, ..job });
        }
        let (commit, mistake, members) = (self.commit, self.mistake, self.members.len());
        Box::pin(async move {
            if let Some(error) = mistake {
                return Err(error);
            }
            let mut jobs = Vec::with_capacity(members);
            for reply in commit.await? {
                match reply {
                    Reply::Enqueued(job) => jobs.push(job),
                    other => return Err(super::unexpected("enqueue", &Some(other))),
                }
            }
            let then = jobs.split_off(members.min(jobs.len()));
            Ok(JobBatch { jobs, then })
        })
    }
}
