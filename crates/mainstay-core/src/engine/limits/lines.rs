//! Waiting jobs that have keys. They stand in lines, one for each pair of keys and each priority; a line is in the order
//! of hand-out, so that only heads of lines are compared. Whose turn it is among those that are due, and which of them are
//! hidden because their concurrency key has no place free, is the business of [`Turns`]: a claim costs the logarithm of
//! the number of keys, however many jobs wait behind busy ones, and so does a place that comes or goes.
//!
//! What a key costs: about 700 bytes while it has unfinished jobs (a pair, a line for each priority in use, its places),
//! where keys take turns up to 1,500; nothing after. What a job costs beside: its 32 bytes of order instead of 24, and 56 of extras.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use hashbrown::HashMap;

use super::{
    super::{change::LiveJob, queues::PRIORITIES},
    turns::Turns,
};
use crate::{id::JobId, job::JobKeys, queue::QueueConfig, time::Timestamp};

/// The place of a job in the order of its queue, or of its fairness key.
pub(in super::super) type Rank = (i64, i64, JobId);

const NONE: u32 = u32::MAX;

/// Where a job stands.
pub(in super::super) fn rank(ageing_ms: Option<u64>, priority: u8, head: (Timestamp, JobId)) -> Rank {
    let (priority, (run_at, id)) = (i64::from(priority), head);
    match ageing_ms {
        None => (priority, run_at.0, id),
        // A step of priority is worth a time: the order of any two jobs never changes, so nothing has to move.
        Some(step) => (run_at.0.saturating_add(priority.saturating_mul(step as i64)), priority, id),
    }
}

/// The lines of a queue.
#[derive(Default)]
pub(in super::super) struct Lines {
    pairs: HashMap<Arc<JobKeys>, Pair>,
    lines: Vec<Option<Line>>,
    free: Vec<u32>,
    /// Every job, by line.
    jobs: BTreeSet<(u32, Timestamp, JobId)>,
    /// The head of each line, with its line.
    heads: BTreeMap<(Timestamp, JobId), u32>,
    /// The first job of each line that is not counted as due yet.
    later: BTreeSet<(Timestamp, u32)>,
    places: HashMap<Arc<str>, Places>,
    pub(super) turns: Turns,
    key_concurrency: u64,
    ageing_ms: Option<u64>,
    due: u64,
    runnable: u64,
}

/// A pair of keys.
struct Pair {
    /// That wait in its lines or run.
    jobs: u64,
    lines: [u32; PRIORITIES],
}

struct Line {
    keys: Arc<JobKeys>,
    priority: u8,
    due: u64,
    head: (Timestamp, JobId),
    later: Option<Timestamp>,
    /// Its head is due: its place in the order.
    ready: Option<Rank>,
}

/// The places of a concurrency key.
#[derive(Default)]
struct Places {
    running: u64,
    /// Of those that wait.
    due: u64,
    /// What it adds to [`Lines::runnable`].
    runnable: u64,
    lines: u32,
}

impl Lines {
    /// The same keys as other jobs have, so that they are kept once.
    pub(in super::super) fn shared(&self, keys: JobKeys) -> Option<Arc<JobKeys>> {
        if keys.is_empty() {
            return None;
        }
        Some(self.pairs.get_key_value(&keys).map_or_else(|| Arc::new(keys), |(keys, _)| keys.clone()))
    }

    /// How many of its jobs are counted as due.
    pub(in super::super) fn due(&self) -> u64 {
        self.due
    }

    /// How many of those could be handed out at once.
    pub(in super::super) fn runnable(&self) -> u64 {
        self.runnable
    }

    /// The first job to hand out; `plain` is the first of those that stand in no line.
    pub(in super::super) fn first(&self, plain: Option<Rank>) -> Option<JobId> {
        if self.runnable == 0 {
            return plain.map(|(.., id)| id);
        }
        self.turns.first(plain).map(|(.., id)| id)
    }

