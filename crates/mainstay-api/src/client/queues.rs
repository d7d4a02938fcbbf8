use super::{ApiError, HttpClient};
use crate::RawJson;
use crate::query::{PageQuery, percent_encode};
use crate::types::{DeadChanged, DeadSelect, JobView, Page, Purged, QueueConfig, QueueView, WorkerView};

/// Queues, dead letters and workers.
impl HttpClient {
    /// All queues.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn queues(&self, page: &PageQuery) -> Result<Page<QueueView>, ApiError> {
        self.get(format!("/v1/queues{}", page.to_query())).await
    }

    /// One queue.
    ///
    /// # Errors
    /// `not-found`.
    pub async fn queue(&self, queue: &str) -> Result<QueueView, ApiError> {
        self.get(queue_path(queue, "")).await
    }

    /// Replaces the whole configuration of a queue, and makes it if need be.
    ///
    /// # Errors
    /// `validation-failed`; `not-supported` when the store cannot keep it.
    pub async fn put_queue(&self, queue: &str, config: &QueueConfig) -> Result<(), ApiError> {
        self.put(queue_path(queue, ""), config).await
    }

    /// Forgets a queue in which nothing is unfinished or dead.
    ///
    /// # Errors
    /// `state-conflict` when something is; `not-found`, also when an earlier try of this very call did it.
    pub async fn delete_queue(&self, queue: &str) -> Result<(), ApiError> {
        self.delete(queue_path(queue, "")).await
    }

    /// Stops the handing out of jobs.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn pause(&self, queue: &str) -> Result<(), ApiError> {
        self.post_bare(queue_path(queue, "/pause")).await
    }

    /// Takes it up again.
    ///
    /// # Errors
    /// `not-found`.
    pub async fn resume(&self, queue: &str) -> Result<(), ApiError> {
        self.post_bare(queue_path(queue, "/resume")).await
    }

    /// Forgets every job of a queue that is neither running nor dead.
    ///
    /// # Errors
    /// `not-found`.
    pub async fn purge(&self, queue: &str) -> Result<Purged, ApiError> {
        self.post_once(queue_path(queue, "/purge"), &RawJson::EMPTY_OBJECT).await
    }

    /// A queue's dead letters.
    ///
    /// # Errors
    /// `validation-failed` when the cursor belongs to another query.
    pub async fn dead(&self, queue: &str, page: &PageQuery) -> Result<Page<JobView>, ApiError> {
        self.get(queue_path(queue, &format!("/dead{}", page.to_query()))).await
    }

    /// Gives dead letters new attempts.
    ///
    /// # Errors
    /// `validation-failed`.
    pub async fn requeue_dead(&self, queue: &str, which: &DeadSelect) -> Result<DeadChanged, ApiError> {
        self.post_once(queue_path(queue, "/dead/requeue"), which).await
    }

    /// Forgets dead letters.
    ///
    /// # Errors
    /// `validation-failed`.
    pub async fn delete_dead(&self, queue: &str, which: &DeadSelect) -> Result<DeadChanged, ApiError> {
        self.post_once(queue_path(queue, "/dead/delete"), which).await
    }

    /// Who claims what.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn workers(&self, page: &PageQuery) -> Result<Page<WorkerView>, ApiError> {
        self.get(format!("/v1/workers{}", page.to_query())).await
    }
}

fn queue_path(queue: &str, rest: &str) -> String {
    format!("/v1/queues/{}{rest}", percent_encode(queue))
}
