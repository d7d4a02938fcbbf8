//! The writer: one thread owns the engine. It takes what callers handed over, applies it as one group, makes that
//! durable on its [`Ground`], and answers them.

mod alarm;
mod complaints;
mod group;

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use mainstay_core::{
    Applied, Error, ErrorKind, JobId, StoreTime,
    engine::{
        Engine,
        change::{Archive, Change, Counters},
    },
    event::{EventInterest, EventItem, EventKey, Position},
    hub::Hub,
    store::Interest,
    time::Now,
};

use crate::{
    answer::Sealed,
    cache::BodyCache,
    desk::Desk,
    fault::{Result, Severity},
    inbox::Taken,
    message::{Ask, Message},
    stopwatch::Stopwatch,
};
use alarm::Alarm;
use complaints::Complaints;
pub use group::Group;

/// What a writer stands on: where a group becomes durable, and what the engine asks of its tables.
pub trait Ground {
    /// A group begins.
    fn begin(&mut self, cache: &mut BodyCache);

    /// What the engine asks; it sees every change that was noted.
    fn archive(&mut self) -> &mut dyn Archive;

    /// Notes a change of the group under way.
    fn note(&mut self, change: &Change);

    /// Makes the group durable, if it changed anything, and shows its notes to readers of the log. Answers whether it
    /// wrote. After a clean fault, nothing of it is there.
    ///
    /// # Errors
    /// [`Severity::Fatal`] ends the store.
    fn write(&mut self, group: &mut Group, counters: &Counters, last_seq: u64) -> Result<bool>;

    /// The group has happened.
    fn commit(&mut self);

    /// The group has not happened.
    fn roll_back(&mut self);

    /// Fills in what durable answers lack, and sends them.
    fn fill(&mut self, cold: Vec<Sealed>);

    /// Whether [`Ground::read_ahead`] reads anything.
    fn reads_ahead(&self) -> bool {
        false
    }

    /// Has bodies with these numbers, in order, read from the tables, which have them. Does not wait for them: they are
    /// handed to the cache as a later group begins.
    fn read_ahead(&mut self, _numbers: Vec<u64>) {}

    /// How long the writer may sleep for the ground's sake.
    fn nap(&self) -> Option<Duration> {
        None
    }

    /// The last group was written, and the store closes in good order; the counters now.
    ///
    /// # Errors
    /// What was answered may not be durable.
    fn end(&mut self, counters: &Counters, last_seq: u64) -> Result<()>;
}

/// A group takes in no more ops than this, unless the first batch alone has more.
const GROUP_OPS: usize = 10_000;
/// A group takes in no more bytes than this, unless the first batch alone has more.
const GROUP_BYTES: usize = 16 << 20;
/// The writer looks at the clock at least this often while it waits for a time, so that a step of the wall clock is
/// noticed, and tidies up at least this often while it has something to do.
const LOOK_AGAIN_MS: u64 = 1_000;

/// After a group that could not be written, the writer rests this long if nobody asks for anything.
const AFTER_FAILURE: Duration = Duration::from_millis(250);

pub struct Writer<G> {
    desk: Arc<Desk>,
    ground: G,
    engine: Engine,
    cache: BodyCache,
    alarm: Alarm,
    /// Tidies up by itself.
    housekeeping: bool,
    /// Taken from the inbox, not applied yet.
    waiting: VecDeque<Message>,
    group: Group,
    /// The last group could not be written; what the writer does by itself is not tried again at once.
    failing: bool,
    complaints: Complaints,
    /// When retention was looked after last, on the store's clock.
    tidied: StoreTime,
}

/// How a writer is set up beside what all share.
pub struct Setup {
    /// Loaded, and what that changed is durable.
    pub engine: Engine,
    pub housekeeping: bool,
    pub cache_bytes: usize,
}

