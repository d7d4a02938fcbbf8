//! Settling: whatever ends while a batch is being written goes into the next.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use mainstay_core::{
    ErrorKind, GroupName, LeaseId,
    event::{EventOp, EventReply, Nack, SettleDeliveries, Settled},
    op::{Op, Reason, Reply},
};
use tokio::{sync::oneshot, time::sleep};

use crate::{
    client::{Client, StoreError},
    millis,
    queue::{Bounded, Receiver, Sender},
};

/// At most so many in one batch.
const BATCH: usize = 1_000;
/// A call that was tried this often gets a word in the log; it is tried as long as its leases may live.
const WORD_AFTER: u32 = 5;
/// Between tries when the store does not answer.
const PAUSE: Duration = millis(500);

/// How a delivery ends.
#[derive(Clone, Debug)]
pub(super) enum End {
    Ack(LeaseId),
    Nack(Nack),
    /// It goes back as if it had not been fetched, to come again after so many milliseconds: no delivery is spent.
    Release {
        lease: LeaseId,
        delay_ms: u64,
    },
}

impl End {
    /// In the order in which the store answers: acks first; what goes back has calls of its own, one a delay.
    fn place(&self) -> (u8, u64) {
        match self {
            Self::Ack(_) => (0, 0),
            Self::Nack(_) => (1, 0),
            Self::Release { delay_ms, .. } => (2, *delay_ms),
        }
    }

    fn is_settle(&self) -> bool {
        !matches!(self, Self::Release { .. })
    }
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

