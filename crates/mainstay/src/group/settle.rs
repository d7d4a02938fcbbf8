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

#[cfg(all(test, feature = "testing"))]
mod tests {
    use mainstay_core::{
        TopicFilter, TopicName,
        event::{Event, EventOp, EventReply, Fetch, GroupConfig, Position, Publish},
        job::Retry,
        name::Name,
        op::{Op, Reply},
    };

    use super::*;
    use crate::testing::block_on_virtual;

    /// The leases of two deliveries of one group.
    async fn two_deliveries(client: &Client, group: &GroupName) -> [LeaseId; 2] {
        let topic = TopicName::new("t").unwrap();
        for id in ["a", "b"] {
            let publish = Publish::new(topic.clone(), Event::new(id, &topic, "1"));
            client.apply(Op::Event(EventOp::Publish(Box::new(publish)))).await.unwrap();
        }
        let config = Box::new(GroupConfig::new(vec![TopicFilter::all()]));
        let put = EventOp::PutGroup { group: group.clone(), config, start: Position::Earliest };
        client.apply(Op::Event(put)).await.unwrap();
        let fetch = Fetch { group: group.clone(), max: 2, max_bytes: 1 << 20, consumer: None };
        match client.apply(Op::Event(EventOp::Fetch(fetch))).await {
            Ok(Reply::Event(EventReply::Fetched(deliveries))) => [deliveries[0].lease, deliveries[1].lease],
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_end_of_a_batch_gets_its_own_answer_in_whatever_order_they_came() {
        for ack_first in [true, false] {
            block_on_virtual(async {
                let (client, group) = (Client::memory(), Name::new("g").unwrap());
                let [one, other] = two_deliveries(&client, &group).await;
                let settler = Arc::new(Settler::new(&client, &group));
                let ack = End::Ack(one);
                let nack = End::Nack(Nack { lease: other, retry: Retry::Never, error: None });
                let (first, second) = if ack_first { (ack, nack) } else { (nack, ack) };
                let both = async { tokio::join!(settler.settle(first), settler.settle(second)) };
                let answers = tokio::select! {
                    answers = both => answers,
                    () = settler.clone().run() => panic!("it runs until it is dropped"),
                };
                let (acked, dead) = (Some(Settled::Acked), Some(Settled::Dead));
                assert_eq!(answers, if ack_first { (acked, dead) } else { (dead, acked) });
            });
        }
    }
}
