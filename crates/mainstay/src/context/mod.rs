//! What travels with the work: request id, trace, deadline, criticality, attempt, baggage and free fields.
//!
//! A [`Context`] is set once, at the edge: by the pipeline for a request, by the worker for a job's attempt. Everything
//! below reads it with [`Context::current`], and nothing has to hand it on: tasks of a [`TaskSet`](crate::TaskSet)
//! inherit it, jobs carry it to their attempts, [`Propagate`] writes it into outgoing requests, and every log line
//! begins with it, also the lines of libraries that know nothing of it. It is the one ambient thing in mainstay.
//!
//! ```
//! use mainstay::context::{Context, RequestId};
//!
//! let request = Context::default().with_request_id(RequestId::parse("req-001").unwrap());
//! {
//!     let _in = request.enter();
//!     Context::current().set("user_id", 42); // stands on every later line, also of tasks spawned before
//!     assert_eq!(Context::current().request_id().unwrap().as_str(), "req-001");
//! }
//! assert!(Context::current().is_empty()); // restored
//! ```
//!
//! # Fields
//! [`Context::set`] adds to this context, and is seen by all that share it. A context that was *derived* (by a `with_…`
//! method from one that is in use) sees the fields of its origin, also those added later, and keeps its own to itself.
//!
//! # Deadlines
//! A deadline can only come nearer on the way in. Work that may outlive whoever asked for it says so with
//! [`Context::detach`], and gets a time limit of its own.
//!
//! # Cost
//! A context is one allocation, made at the edge. Reading and cloning allocate nothing, nor does a log line;
//! `benches/context` has figures.

mod baggage;
mod carry;
mod criticality;
#[cfg(feature = "http")]
mod extract;
mod field;
#[cfg(feature = "http")]
mod headers;
#[cfg(feature = "http")]
mod propagate;
mod request_id;
mod scope;
mod trace;
mod trace_state;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use baggage::{Baggage, BaggageError};
pub use criticality::Criticality;
pub use field::FieldValue;
use field::Fields;
pub(crate) use field::ValueRef;
#[cfg(feature = "http")]
pub(crate) use headers::{GRPC_TIMEOUT, RETRIES, TIMEOUT, grpc_timeout, grpc_timeout_ms, is_grpc};
#[cfg(feature = "http")]
pub use propagate::{Propagate, Propagated};
pub use request_id::RequestId;
pub use scope::{Entered, Scope};
pub use trace::Trace;
pub use trace_state::TraceState;

/// What travels with a piece of work. Cheap to clone; all clones share one set of fields.
///
/// The default is the empty context, which is also what is current where nobody has set one.
#[derive(Clone, Default)]
pub struct Context(Option<Arc<Inner>>);

#[derive(Default)]
struct Inner {
    known: Known,
    /// Where this one was derived from: its fields come first.
    origin: Context,
    fields: Mutex<Fields>,
    /// See [`Context::limited`].
    limit: OnceLock<Instant>,
}

#[derive(Clone, Default)]
struct Known {
    request_id: Option<RequestId>,
    trace: Option<Trace>,
    trace_state: TraceState,
    baggage: Baggage,
    deadline: Option<Instant>,
    criticality: Criticality,
    /// 0 is the same as 1: the first.
    attempt: u32,
    /// How many retries whoever asked has made. The attempts of a job or a delivery are none.
    retries: u32,
}

impl Context {
    /// A context of nothing but a new request id and a new trace.
    pub fn new() -> Self {
        Self::default().with_request_id(RequestId::new()).with_trace(Trace::root())
    }

