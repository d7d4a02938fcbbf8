//! From events to jobs, exactly once.

use std::{future::Future, time::Duration};

use mainstay_core::{
    GroupName,
    event::{Delivery, EventOp, Fetch, Nack, SettleDeliveries},
    job::{JobFailure, Retry},
    op::{Commit, Failure, Op, Reason},
    store::Batch,
};

use super::{Client, Result};
use crate::{
    event::Envelope,
    job::{IntoNewJob, JobError},
};

/// What a step of [`Client::bridge`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bridged {
    /// Events that are jobs now.
    pub moved: u32,
    /// Events that could not be made a job; they come again, or are dead letters of the group.
    pub refused: u32,
    /// Events that somebody else has, because this took too long.
    pub lost: u32,
}

impl Client {
    /// Takes up to 100 events of a group, waiting up to `wait` for the first, and enqueues a job for each. The
    /// acknowledgement and the job are one commit: the job is there exactly once, whoever dies in between. Call it in a
    /// loop, in as many places as you like. What `stop` resolves cuts the waiting short.
    ///
    /// An event that `make` refuses is delivered again by the group's rules, and is a dead letter in the end. So is one
    /// whose job the store refuses, because its queue is full, say.
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
        let (mut commits, mut moving, mut nacks) = (Vec::new(), Vec::new(), Vec::new());
        for delivery in deliveries {
            match self.job_of(&delivery, &make) {
                Ok(job) => {
                    let ack = Op::Event(EventOp::Ack { group: group.clone(), lease: delivery.lease });
                    let entropy = self.entropy();
                    commits.push(Commit { ops: vec![ack, job], entropy, ..Commit::default() });
                    moving.push(delivery);
                }
                Err(why) => nacks.push(nack(&delivery, why)),
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
                Err(why) => nacks.push(nack(delivery, why.to_string())),
            }
        }
        bridged.refused = nacks.len() as u32;
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
    ) -> std::result::Result<Op, String> {
        let Some(event) = &delivery.event else { return Err("the store has not shown the event".to_owned()) };
        let (topic, at) = (delivery.topic.clone(), delivery.published_at);
        let envelope = Envelope::stored(topic, delivery.seq, at, event);
        let job = make(&envelope).map_err(|error| error.to_message())?;
        let job = job.into_new_job(self).map_err(|error| error.to_string())?;
        Ok(Op::Enqueue(Box::new(job)))
    }
}

fn nack(delivery: &Delivery, why: String) -> Nack {
    let error = JobFailure { kind: Some("bridge".into()), message: why.into(), backtrace: None };
    Nack { lease: delivery.lease, retry: Retry::Auto, error: Some(error) }
}
