//! Who may run and who waits: one lock over all of it, and a permit that passes itself on.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::limit::Limit;
use super::line::{Line, Pace, Waiting};
use super::permit::Permit;
use super::sync::{Mutex, MutexGuard, oneshot};
use super::{AdmissionRules, Meters, RETRY_AFTER, Shed, ShedReason};
use crate::context::Criticality;
use crate::millis;

pub(super) struct Inner {
    name: Arc<str>,
    rules: AdmissionRules,
    state: Mutex<State>,
    meters: Meters,
}

struct State {
    limit: Limit,
    line: Line<Ticket>,
    in_flight: usize,
    entropy: u64,
}

type Ticket = oneshot::Sender<Result<Permit, Shed>>;

/// What became of one who came.
pub(super) enum Entered {
    Runs(Permit),
    /// The answer comes, or is not waited for any more.
    Waits {
        answer: oneshot::Receiver<Result<Permit, Shed>>,
        until: Instant,
    },
}

impl Inner {
    pub fn new(name: Arc<str>, rules: AdmissionRules, seed: u64) -> Self {
        let now = Instant::now();
        let state =
            State { limit: Limit::new(&rules, now), line: Line::new(now), in_flight: 0, entropy: seed };
        let meters = Meters::new(&name);
        Self { name, rules, state: Mutex::new(state), meters }
    }

    /// Comes in, or waits in line. Dropping the answer leaves the line; a permit that was on its way goes to the next.
    pub fn enter(self: &Arc<Self>, class: Criticality, deadline: Option<Instant>, now: Instant) -> Entered {
        let mut state = self.lock();
        if state.line.len() == 0 && state.in_flight < state.limit.now() {
            state.in_flight += 1;
            state.line.is_flowing();
            self.meters.in_flight(state.in_flight);
            return Entered::Runs(Permit::new(self.clone(), now, deadline));
        }
        if !state.limit.is_probing() {
            state.limit.reached();
        }
        if self.rules.dry_run {
            state.in_flight += 1;
            drop(state);
            self.meters.would_shed(class);
            return Entered::Runs(Permit::new(self.clone(), now, deadline));
        }
        if state.line.len() >= self.rules.max_waiting as usize {
            state.line.retain(|ticket| !ticket.is_closed());
        }
        let (ticket, answer) = oneshot::channel();
        let until = deadline.into_iter().fold(now + millis(self.rules.max_wait_ms), Instant::min);
        let gone = state.line.push(class, Waiting { ticket, since: now, deadline }, &self.rules);
        self.meters.waiting(state.line.len());
        drop(state);
        if let Some(gone) = gone {
            // It may be ours: then the answer is there already.
            let _ = gone.send(Err(Shed { reason: ShedReason::Full, retry_after: RETRY_AFTER }));
        }
        Entered::Waits { answer, until }
    }

    /// A permit has come back, with what it tells about latency; others may go on.
    pub fn release(self: &Arc<Self>, sample: Option<(Instant, Duration)>) {
        let now = Instant::now();
        let mut freed = 1;
        let mut sample = sample;
        // A grant whose taker has gone is passed on, here and not in the permit's own end: that would be recursion.
        while freed > 0 {
            let mut answers = Vec::new();
            {
                let mut state = self.lock();
                let state = &mut *state;
                state.in_flight -= freed;
                if let Some((began, took)) = sample.take() {
                    let before = state.limit.settled();
                    state.entropy = mainstay_core::rules::mix(state.entropy, 0);
                    state.limit.sample(began, took, &self.rules, now, state.entropy);
                    if before != state.limit.settled() {
                        self.meters.limit(state.limit.settled());
                    }
                }
                while state.in_flight < state.limit.now() {
                    let may_shed = state.limit.is_congested();
                    let pace = Pace {
                        usual: state.limit.usual(),
                        unloaded: state.limit.unloaded(),
                        probing: state.limit.is_probing(),
                    };
                    let Some((next, reason)) = state.line.pop(now, pace, may_shed, &self.rules) else {
                        break;
                    };
                    if next.ticket.is_closed() {
                        continue;
                    }
                    state.in_flight += usize::from(reason.is_none());
                    answers.push((next, reason));
                }
                self.meters.in_flight(state.in_flight);
                self.meters.waiting(state.line.len());
            }
            freed = 0;
            for (next, reason) in answers {
                let answer = match reason {
                    None => Ok(Permit::new(self.clone(), now, next.deadline)),
                    Some(reason) => Err(Shed { reason, retry_after: RETRY_AFTER }),
                };
                if let Err(Ok(permit)) = next.ticket.send(answer) {
                    permit.forget();
                    freed += 1;
                }
            }
        }
    }

    /// Counts one that was not admitted.
    pub fn shed(&self, reason: ShedReason, class: Criticality) -> Shed {
        self.meters.shed(reason, class);
        Shed { reason, retry_after: RETRY_AFTER }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn limit(&self) -> usize {
        self.lock().limit.settled().round() as usize
    }

    pub fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    pub fn waiting(&self) -> usize {
        let mut state = self.lock();
        state.line.retain(|ticket| !ticket.is_closed());
        state.line.len()
    }

    /// Notes how long one has waited.
    pub fn waited(&self, time: Duration) {
        self.meters.waited(time);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
