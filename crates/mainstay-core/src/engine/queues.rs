//! A queue in RAM: the order of its waiting jobs, and its counts. Jobs with keys stand in its [`Lines`].

use std::{collections::BTreeSet, ops::Bound, sync::Arc};

use hashbrown::HashMap;

use super::{
    change::{Lane, LiveJob, Phase, QueueId},
    limits::{Lines, Window, rank},
    look::Turn,
};
use crate::{
    id::JobId,
    job::JobKeys,
    name::QueueName,
    queue::{Depth, QueueConfig, QueueRecord},
    time::{StoreTime, Timestamp},
};

pub(super) const PRIORITIES: usize = 10;

/// Who holds a unique key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    pub id: JobId,
    /// `None`: until the job has finished.
    pub until: Option<Timestamp>,
}

pub(super) struct Queue {
    pub id: QueueId,
    pub name: QueueName,
    pub config: QueueConfig,
    pub paused: bool,
    /// Deleted; its finished jobs are still being forgotten.
    pub dropped: bool,
    pub uniques: HashMap<Arc<str>, Hold>,
    /// Finished jobs, a lane each.
    pub lanes: [u64; 3],
    /// No place of [`Lane::Own`] above this is taken.
    pub own_up_to: u64,
    /// When a lane may next have something too old; `None`: look.
    pub trim_at: [Option<Timestamp>; 3],
    /// What a waker has not been told yet.
    pub dirty: bool,
    /// The timer that is set for the next job to become due.
    pub armed: Option<Timestamp>,
    /// The timer that is set for its rate.
    pub opens: Option<StoreTime>,
    /// Waiting jobs with keys.
    pub lines: Lines,
    /// What it has handed out lately, for its rate.
    pub handed: Window,
    /// Waiting jobs without keys by priority, in the order of hand-out. A job becomes due by time alone: nothing moves.
    waiting: [BTreeSet<(Timestamp, JobId)>; PRIORITIES],
    /// Up to here, jobs have been counted as due: the wall clock when it was last looked at, or earlier.
    due_until: Timestamp,
    due: u64,
    due_retrying: u64,
    total: u64,
    retrying: u64,
    running: u64,
    /// Jobs that wait for others.
    blocked: BTreeSet<JobId>,
}

impl Queue {
    pub(super) fn new(id: QueueId, name: QueueName, config: QueueConfig) -> Queue {
        let due_until = Timestamp(i64::MIN);
        let mut lines = Lines::default();
        lines.configure(&config, due_until);
        Queue {
            id,
            name,
            config,
            paused: false,
            dropped: false,
            uniques: HashMap::new(),
            lanes: [0; 3],
            own_up_to: 0,
            trim_at: [None; 3],
            dirty: false,
            armed: None,
            opens: None,
            lines,
            handed: Window::default(),
            waiting: Default::default(),
            due_until,
            due: 0,
            due_retrying: 0,
            total: 0,
            retrying: 0,
            running: 0,
            blocked: BTreeSet::new(),
        }
    }

    /// Replaces its configuration. The order of jobs with keys may be another then: costs a step for each line.
    pub(super) fn configure(&mut self, config: QueueConfig) {
        let of_lines = |config: &QueueConfig| (config.key_concurrency, config.ageing_ms);
        let same = of_lines(&config) == of_lines(&self.config) && config.fairness == self.config.fairness;
        self.config = config;
        if !same {
            self.lines.configure(&self.config, self.due_until);
            self.lines.set_plain(self.plain_due() > 0);
        }
    }

    pub(super) fn index(&mut self, job: &LiveJob, keys: Option<&Arc<JobKeys>>) {
        match (job.phase, keys) {
            (Phase::Waiting, None) => {
                self.waiting[usize::from(job.priority)].insert((job.run_at, job.id));
                self.count_waiting(job, 1);
            }
            (Phase::Waiting, Some(keys)) => {
                self.lines.insert(keys, job, self.due_until);
                self.count_waiting(job, 1);
            }
            (Phase::Running, keys) => {
                self.running += 1;
                self.count_place(keys, true);
            }
            (Phase::Blocked, _) => drop(self.blocked.insert(job.id)),
        }
    }

