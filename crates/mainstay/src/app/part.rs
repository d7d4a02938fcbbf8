//! What the life cycle knows of the things that handle work.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::Result;
use crate::time::human;

/// Something registered in `boot` that handles work: a listener, a worker pool. Started in line order once `boot`
/// has returned, and stopped in reverse.
///
/// It stops beginning new work of its own accord when the [`Shutdown`](crate::Shutdown) it was built with says
/// `draining()`; what is here is what the life cycle has to wait for.
pub(crate) trait Part: Send + Sync + 'static {
    /// What a report calls it.
    fn name(&self) -> String;

    /// Starts it. When this fails, or a signal comes first (the future is dropped then), `stop` is called too.
    fn start(self: Arc<Self>) -> BoxFuture<'static, Result<()>>;

    /// Called when draining begins: closes the doors, and resolves when nothing is in flight.
    fn drained(self: Arc<Self>) -> BoxFuture<'static, ()>;

    /// What is in flight now. Called from other threads, also while the runtime is blocked.
    fn in_flight(&self) -> Vec<Overstayer>;

    /// Ends what is in flight by force, after cancellation has been given time.
    fn abort(&self);

    /// Releases what it holds. Called last, in reverse order of starting, with a time limit.
    fn stop(self: Arc<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// Something that was still running when its time was up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overstayer {
    /// What it is: `GET /slow`, `task import`, `job 0199… send_email`.
    pub what: String,
    /// Where it belongs: a listener's address, a source line.
    pub whence: String,
    /// How long it had been running.
    pub age: Duration,
    /// The context and the `tracing` spans it ran in, with their fields, where that is known.
    pub span: Option<String>,
}

impl Overstayer {
    pub(crate) fn new(what: impl Into<String>, whence: impl Into<String>, age: Duration) -> Self {
        Self { what: what.into(), whence: whence.into(), age, span: None }
    }

    pub(crate) fn in_span(self, span: Option<String>) -> Self {
        Self { span, ..self }
    }
}

impl std::fmt::Display for Overstayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {}", self.what, human(self.age), self.whence)?;
        match &self.span {
            Some(span) => write!(f, ", in {span})"),
            None => f.write_str(")"),
        }
    }
}
