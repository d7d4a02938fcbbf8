//! The finished jobs as the engine asks for them: those that the tables lack from RAM, the others from the tables.
//!
//! What is remembered here goes once the tables have it, and not before: so whoever looks here first and then in the
//! tables misses nothing.

mod events;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use hashbrown::HashMap;
use mainstay_core::{
    Error, JobId,
    engine::change::{
        Archive, Change, DeadRef, EventMeta, FinishedJob, FinishedKey, FinishedRef, GroupId, Lane, QueueId,
        TopicId,
    },
};

use self::events::{Known, RecentEvents};

/// What the tables say, and nothing else.
pub trait OfTables {
    /// The finished job with this id.
    fn finished(&mut self, id: JobId) -> Result<Option<FinishedJob>, Error>;

    /// Whether a finished job has this place.
    fn is_taken(&mut self, key: FinishedKey) -> Result<bool, Error>;

    /// The first `limit` of a lane behind a place, in order.
    fn oldest(
        &mut self,
        queue: QueueId,
        lane: Lane,
        behind: u64,
        limit: usize,
    ) -> Result<Vec<FinishedRef>, Error>;

    /// The first `limit` events (of a topic) at or behind a number that are left, in order.
    fn events(&mut self, topic: Option<TopicId>, from: u64, limit: usize) -> Result<Vec<EventMeta>, Error>;

    /// A dead letter; one that is delivered again only if `revived_too`.
    fn dead_event(&mut self, number: u64, revived_too: bool) -> Result<Option<DeadRef>, Error>;

    /// The first `limit` dead letters of a group that are not delivered again, in order.
    fn dead_events(&mut self, group: GroupId, limit: usize) -> Result<Vec<DeadRef>, Error>;
}

/// A group forgets this many at least of what the tables have.
const FORGET_AT_ONCE: usize = 1_024;

/// The writer's archive.
pub struct Recent<T> {
    tables: T,
    /// The group under way.
    lsn: u64,
    /// By id; `None`: not finished any more, whatever the tables say.
    jobs: HashMap<JobId, (u64, Option<Arc<FinishedJob>>)>,
    lanes: HashMap<(QueueId, Lane), Recents>,
    /// What was remembered, oldest first.
    order: VecDeque<(u64, Entry)>,
    /// How much of that was left when the group began.
    left: usize,
    /// How to take the group under way back.
    undo: Vec<Undo>,
    events: RecentEvents,
}

/// A lane of finished jobs, as far as it differs from the tables.
#[derive(Default)]
struct Recents {
    /// By place; `None`: gone.
    places: BTreeMap<u64, Place>,
    /// How many of them are gone.
    gone: usize,
    /// Nothing is left up to this place, whatever the tables say. (Places of [`Lane::Own`] do not grow; there it
    /// stays 0.)
    trimmed_to: u64,
    /// What the engine was told is oldest. If these go, in this order, nothing is left before them.
    told: VecDeque<u64>,
    /// The last group that said something of it.
    since: u64,
}

/// With the group that said so.
type Place = (u64, Option<FinishedRef>);

#[derive(Clone, Copy)]
enum Entry {
    Job(JobId),
    Place(FinishedKey),
    Queue(QueueId),
}

enum Undo {
    Job(JobId, Option<(u64, Option<Arc<FinishedJob>>)>),
    Place(FinishedKey, Option<Place>),
    Trimmed(QueueId, Lane, u64),
}

impl Recents {
    fn set(&mut self, f: u64, place: Option<Place>) -> Option<Place> {
        let is_gone = |place: &Option<Place>| usize::from(matches!(place, Some((_, None))));
        self.gone += is_gone(&place);
        let before = match place {
            Some(place) => self.places.insert(f, place),
            None => self.places.remove(&f),
        };
        self.gone -= is_gone(&before);
        before
    }
}

impl<T> Recent<T> {
    pub fn new(tables: T) -> Recent<T> {
        Recent {
            tables,
            lsn: 0,
            jobs: HashMap::new(),
            lanes: HashMap::new(),
            order: VecDeque::new(),
            left: 0,
            undo: Vec::new(),
            events: RecentEvents::default(),
        }
    }

    pub fn tables(&mut self) -> &mut T {
        &mut self.tables
    }