    pub(super) fn unindex(&mut self, job: &LiveJob, keys: Option<&Arc<JobKeys>>) {
        match (job.phase, keys) {
            (Phase::Waiting, None) => {
                self.waiting[usize::from(job.priority)].remove(&(job.run_at, job.id));
                self.count_waiting(job, -1);
            }
            (Phase::Waiting, Some(keys)) => {
                self.lines.remove(keys, job, self.due_until);
                self.count_waiting(job, -1);
            }
            (Phase::Running, keys) => {
                self.running -= 1;
                self.count_place(keys, false);
            }
            (Phase::Blocked, _) => drop(self.blocked.remove(&job.id)),
        }
    }

    /// A place is taken or comes free: of the queue, or of the job's key.
    fn count_place(&mut self, keys: Option<&Arc<JobKeys>>, taken: bool) {
        if let Some(keys) = keys {
            self.lines.run(keys, taken);
        }
        if keys.is_some() || self.config.concurrency.is_some() {
            self.dirty = true;
        }
    }

    fn count_waiting(&mut self, job: &LiveJob, by: i64) {
        let add = |counter: &mut u64| *counter = counter.wrapping_add_signed(by);
        let due = job.run_at <= self.due_until;
        add(&mut self.total);
        if due {
            add(&mut self.due);
        }
        if job.retrying {
            add(&mut self.retrying);
            if due {
                add(&mut self.due_retrying);
            }
        }
        self.dirty = true;
        self.lines.set_plain(self.plain_due() > 0);
    }

    /// Counts what has become due by `wall`. Each job passes here once.
    pub(super) fn advance(&mut self, wall: Timestamp, is_retrying: impl Fn(JobId) -> bool) {
        if wall <= self.due_until {
            return;
        }
        if self.total > self.due {
            let from = Bound::Excluded((self.due_until, last_id()));
            let to = Bound::Included((wall, last_id()));
            for set in self.waiting.iter().filter(|set| !set.is_empty()) {
                for (_, id) in set.range((from, to)) {
                    self.due += 1;
                    self.dirty = true;
                    if self.retrying > 0 && is_retrying(*id) {
                        self.due_retrying += 1;
                    }
                }
            }
            let retrying = self.retrying > 0;
            let (due, retrying) = self.lines.advance(self.due_until, wall, |id| retrying && is_retrying(id));
            self.due += due;
            self.due_retrying += retrying;
            self.dirty |= due > 0;
        }
        self.due_until = wall;
        self.lines.set_plain(self.plain_due() > 0);
    }

    /// Takes back what was counted as due after `wall`, which was stepped back. Else every delay would be over at
    /// once until the wall clock has caught up, and a back-off would be none.
    pub(super) fn retreat(&mut self, wall: Timestamp, is_retrying: impl Fn(JobId) -> bool) {
        if wall >= self.due_until {
            return;
        }
        let from = Bound::Excluded((wall, last_id()));
        let to = Bound::Included((self.due_until, last_id()));
        for set in self.waiting.iter().filter(|set| !set.is_empty()) {
            for (_, id) in set.range((from, to)) {
                self.due -= 1;
                self.dirty = true;
                if self.retrying > 0 && is_retrying(*id) {
                    self.due_retrying -= 1;
                }
            }
        }
        let retrying = self.retrying > 0;
        let (due, retrying) = self.lines.retreat(self.due_until, wall, |id| retrying && is_retrying(id));
        self.due -= due;
        self.due_retrying -= retrying;
        self.dirty |= due > 0;
        self.due_until = wall;
        self.lines.set_plain(self.plain_due() > 0);
    }

    /// The next job to hand out, of those counted as due whose key has a place free.
    pub(super) fn first_due(&self) -> Option<JobId> {
        if self.due == 0 {
            return None;
        }
        let ageing_ms = self.config.ageing_ms;
        let heads =
            self.waiting.iter().zip(0..).filter_map(|(set, priority)| Some((priority, *set.first()?)));
        let mut heads = heads
            .filter(|(_, (run_at, _))| *run_at <= self.due_until)
            .map(|(priority, head)| rank(ageing_ms, priority, head));
        // Without ageing, the first of the lowest number comes before all others.
        let plain = if ageing_ms.is_none() { heads.next() } else { heads.min() };
        self.lines.first(plain)
    }