impl<G: Ground> Writer<G> {
    pub fn new(desk: Arc<Desk>, ground: G, setup: Setup) -> Writer<G> {
        let Setup { mut engine, housekeeping, cache_bytes } = setup;
        let tidied = desk.clock.now().store;
        desk.due.set(engine.next_lease_end(), engine.next_expiry());
        engine.take_dirty(|queue, claimable| desk.hub.publish(queue, claimable));
        engine.take_dirty_groups(|group, deliverable| desk.hub.publish_group(group, deliverable));
        desk.hub.log_has_grown(&[], engine.last_seq());
        let alarm = Alarm::new(desk.clock.clone(), desk.inbox.clone());
        let cache = if ground.reads_ahead() { BodyCache::reading_ahead } else { BodyCache::new };
        Writer {
            desk,
            ground,
            engine,
            cache: cache(cache_bytes),
            alarm,
            housekeeping,
            waiting: VecDeque::new(),
            group: Group::default(),
            failing: false,
            complaints: Complaints::default(),
            tidied,
        }
    }

    /// Until the inbox is closed and empty, or the store has failed.
    pub fn run(&mut self) -> std::result::Result<(), Error> {
        let mut taken = Vec::new();
        loop {
            let at_most = self.nap();
            let (mut ops, mut bytes) = (0, 0);
            let over = self.desk.inbox.take(&mut taken, at_most, |message, weight| {
                let first = ops == 0;
                ops += message.ops().max(1);
                bytes += weight;
                first || (ops <= GROUP_OPS && bytes <= GROUP_BYTES)
            });
            self.waiting.extend(taken.drain(..));
            if over == Taken::Over && (self.waiting.is_empty() || self.only_gives_back_in_vain()) {
                // The tables may not be able to take the rest.
                let (counters, last_seq) = (self.engine.counters(), self.engine.last_seq());
                return self.ground.end(&counters, last_seq).map_err(|fault| fault.error);
            }
            if self.desk.abandon.load(Ordering::Relaxed) {
                self.refuse(&Error::new(ErrorKind::Closed, "the store closed before this could begin"));
                return Ok(());
            }
            let now = self.desk.clock.now();
            if let Err(error) = self.turn(now) {
                // First of all, so that no later call gets another answer.
                let _ = self.desk.failed.set(error.clone());
                self.refuse(&error);
                return Err(error);
            }
        }
    }

    /// One group, from the messages that wait to the answers. An error is the end of the store.
    fn turn(&mut self, now: Now) -> std::result::Result<(), Error> {
        self.engine.tick(now);
        self.ground.begin(&mut self.cache);
        let counters = self.engine.counters();
        let watch = Stopwatch::start();
        let written = self.gather(now).and_then(|()| self.write_down());
        let fault = match written {
            Ok(wrote) => {
                self.failing = false;
                if wrote {
                    // Before the answers: who has one can see it in the figures.
                    self.count(watch);
                }
                self.deliver(now);
                self.group.clear();
                return Ok(());
            }
            Err(fault) => fault,
        };
        // The group's callers are told what is known; the engine forgets it.
        if fault.severity == Severity::Fatal {
            self.group.refuse(&fault.error);
            self.group.clear();
            return Err(fault.error);
        }
        let error = fault.error;
        // One that cannot be written (too large for the disk) must not take others along.
        for message in self.group.take_several() {
            self.waiting.push_front(message);
        }
        // Before the answers: who has one can see it in the figures.
        self.desk.figures.failed_groups.fetch_add(1, Ordering::Relaxed);
        // Behind those who wait for an answer.
        self.waiting.extend(self.group.given_back.drain(..).map(Message::GiveBack));
        self.group.refuse(&error);
        self.failing = true;
        self.engine.rollback_group();
        self.ground.roll_back();
        self.cache.undo_after(counters.n);
        // Questions can be answered all the same.
        self.answer_asks(now);
        self.group.clear();
        if let Some(unsaid) = self.complaints.another(now.store) {
            tracing::warn!(%error, unsaid, "a group of commits could not be written");
        }
        Ok(())
    }

