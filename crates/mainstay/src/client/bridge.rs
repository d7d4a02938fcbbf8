//! From events to jobs, exactly once.

use std::{collections::BTreeMap, future::Future, time::Duration};

use mainstay_core::{
    GroupName, LeaseId,
    event::{Delivery, EventOp, Fetch, Nack, SettleDeliveries},
    job::Retry,
    op::{Commit, Failure, Op, Reason},
    store::Batch,
};

use super::{Client, Result, StoreError};
use crate::{
    event::Envelope,
    job::{Ending, FAR, IntoNewJob, JobError, failure, ms},
    secs,
};

/// How long an event waits with which the store has not dealt.
const PAUSE: Duration = secs(1);

/// What a step of [`Client::bridge`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bridged {
    /// Events that are jobs now.
    pub moved: u32,
    /// Events that could not be made a job; they come again, or are dead letters of the group.
    pub refused: u32,
    /// Events whose queue is full, or for which the store had no time; they come again later, and no delivery is spent.
    pub put_off: u32,
    /// Events that somebody else has, because this took too long.
    pub lost: u32,
}

impl Client {
    /// Takes up to 100 events of a group, waiting up to `wait` for the first, and enqueues a job for each. The
    /// acknowledgement and the job are one commit: the job is there exactly once, whoever dies in between. Call it in a
    /// loop, in as many places as you like. What `stop` resolves cuts the waiting short.
    ///
    /// An event that `make` refuses is delivered again by the group's rules, and is a dead letter in the end. So is one
    /// whose job the store refuses. One whose queue is full goes back without spending a delivery, and comes again when
    /// the queue may have room ([`StoreError::retry_after`](super::StoreError::retry_after)); in a group that is ordered
    /// by key, those behind it wait with it. Where 10,000 events of the group wait, it takes nothing new.
    ///
    /// ```
    /// # use std::{future::pending, time::Duration};
    /// # use mainstay::{Client, Event, Job, JobError, core::{GroupName, TopicFilter, event::{GroupConfig, Position}}};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Serialize, Deserialize)] struct OrderPlaced { order: u64 }
    /// # impl Event for OrderPlaced { const TOPIC: &'static str = "orders.placed"; }
    /// # #[derive(Serialize, Deserialize)] struct Ship { order: u64 }
    /// # impl Job for Ship { const KIND: &'static str = "ship"; const QUEUE: &'static str = "shipping"; }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let store = Client::memory();
    /// let group = GroupName::new("shipping").unwrap();
    /// let config = GroupConfig::new(vec![TopicFilter::new("orders.*").unwrap()]);
    /// store.put_group(group.clone(), config, Position::Latest).await?;
    /// store.publish(&OrderPlaced { order: 7 }).await?;
    /// let ship = |event: &mainstay::event::Envelope| Ok(Ship { order: event.read::<OrderPlaced>()?.order });
    /// let bridged = store.bridge(&group, Duration::ZERO, pending(), ship).await?;
    /// assert_eq!(bridged.moved, 1);
    /// # Ok::<_, mainstay::StoreError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Unknown groups; the store's. What was done before stands, and nothing is lost.
    pub async fn bridge<J: IntoNewJob>(
        &self,
        group: &GroupName,
        wait: Duration,
        stop: impl Future<Output = ()>,
        make: impl Fn(&Envelope) -> std::result::Result<J, JobError>,
    ) -> Result<Bridged> {
        let fetch = Fetch { group: group.clone(), max: 100, max_bytes: 16 << 20, consumer: None };
        let deliveries = self.fetch(fetch, None, wait, stop).await?;
        let mut bridged = Bridged::default();
        let (mut commits, mut moving) = (Vec::new(), Vec::new());
        let (mut nacks, mut put_off) = (Vec::new(), BTreeMap::<u64, Vec<LeaseId>>::new());
        let mut refuse = |delivery: &Delivery, why| match why {
            No::Later(delay_ms) => put_off.entry(delay_ms).or_default().push(delivery.lease),
            No::Never(why) => nacks.push(Nack {
                lease: delivery.lease,
                retry: Retry::Auto,
                error: Some(failure(Some("bridge"), &why)),
            }),
        };
        for delivery in deliveries {
            match self.job_of(&delivery, &make) {
                Ok(job) => {
                    let ack = Op::Event(EventOp::Ack { group: group.clone(), lease: delivery.lease });
                    let entropy = self.entropy();
                    commits.push(Commit { ops: vec![ack, job], entropy, ..Commit::default() });
                    moving.push(delivery);
                }
                Err(why) => refuse(&delivery, why),
            }
        }
        let answers = if commits.is_empty() {
            Vec::new()
        } else {
            self.submit(Batch { commits, within: None }).await?
        };
        for (delivery, answer) in moving.iter().zip(answers) {
            match answer {
                Ok(_) => bridged.moved += 1,
                Err(Failure::Rejected(refused))
                    if matches!(refused.reason, Reason::LeaseLost | Reason::AlreadySettled) =>
                {
                    bridged.lost += 1;
                }
                Err(why) => refuse(delivery, no(why.into())),
            }
        }
        bridged.refused = nacks.len() as u32;
        for (delay_ms, leases) in put_off {
            bridged.put_off += leases.len() as u32;
            self.apply(Op::Event(EventOp::Release { leases, delay_ms })).await?;
        }
        if !nacks.is_empty() {
            let settle = SettleDeliveries { group: group.clone(), ack: vec![], nack: nacks, extend: vec![] };
            self.settle(settle).await?;
        }
        Ok(bridged)
    }

    fn job_of<J: IntoNewJob>(
        &self,
        delivery: &Delivery,
        make: impl Fn(&Envelope) -> std::result::Result<J, JobError>,
    ) -> std::result::Result<Op, No> {
        let Some(event) = &delivery.event else {
            return Err(No::Never("the store has not shown the event".to_owned()));
        };
        let (topic, at) = (delivery.topic.clone(), delivery.published_at);
        let envelope = Envelope::stored(topic, delivery.seq, at, event);
        let job = make(&envelope).map_err(|error| match error {
            JobError(Ending::Snooze(after)) => No::Later(ms(after.min(FAR))),
            error => No::Never(error.to_message()),
        })?;
        let job = job.into_new_job(self).map_err(|error| No::Never(error.to_string()))?;
        Ok(Op::Enqueue(Box::new(job)))
    }
}

/// Why an event is not a job.
enum No {
    /// Not yet: in so many milliseconds it may be. No delivery is spent.
    Later(u64),
    Never(String),
}

/// There is nothing wrong with an event whose queue is full, or that the store has not looked at.
fn no(error: StoreError) -> No {
    let unjudged = error.failure().is_some_and(|_| error.is_retryable() || error.may_have_happened());
    match error.retry_after().or(unjudged.then_some(PAUSE)) {
        Some(after) => No::Later(ms(after)),
        None => No::Never(error.to_string()),
    }
}
