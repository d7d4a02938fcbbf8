//! One subscription's handler with everything around it: the same on a bus and for a group.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::poll_fn};
use metrics::{Histogram, histogram};
use tokio::time::Instant;
use tower::Service;

use super::{
    Delivery, Envelope,
    context::{Around, Given, Proof},
    delivery::Layers,
    handler::{Answer, Handle},
};
use crate::{
    job::{Ending, JobError},
    otlp,
    policy::{Target, Within},
    workers::guard,
};

/// Handles deliveries, one attempt at a time. What comes of the outcome is the business of the bus or the group.
pub(crate) struct Consumer {
    pub handler: Arc<dyn Handle>,
    pub layers: Option<Layers>,
    pub policy: Option<Target>,
    pub limit: Option<Duration>,
    pub around: Arc<Around>,
    pub meters: Meters,
}

/// How long attempts took, by outcome.
pub(crate) struct Meters {
    ok: Histogram,
    failed: Histogram,
    snoozed: Histogram,
    cancelled: Histogram,
}

impl Meters {
    pub fn of(subscriber: &Arc<str>) -> Self {
        let of = |outcome| histogram!("mainstay.event.duration", "subscriber" => subscriber.clone(), "outcome" => outcome);
        Self { ok: of("ok"), failed: of("failed"), snoozed: of("snoozed"), cancelled: of("cancelled") }
    }
}

impl Consumer {
    pub fn name(&self) -> &Arc<str> {
        &self.around.subscriber
    }

    /// One attempt, in the event's context. Whatever the handler does, it ends here: panics and overrunning the time
    /// limit are failures like any other.
    pub async fn attempt(
        &self,
        envelope: &Envelope,
        attempt: u32,
        missed: u64,
        proof: Option<Proof>,
    ) -> Answer {
        let mut context = envelope.context().clone().delivered(attempt);
        context = context.with_field("event.subscriber", self.name().clone());
        if let Some(trace) = context.trace() {
            context = context.with_trace(trace.child());
        }
        if let Some(limit) = self.limit {
            context = context.with_time_limit(limit);
        }
        let given = Given { envelope: envelope.clone(), around: self.around.clone(), attempt, missed, proof };
        context.scope(self.guarded(given)).await
    }

    async fn guarded(&self, given: Given) -> Answer {
        let began = Instant::now();
        let envelope = given.envelope.clone();
        let work = AssertUnwindSafe(self.inside(given)).catch_unwind();
        let until = self.limit.and_then(|limit| began.checked_add(limit));
        let answer = match Within::new(work, until).await {
            Some(Ok(answer)) => answer,
            Some(Err(panic)) => {
                crate::log::panics::caught(&format_args!("subscriber {}", self.name()), &*panic);
                Err(JobError::failed("panic", crate::tasks::panic_message(&*panic)))
            }
            None => {
                let limit = crate::time::human(self.limit.unwrap_or_default());
                Err(JobError::failed("timeout", format!("the handler did not end within {limit}")))
            }
        };
        self.measure(envelope.topic(), &answer, began.elapsed());
        if let Err(JobError(Ending::Retry { message, .. } | Ending::Permanent { message })) = &answer {
            tracing::warn!(error = %message, "event handler failed");
        }
        answer
    }

    /// Layers, then the policy, then the handler.
    async fn inside(&self, given: Given) -> Answer {
        let (handler, policy) = (self.handler.clone(), self.policy.clone());
        let run = move |given: Given| async move {
            match policy {
                Some(target) => guard(&target, || handler.call(given)).await,
                None => handler.call(given).await,
            }
        };
        let Some(layers) = &self.layers else { return run(given).await };
        let mut layers = layers.clone();
        poll_fn(|cx| layers.poll_ready(cx)).await?;
        layers.call(Delivery::new(given, Box::new(move |given| run(given).boxed()))).await
    }

    fn measure(&self, topic: &str, answer: &Answer, took: Duration) {
        let (outcome, meter) = match answer {
            Ok(_) => ("ok", &self.meters.ok),
            Err(JobError(Ending::Snooze(_))) => ("snoozed", &self.meters.snoozed),
            Err(JobError(Ending::Cancel)) => ("cancelled", &self.meters.cancelled),
            Err(_) => ("failed", &self.meters.failed),
        };
        let subscriber = self.name();
        otlp::ended(otlp::Kind::Consumer, took, || {
            let attributes = vec![
                ("messaging.system", "mainstay".into()),
                ("messaging.operation.name", "process".into()),
                ("messaging.destination.name", topic.into()),
                ("messaging.consumer.group.name", subscriber.clone().into()),
                ("mainstay.outcome", outcome.into()),
            ];
            (format!("process {topic}"), outcome == "failed", attributes)
        });
        meter.record(took.as_secs_f64());
    }
}
