//! One handler at a time of a subscription: takes events out of its queue and sees each to its end.

use std::sync::{Arc, OnceLock, PoisonError, atomic::Ordering};

use mainstay_core::job::DeadReason;
use metrics::Counter;
use tokio::time::{Instant, sleep};

use super::{
    DeadLetter,
    dead::DeadLetters,
    outlet::{InHand, Item, Outlet},
};
use crate::{
    event::{Answer, Consumer, Envelope},
    job::{Ending, JobError},
    policy::{Retry, retry},
    queue::Receiver,
    stage::Cues,
};

/// What the lanes of a subscription share.
pub(super) struct Lanes {
    pub outlet: Arc<Outlet>,
    pub consumer: Consumer,
    pub retry: Retry,
    pub dead: Arc<DeadLetters>,
    pub dead_meter: Counter,
    pub cues: Arc<OnceLock<Cues>>,
}

impl Lanes {
    /// Handles events until the queue is closed and empty.
    pub async fn run(self: Arc<Self>, mut queue: Receiver<Item>, lane: usize) {
        while let Some(item) = queue.recv().await {
            let _in_hand = self.take_in_hand(lane, &item.envelope);
            self.handle(item).await;
        }
    }

    async fn handle(&self, item: Item) {
        let Item { envelope, ticket } = item;
        let missed = self.outlet.missed.swap(0, Ordering::Relaxed);
        let (answer, attempts) = self.attempts(&envelope, missed).await;
        if let Some(ticket) = ticket {
            ticket.settle(&answer);
        }
        if let Err(error) = answer {
            self.give_up(envelope, attempts, error);
        }
    }

    /// Tries until it has worked or there is a reason to stop; answers with the number of attempts.
    async fn attempts(&self, envelope: &Envelope, missed: u64) -> (Answer, u32) {
        let mut spent = 0;
        loop {
            let rules = Retry { max_attempts: self.retry.max_attempts.saturating_sub(spent), ..self.retry };
            let answer = retry(rules, || {
                spent += 1;
                self.attempt(envelope, spent, missed)
            });
            match answer.await {
                // Later, and that was no attempt. The place in the order is kept.
                Err(JobError(Ending::Snooze(after))) => {
                    spent -= 1;
                    sleep(after).await;
                }
                answer => return (answer, spent),
            }
        }
    }

    async fn attempt(&self, envelope: &Envelope, attempt: u32, missed: u64) -> Answer {
        // Known once the bus is part of a service.
        let Some(cues) = self.cues.get() else {
            return self.consumer.attempt(envelope, attempt, missed, None).await;
        };
        let turn = cues.turn(self.consumer.name(), envelope, attempt).await;
        let answer = self.consumer.attempt(envelope, attempt, missed, None).await;
        turn.ended(&answer);
        answer
    }

    fn give_up(&self, event: Envelope, attempts: u32, error: JobError) {
        let reason = match error.0 {
            // Not wanted any more: that is no failure.
            Ending::Cancel => return,
            Ending::Permanent { .. } => DeadReason::Permanent,
            _ => DeadReason::Exhausted,
        };
        let (subscriber, error) = (self.consumer.name().clone(), error.to_message());
        {
            let _in = event.context().enter();
            tracing::error!(%subscriber, attempts, error, "an event is a dead letter");
        }
        self.dead_meter.increment(1);
        let (died_at, outlet) = (crate::event::now(), self.outlet.id);
        self.dead.bury(DeadLetter { number: 0, event, subscriber, attempts, reason, error, died_at, outlet });
    }

    /// Shows what is being handled, until the guard is dropped.
    fn take_in_hand(&self, lane: usize, envelope: &Envelope) -> Down<'_> {
        self.put_in_hand(lane, Some(InHand { envelope: envelope.clone(), since: Instant::now() }));
        Down(self, lane)
    }

    fn put_in_hand(&self, lane: usize, what: Option<InHand>) {
        if let Some(hand) = self.outlet.hands.get(lane) {
            let before = std::mem::replace(&mut *hand.lock().unwrap_or_else(PoisonError::into_inner), what);
            drop(before);
        }
    }
}

struct Down<'l>(&'l Lanes, usize);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        self.0.put_in_hand(self.1, None);
    }
}