    /// The tables have all that was remembered, as far as it was forgotten.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.order.is_empty()
    }

    /// A group begins; the tables have everything up to `applied`. They get there in large steps; what they have is
    /// forgotten in small ones, a little more each time than came.
    pub fn begin(&mut self, lsn: u64, applied: u64) {
        self.lsn = lsn;
        self.events.begin(lsn, applied);
        let came = self.order.len().saturating_sub(self.left);
        for _ in 0..FORGET_AT_ONCE.max(2 * came) {
            let Some((since, entry)) = self.order.front().copied().filter(|(since, _)| *since <= applied)
            else {
                break;
            };
            self.order.pop_front();
            match entry {
                Entry::Job(id) => {
                    if let hashbrown::hash_map::Entry::Occupied(job) = self.jobs.entry(id)
                        && job.get().0 == since
                    {
                        job.remove();
                    }
                }
                Entry::Place(key) => {
                    let Some(lane) = self.lanes.get_mut(&(key.queue, key.lane)) else { continue };
                    if lane.places.get(&key.f).is_some_and(|(at, _)| *at == since) {
                        lane.set(key.f, None);
                    }
                }
                // Another queue may have got its id meanwhile.
                Entry::Queue(id) => self.lanes.retain(|(queue, _), lane| *queue != id || lane.since > since),
            }
        }
        self.left = self.order.len();
    }

    /// Remembers a change of the group under way.
    pub fn note(&mut self, change: &Change) {
        match change {
            Change::JobFinished(finished) => {
                self.set_job(finished.job.id, Some(finished.clone()));
                self.set_place(finished.key, Some(FinishedJob::as_ref(finished)));
            }
            Change::FinishedRevived { key, id } => {
                self.set_job(*id, None);
                self.place_goes(*key);
            }
            Change::FinishedRemoved(gone) => {
                self.set_job(gone.id, None);
                self.place_goes(gone.key);
            }
            // Its lanes are empty, and remember that until the tables say so too.
            Change::QueueRemoved(id) => self.order.push_back((self.lsn, Entry::Queue(*id))),
            Change::Event(change) => self.events.note(change),
            _ => {}
        }
    }

    /// The group under way has happened.
    pub fn commit(&mut self) {
        self.undo.clear();
        self.events.commit();
    }

    /// The group under way has not happened.
    pub fn roll_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Job(id, Some(before)) => drop(self.jobs.insert(id, before)),
                Undo::Job(id, None) => drop(self.jobs.remove(&id)),
                Undo::Place(key, before) => drop(self.lane(&key).set(key.f, before)),
                Undo::Trimmed(queue, lane, before) => {
                    self.lanes.entry((queue, lane)).or_default().trimmed_to = before;
                }
            }
        }
        self.events.roll_back();
        self.lanes.values_mut().for_each(|lane| lane.told.clear());
        while self.order.back().is_some_and(|(since, _)| *since == self.lsn) {
            self.order.pop_back();
        }
    }

    fn set_job(&mut self, id: JobId, now: Option<Arc<FinishedJob>>) {
        let before = self.jobs.insert(id, (self.lsn, now));
        self.undo.push(Undo::Job(id, before));
        self.order.push_back((self.lsn, Entry::Job(id)));
    }

    fn set_place(&mut self, key: FinishedKey, now: Option<FinishedRef>) {
        let lsn = self.lsn;
        let before = self.lane(&key).set(key.f, Some((lsn, now)));
        self.undo.push(Undo::Place(key, before));
        self.order.push_back((lsn, Entry::Place(key)));
    }

    fn place_goes(&mut self, key: FinishedKey) {
        let lane = self.lane(&key);
        if key.lane == Lane::Own || lane.told.front() != Some(&key.f) {
            lane.told.clear();
            return self.set_place(key, None);
        }
        lane.told.pop_front();
        let trimmed_to = std::mem::replace(&mut lane.trimmed_to, key.f);
        let before = lane.set(key.f, None);
        self.undo.push(Undo::Trimmed(key.queue, key.lane, trimmed_to));
        if before.is_some() {
            self.undo.push(Undo::Place(key, before));
        }
    }

    fn lane(&mut self, key: &FinishedKey) -> &mut Recents {
        let lane = self.lanes.entry((key.queue, key.lane)).or_default();
        lane.since = self.lsn;
        lane
    }
}

impl<T: OfTables> Archive for Recent<T> {
    fn finished(&mut self, id: JobId) -> Result<Option<FinishedJob>, Error> {
        if let Some((_, recent)) = self.jobs.get(&id) {
            return Ok(recent.as_deref().cloned());
        }
        self.tables.finished(id)
    }

    fn is_taken(&mut self, key: FinishedKey) -> Result<bool, Error> {
        let recent = self.lanes.get(&(key.queue, key.lane));
        // Also one that is gone: its row may still be in the tables.
        if recent.is_some_and(|recent| recent.places.contains_key(&key.f)) {
            return Ok(true);
        }
        self.tables.is_taken(key)
    }

    fn oldest(&mut self, queue: QueueId, lane: Lane, limit: usize) -> Result<Vec<FinishedRef>, Error> {
        let recents = self.lanes.entry((queue, lane)).or_default();
        let from = recents.trimmed_to;
        // As many as may turn out to be gone come on top.
        let most = limit + recents.gone;
        let mut found = self.tables.oldest(queue, lane, from, most)?;
        // Behind the last row there may be others.
        let until =
            if found.len() == most { found.last().map_or(u64::MAX, |last| last.key.f) } else { u64::MAX };
        found.retain(|row| !recents.places.contains_key(&row.key.f));
        let known = recents.places.range(from + 1..).take_while(|(f, _)| **f <= until);
        found.extend(known.filter_map(|(_, (_, place))| *place).take(limit));
        found.sort_unstable_by_key(|row| row.key.f);
        found.truncate(limit);
        recents.told = found.iter().map(|row| row.key.f).collect();
        Ok(found)
    }

    fn events(&mut self, topic: Option<TopicId>, from: u64, limit: usize) -> Result<Vec<EventMeta>, Error> {
        let found = self.tables.events(topic, from, limit)?;
        Ok(self.events.events(found, topic, from, limit))
    }

    fn dead_event(&mut self, number: u64) -> Result<Option<DeadRef>, Error> {
        match self.events.dead_event(number) {
            Known::Is(dead) => Ok(Some(dead)),
            Known::IsNot => Ok(None),
            Known::Of { revived_too } => self.tables.dead_event(number, revived_too),
        }
    }

    fn dead_events(&mut self, group: GroupId, limit: usize) -> Result<Vec<DeadRef>, Error> {
        let most = limit + self.events.of_dead();
        let found = self.tables.dead_events(group, most)?;
        Ok(self.events.dead_events(found, most, group, limit))
    }
}
