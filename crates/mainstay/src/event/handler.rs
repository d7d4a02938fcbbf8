//! Handlers: typed where they are written, erased once.

use std::{any::TypeId, marker::PhantomData, sync::Arc};

use futures_util::future::BoxFuture;
use mainstay_core::job::Json;
use serde::Serialize;

use super::{EventContext, Payload, context::Given};
use crate::job::JobError;

/// What an attempt at a delivery gives: the handler's answer as JSON, if it has one.
pub(crate) type Answer = Result<Option<Json>, JobError>;

/// A handler without its types, with the state it was given.
pub(crate) trait Handle: Send + Sync {
    fn call(&self, delivery: Given) -> BoxFuture<'static, Answer>;
}

pub(crate) fn erase<S, E, F, Fut, R>(state: Arc<S>, handler: F) -> Arc<dyn Handle>
where
    S: Send + Sync + 'static,
    E: Payload,
    F: Fn(E, EventContext<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, JobError>> + Send + 'static,
    R: Serialize + Send + 'static,
{
    Arc::new(Typed { state, handler, _types: PhantomData })
}

struct Typed<S, F, E, R> {
    state: Arc<S>,
    handler: F,
    _types: PhantomData<fn(E) -> R>,
}

impl<S, F, Fut, E, R> Handle for Typed<S, F, E, R>
where
    S: Send + Sync + 'static,
    E: Payload,
    F: Fn(E, EventContext<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, JobError>> + Send + 'static,
    R: Serialize + Send + 'static,
{
    fn call(&self, delivery: Given) -> BoxFuture<'static, Answer> {
        let payload = match E::of(&delivery.envelope) {
            Ok(payload) => payload,
            Err(error) => return Box::pin(async move { Err(error) }),
        };
        let work = (self.handler)(payload, EventContext::new(self.state.clone(), delivery));
        Box::pin(async move {
            let answer = work.await?;
            // `()` has nothing to say, and is what most handlers answer.
            if TypeId::of::<R>() == TypeId::of::<()>() {
                return Ok(None);
            }
            Ok(Some(serde_json::to_string(&answer)?.into()))
        })
    }
}

/// What a handler is called unless it is given a name: an `async fn` by its own, a closure by what it listens to.
pub(crate) fn name_of<F>(filter: &str) -> String {
    let path = std::any::type_name::<F>();
    let last = path.rsplit("::").next().unwrap_or(path);
    let plain = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain { last.to_owned() } else { filter.to_owned() }
}