    /// Whether there are due jobs that stand in no line.
    pub(in super::super) fn set_plain(&mut self, plain: bool) {
        self.turns.set_plain(plain);
    }

    /// An undo that put back the virtual time of turns has come to its end.
    pub(in super::super) fn look_again(&mut self) {
        self.turns.look_again();
    }

    /// The job that has been due, or will be, first.
    pub(in super::super) fn oldest(&self) -> Option<(Timestamp, JobId)> {
        self.heads.first_key_value().map(|(head, _)| *head)
    }

    /// When the next job becomes due that is not counted yet.
    pub(in super::super) fn next_due(&self) -> Option<Timestamp> {
        self.later.first().map(|(at, _)| *at)
    }

    /// All its jobs, line by line: in an order that follows from what waits, and not from what has come and gone.
    pub(in super::super) fn jobs(&self) -> impl Iterator<Item = JobId> {
        let of_line = |at: u32| (at, Timestamp(i64::MIN), JobId::MIN)..=(at, Timestamp(i64::MAX), JobId::MAX);
        self.heads.values().flat_map(move |at| self.jobs.range(of_line(*at))).map(|(.., id)| *id)
    }

    /// A job comes to wait. `due_until`: jobs up to it are counted as due.
    pub(in super::super) fn insert(&mut self, keys: &Arc<JobKeys>, job: &LiveJob, due_until: Timestamp) {
        let place = (job.run_at, job.id);
        let at = self.line_for(keys, job.priority, place);
        self.jobs.insert((at, job.run_at, job.id));
        if job.run_at <= due_until {
            self.count_due(at, 1);
        } else if self.line(at).later.is_none_or(|later| job.run_at < later) {
            self.set_later(at, Some(job.run_at));
        }
        let head = self.line(at).head;
        if place < head {
            self.heads.remove(&head);
            self.heads.insert(place, at);
            self.line_mut(at).head = place;
        }
        self.refresh(at, due_until);
    }

    /// A job waits no more.
    pub(in super::super) fn remove(&mut self, keys: &Arc<JobKeys>, job: &LiveJob, due_until: Timestamp) {
        let Some(pair) = self.pairs.get(keys) else { return };
        let at = pair.lines[usize::from(job.priority)];
        if !self.jobs.remove(&(at, job.run_at, job.id)) {
            return;
        }
        if job.run_at <= due_until {
            self.count_due(at, -1);
        } else if self.line(at).later == Some(job.run_at) {
            let later = self.after(at, (due_until, JobId::MAX));
            self.set_later(at, later.map(|(run_at, _)| run_at));
        }
        let place = (job.run_at, job.id);
        if self.line(at).head == place {
            self.heads.remove(&place);
            match self.after(at, place) {
                Some(head) => {
                    self.heads.insert(head, at);
                    self.line_mut(at).head = head;
                }
                None => {
                    self.drop_line(at);
                    return self.leave(keys);
                }
            }
        }
        self.refresh(at, due_until);
        self.leave(keys);
    }

    /// A job begins to run, or runs no more.
    pub(in super::super) fn run(&mut self, keys: &Arc<JobKeys>, begins: bool) {
        if begins {
            self.enter(keys);
        }
        if let Some(key) = &keys.concurrency {
            let places = self.places.entry(key.clone()).or_default();
            let was_free = places.running < self.key_concurrency;
            if begins {
                places.running += 1;
            } else {
                places.running = places.running.saturating_sub(1);
            }
            let is_free = places.running < self.key_concurrency;
            self.recount(key);
            if is_free != was_free {
                self.turns.set_full(key, !is_free);
            }
            self.drop_places(key);
        }
        if !begins {
            self.leave(keys);
        }
    }

