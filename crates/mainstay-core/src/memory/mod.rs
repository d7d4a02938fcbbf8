//! The memory store: the engine behind the [`Store`] seam, with tables that are plain maps. Nothing is durable.

mod events;
mod list;
mod tables;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use tables::Tables;
use tokio::sync::Notify;

use crate::{
    clock::Clock,
    engine::{Engine, MAX_COMMIT_OPS, TRIM_FROM, change::Change},
    error::{Error, ErrorKind},
    event::{EventInterest, EventItem, EventKey, EventReply, LogBudget, LogSlice, Position},
    hub::{Hub, Waiting},
    id::JobId,
    op::{Committed, Failure, Reply},
    store::{
        Batch, Budget, Capabilities, ClaimOrder, CommitScope, Interest, Key, Maintained, Page, Query, Record,
        Slice, Store, TokenOrder, Wake,
    },
    time::{Now, StoreTime},
    topic::TopicFilter,
};

/// A store in RAM: fast, exact, and gone with its process.
pub struct MemoryStore {
    inner: Mutex<Inner>,
    hub: Arc<Hub>,
    clock: Arc<dyn Clock>,
    /// The next timer may have come closer.
    timers: Notify,
}

struct Inner {
    engine: Engine,
    tables: Tables,
    changes: Vec<Change>,
    /// When retention last had nothing left to do; `None`: it is done only when somebody asks.
    tidied: Option<StoreTime>,
    closed: bool,
}

static CAPABILITIES: Capabilities = Capabilities {
    store: "memory",
    durable: false,
    commit_scope: CommitScope::Store,
    token_order: TokenOrder::Store,
    seq_at_commit: true,
    exact_depth: true,
    claim_order: ClaimOrder::Strict,
    max_commit_ops: MAX_COMMIT_OPS,
};

/// Waiters look at the clock at least this often, so that a step of the wall clock is noticed; retention is looked after
/// as often, by the store's clock.
const LOOK_AGAIN_MS: u64 = 1_000;

impl MemoryStore {
    /// An empty store on this clock. It tidies up by itself, with the calls that come and for those who wait: leases
    /// that ran out, jobs that expired, and, about once a second, what retention says.
    pub fn new(clock: Arc<dyn Clock>) -> MemoryStore {
        let mut engine = Engine::new();
        let now = clock.now();
        engine.finish_load(now);
        let (tables, changes, tidied) = (Tables::default(), Vec::new(), Some(now.store));
        let inner = Inner { engine, tables, changes, tidied, closed: false };
        MemoryStore { inner: Mutex::new(inner), hub: Arc::default(), clock, timers: Notify::new() }
    }

