//! An attempt at a job on its way through the layers of its workers.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use mainstay_core::{
    id::JobId,
    job::{Grant, Json},
    name::QueueName,
};
use tower::{Layer, Service, service_fn, util::BoxCloneSyncService};

use crate::job::JobError;
use crate::pipeline::Pipeline;

/// What an attempt gives: the job's result as JSON, if it has one.
pub type AttemptResult = Result<Option<Arc<str>>, JobError>;

type Run = Box<dyn FnOnce(Json) -> BoxFuture<'static, AttemptResult> + Send>;

/// An attempt at a job, as a layer of [`Workers::through`](super::Workers::through) sees it. It can be run once: another
/// attempt is the queue's to give.
pub struct Attempt {
    id: JobId,
    kind: Arc<str>,
    queue: QueueName,
    number: u32,
    payload: Json,
    run: Run,
}

impl Attempt {
    pub(super) fn new(grant: &Grant, kind: Arc<str>, payload: Json, run: Run) -> Self {
        Self { id: grant.id, kind, queue: grant.queue.clone(), number: grant.attempt, payload, run }
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// What kind of job it is.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The queue it came from.
    pub fn queue(&self) -> &str {
        self.queue.as_str()
    }

    /// Which attempt this is, from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The payload, as JSON.
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// The same attempt with another payload for its handler; the stored job stays as it is.
    #[must_use]
    pub fn with_payload(self, json: impl Into<Arc<str>>) -> Self {
        Self { payload: json.into(), ..self }
    }
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("Attempt");
        fields
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// All layers of some workers, around whatever handler an attempt brings.
pub(super) type Layers = BoxCloneSyncService<Attempt, Option<Json>, JobError>;

pub(super) fn layers<L>(pipeline: Pipeline<L>) -> Layers
where
    L: Layer<Layers>,
    L::Service: Service<Attempt, Response = Option<Json>> + Clone + Send + Sync + 'static,
    <L::Service as Service<Attempt>>::Error: Into<JobError>,
    <L::Service as Service<Attempt>>::Future: Send + 'static,
{
    use tower::ServiceExt;
    let handler = service_fn(|attempt: Attempt| (attempt.run)(attempt.payload));
    BoxCloneSyncService::new(pipeline.service(BoxCloneSyncService::new(handler)).map_err(Into::into))
}