    /// The context of what is running; the empty one if there is none.
    pub fn current() -> Self {
        scope::current()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The id that follows a request through every log line and job.
    pub fn request_id(&self) -> Option<&RequestId> {
        self.known()?.request_id.as_ref()
    }

    /// The place in a distributed trace.
    pub fn trace(&self) -> Option<Trace> {
        self.known()?.trace
    }

    /// What tracing systems along the way have left for each other.
    pub fn trace_state(&self) -> &TraceState {
        static NONE: TraceState = TraceState::NONE;
        self.known().map_or(&NONE, |known| &known.trace_state)
    }

    /// Names and values that applications along the way have left for each other.
    pub fn baggage(&self) -> &Baggage {
        static NONE: Baggage = Baggage::NONE;
        self.known().map_or(&NONE, |known| &known.baggage)
    }

    /// When whoever asked stops waiting.
    pub fn deadline(&self) -> Option<Instant> {
        let inner = self.0.as_deref()?;
        inner.known.deadline.into_iter().chain(inner.limit.get().copied()).min()
    }

    /// How long whoever asked will go on waiting; zero if they have stopped. `None`: no deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline().map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// How much it would hurt not to do this.
    pub fn criticality(&self) -> Criticality {
        self.known().map_or_else(Criticality::default, |known| known.criticality)
    }

    /// Which try this is, from 1: of the request, or of the job or delivery.
    pub fn attempt(&self) -> u32 {
        self.known().map_or(1, |known| known.attempt.max(1))
    }

    /// Puts a field on every later line of this context and of all derived from it, also of tasks that are running
    /// already. The same name again replaces the value. At most 64 fields are kept; text is cut at 1,024 bytes.
    ///
    /// No effect on the empty context, which belongs to nobody.
    pub fn set(&self, name: impl Into<Cow<'static, str>>, value: impl Into<FieldValue>) {
        if let Some(inner) = &self.0 {
            inner.fields.lock().unwrap_or_else(PoisonError::into_inner).put(name.into(), value.into());
        }
    }

    /// With this request id.
    #[must_use]
    pub fn with_request_id(self, id: RequestId) -> Self {
        self.with(|known| known.request_id = Some(id))
    }

    /// At this place in a trace.
    #[must_use]
    pub fn with_trace(self, trace: Trace) -> Self {
        self.with(|known| known.trace = Some(trace))
    }

    /// With this trace state.
    #[must_use]
    pub fn with_trace_state(self, state: TraceState) -> Self {
        self.with(|known| known.trace_state = state)
    }

    /// With this baggage instead of any other.
    #[must_use]
    pub fn with_baggage(self, baggage: Baggage) -> Self {
        self.with(|known| known.baggage = baggage)
    }

    /// With this deadline, or its own if that is earlier.
    #[must_use]
    pub fn with_deadline(self, at: Instant) -> Self {
        self.with(|known| known.deadline = Some(known.deadline.map_or(at, |own| own.min(at))))
    }

    /// With a deadline this far from now, or its own if that is earlier.
    #[must_use]
    pub fn with_time_limit(self, limit: Duration) -> Self {
        match Instant::now().checked_add(limit) {
            Some(at) => self.with_deadline(at),
            // The clock does not reach it.
            None => self,
        }
    }

    /// The same context with a deadline, for all that share it: the pipeline's, set before anybody reads it. A context
    /// that has one already is derived from.
    #[cfg(feature = "http")]
    pub(crate) fn limited(self, at: Instant) -> Self {
        match &self.0 {
            Some(inner) if inner.limit.set(at).is_ok() => self,
            _ => self.with_deadline(at),
        }
    }

    /// With this criticality.
    #[must_use]
    pub fn with_criticality(self, criticality: Criticality) -> Self {
        self.with(|known| known.criticality = criticality)
    }

    /// As this try, from 1. From the second on it is a retry to all that is called in it: nobody retries it once more.
    #[must_use]
    pub fn with_attempt(self, attempt: u32) -> Self {
        self.with(|known| (known.attempt, known.retries) = (attempt, attempt.saturating_sub(1)))
    }

    /// As this attempt of a job or a delivery, from 1. They are far apart and few, no storm that the calls made in one
    /// would multiply: to those it is a first try.
    pub(crate) fn delivered(self, attempt: u32) -> Self {
        self.with(|known| (known.attempt, known.retries) = (attempt, 0))
    }

    /// With a field of its own.
    #[must_use]
    pub fn with_field(self, name: impl Into<Cow<'static, str>>, value: impl Into<FieldValue>) -> Self {
        let own = self.with(|_| {});
        own.set(name, value);
        own
    }

    /// The same context with a new deadline, this far from now: for work that goes on when whoever asked for it has
    /// left.
    #[must_use]
    pub fn detach(self, limit: Duration) -> Self {
        self.with(|known| {
            known.deadline = Instant::now().checked_add(limit);
            (known.attempt, known.retries) = (0, 0);
        })
    }

    /// Changes a context that nobody else has, or derives one.
    fn with(mut self, change: impl FnOnce(&mut Known)) -> Self {
        match self.0.as_mut().and_then(Arc::get_mut) {
            Some(inner) => {
                let deadlines = inner.known.deadline.into_iter().chain(inner.limit.take());
                inner.known.deadline = deadlines.min();
                change(&mut inner.known);
                self
            }
            None => {
                let mut known = self.known().cloned().unwrap_or_default();
                known.deadline = self.deadline();
                change(&mut known);
                Self(Some(Arc::new(Inner { known, origin: self, ..Inner::default() })))
            }
        }
    }

    /// Deadline of the current context, and the retries that whoever asked has made, without cloning it.
    pub(crate) fn current_limits() -> (Option<Instant>, u32) {
        scope::peek(|context| (context.deadline(), context.retries()))
    }

    /// How many retries whoever asked has made.
    fn retries(&self) -> u32 {
        self.known().map_or(0, |known| known.retries)
    }

    /// Everything that stands on a log line: request id, trace id, the attempt from the second on, then free fields.
    pub(crate) fn each_line_field(&self, visit: &mut dyn FnMut(&str, ValueRef<'_>)) {
        let Some(known) = self.known() else { return };
        if let Some(id) = &known.request_id {
            visit("request_id", ValueRef::Text(id.as_str()));
        }
        if let Some(trace) = &known.trace {
            let mut digits = [0; 32];
            trace::hex(trace.trace_id, &mut digits);
            visit("trace_id", ValueRef::Text(std::str::from_utf8(&digits).unwrap_or_default()));
        }
        if known.attempt > 1 {
            visit("attempt", ValueRef::Unsigned(known.attempt.into()));
        }
        self.each_field(&mut |name, value| visit(name, value.look()));
    }

    /// Reads the current context without cloning it. `read` must enter no other one: it runs no foreign code.
    pub(crate) fn peek<R>(read: impl FnOnce(&Context) -> R) -> R {
        scope::peek(read)
    }

    fn known(&self) -> Option<&Known> {
        self.0.as_deref().map(|inner| &inner.known)
    }

    /// Each free field, those of the origin first; a name may come again, and then the later value counts.
    fn each_field(&self, visit: &mut dyn FnMut(&str, &FieldValue)) {
        let Some(inner) = &self.0 else { return };
        inner.origin.each_field(visit);
        let fields = inner.fields.lock().unwrap_or_else(PoisonError::into_inner);
        fields.iter().for_each(|(name, value)| visit(name, value));
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(known) = self.known() else { return f.write_str("Context(empty)") };
        let mut out = f.debug_struct("Context");
        out.field("request_id", &known.request_id.as_ref().map(RequestId::as_str))
            .field("trace", &known.trace.map(|trace| trace.to_string()))
            .field("deadline", &known.deadline)
            .field("criticality", &known.criticality)
            .field("attempt", &self.attempt());
        // Baggage is other people's: its values do not belong into logs.
        out.field("baggage", &known.baggage.len());
        self.each_field(&mut |name, value| _ = out.field(name, value));
        out.finish()
    }
}

#[cfg(test)]
mod tests;