    fn write_down(&mut self) -> Result<bool> {
        // While the disk syncs, others can read.
        self.look_ahead();
        self.ground.write(&mut self.group, &self.engine.counters(), self.engine.last_seq())
    }

    /// The group is durable: wakes who waits, and answers.
    fn deliver(&mut self, now: Now) {
        self.engine.commit_group();
        self.ground.commit();
        self.desk.due.set(self.engine.next_lease_end(), self.engine.next_expiry());
        let hub = self.desk.hub.clone();
        for id in self.group.finished.drain(..) {
            hub.finished(id);
        }
        for id in self.group.cancelled.drain(..) {
            hub.cancel_requested(id);
        }
        for (name, handed_to) in self.group.locks.drain(..) {
            hub.lock_changed(&name, handed_to);
        }
        if std::mem::take(&mut self.group.schedules) {
            hub.schedules_changed();
        }
        self.engine.take_dirty(|queue, claimable| hub.publish(queue, claimable));
        self.engine.take_dirty_groups(|group, deliverable| hub.publish_group(group, deliverable));
        self.show_events(&hub);
        self.answer();
        self.answer_asks(now);
    }

    /// Wakes readers of what the group did to the log.
    fn show_events(&mut self, hub: &Hub) {
        let mut grown = Vec::new();
        let end = self.engine.take_published(|topic| grown.push(topic.clone()));
        if !grown.is_empty() {
            hub.log_has_grown(&grown, end);
        }
    }

    fn answer_asks(&mut self, now: Now) {
        for ask in std::mem::take(&mut self.group.asks) {
            self.answer_ask(ask, now);
        }
    }

    fn answer_ask(&mut self, ask: Ask, now: Now) {
        // A caller that is gone needs no answer.
        match ask {
            Ask::Queue(name, answer) => drop(answer.send(self.engine.queue(name.as_str(), now))),
            Ask::Queues(after, limit, answer) => {
                drop(answer.send(self.engine.queues(after.as_deref(), limit, now)));
            }
            Ask::Lock(name, answer) => drop(answer.send(self.engine.lock(name.as_str(), now))),
            Ask::Locks(prefix, after, limit, answer) => {
                drop(answer.send(self.engine.locks(&prefix, after.as_deref(), limit, now)));
            }
            Ask::Event(key, answer) => drop(answer.send(self.event_item(&key, now))),
            Ask::Topics(after, limit, answer) => {
                let topics = self.engine.topics(after.as_deref(), limit).into_iter();
                let _ = answer.send(topics.map(EventItem::Topic).collect());
            }
            Ask::Groups(after, limit, answer) => {
                let groups = self.engine.groups(after.as_deref(), limit, now, self.ground.archive());
                let _ = answer.send(groups.map(|groups| groups.into_iter().map(EventItem::Group).collect()));
            }
            Ask::SeqAt(time, answer) => {
                let _ = answer.send(self.engine.log_position(Position::Time(time), self.ground.archive()));
            }
            Ask::Schedule(name, answer) => drop(answer.send(self.engine.schedule(name.as_str()))),
            Ask::Schedules(order, after, limit, answer) => {
                drop(answer.send(self.engine.schedules(order, after.as_deref(), limit)));
            }
            Ask::Workers(after, limit, answer) => {
                drop(answer.send(self.engine.workers(after.as_deref(), limit, now)));
            }
            Ask::HasHappened(interests, answer) => {
                let _ = answer.send(interests.iter().any(|interest| self.has_happened(interest)));
            }
            Ask::Ping(answer) => drop(answer.send(())),
        }
    }

    fn event_item(&mut self, key: &EventKey, now: Now) -> std::result::Result<Option<EventItem>, Error> {
        match key {
            EventKey::Topic(name) => Ok(self.engine.topic(name.as_str()).map(EventItem::Topic)),
            EventKey::Group(name) => {
                Ok(self.engine.group(name.as_str(), now, self.ground.archive())?.map(EventItem::Group))
            }
        }
    }

