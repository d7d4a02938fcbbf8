//! Events of the log: published, read, and handed out to groups. How handlers of a service get them is
//! [`crate::group`]; this is what that is made of, and for whoever looks from outside.

use std::{future::Future, pin::pin, time::Duration};

use futures_util::future::{Either, select};
use mainstay_core::{
    GroupName, TopicFilter, TopicName,
    event::{
        DeadEventFilter, Delivery, EventInterest, EventItem, EventKey, EventOp, EventQuery, EventReply,
        Fetch, GroupConfig, GroupRecord, LogBudget, LogSlice, Position, SettleDeliveries, Settled,
        TopicConfig, TopicRecord,
    },
    op::{Commit, IdempotencyKey, Op, Reply},
    store::{Interest, Key, Page, Query, Record, Slice, Wake},
};
use tokio::time::Instant;

use super::{Client, Deadline, Result, unexpected};
use crate::event::IntoPublish;

/// An event's place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Logged {
    /// Its number, from 1; that of the first if it is there already.
    pub seq: u64,
    /// It is there already: nothing was stored.
    pub deduplicated: bool,
}

impl Client {
    /// Publishes one event into the log; durable when it answers. Together with other changes: [`Client::commit`].
    ///
    /// # Errors
    /// An event that is not valid; the store's trouble.
    pub async fn publish(&self, event: impl IntoPublish) -> Result<Logged> {
        let mut replies = self.commit().publish(event).await?;
        match replies.pop() {
            Some(Reply::Event(EventReply::Published { seq, deduplicated })) => {
                Ok(Logged { seq, deduplicated })
            }
            other => Err(unexpected("publish", &other)),
        }
    }

    /// Reads the log from a position on: events of the topics that match a filter (no filter: of all), in order.
    ///
    /// # Errors
    /// The store's.
    pub async fn read_log(
        &self,
        filters: &[TopicFilter],
        from: Position,
        budget: LogBudget,
    ) -> Result<LogSlice> {
        Ok(Deadline::current()?.read(self.store().read_log(filters, from, budget)).await?)
    }

    /// Creates a topic or replaces its whole configuration.
    ///
    /// # Errors
    /// The store's.
    pub async fn put_topic(&self, topic: TopicName, config: TopicConfig) -> Result<()> {
        self.apply(Op::Event(EventOp::PutTopic { topic, config })).await.map(drop)
    }

    /// Forgets a topic with all of its events.
    ///
    /// # Errors
    /// Unknown topics; the store's.
    pub async fn delete_topic(&self, topic: TopicName) -> Result<()> {
        self.apply(Op::Event(EventOp::DeleteTopic { topic })).await.map(drop)
    }

    /// One topic.
    ///
    /// # Errors
    /// The store's.
    pub async fn topic(&self, name: &TopicName) -> Result<Option<TopicRecord>> {
        match self.get(&Key::Event(EventKey::Topic(name.clone()))).await? {
            Some(Record::Event(EventItem::Topic(topic))) => Ok(Some(topic)),
            _ => Ok(None),
        }
    }

    /// A page of topics by name.
    ///
    /// # Errors
    /// As [`Client::jobs`].
    pub async fn topics(&self, page: Page) -> Result<Slice> {
        self.list(&Query::Event(EventQuery::Topics), &page).await
    }

    /// Creates a group at `start`, or replaces the whole configuration of the one there is, which stays where it is.
    ///
    /// # Errors
    /// The store's.
    pub async fn put_group(&self, group: GroupName, config: GroupConfig, start: Position) -> Result<()> {
        self.apply(Op::Event(EventOp::PutGroup { group, config: Box::new(config), start })).await.map(drop)
    }

    /// Forgets a group with its dead letters.
    ///
    /// # Errors
    /// Unknown groups; the store's.
    pub async fn delete_group(&self, group: GroupName) -> Result<()> {
        self.apply(Op::Event(EventOp::DeleteGroup { group })).await.map(drop)
    }

    /// One group as it is now.
    ///
    /// # Errors
    /// The store's.
    pub async fn group_record(&self, name: &GroupName) -> Result<Option<GroupRecord>> {
        match self.get(&Key::Event(EventKey::Group(name.clone()))).await? {
            Some(Record::Event(EventItem::Group(group))) => Ok(Some(group)),
            _ => Ok(None),
        }
    }

    /// A page of groups by name.
    ///
    /// # Errors
    /// As [`Client::jobs`].
    pub async fn groups(&self, page: Page) -> Result<Slice> {
        self.list(&Query::Event(EventQuery::Groups), &page).await
    }