    /// Due jobs without keys behind a place, by priority, and in the order in which they are handed out if that is all
    /// there is to it.
    pub(super) fn next_plain(&self, after: Option<Turn>) -> impl Iterator<Item = Turn> {
        let until = self.due_until;
        let sets = (0..).zip(&self.waiting).skip(after.map_or(0, |after| usize::from(after.priority)));
        sets.flat_map(move |(priority, set)| {
            let after = after.filter(|after| after.priority == priority);
            let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded((after.run_at, after.id)));
            let due = set.range((from, Bound::Unbounded)).take_while(move |(run_at, _)| *run_at <= until);
            due.map(move |(run_at, id)| Turn { priority, run_at: *run_at, id: *id })
        })
    }

    /// The job that has been due, or will be due, first, whatever its priority; else the oldest that waits for others.
    pub(super) fn oldest(&self) -> Option<JobId> {
        self.heads().min().map(|(_, id)| id).or_else(|| self.blocked.first().copied())
    }

    /// How long the oldest available job has been available, in milliseconds.
    pub(super) fn oldest_available_age_ms(&self, wall: Timestamp) -> Option<u64> {
        let oldest = self.heads().map(|(run_at, _)| run_at).min();
        oldest.filter(|run_at| *run_at <= self.due_until).map(|run_at| wall.ms_since(run_at))
    }

    /// How close the queue is to refusing jobs, in thousandths; `None` if it never does.
    pub(super) fn pressure(&self, wall: Timestamp) -> Option<u16> {
        let part = |of: u64, bound: u64| match bound {
            0 => 1_000,
            _ => (u128::from(of) * 1_000 / u128::from(bound)).min(1_000) as u16,
        };
        let depth = self.config.max_depth.map(|bound| part(self.depth(), bound));
        let age =
            self.config.max_age_ms.map(|bound| part(self.oldest_available_age_ms(wall).unwrap_or(0), bound));
        depth.max(age)
    }

    fn heads(&self) -> impl Iterator<Item = (Timestamp, JobId)> {
        self.waiting.iter().filter_map(|set| set.first().copied()).chain(self.lines.oldest())
    }

    /// When the next job becomes due that is not counted as due yet.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        if self.total == self.due {
            return None;
        }
        let from = Bound::Excluded((self.due_until, last_id()));
        self.waiting
            .iter()
            .filter_map(|set| set.range((from, Bound::Unbounded)).next())
            .map(|(run_at, _)| *run_at)
            .chain(self.lines.next_due())
            .min()
    }

    pub(super) fn is_due(&self, job: &LiveJob) -> bool {
        job.run_at <= self.due_until
    }

    /// How many are counted as due.
    pub(super) fn due(&self) -> u64 {
        self.due
    }

    /// Due jobs without keys.
    fn plain_due(&self) -> u64 {
        self.due - self.lines.due()
    }

    /// How many could be claimed now, as far as keys are concerned.
    pub(super) fn runnable(&self) -> u64 {
        self.plain_due() + self.lines.runnable()
    }

    pub(super) fn running(&self) -> u64 {
        self.running
    }

    /// How many could be claimed now, and when that changes by time alone because its rate allows more.
    pub(super) fn claimable(&self, now: StoreTime) -> (u64, Option<StoreTime>) {
        if self.paused {
            return (0, None);
        }
        let (room, opens) = self.room(now);
        (room.min(self.runnable()), opens)
    }

    /// What `max_depth` counts.
    pub(super) fn depth(&self) -> u64 {
        self.total + self.blocked.len() as u64
    }

    pub(super) fn has_unfinished(&self) -> bool {
        self.depth() + self.running > 0
    }

    /// Ids of up to `limit` jobs that wait, for their turn or for others, in no order that matters.
    pub(super) fn some_waiting(&self, limit: usize) -> Vec<JobId> {
        let plain = self.waiting.iter().flatten().map(|(_, id)| *id);
        plain.chain(self.lines.jobs()).chain(self.blocked.iter().copied()).take(limit).collect()
    }

    pub(super) fn record(&self, wall: Timestamp) -> QueueRecord {
        let later = self.total - self.due;
        let retryable = self.retrying - self.due_retrying;
        QueueRecord {
            name: self.name.clone(),
            paused: self.paused,
            depth: Depth {
                scheduled: later - retryable,
                blocked: self.blocked.len() as u64,
                available: self.due,
                running: self.running,
                retryable,
                dead: self.lanes[Lane::Dead as usize],
            },
            oldest_available_age_ms: self.oldest_available_age_ms(wall),
            config: self.config.clone(),
            totals: None,
        }
    }
}

fn last_id() -> JobId {
    JobId::MAX
}
