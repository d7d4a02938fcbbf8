//! Handlers: typed where they are written, erased once.

use std::{marker::PhantomData, sync::Arc};

use futures_util::future::BoxFuture;
use mainstay_core::job::Json;
use serde::Serialize;

use super::JobContext;
use crate::job::{Job, JobError};

/// A handler without its types.
pub(super) trait Handler<S>: Send + Sync {
    fn call(&self, payload: &str, cx: JobContext<S>) -> BoxFuture<'static, Result<Option<Json>, JobError>>;
}

pub(super) fn erase<S, J, F, Fut, R>(handler: F) -> Arc<dyn Handler<S>>
where
    S: Send + 'static,
    J: Job,
    F: Fn(J, JobContext<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, JobError>> + Send + 'static,
    R: Serialize + 'static,
{
    Arc::new(Typed { handler, _types: PhantomData })
}

struct Typed<F, J, R> {
    handler: F,
    _types: PhantomData<fn(J) -> R>,
}

impl<S, J, F, Fut, R> Handler<S> for Typed<F, J, R>
where
    S: Send + 'static,
    J: Job,
    F: Fn(J, JobContext<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, JobError>> + Send + 'static,
    R: Serialize + 'static,
{
    fn call(&self, payload: &str, cx: JobContext<S>) -> BoxFuture<'static, Result<Option<Json>, JobError>> {
        let payload = match serde_json::from_str(payload) {
            Ok(payload) => payload,
            Err(error) => {
                // The same text will never parse better.
                let error = JobError::permanent(format!("payload does not fit {}: {error}", J::KIND));
                return Box::pin(async move { Err(error) });
            }
        };
        let work = (self.handler)(payload, cx);
        Box::pin(async move {
            let result = serde_json::to_string(&work.await?)?;
            // `()` has nothing to say.
            Ok((result != "null").then(|| result.into()))
        })
    }
}
