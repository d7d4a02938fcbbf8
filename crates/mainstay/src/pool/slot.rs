//! A worker's place: what it runs now, seen from outside.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Span;

use super::ticket::Ticket;
use crate::app::Overstayer;

pub(super) struct Slot<J, R> {
    pub number: u64,
    current: Mutex<Option<Current<J, R>>>,
    /// Its worker has gone, or is about to.
    left: AtomicBool,
    /// Jobs that ended here, and how long they took, in microseconds. Written by its worker alone.
    finished: AtomicU64,
    took_us: AtomicU64,
}

/// A job that runs. Whoever takes it out of its slot ends it.
pub(super) struct Current<J, R> {
    pub job: J,
    pub ticket: Arc<Ticket<J, R>>,
    pub began: Instant,
    /// Whose slot it is in.
    pub worker: u64,
    /// When it was first seen that it had been told to stop.
    told: Option<Instant>,
}

impl<J, R> Current<J, R> {
    pub fn of(ticket: Arc<Ticket<J, R>>, job: J, worker: u64, began: Instant) -> Self {
        Self { job, ticket, began, worker, told: None }
    }

    /// To be run again; it has been put off.
    pub fn into_item(self, since: Instant) -> Arc<Ticket<J, R>> {
        let Self { job, ticket, .. } = self;
        ticket.lay_down(job, since);
        ticket
    }

    /// When it should have been cut: its worker does that, unless the job holds its thread.
    fn due(&self, grace: Duration) -> Option<Instant> {
        let limit = self.ticket.limit.and_then(|limit| self.began.checked_add(limit));
        let told = self.told.and_then(|told| told.checked_add(grace));
        limit.into_iter().chain(told).min()
    }
}

impl<J, R> Slot<J, R> {
    pub fn new(number: u64) -> Self {
        Self {
            number,
            current: Mutex::new(None),
            left: AtomicBool::new(false),
            finished: AtomicU64::new(0),
            took_us: AtomicU64::new(0),
        }
    }

    pub fn begin(&self, current: Current<J, R>) {
        *self.lock() = Some(current);
    }

    /// `None`: somebody else has ended it, and the slot is lost.
    pub fn end(&self) -> Option<Current<J, R>> {
        self.lock().take()
    }

    /// What runs here, to be asked about.
    pub fn ticket(&self) -> Option<Arc<Ticket<J, R>>> {
        self.lock().as_ref().map(|current| current.ticket.clone())
    }

    pub fn is_busy(&self) -> bool {
        self.lock().is_some()
    }

    pub fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    pub fn count(&self, took: Duration) {
        let add = |counter: &AtomicU64, n: u64| {
            counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        };
        add(&self.finished, 1);
        add(&self.took_us, took.as_micros() as u64);
    }

    pub fn counted(&self) -> (u64, u64) {
        (self.finished.load(Ordering::Relaxed), self.took_us.load(Ordering::Relaxed))
    }

    /// Takes out a job that its worker should have cut a whole grace ago; else says when that will be.
    pub fn take_stuck(&self, now: Instant, grace: Duration) -> Result<Current<J, R>, Option<Instant>> {
        let mut slot = self.lock();
        let Some(current) = slot.as_mut() else { return Err(None) };
        if current.told.is_none() && current.ticket.is_stopped() {
            current.told = Some(now);
        }
        match current.due(grace).and_then(|due| due.checked_add(grace)) {
            Some(at) if at <= now => slot.take().ok_or(None),
            at => Err(at),
        }
    }

    pub fn cancel(&self) {
        if let Some(ticket) = self.ticket() {
            ticket.cancel();
        }
    }

    /// What runs here, as a report says it.
    pub fn overstayer(&self, pool: &str) -> Option<Overstayer> {
        let (id, began, context) = {
            let slot = self.lock();
            let current = slot.as_ref()?;
            (current.ticket.id, current.began, current.ticket.context.clone())
        };
        let age = Instant::now().saturating_duration_since(began);
        let overstayer = Overstayer::new(format!("job {id}"), format!("pool {pool}"), age);
        Some(overstayer.in_span(crate::log::describe(&context, &Span::none())))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Current<J, R>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