    /// Takes events for a group, waiting up to `wait` for the first; empty when none came or when `stop` resolved first.
    ///
    /// Only the waiting is cut short by `stop`, never a fetch under way, so no delivery is lost by it. Dropping the
    /// future is safe too: the store takes back what it could not hand over.
    ///
    /// # Errors
    /// Unknown groups; the store's; [`mainstay_core::ErrorKind::DeadlineExceeded`] when the context's deadline comes
    /// before `wait` is over.
    pub async fn fetch(
        &self,
        fetch: Fetch,
        key: Option<IdempotencyKey>,
        wait: Duration,
        stop: impl Future<Output = ()>,
    ) -> Result<Vec<Delivery>> {
        Ok(self.fetch_sent(fetch, key, wait, stop).await?.1)
    }

    /// The same, with when the fetch was sent that was answered: the leases live for their time from then on at least.
    pub(crate) async fn fetch_sent(
        &self,
        fetch: Fetch,
        key: Option<IdempotencyKey>,
        wait: Duration,
        stop: impl Future<Output = ()>,
    ) -> Result<(Instant, Vec<Delivery>)> {
        let interests = [Interest::Event(EventInterest::Group(fetch.group.clone()))];
        let deadline = self.deadline(wait);
        let mut stop = pin!(stop);
        // Held until the fetch it woke has been answered: then it is passed on.
        let mut _woken: Option<Wake> = None;
        loop {
            let op = Op::Event(EventOp::Fetch(fetch.clone()));
            let commit = Commit { key, ..Commit::of(op, self.entropy()) };
            let sent = Instant::now();
            let committed = self.submit_one(commit).await?;
            let deliveries = match committed.replies.into_iter().next() {
                Some(Reply::Event(EventReply::Fetched(deliveries))) => deliveries,
                other => return Err(unexpected("fetch", &other)),
            };
            let left = self.left(deadline);
            // A repeated fetch never hands out anew, so there is nothing to wait for.
            if !deliveries.is_empty() || committed.repeated || left.is_zero() {
                return Ok((sent, deliveries));
            }
            _woken = None;
            let waiting = pin!(self.store().wait(&interests, Deadline::current()?.limit_wait(left)));
            match select(waiting, stop.as_mut()).await {
                Either::Left((wake, _)) => _woken = Some(wake?),
                Either::Right(_) => return Ok((sent, Vec::new())),
            }
        }
    }

    /// Settles deliveries of a group, each alone; what became of them, in the order ack, nack, extend.
    ///
    /// # Errors
    /// Unknown groups; the store's.
    pub async fn settle(&self, deliveries: SettleDeliveries) -> Result<Vec<Settled>> {
        match self.apply(Op::Event(EventOp::Settle(Box::new(deliveries)))).await? {
            Reply::Event(EventReply::Settled(settled)) => Ok(settled),
            other => Err(unexpected("settle", &Some(other))),
        }
    }

    /// Moves a group's cursor; open leases are void. Answers the next number it will look at.
    ///
    /// # Errors
    /// Unknown groups; the store's.
    pub async fn seek(&self, group: GroupName, to: Position) -> Result<u64> {
        match self.apply(Op::Event(EventOp::Seek { group, to })).await? {
            Reply::Event(EventReply::Sought { cursor }) => Ok(cursor),
            other => Err(unexpected("seek", &Some(other))),
        }
    }

    /// A page of a group's dead letters, newest first.
    ///
    /// # Errors
    /// As [`Client::jobs`].
    pub async fn dead_events(&self, filter: DeadEventFilter, page: Page) -> Result<Slice> {
        self.list(&Query::Event(EventQuery::Dead(filter)), &page).await
    }

    /// Delivers dead letters again, by their numbers (at most 1,000), attempts reset; the cursor stays. Answers how many.
    ///
    /// # Errors
    /// The store's.
    pub async fn requeue_events(&self, group: GroupName, numbers: Vec<u64>) -> Result<u64> {
        self.count("requeue", EventOp::RequeueDead { group, numbers }).await
    }

    /// Forgets dead letters, by their numbers (at most 1,000). Answers how many.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete_dead_events(&self, group: GroupName, numbers: Vec<u64>) -> Result<u64> {
        self.count("delete", EventOp::DeleteDead { group, numbers }).await
    }

    async fn count(&self, asked: &str, op: EventOp) -> Result<u64> {
        match self.apply(Op::Event(op)).await? {
            Reply::Count(count) => Ok(count),
            other => Err(unexpected(asked, &Some(other))),
        }
    }
}
