use super::{ApiError, Call, HttpClient};
use crate::query::{JobsQuery, percent_encode};
use crate::types::{
    BulkEnqueue, BulkEnqueued, CancelAnswer, Claim, Claimed, Commit, Committed, Complete, Enqueued, Extend,
    Extended, Fail, JobResult, JobView, NewJob, Page, Release, Settle, Settled, StateAnswer, WaitFor, Waited,
};
use crate::{JobId, RawJson};

/// Jobs.
impl HttpClient {
    /// Makes a job.
    ///
    /// # Errors
    /// `queue-full` when the queue stayed full for the whole time limit, `validation-failed`, …
    pub async fn enqueue(&self, queue: &str, job: &NewJob) -> Result<Enqueued, ApiError> {
        self.post_once(format!("/v1/queues/{}/jobs", percent_encode(queue)), job).await
    }

    /// Makes many jobs, all or none.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_bulk(&self, queue: &str, jobs: &BulkEnqueue) -> Result<BulkEnqueued, ApiError> {
        self.post_once(format!("/v1/queues/{}/jobs/bulk", percent_encode(queue)), jobs).await
    }

    /// Takes jobs; waits as long as the claim says, on top of the time limit.
    ///
    /// No key is sent unless [`with_key`](Self::with_key) gave one, so that the server can give back what it granted
    /// to a connection that is gone.
    ///
    /// # Errors
    /// Those of the connection. Nothing to do is not an error.
    pub async fn claim(&self, claim: &Claim) -> Result<Claimed, ApiError> {
        self.post("/v1/jobs/claim".to_owned(), claim, claim.wait_ms).await
    }

    /// Waits until looking again may be worth it, as long as it says, on top of the time limit.
    ///
    /// # Errors
    /// Those of the connection; `not-found` from a server that does not have it.
    pub async fn wait(&self, wait: &WaitFor) -> Result<Waited, ApiError> {
        self.post("/v1/wait".to_owned(), wait, wait.wait_ms).await
    }

    /// Keeps a claim alive.
    ///
    /// # Errors
    /// `lease-lost` when it is not.
    pub async fn extend(&self, id: JobId, extend: &Extend) -> Result<Extended, ApiError> {
        self.post(format!("/v1/jobs/{id}/extend"), extend, 0).await
    }

    /// Ends a claim: the job is done.
    ///
    /// # Errors
    /// `lease-lost` when the claim had ended; nothing was changed.
    pub async fn complete(&self, id: JobId, complete: &Complete) -> Result<StateAnswer, ApiError> {
        self.post(format!("/v1/jobs/{id}/complete"), complete, 0).await
    }

    /// Ends a claim: the attempt failed.
    ///
    /// # Errors
    /// `lease-lost` when the claim had ended; nothing was changed.
    pub async fn fail(&self, id: JobId, fail: &Fail) -> Result<StateAnswer, ApiError> {
        self.post(format!("/v1/jobs/{id}/fail"), fail, 0).await
    }

    /// Ends a claim: the job is given back without spending an attempt.
    ///
    /// # Errors
    /// `lease-lost` when the claim had ended; nothing was changed.
    pub async fn release(&self, id: JobId, release: &Release) -> Result<StateAnswer, ApiError> {
        self.post(format!("/v1/jobs/{id}/release"), release, 0).await
    }

    /// Settles many claims, each on its own, and takes more jobs.
    ///
    /// # Errors
    /// Those of the connection; what went wrong with one item is in its result.
    pub async fn settle(&self, settle: &Settle) -> Result<Settled, ApiError> {
        let wait_ms = settle.claim.as_ref().map_or(0, |claim| claim.wait_ms);
        self.post("/v1/jobs/settle".to_owned(), settle, wait_ms).await
    }

    /// The whole job.
    ///
    /// # Errors
    /// `not-found`.
    pub async fn job(&self, id: JobId) -> Result<JobView, ApiError> {
        self.get(format!("/v1/jobs/{id}")).await
    }

    /// What came out of a job; waits up to `wait_ms` milliseconds for its end. Look at the state: it may not have come.
    ///
    /// # Errors
    /// `not-found`.
    pub async fn job_result(&self, id: JobId, wait_ms: u64) -> Result<JobResult, ApiError> {
        let mut call = Call::new(http::Method::GET, format!("/v1/jobs/{id}/result?wait_ms={wait_ms}"));
        call.wait = std::time::Duration::from_millis(wait_ms);
        self.json(call).await
    }

    /// Jobs, newest first.
    ///
    /// # Errors
    /// `validation-failed` when the cursor belongs to another query.
    pub async fn jobs(&self, query: &JobsQuery) -> Result<Page<JobView>, ApiError> {
        self.get(format!("/v1/jobs{}", query.to_query())).await
    }

    /// Asks for a job's end.
    ///
    /// # Errors
    /// `state-conflict` when it has ended in another way, `not-found`.
    pub async fn cancel(&self, id: JobId) -> Result<CancelAnswer, ApiError> {
        self.post(format!("/v1/jobs/{id}/cancel"), &RawJson::EMPTY_OBJECT, 0).await
    }

    /// Makes a job available now, with its attempts reset.
    ///
    /// # Errors
    /// `state-conflict` when it is blocked or running, `not-found`.
    pub async fn retry(&self, id: JobId) -> Result<StateAnswer, ApiError> {
        self.post_once(format!("/v1/jobs/{id}/retry"), &RawJson::EMPTY_OBJECT).await
    }

    /// Forgets a job.
    ///
    /// # Errors
    /// `state-conflict` while it runs; `not-found`, also when an earlier try of this very call did it.
    pub async fn delete_job(&self, id: JobId) -> Result<(), ApiError> {
        self.delete(format!("/v1/jobs/{id}")).await
    }

    /// Does all of it, or nothing.
    ///
    /// # Errors
    /// The code of the first operation that cannot be done, with its pointer; nothing happened.
    pub async fn commit(&self, commit: &Commit) -> Result<Committed, ApiError> {
        self.post_once("/v1/commit".to_owned(), commit).await
    }
}
