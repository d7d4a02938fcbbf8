//! An attempt at a delivery on its way through the layers of its subscription.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use mainstay_core::job::Json;
use tower::{Layer, Service, service_fn, util::BoxCloneSyncService};

use super::{Envelope, context::Given, handler::Answer};
use crate::{job::JobError, pipeline::Pipeline};

type Run = Box<dyn FnOnce(Given) -> BoxFuture<'static, Answer> + Send>;

/// An attempt at a delivery, as a layer of a subscription's `through` sees it. It can be run once: another attempt is the
/// subscription's to give.
pub struct Delivery {
    given: Given,
    run: Run,
}

impl Delivery {
    pub(super) fn new(given: Given, run: Run) -> Self {
        Self { given, run }
    }

    /// The event.
    pub fn envelope(&self) -> &Envelope {
        &self.given.envelope
    }

    /// Whose delivery it is.
    pub fn subscriber(&self) -> &str {
        &self.given.around.subscriber
    }

    /// Which attempt it is, from 1.
    pub fn attempt(&self) -> u32 {
        self.given.attempt
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("Delivery");
        fields.field("subscriber", &self.subscriber()).field("attempt", &self.attempt());
        fields.field("event", self.envelope()).finish_non_exhaustive()
    }
}

/// All layers of a subscription, around its handler.
pub(crate) type Layers = BoxCloneSyncService<Delivery, Option<Json>, JobError>;

pub(crate) fn layers<L>(pipeline: Pipeline<L>) -> Layers
where
    L: Layer<Layers>,
    L::Service: Service<Delivery, Response = Option<Arc<str>>> + Clone + Send + Sync + 'static,
    <L::Service as Service<Delivery>>::Error: Into<JobError>,
    <L::Service as Service<Delivery>>::Future: Send + 'static,
{
    use tower::ServiceExt;
    let handler = service_fn(|delivery: Delivery| (delivery.run)(delivery.given));
    BoxCloneSyncService::new(pipeline.service(BoxCloneSyncService::new(handler)).map_err(Into::into))
}
