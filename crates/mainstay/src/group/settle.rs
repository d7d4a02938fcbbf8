//! Settling: whatever ends while a batch is being written goes into the next.

use std::{sync::Arc, time::Duration};

use mainstay_core::{
    GroupName, LeaseId,
    event::{Nack, SettleDeliveries, Settled},
};
use tokio::{sync::oneshot, time::sleep};

use crate::{
    client::{Client, StoreError},
    millis,
    queue::{Bounded, Receiver, Sender},
};

/// At most so many in one batch.
const BATCH: usize = 1_000;
/// A batch is tried this often before its deliveries are left to their leases.
const TRIES: u32 = 5;
/// Between tries when the store does not answer.
const PAUSE: Duration = millis(500);

/// How a delivery ends.
#[derive(Clone, Debug)]
pub(super) enum End {
    Ack(LeaseId),
    Nack(Nack),
}

struct Ending {
    end: End,
    told: oneshot::Sender<Option<Settled>>,
}

/// Takes the ends of deliveries and writes them, many at a time.
pub(super) struct Settler {
    client: Client,
    group: GroupName,
    ends: Sender<Ending>,
    inbox: Receiver<Ending>,
}

impl Settler {
    pub fn new(client: &Client, group: &GroupName) -> Self {
        let (ends, inbox) = Bounded::new(format!("settle.{group}"), BATCH).open();
        Self { client: client.clone(), group: group.clone(), ends, inbox }
    }

    /// Settles one delivery; what became of it, or `None` if the store did not answer.
    pub async fn settle(&self, end: End) -> Option<Settled> {
        let (told, outcome) = oneshot::channel();
        self.ends.send(Ending { end, told }).await.ok()?;
        outcome.await.ok().flatten()
    }

    /// Writes until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut inbox = self.inbox.clone();
        let mut batch = Vec::new();
        while inbox.recv_many(&mut batch, BATCH).await > 0 {
            // In the order in which the store answers: acks first.
            batch.sort_by_key(|ending| matches!(ending.end, End::Nack(_)));
            let outcomes = self.write(&batch).await;
            for (at, ending) in batch.drain(..).enumerate() {
                let outcome = outcomes.as_ref().and_then(|outcomes| outcomes.get(at).copied());
                let _ = ending.told.send(outcome);
            }
        }
    }

    async fn write(&self, batch: &[Ending]) -> Option<Vec<Settled>> {
        let ack = |ending: &Ending| match &ending.end {
            End::Ack(lease) => Some(*lease),
            End::Nack(_) => None,
        };
        let nack = |ending: &Ending| match &ending.end {
            End::Ack(_) => None,
            End::Nack(nack) => Some(nack.clone()),
        };
        let settle = SettleDeliveries {
            group: self.group.clone(),
            ack: batch.iter().filter_map(ack).collect(),
            nack: batch.iter().filter_map(nack).collect(),
            extend: Vec::new(),
        };
        for n in 1..=TRIES {
            match self.client.settle(settle.clone()).await {
                Ok(outcomes) => return Some(outcomes),
                Err(error) if n < TRIES && retryable(&error) => sleep(PAUSE * n).await,
                Err(error) => {
                    let events = batch.len();
                    tracing::error!(group = %self.group, events, %error, "cannot settle; the events will come again");
                    return None;
                }
            }
        }
        None
    }
}

fn retryable(error: &StoreError) -> bool {
    error.is_retryable() || error.may_have_happened()
}
