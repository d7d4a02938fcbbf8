//! What is said of a subscription wherever its events come from.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use tower::{Layer, Service};

use super::{
    Consumer, Delivery, EventContext, Payload,
    consumer::Meters,
    context::Around,
    delivery::{Layers, layers},
    handler::{Handle, erase, name_of},
};
use crate::{
    job::JobError,
    pipeline::{Pipeline, Steps},
    secs,
};

/// A handler and how it is run.
pub(crate) struct Plan {
    pub name: Arc<str>,
    pub filter: String,
    pub concurrency: usize,
    pub limit: Option<Duration>,
    pub policy: Option<String>,
    pub steps: Steps,
    handler: Arc<dyn Handle>,
    layers: Option<Layers>,
}

impl Plan {
    pub fn new<S, E, F, Fut, R>(filter: String, state: Arc<S>, handler: F) -> Self
    where
        S: Send + Sync + 'static,
        E: Payload,
        F: Fn(E, EventContext<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize + Send + 'static,
    {
        Self {
            name: name_of::<F>(&filter).into(),
            filter,
            concurrency: 1,
            limit: Some(secs(30)),
            policy: None,
            steps: Steps::default(),
            handler: erase(state, handler),
            layers: None,
        }
    }

    pub fn through<L>(&mut self, pipeline: Pipeline<L>)
    where
        L: Layer<Layers>,
        L::Service: Service<Delivery, Response = Option<Arc<str>>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Delivery>>::Error: Into<JobError>,
        <L::Service as Service<Delivery>>::Future: Send + 'static,
    {
        self.steps = pipeline.steps().clone();
        self.layers = Some(layers(pipeline));
    }

    pub fn consumer(self, around: Around) -> Consumer {
        let policy = self.policy.map(|name| around.policies.target(&name));
        let (handler, layers, limit) = (self.handler, self.layers, self.limit);
        Consumer {
            handler,
            layers,
            policy,
            limit,
            meters: Meters::of(&around.subscriber),
            around: Arc::new(around),
        }
    }
}
