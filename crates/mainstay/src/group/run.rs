//! Fetching events and handling them.

use std::{sync::Arc, time::Duration};

use mainstay_core::{
    GroupName, WorkerName,
    event::{Delivery, Fetch, GroupConfig, Nack, Position, Settled},
    job::Retry,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep},
};

use super::{
    hands::{Hands, Slip},
    settle::{End, Settler},
};
use crate::{
    Error, Result,
    client::Client,
    event::{Answer, Consumer, Envelope, Proof},
    health::Health,
    job::{Ending, FAR, JobError, failure, ms},
    millis, secs,
    shutdown::Shutdown,
    tasks::TaskSet,
};

/// How long one fetch waits for events.
const FETCH_WAIT: Duration = secs(30);
/// One turn of the fetcher, waiting included; one that takes longer hangs.
const FETCH_LIMIT: Duration = secs(90);
/// Between tries when the store does not answer.
const STORE_PAUSE: Duration = millis(500);

/// Everything that a durable subscription shares.
pub(super) struct Pool {
    pub client: Client,
    pub group: GroupName,
    pub config: GroupConfig,
    pub start: Position,
    pub me: WorkerName,
    pub consumer: Consumer,
    pub concurrency: usize,
    pub lease: Duration,
    pub shutdown: Shutdown,
    pub health: Health,
    pub hands: Hands,
    pub settler: Arc<Settler>,
    /// Tells handlers to give up.
    pub stop: watch::Sender<bool>,
}

impl Pool {
    /// Creates the group, or sets it up anew if it is set up otherwise.
    pub async fn put_group(&self) -> Result<()> {
        let known = self.client.group_record(&self.group).await.map_err(Error::from_any)?;
        if known.is_some_and(|known| known.config == self.config) {
            return Ok(());
        }
        let put = self.client.put_group(self.group.clone(), self.config.clone(), self.start);
        put.await.map_err(Error::from_any)
    }

    /// Fetches for free slots until no new work should be begun.
    pub async fn fetch(self: Arc<Self>, tasks: TaskSet) {
        let slots = Arc::new(Semaphore::new(self.concurrency));
        let heartbeat = self.health.heartbeat(format!("fetch group {}", self.group), FETCH_LIMIT);
        loop {
            // Handlers take what time they take.
            heartbeat.rest();
            let slot = self.shutdown.unless_draining(slots.clone().acquire_owned()).await;
            let Some(Ok(first)) = slot else { return };
            heartbeat.beat();
            let mut free = vec![first];
            while let Ok(slot) = slots.clone().try_acquire_owned() {
                free.push(slot);
            }
            let fetch = Fetch {
                group: self.group.clone(),
                max: free.len().min(1_000) as u32,
                max_bytes: 16 << 20,
                consumer: Some(self.me.clone()),
            };
            match self.client.fetch_sent(fetch, None, FETCH_WAIT, self.shutdown.draining()).await {
                Ok((sent, deliveries)) => {
                    for (delivery, slot) in deliveries.into_iter().zip(free) {
                        self.begin(delivery, self.lives_until(sent), slot, &tasks);
                    }
                }
                Err(error) => {
                    tracing::warn!(group = %self.group, %error, "cannot fetch events; trying again");
                    metrics::counter!("mainstay.group.fetch_errors").increment(1);
                    self.shutdown.unless_draining(sleep(STORE_PAUSE)).await;
                }
            }
        }
    }

    /// Begins an attempt; the delivery's lease lives `until` then at least.
    fn begin(
        self: &Arc<Self>,
        delivery: Delivery,
        until: Instant,
        slot: OwnedSemaphorePermit,
        tasks: &TaskSet,
    ) {
        let (lease, attempt) = (delivery.lease, delivery.attempt);
        let Delivery { topic, seq, published_at, event, .. } = delivery;
        let Some(event) = event else {
            tracing::error!(group = %self.group, "the store handed out a delivery without its event; this is a bug of the store");
            return;
        };
        let envelope = Envelope::stored(topic, seq, published_at, &event);
        let _in = envelope.context().enter();
        let slip = self.hands.enter(lease, &envelope, until);
        let pool = self.clone();
        let name = format!("event {} {}", envelope.topic(), envelope.id());
        let task = tasks.spawn(name, async move {
            // The slot is free again when the delivery has been settled.
            let _slot = slot;
            pool.attempt(envelope, attempt, slip, lease).await;
        });
        self.hands.can_be_cut(lease, task.abort_handle());
    }

    async fn attempt(&self, envelope: Envelope, attempt: u32, slip: Slip, lease: mainstay_core::LeaseId) {
        let own_end = slip.own_end.clone();
        let proof = Proof { group: self.group.clone(), lease, own_end: own_end.clone() };
        let answer = self.consumer.attempt(&envelope, attempt, 0, Some(proof)).await;
        self.hands.ended(lease);
        let acked = answer.is_ok();
        let end = match end(lease, answer) {
            // It gave up because it was told that the process is on its way out: that is no delivery.
            End::Nack(nack) if nack.retry != Retry::Never && *self.stop.borrow() => {
                End::Release { lease, delay_ms: 0 }
            }
            end => end,
        };
        let settled = self.settler.settle(end).await;
        match settled {
            Some(Settled::Dead) => {
                tracing::error!(subscriber = %self.group, attempts = attempt, "an event is a dead letter");
            }
            // The handler ended its delivery itself, in a commit.
            Some(Settled::LeaseLost) if acked && own_end.is_done() => {}
            Some(Settled::LeaseLost) => {
                metrics::counter!("mainstay.group.leases_lost").increment(1);
                tracing::warn!("the lease was lost before the handler ended; its outcome is void");
            }
            _ => {}
        }
        slip.settled();
    }
}

fn end(lease: mainstay_core::LeaseId, answer: Answer) -> End {
    let nack = |retry, error| End::Nack(Nack { lease, retry, error: Some(error) });
    match answer {
        Ok(_) => End::Ack(lease),
        Err(JobError(ending)) => match ending {
            // There is nothing wrong with the event: it comes again when there is room.
            Ending::Retry { full: Some(after), .. } => End::Release { lease, delay_ms: delay(after) },
            Ending::Retry { kind, message, after, .. } => {
                let retry = after.map_or(Retry::Auto, |after| Retry::After(delay(after)));
                nack(retry, failure(kind.as_deref(), &message))
            }
            Ending::Permanent { message } => nack(Retry::Never, failure(None, &message)),
            Ending::Snooze(after) => End::Release { lease, delay_ms: delay(after) },
            // Not wanted any more: that is an end like any other.
            Ending::Cancel => End::Ack(lease),
        },
    }
}

/// In milliseconds, within what a server takes.
fn delay(after: Duration) -> u64 {
    ms(after.min(FAR))
}