    fn has_happened(&self, interest: &Interest) -> bool {
        let job = |id: JobId| self.engine.job(id).map(|(job, ..)| job);
        match interest {
            // The hub knows, or whoever waits looks after it.
            Interest::Queue(_) | Interest::Event(EventInterest::Log { .. }) | Interest::Schedules => false,
            // The hub counts what there is of a group, not whether there is one.
            Interest::Event(EventInterest::Group(group)) => {
                self.engine.group_number(group.as_str()).is_none()
            }
            Interest::Finished(id) => job(*id).is_none(),
            Interest::CancelRequested(id) => job(*id).is_none_or(|job| job.cancel_requested),
            Interest::Lock(interest) => self.engine.lock_has_happened(interest),
        }
    }

    fn count(&mut self, watch: Stopwatch) {
        let stats = &self.desk.figures;
        let micros = watch.elapsed().as_micros() as u64;
        stats.groups.fetch_add(1, Ordering::Relaxed);
        stats.commits.fetch_add(self.group.commits, Ordering::Relaxed);
        stats.write_micros.fetch_add(micros, Ordering::Relaxed);
        stats.write_micros_max.fetch_max(micros, Ordering::Relaxed);
        stats.cache_bytes.store(self.cache.bytes() as u64, Ordering::Relaxed);
        stats.unfinished.store(self.engine.unfinished() as u64, Ordering::Relaxed);
    }

    /// How long to sleep if nothing comes.
    fn nap(&mut self) -> Option<Duration> {
        if !self.waiting.is_empty() && !self.only_gives_back_in_vain() {
            return Some(Duration::ZERO);
        }
        if self.failing {
            return Some(AFTER_FAILURE);
        }
        let alarm = self.next_alarm();
        let until_alarm = self.alarm.set(alarm);
        [until_alarm, self.ground.nap()].into_iter().flatten().min()
    }

    /// Nobody waits for what is left, and the last group could not be written. When the store closes, these leases
    /// run out instead.
    fn only_gives_back_in_vain(&self) -> bool {
        self.failing && self.waiting.iter().all(|message| matches!(message, Message::GiveBack(_)))
    }

    /// When there is something to do without anybody asking.
    fn next_alarm(&self) -> Option<StoreTime> {
        let now = self.desk.clock.now();
        let on_store = |wall: mainstay_core::Timestamp| now.store.plus_ms(wall.ms_since(now.wall));
        let due =
            [self.engine.next_due().map(on_store), self.engine.next_retry()].into_iter().flatten().min();
        let tidy = if self.housekeeping {
            let expiry = self.engine.next_expiry().map(on_store);
            let tidy = self.tidied.plus_ms(LOOK_AGAIN_MS).max(now.store.plus_ms(1));
            // A group does no more than a piece of what is due.
            let tidy = if self.engine.maintenance_is_due(now) { now.store } else { tidy };
            [expiry, self.engine.next_lease_end(), Some(tidy)].into_iter().flatten().min()
        } else {
            None
        };
        let next = [due, self.engine.next_opening(), tidy].into_iter().flatten().min()?;
        Some(next.min(now.store.plus_ms(LOOK_AGAIN_MS)))
    }

    /// Tells everybody who waits for the writer that nothing of theirs will happen.
    fn refuse(&mut self, error: &Error) {
        let rest = self.desk.inbox.close_and_empty();
        for message in self.waiting.drain(..).chain(rest) {
            // Their part was never begun, whatever happened to others.
            let error = Error::new(error.kind(), error.to_string());
            debug_assert_eq!(error.applied(), Applied::No);
            match message {
                Message::Submit(submission) => drop(submission.sender.send(Err(error))),
                Message::Maintain(_, answer) => drop(answer.send(Err(error))),
                // Questions see their channel close.
                Message::Ask(_) | Message::GiveBack(_) | Message::Failed(_) => {}
            }
        }
    }

    /// The counters to close with.
    pub fn counters(&self) -> Counters {
        self.engine.counters()
    }
}