    /// Settles one delivery; what became of it, or `None` if it went back, or the store did not take it.
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
            batch.sort_by_key(|ending: &Ending| ending.end.place());
            let outcomes = self.settle_all(&batch).await;
            for (ending, outcome) in batch.drain(..).zip(outcomes) {
                let _ = ending.told.send(outcome);
            }
        }
    }

    /// One that the store cannot read would be the end of all in its call: they are halved until it is alone.
    async fn settle_all(&self, batch: &[Ending]) -> Vec<Option<Settled>> {
        let together = |one: &Ending, next: &Ending| {
            one.end.place() == next.end.place() || one.end.is_settle() && next.end.is_settle()
        };
        let mut calls: VecDeque<&[Ending]> = batch.chunk_by(together).collect();
        let mut outcomes = Vec::with_capacity(batch.len());
        while let Some(call) = calls.pop_front() {
            match self.write(call).await {
                Ok(settled) => outcomes.extend(settled),
                Err(error) if is_of_an_item(&error) && call.len() > 1 => {
                    let (first, second) = call.split_at(call.len() / 2);
                    [second, first].into_iter().for_each(|half| calls.push_front(half));
                }
                Err(error) => {
                    let events = call.len();
                    tracing::error!(group = %self.group, events, %error, "cannot settle; the events will come again");
                    outcomes.extend(call.iter().map(|_| None));
                }
            }
        }
        outcomes
    }

    /// Until the store has judged it: the work is done, and worth another try as long as the leases may live. They are
    /// renewed meanwhile; when that is over, the store says so.
    async fn write(&self, call: &[Ending]) -> Result<Vec<Option<Settled>>, StoreError> {
        let op = self.op(call);
        let mut tries = 0;
        loop {
            match self.client.apply(op.clone()).await {
                Ok(reply) => {
                    let settled = match reply {
                        Reply::Event(EventReply::Settled(settled)) => settled,
                        _ => Vec::new(),
                    };
                    return Ok(settled
                        .into_iter()
                        .map(Some)
                        .chain(std::iter::repeat(None))
                        .take(call.len())
                        .collect());
                }
                Err(error) if is_judged(&error) => return Err(error),
                Err(error) => {
                    tries += 1;
                    if tries == WORD_AFTER {
                        let events = call.len();
                        tracing::error!(group = %self.group, events, %error, "cannot settle yet; trying on while the leases may live");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn op(&self, call: &[Ending]) -> Op {
        let mut settle =
            SettleDeliveries { group: self.group.clone(), ack: vec![], nack: vec![], extend: vec![] };
        let mut back = (vec![], 0);
        for ending in call {
            match &ending.end {
                End::Ack(lease) => settle.ack.push(*lease),
                End::Nack(nack) => settle.nack.push(nack.clone()),
                End::Release { lease, delay_ms } => {
                    back.0.push(*lease);
                    back.1 = *delay_ms;
                }
            }
        }
        let (leases, delay_ms) = back;
        Op::Event(match leases.is_empty() {
            true => EventOp::Settle(Box::new(settle)),
            false => EventOp::Release { leases, delay_ms },
        })
    }
}

/// What was asked is wrong, or nobody will answer any more: asking the same again changes nothing.
fn is_judged(error: &StoreError) -> bool {
    error.failure().is_none_or(|error| {
        matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotSupported | ErrorKind::Closed)
    })
}

/// What is asked is at fault, not who asks or the store.
fn is_of_an_item(error: &StoreError) -> bool {
    matches!(error.reason(), Some(Reason::Invalid { .. }))
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use mainstay_core::{
        Error, MemoryStore, TopicFilter, TopicName,
        event::{Event, Fetch, GroupConfig, Position, Publish},
        job::{JobFailure, Retry},
        name::Name,
        op::{Committed, Failure, Place, Rejection},
        store::{Batch, Over, Store},
    };

    use super::*;
    use crate::{clock, secs, testing::block_on_virtual};

    /// A store that does not answer to some settles, and takes no long words: then it refuses the whole of them.
    #[derive(Default)]
    struct Wire {
        store: Option<MemoryStore>,
        silent: AtomicU32,
        refused: AtomicU32,
    }

    impl Wire {
        fn client(silent: u32) -> (Client, Arc<Wire>) {
            let store = Some(MemoryStore::new(clock::current()));
            let wire = Arc::new(Wire { store, silent: silent.into(), ..Wire::default() });
            (Client::new(wire.clone()), wire)
        }
    }

    #[async_trait]
    impl Over for Wire {
        fn below(&self) -> &dyn Store {
            self.store.as_ref().unwrap()
        }

        async fn submit(&self, batch: Batch) -> Result<Vec<Result<Committed, Failure>>, Error> {
            let is_long = |nack: &Nack| nack.error.as_ref().is_some_and(|error| error.message.len() > 10);
            if let [Op::Event(EventOp::Settle(settle))] = &*batch.commits[0].ops {
                if self.silent.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
                {
                    return Err(Error::new(ErrorKind::Unavailable, "no answer"));
                }
                if settle.nack.iter().any(is_long) {
                    self.refused.fetch_add(1, Ordering::SeqCst);
                    let reason = Reason::Invalid { field: "request", detail: "too long".into() };
                    return Ok(vec![Err(Rejection { at: Place::Op(0), reason }.into())]);
                }
            }
            self.below().submit(batch).await
        }
    }

    /// The leases of the deliveries of one group.
    async fn deliveries(client: &Client, group: &GroupName, events: u32) -> Vec<LeaseId> {
        let topic = TopicName::new("t").unwrap();
        for id in 0..events {
            let publish = Publish::new(topic.clone(), Event::new(&id.to_string(), &topic, "1"));
            client.apply(Op::Event(EventOp::Publish(Box::new(publish)))).await.unwrap();
        }
        let config = GroupConfig::new(vec![TopicFilter::all()]);
        client.put_group(group.clone(), config, Position::Earliest).await.unwrap();
        fetch(client, group).await.into_iter().map(|(lease, _)| lease).collect()
    }

    /// What can be fetched now: leases and attempts.
    async fn fetch(client: &Client, group: &GroupName) -> Vec<(LeaseId, u32)> {
        let fetch = Fetch { group: group.clone(), max: 100, max_bytes: 1 << 20, consumer: None };
        let fetched = client.fetch(fetch, None, Duration::ZERO, std::future::pending()).await.unwrap();
        fetched.iter().map(|delivery| (delivery.lease, delivery.attempt)).collect()
    }

    /// Settles them at the same time.
    async fn settle(client: &Client, group: &GroupName, ends: Vec<End>) -> Vec<Option<Settled>> {
        let settler = Arc::new(Settler::new(client, group));
        let all = futures_util::future::join_all(ends.into_iter().map(|end| settler.settle(end)));
        tokio::select! {
            answers = all => answers,
            () = settler.clone().run() => panic!("it runs until it is dropped"),
        }
    }

    #[test]
    fn one_end_that_the_store_refuses_spoils_no_other() {
        block_on_virtual(async {
            let (client, wire) = Wire::client(0);
            let group = Name::new("g").unwrap();
            let leases = deliveries(&client, &group, 9).await;
            let ends = leases.iter().enumerate().map(|(at, lease)| match at {
                4 | 7 => {
                    let message = if at == 4 { "a long story" } else { "short" };
                    let error = JobFailure { message: message.into(), ..JobFailure::default() };
                    End::Nack(Nack { lease: *lease, retry: Retry::Never, error: Some(error) })
                }
                _ => End::Ack(*lease),
            });
            let answers = settle(&client, &group, ends.collect()).await;
            let expected = |at| match at {
                4 => None,
                7 => Some(Settled::Dead),
                _ => Some(Settled::Acked),
            };
            assert_eq!(answers, (0..9).map(expected).collect::<Vec<_>>());
            assert!(wire.refused.load(Ordering::SeqCst) < 9, "halved until it was alone");
        });
    }

    #[test]
    fn an_end_is_tried_until_the_store_answers() {
        block_on_virtual(async {
            let (client, _) = Wire::client(50);
            let group = Name::new("g").unwrap();
            let leases = deliveries(&client, &group, 1).await;
            let began = tokio::time::Instant::now();
            let answers = settle(&client, &group, vec![End::Ack(leases[0])]).await;
            assert_eq!(answers, [Some(Settled::Acked)], "its lease lives for 30 s");
            assert_eq!(began.elapsed(), secs(25));
        });
    }

    #[test]
    fn what_goes_back_comes_again_after_its_delay_and_spends_no_delivery() {
        block_on_virtual(async {
            let (client, group) = (Client::memory(), Name::new("g").unwrap());
            let leases = deliveries(&client, &group, 4).await;
            let back = |at: usize, delay_ms| End::Release { lease: leases[at], delay_ms };
            let ends = vec![back(0, 60_000), End::Ack(leases[1]), back(2, 0), back(3, 60_000)];
            let answers = settle(&client, &group, ends).await;
            assert_eq!(answers, [None, Some(Settled::Acked), None, None]);
            let [(again, 1)] = fetch(&client, &group).await[..] else { panic!("one comes at once") };
            assert_eq!(settle(&client, &group, vec![End::Ack(again)]).await, [Some(Settled::Acked)]);
            sleep(secs(59)).await;
            assert!(fetch(&client, &group).await.is_empty());
            sleep(secs(1)).await;
            let later = fetch(&client, &group).await;
            assert_eq!(later.iter().map(|(_, attempt)| *attempt).collect::<Vec<_>>(), [1, 1]);
        });
    }

    #[test]
    fn each_end_of_a_batch_gets_its_own_answer_in_whatever_order_they_came() {
        for ack_first in [true, false] {
            block_on_virtual(async {
                let (client, group) = (Client::memory(), Name::new("g").unwrap());
                let leases = deliveries(&client, &group, 2).await;
                let ack = End::Ack(leases[0]);
                let nack = End::Nack(Nack { lease: leases[1], retry: Retry::Never, error: None });
                let ends = if ack_first { vec![ack, nack] } else { vec![nack, ack] };
                let answers = settle(&client, &group, ends).await;
                let (acked, dead) = (Some(Settled::Acked), Some(Settled::Dead));
                assert_eq!(answers, if ack_first { [acked, dead] } else { [dead, acked] });
            });
        }
    }
}
