//! Traces to an OpenTelemetry collector: OTLP over HTTP, in its JSON form.
//!
//! One span for each request and each attempt of a job, with the ids of its [`Context`], so that a collector joins them
//! with those of callers and callees. Only traces whose `traceparent` says that they are recorded.
//!
//! A span is put into a bounded queue and sent by a plain thread with blocking sockets and time limits: nothing of a
//! request or of the runtime ever waits for a collector, and neither does the end of the process beyond its slice.

mod endpoint;
mod json;
mod queue;

use std::sync::OnceLock;
use std::time::Duration;

use endpoint::Endpoint;
pub(crate) use endpoint::check;
use queue::Queue;

use crate::context::{Context, FieldValue};
use crate::time::wall;

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// What a span is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    #[cfg(feature = "http")]
    Server = 2,
    Consumer = 5,
}

/// Something that has ended.
pub(crate) struct Span {
    name: String,
    kind: Kind,
    context: Context,
    began: Duration,
    ended: Duration,
    failed: bool,
    attributes: Vec<(&'static str, FieldValue)>,
}

/// Begins to export to this endpoint, as `check` takes it. The first call in a process decides.
pub(crate) fn start(service: &str, endpoint: &str) {
    if let Ok(Some(endpoint)) = Endpoint::parse(endpoint) {
        QUEUE.get_or_init(|| Queue::start(service, endpoint));
    }
}

/// Whether anything is exported.
#[cfg(feature = "http")]
pub(crate) fn is_on() -> bool {
    QUEUE.get().is_some()
}

/// Exports what has just ended in the current context, if anybody wants it. `about` makes its name, whether it failed,
/// and its attributes.
pub(crate) fn ended(
    kind: Kind,
    took: Duration,
    about: impl FnOnce() -> (String, bool, Vec<(&'static str, FieldValue)>),
) {
    let Some(queue) = QUEUE.get() else { return };
    let context = Context::current();
    if context.trace().is_none_or(|trace| !trace.is_sampled()) {
        return;
    }
    let ended = wall();
    let (name, failed, attributes) = about();
    queue.put(Span { name, kind, context, began: ended.saturating_sub(took), ended, failed, attributes });
}

/// Sends what is queued, waiting for that `limit` at most.
pub(crate) fn flush(limit: Duration) {
    if let Some(queue) = QUEUE.get() {
        queue.flush(limit);
    }
}