    /// Counts what has become due by `wall`, with those that `is_retrying`.
    pub(in super::super) fn advance(
        &mut self,
        due_until: Timestamp,
        wall: Timestamp,
        is_retrying: impl Fn(JobId) -> bool,
    ) -> (u64, u64) {
        let mut counted = (0, 0);
        while let Some((_, at)) = self.later.first().copied().filter(|(run_at, _)| *run_at <= wall) {
            let (due, retrying) = self.count_between(at, due_until, wall, &is_retrying);
            counted = (counted.0 + due, counted.1 + retrying);
            self.count_due(at, due as i64);
            let later = self.after(at, (wall, JobId::MAX));
            self.set_later(at, later.map(|(run_at, _)| run_at));
            self.refresh(at, wall);
        }
        counted
    }

    /// Takes back what was counted as due after `wall`, with those that `is_retrying`.
    pub(in super::super) fn retreat(
        &mut self,
        due_until: Timestamp,
        wall: Timestamp,
        is_retrying: impl Fn(JobId) -> bool,
    ) -> (u64, u64) {
        let mut counted = (0, 0);
        for at in 0..self.lines.len() as u32 {
            if self.lines[at as usize].as_ref().is_none_or(|line| line.due == 0) {
                continue;
            }
            let (due, retrying) = self.count_between(at, wall, due_until, &is_retrying);
            if due > 0 {
                counted = (counted.0 + due, counted.1 + retrying);
                self.count_due(at, -(due as i64));
                let later = self.after(at, (wall, JobId::MAX));
                self.set_later(at, later.map(|(run_at, _)| run_at));
                self.refresh(at, wall);
            }
        }
        counted
    }

    /// Other limits hold. Costs a step for each line and each key, however many jobs wait.
    pub(in super::super) fn configure(&mut self, config: &QueueConfig, due_until: Timestamp) {
        self.key_concurrency = u64::from(config.key_concurrency.unwrap_or(1));
        self.ageing_ms = config.ageing_ms;
        self.turns.reset(config.fairness.clone());
        let keys: Vec<Arc<str>> = self.places.keys().cloned().collect();
        keys.iter().for_each(|key| self.recount(key));
        for at in 0..self.lines.len() as u32 {
            if let Some(line) = self.lines[at as usize].as_mut() {
                line.ready = None;
                self.refresh(at, due_until);
            }
        }
    }

    fn line(&self, at: u32) -> &Line {
        self.lines[at as usize].as_ref().expect("a line that is referred to is there")
    }

    fn line_mut(&mut self, at: u32) -> &mut Line {
        self.lines[at as usize].as_mut().expect("a line that is referred to is there")
    }

    /// The first of a line behind a place.
    fn after(&self, at: u32, (run_at, id): (Timestamp, JobId)) -> Option<(Timestamp, JobId)> {
        let from = Bound::Excluded((at, run_at, id));
        let next = self.jobs.range((from, Bound::Unbounded)).next().copied();
        next.filter(|(line, ..)| *line == at).map(|(_, run_at, id)| (run_at, id))
    }

    fn count_between(
        &self,
        at: u32,
        after: Timestamp,
        until: Timestamp,
        is_retrying: impl Fn(JobId) -> bool,
    ) -> (u64, u64) {
        let from = Bound::Excluded((at, after, JobId::MAX));
        let to = Bound::Included((at, until, JobId::MAX));
        let jobs = self.jobs.range((from, to));
        jobs.fold((0, 0), |(all, retrying), (.., id)| (all + 1, retrying + u64::from(is_retrying(*id))))
    }

    fn enter(&mut self, keys: &Arc<JobKeys>) -> &mut Pair {
        let pair = self.pairs.entry(keys.clone()).or_insert(Pair { jobs: 0, lines: [NONE; PRIORITIES] });
        pair.jobs += 1;
        pair
    }

    fn leave(&mut self, keys: &Arc<JobKeys>) {
        if let Some(pair) = self.pairs.get_mut(keys) {
            pair.jobs -= 1;
            if pair.jobs == 0 {
                self.pairs.remove(keys);
            }
        }
    }