    /// Nothing is forgotten but by [`Store::maintain`], which somebody calls about once a second; for tests that say
    /// when.
    #[must_use]
    pub fn without_housekeeping(mut self) -> MemoryStore {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner).tidied = None;
        self
    }

    fn lock(&self) -> Result<MutexGuard<'_, Inner>, Error> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.closed { Err(Error::new(ErrorKind::Closed, "the store is closed")) } else { Ok(inner) }
    }

    /// Lets time pass and wakes who has reason to look. Answers when that is next due.
    fn pulse(&self, inner: &mut Inner, now: Now) -> Result<StoreTime, Error> {
        inner.engine.tick(now);
        while inner.engine.maintenance_is_due(now) {
            inner.engine.maintain(Budget::default(), now, &mut inner.tables)?;
            inner.write(&self.hub);
        }
        let tidy = self.tidy(inner, now)?;
        inner.engine.commit_group();
        let hub = &self.hub;
        inner.engine.take_dirty(|queue, claimable| hub.publish(queue, claimable));
        inner.engine.take_dirty_groups(|group, deliverable| hub.publish_group(group, deliverable));
        let mut grown = Vec::new();
        let end = inner.engine.take_published(|topic| grown.push(topic.clone()));
        hub.log_has_grown(&grown, end);
        let engine = &inner.engine;
        let on_wall = [engine.next_due(), engine.next_expiry()].into_iter().flatten().min();
        let on_wall = on_wall.map(|at| now.store.plus_ms(at.ms_since(now.wall)));
        let on_store = [engine.next_lease_end(), engine.next_retry(), engine.next_opening()];
        let next = on_store.into_iter().chain([on_wall, tidy]).flatten().min();
        Ok(next.unwrap_or(StoreTime(u64::MAX)).min(now.store.plus_ms(LOOK_AGAIN_MS)))
    }

    /// Looks after retention now and then, a piece at a time. Answers when the next is due.
    fn tidy(&self, inner: &mut Inner, now: Now) -> Result<Option<StoreTime>, Error> {
        let Some(tidied) = inner.tidied else { return Ok(None) };
        let too_many = inner.engine.over_retention() >= TRIM_FROM;
        if too_many || tidied.plus_ms(LOOK_AGAIN_MS) <= now.store {
            let done = inner.engine.maintain(Budget::default(), now, &mut inner.tables)?;
            inner.write(&self.hub);
            if done.more {
                return Ok(Some(now.store.plus_ms(1)));
            }
            inner.tidied = Some(now.store);
        }
        Ok(None)
    }

    async fn until_woken(&self, waiting: Waiting, deadline: StoreTime) -> Result<Wake, Error> {
        let mut waiting = pin!(waiting);
        loop {
            let mut changed = pin!(self.timers.notified());
            changed.as_mut().enable();
            let now = self.clock.now();
            let next = self.pulse(&mut *self.lock()?, now)?;
            let mut asleep = pin!(self.clock.sleep_until(next.min(deadline)));
            let woken = poll_fn(|cx| {
                if let Poll::Ready(wake) = waiting.as_mut().poll(cx) {
                    return Poll::Ready(Some(wake));
                }
                if now.store >= deadline
                    || asleep.as_mut().poll(cx).is_ready()
                    || changed.as_mut().poll(cx).is_ready()
                {
                    return Poll::Ready(None);
                }
                Poll::Pending
            })
            .await;
            if let Some(wake) = woken {
                return Ok(wake);
            }
            if now.store >= deadline {
                return Ok(Wake::timed_out());
            }
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    async fn submit(&self, batch: Batch) -> Result<Vec<Result<Committed, Failure>>, Error> {
        let mut inner = self.lock()?;
        let inner = &mut *inner;
        let now = self.clock.now();
        self.pulse(inner, now)?;
        let mut answers = Vec::with_capacity(batch.commits.len());
        for commit in &batch.commits {
            let mut answer = inner.engine.apply(commit, now, &mut inner.tables)?;
            inner.write(&self.hub);
            if let Ok(committed) = &mut answer {
                committed.replies.iter_mut().for_each(|reply| inner.tables.complete(reply));
            }
            answers.push(answer.map_err(Failure::Rejected));
        }
        self.pulse(inner, now)?;
        self.timers.notify_waiters();
        Ok(answers)
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        let mut inner = self.lock()?;
        let inner = &mut *inner;
        let now = self.clock.now();
        self.pulse(inner, now)?;
        Ok(match key {
            Key::Job(id) => inner.tables.job(&inner.engine, *id, now).map(|job| Record::Job(Box::new(job))),
            Key::Queue(name) => inner.engine.queue(name.as_str(), now).map(Record::Queue),
            Key::AccessToken(name) => {
                inner.engine.access_token(name.as_str()).cloned().map(Record::AccessToken)
            }
            Key::Lock(name) => inner.engine.lock(name.as_str(), now).map(|lock| Record::Lock(Box::new(lock))),
            Key::Event(EventKey::Topic(name)) => {
                inner.engine.topic(name.as_str()).map(|topic| Record::Event(EventItem::Topic(topic)))
            }
            Key::Event(EventKey::Group(name)) => {
                let group = inner.engine.group(name.as_str(), now, &mut inner.tables)?;
                group.map(|group| Record::Event(EventItem::Group(group)))
            }
            Key::Schedule(name) => inner.engine.schedule(name.as_str()).map(Record::Schedule),
        })
    }

    async fn list(&self, query: &Query, page: &Page) -> Result<Slice, Error> {
        let mut inner = self.lock()?;
        let inner = &mut *inner;
        let now = self.clock.now();
        self.pulse(inner, now)?;
        list::list(&mut inner.engine, &mut inner.tables, query, page, now)
    }

    async fn read_log(
        &self,
        filters: &[TopicFilter],
        from: Position,
        budget: LogBudget,
    ) -> Result<LogSlice, Error> {
        let mut inner = self.lock()?;
        let inner = &mut *inner;
        self.pulse(inner, self.clock.now())?;
        let from = inner.engine.log_position(from, &mut inner.tables)?;
        Ok(inner.tables.events.read_log(&inner.engine, filters, from, budget))
    }

    async fn wait(&self, on: &[Interest], at_most: Duration) -> Result<Wake, Error> {
        let deadline = self.clock.now().store.plus_ms(at_most.as_millis() as u64);
        let waiting = self.hub.register(on);
        {
            let inner = self.lock()?;
            if on.iter().any(|interest| inner.has_happened(interest)) {
                return Ok(Wake::woken(None));
            }
        }
        self.until_woken(waiting, deadline).await
    }

    async fn maintain(&self, budget: Budget) -> Result<Maintained, Error> {
        let mut inner = self.lock()?;
        let inner = &mut *inner;
        let now = self.clock.now();
        let done = inner.engine.maintain(budget, now, &mut inner.tables)?;
        inner.write(&self.hub);
        self.pulse(inner, now)?;
        Ok(done)
    }

    async fn now(&self) -> Result<Now, Error> {
        self.lock().map(|_| self.clock.now())
    }

    async fn ping(&self) -> Result<(), Error> {
        self.lock().map(drop)
    }

    async fn close(&self, _at_most: Duration) -> Result<(), Error> {
        self.lock()?.closed = true;
        self.timers.notify_waiters();
        Ok(())
    }
}

impl Inner {
    /// Brings the tables up to what the engine changed, and tells who waits.
    fn write(&mut self, hub: &Hub) {
        self.engine.take_changes(&mut self.changes);
        for change in self.changes.drain(..) {
            tell(hub, &change);
            self.tables.apply(change);
        }
    }

    fn has_happened(&self, interest: &Interest) -> bool {
        let job = |id: &JobId| self.engine.job(*id).map(|(job, ..)| job);
        match interest {
            // The hub knows, or whoever waits looks after it.
            Interest::Queue(_) | Interest::Event(EventInterest::Log { .. }) | Interest::Schedules => false,
            // The hub counts what there is of a group, not whether there is one.
            Interest::Event(EventInterest::Group(group)) => {
                self.engine.group_number(group.as_str()).is_none()
            }
            Interest::Finished(id) => job(id).is_none(),
            Interest::CancelRequested(id) => job(id).is_none_or(|job| job.cancel_requested),
            Interest::Lock(interest) => self.engine.lock_has_happened(interest),
        }
    }
}

/// Tells who waits for a job, a lock or schedules. Call when the change is durable.
pub fn tell(hub: &Hub, change: &Change) {
    match change {
        Change::JobFinished(finished) => hub.finished(finished.job.id),
        Change::JobRemoved { id, .. } => hub.finished(*id),
        Change::JobUpdated { job, .. } if job.cancel_requested => hub.cancel_requested(job.id),
        Change::Lock(change) => {
            if let Some((name, handed_to)) = change.concerns() {
                hub.lock_changed(name, handed_to);
            }
        }
        Change::Schedule(_) => hub.schedules_changed(),
        _ => {}
    }
}

impl Tables {
    /// Fills in what the engine does not have in RAM.
    fn complete(&self, reply: &mut Reply) {
        match reply {
            Reply::Claimed(grants) => grants.iter_mut().for_each(|grant| grant.body = self.body(grant.n)),
            Reply::Enqueued(enqueued) if enqueued.kind.is_none() => {
                enqueued.kind = self.body(enqueued.n).map(|body| body.kind.clone());
            }
            Reply::Event(EventReply::Fetched(deliveries)) => {
                for delivery in deliveries {
                    delivery.event = self.events.event(delivery.seq, delivery.dead);
                }
            }
            _ => {}
        }
    }
}
