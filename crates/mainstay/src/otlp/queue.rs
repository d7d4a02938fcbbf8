//! The thread that sends spans.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::endpoint::Endpoint;
use super::{Span, json};
use crate::secs;

/// Spans that may wait; what is beyond is dropped and counted.
const MOST: usize = 4096;
/// Spans of one request.
const BATCH: usize = 512;
/// How long spans gather.
const EVERY: Duration = secs(5);

/// Takes spans without waiting.
pub(super) struct Queue(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    done: Condvar,
}

#[derive(Default)]
struct State {
    spans: Vec<Span>,
    /// Somebody waits for all of it to be sent.
    hurry: bool,
    sending: bool,
}

impl Queue {
    pub fn start(service: &str, endpoint: Endpoint) -> Self {
        let shared = Arc::<Shared>::default();
        let (theirs, service) = (shared.clone(), service.to_owned());
        // Nobody waits for this thread: the process ends without it. Without a thread the queue fills, and drops.
        let thread = std::thread::Builder::new().name("mainstay-otlp".to_owned());
        let _ = thread.spawn(move || run(&theirs, &service, &endpoint));
        Self(shared)
    }

    pub fn put(&self, span: Span) {
        let mut state = self.0.lock();
        if state.spans.len() >= MOST {
            drop(state);
            return dropped(1);
        }
        state.spans.push(span);
        let wake = state.spans.len() == BATCH;
        drop(state);
        if wake {
            self.0.wake.notify_one();
        }
    }

    /// Whether everything has been sent or given up, waiting for that `limit` at most.
    pub fn flush(&self, limit: Duration) -> bool {
        let mut state = self.0.lock();
        state.hurry = true;
        self.0.wake.notify_one();
        let busy = |state: &mut State| state.sending || !state.spans.is_empty();
        let waited = self.0.done.wait_timeout_while(state, limit, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(shared: &Shared, service: &str, endpoint: &Endpoint) {
    let mut failing = false;
    loop {
        let gathering =
            |state: &mut State| state.spans.len() < BATCH && (!state.hurry || state.spans.is_empty());
        let waited = shared.wake.wait_timeout_while(shared.lock(), EVERY, gathering);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let many = state.spans.len().min(BATCH);
        let batch: Vec<_> = state.spans.drain(..many).collect();
        state.sending = !batch.is_empty();
        drop(state);
        if !batch.is_empty() {
            match endpoint.post(&json::request(service, &batch)) {
                Ok(()) => {
                    metrics::counter!("mainstay.otlp.exported").increment(batch.len() as u64);
                    failing = false;
                }
                Err(error) => {
                    dropped(batch.len() as u64);
                    // Once an outage.
                    if !failing {
                        tracing::warn!(%error, spans = batch.len(), "the collector does not take traces, dropping them");
                    }
                    failing = true;
                }
            }
        }
        shared.lock().sending = false;
        shared.done.notify_all();
    }
}

fn dropped(spans: u64) {
    metrics::counter!("mainstay.otlp.dropped").increment(spans);
}
