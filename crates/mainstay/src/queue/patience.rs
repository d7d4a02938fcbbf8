//! How long a sender waits for room.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::coop::{self, Unconstrained, unconstrained};
use tokio::time::{Instant, Sleep, sleep_until};

use super::meter::Meter;
use crate::context;

/// Until the deadline, or the context's if that is earlier. Costs nothing while there is room.
pub(super) struct Patience<'m> {
    meter: &'m Meter,
    deadline: Option<Instant>,
    /// It was asked for once, and others have had their turn.
    asked: bool,
    /// Since when there was none.
    since: Option<Instant>,
    // In a box: hardly a send needs it, and its size would be every send's. Outside of the task's budget: a task that
    // has used that up would never be found late.
    timer: Option<Pin<Box<Unconstrained<Sleep>>>>,
}

impl<'m> Patience<'m> {
    pub fn new(meter: &'m Meter, deadline: Option<Instant>) -> Self {
        Self { meter, deadline, asked: false, since: None, timer: None }
    }

    /// Asks `room`; ready with `None` once it is too late. A task that sends in a loop gives others their turn.
    #[inline]
    pub fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        room: impl FnOnce(&mut Context<'_>) -> Poll<R>,
    ) -> Poll<Option<R>> {
        match coop::poll_proceed(cx) {
            Poll::Ready(coop) => {
                if let Poll::Ready(got) = room(cx) {
                    coop.made_progress();
                    return Poll::Ready(Some(got));
                }
                // Whoever finds none looks again after one turn of the others: that is no wait, and costs no look at the
                // clock.
                if !std::mem::replace(&mut self.asked, true) {
                    return Poll::Pending;
                }
            }
            // It was not asked, so that nobody has to wait for it yet.
            Poll::Pending if self.since.is_none() => return Poll::Pending,
            Poll::Pending => {}
        }
        self.poll_late(cx).map(|()| None)
    }

    /// How long it has waited, if longer than one turn.
    pub fn waited(&self) -> Option<std::time::Duration> {
        self.since.map(|since| since.elapsed())
    }

    #[cold]
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            self.meter.waits();
            let travels = context::Context::current().deadline();
            let until = self.deadline.into_iter().chain(travels).min();
            self.timer = until.map(|at| Box::pin(unconstrained(sleep_until(at))));
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}