    /// The line for a job that comes to wait at `place`.
    fn line_for(&mut self, keys: &Arc<JobKeys>, priority: u8, place: (Timestamp, JobId)) -> u32 {
        let known = self.enter(keys).lines[usize::from(priority)];
        if known != NONE {
            return known;
        }
        let keys = self.pairs.get_key_value(keys).map_or(keys, |(keys, _)| keys).clone();
        let line = Line { keys: keys.clone(), priority, due: 0, head: place, later: None, ready: None };
        let at = match self.free.pop() {
            Some(at) => {
                self.lines[at as usize] = Some(line);
                at
            }
            None => {
                self.lines.push(Some(line));
                (self.lines.len() - 1) as u32
            }
        };
        self.heads.insert(place, at);
        if let Some(pair) = self.pairs.get_mut(&keys) {
            pair.lines[usize::from(priority)] = at;
        }
        if let Some(key) = &keys.concurrency {
            self.places.entry(key.clone()).or_default().lines += 1;
        }
        at
    }

    /// An empty line goes. Its head has left `heads`.
    fn drop_line(&mut self, at: u32) {
        self.set_ready(at, None);
        self.set_later(at, None);
        let Some(line) = self.lines[at as usize].take() else { return };
        self.free.push(at);
        if let Some(pair) = self.pairs.get_mut(&line.keys) {
            pair.lines[usize::from(line.priority)] = NONE;
        }
        if let Some(key) = &line.keys.concurrency {
            if let Some(places) = self.places.get_mut(key) {
                places.lines -= 1;
            }
            self.drop_places(key);
        }
    }

    fn drop_places(&mut self, key: &Arc<str>) {
        if self.places.get(key).is_some_and(|places| places.running == 0 && places.lines == 0) {
            self.places.remove(key);
        }
    }

    fn count_due(&mut self, at: u32, by: i64) {
        let line = self.line_mut(at);
        line.due = line.due.wrapping_add_signed(by);
        let key = line.keys.concurrency.clone();
        self.due = self.due.wrapping_add_signed(by);
        match key {
            None => self.runnable = self.runnable.wrapping_add_signed(by),
            Some(key) => {
                if let Some(places) = self.places.get_mut(&key) {
                    places.due = places.due.wrapping_add_signed(by);
                }
                self.recount(&key);
            }
        }
    }

    fn recount(&mut self, key: &Arc<str>) {
        let Some(places) = self.places.get_mut(key) else { return };
        let runnable = self.key_concurrency.saturating_sub(places.running).min(places.due);
        self.runnable = self.runnable - places.runnable + runnable;
        places.runnable = runnable;
    }

    /// Says whether the head of a line is to be handed out.
    fn refresh(&mut self, at: u32, due_until: Timestamp) {
        let line = self.line(at);
        let ready = (line.head.0 <= due_until).then(|| rank(self.ageing_ms, line.priority, line.head));
        self.set_ready(at, ready);
    }

    fn is_full(&self, key: &Arc<str>) -> bool {
        self.places.get(key).is_some_and(|places| places.running >= self.key_concurrency)
    }

    fn set_ready(&mut self, at: u32, ready: Option<Rank>) {
        let line = self.lines[at as usize].as_mut().expect("a line that is referred to is there");
        if line.ready == ready {
            return;
        }
        let old = std::mem::replace(&mut line.ready, ready);
        let (share, key) = (self.turns.share(&line.keys), line.keys.concurrency.clone());
        // In this order: a key that only changes its head keeps its place.
        if let Some(rank) = ready {
            let key = key.as_ref().map(|key| (key, self.is_full(key)));
            self.turns.insert(&share, key, rank);
        }
        if let Some(rank) = old {
            self.turns.remove(&share, key.as_ref(), rank);
        }
    }

    fn set_later(&mut self, at: u32, later: Option<Timestamp>) {
        let old = std::mem::replace(&mut self.line_mut(at).later, later);
        if old == later {
            return;
        }
        if let Some(run_at) = old {
            self.later.remove(&(run_at, at));
        }
        if let Some(run_at) = later {
            self.later.insert((run_at, at));
        }
    }
}
