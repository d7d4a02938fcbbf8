//! What many groups together do to the tables: the last state of each row. A job that came and went meanwhile leaves
//! only its history, one that was forgotten too leaves nothing.

mod events;
mod locks;
mod numbered;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use hashbrown::HashMap;
use mainstay_core::{
    JobId, Timestamp,
    access::{AccessToken, AuditRecord},
    after::AfterFailure,
    engine::change::{
        AfterChange, Change, Counters, Ending, Extras, FinishedJob, FinishedKey, LimitChange, LimitKey,
        LiveJob, LiveLease, PolicyId, QueueId, SettledLease,
    },
    job::{FailureRecord, JobBody, JobPolicy, Json},
    name::Name,
    op::{IdempotencyKey, Reply},
    queue::QueueConfig,
    schedule::{ScheduleChange, ScheduleRecord, ScheduleState},
};

pub use events::{Body, Dead, Delivery, EventBatch, Group, TopicRow};
pub use locks::{Grant, Locks};
pub use numbered::Numbered;

/// A group on its way into the tables.
pub struct Handed {
    pub lsn: u64,
    pub counters: Counters,
    pub changes: Vec<Change>,
    /// What it counts for in the bound.
    pub bytes: usize,
    /// How much larger it makes the store at most, roughly.
    pub growth: u64,
}

/// A row of the table of unfinished jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRow {
    pub job: LiveJob,
    pub extras: Extras,
    pub lease: Option<LiveLease>,
    pub settled: Option<SettledLease>,
}

/// Rows to be written, each by its primary key.
#[derive(Clone, Default)]
pub struct Batch {
    /// The last group that is part of it; 0: none.
    pub lsn: u64,
    pub counters: Counters,
    /// What it counts for in the bound of what may lie behind: what its groups did, less what is no longer here of them.
    pub bytes: usize,
    pub growth: u64,
    /// Unfinished jobs that came with it, by number.
    pub new: Numbered<LiveRow>,
    /// Other unfinished jobs that differ from the tables.
    pub jobs: HashMap<JobId, Job>,
    /// Those whose rows go. They go first: one of them may be back.
    pub gone: Vec<JobId>,
    pub finished: HashMap<FinishedKey, Row<Arc<FinishedJob>>>,
    /// Bodies that are not in the tables yet.
    pub bodies: Numbered<Arc<JobBody>>,
    pub notes: HashMap<u64, Notes>,
    /// Jobs whose body and notes leave the tables.
    pub forgotten: Vec<u64>,
    pub queues: BTreeMap<QueueId, Option<Queue>>,
    pub policies: BTreeMap<PolicyId, Option<JobPolicy>>,
    pub uniques: HashMap<(QueueId, Arc<str>), Option<Hold>>,
    /// Who waits, for whom.
    pub edges: BTreeMap<(JobId, JobId), Row<AfterFailure>>,
    pub ended: BTreeMap<(JobId, Ending), Row<()>>,
    pub limits: BTreeMap<(QueueId, LimitKey), Option<u64>>,
    pub keyed: BTreeMap<u64, Keyed>,
    pub keyed_forgotten: Option<u64>,
    pub access: BTreeMap<Name, Option<AccessToken>>,
    pub audit: BTreeMap<u64, AuditRecord>,
    pub audit_forgotten: Option<u64>,
    pub locks: Locks,
    pub events: EventBatch,
    pub schedules: BTreeMap<Name, ScheduleRow>,
}

/// A schedule that differs from the tables.
#[derive(Clone)]
pub enum ScheduleRow {
    /// All of it.
    Put(Box<ScheduleRecord>),
    /// The columns that move, of one that is there.
    Moved(ScheduleState),
    /// It goes.
    Removed,
}

/// Who holds a unique key, and until when if not until the job has finished.
type Hold = (JobId, Option<Timestamp>);

/// A row before and after.
#[derive(Clone)]
pub struct Row<T> {
    /// It is in the tables.
    pub was: bool,
    /// `None`: it goes.
    pub now: Option<T>,
}

#[derive(Clone)]
pub enum Job {
    /// All of one that had finished and is back.
    Back(Box<LiveRow>),
    /// The columns that change, of one that is there.
    Changed { job: LiveJob, lease: Option<LiveLease>, settled: Option<SettledLease> },
}

/// What is kept of a job beside its state.
#[derive(Clone, Default)]
pub struct Notes {
    pub result: Option<Json>,
    pub progress: Option<Json>,
    pub failures: Vec<FailureRecord>,
}

#[derive(Clone)]
pub struct Queue {
    pub name: Name,
    pub config: QueueConfig,
    pub paused: bool,
    pub dropped: bool,
}

#[derive(Clone)]
pub struct Keyed {
    pub key: IdempotencyKey,
    pub at: Timestamp,
    pub replies: Arc<[Reply]>,
}

/// Of a change of a job that left nothing: itself, and what its bytes in the journal have at least. (`Job…` begin with
/// 62 bytes of a job, a removal has 46.)
const SPARED: usize = size_of::<Change>() + 64;
const SPARED_REMOVAL: usize = size_of::<Change>() + 40;

impl Batch {
    /// Adds a group, which follows those that are in it.
    pub fn add(&mut self, group: Handed) {
        let Handed { lsn, counters, changes, bytes, growth } = group;
        (self.lsn, self.counters) = (lsn, counters);
        self.bytes += bytes;
        self.growth += growth;
        changes.into_iter().for_each(|change| self.change(change));
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::JobPut { job, extras, settled, body } => {
                let row = LiveRow { job, extras, lease: None, settled };
                match body {
                    Some(body) => {
                        self.bodies.insert(job.n, body);
                        self.new.insert(job.n, row);
                    }
                    None => drop(self.jobs.insert(job.id, Job::Back(Box::new(row)))),
                }
            }
            Change::JobUpdated { job, lease, settled } => self.job_changes(job, lease, settled),
            Change::JobFinished(finished) => {
                self.job_goes(finished.job.id, finished.job.n);
                let row = self.finished.entry(finished.key).or_insert(Row { was: false, now: None });
                row.now = Some(finished);
            }
            Change::FinishedRevived { key, .. } => drop(self.finished_goes(key)),
            Change::JobRemoved { id, n } => {
                self.job_goes(id, n);
                self.forget(n);
            }
            Change::FinishedRemoved(gone) => {
                if self.finished_goes(gone.key) {
                    self.spare(SPARED_REMOVAL);
                }
                self.forget(gone.n);
            }
            Change::Event(change) => self.events.change(change),
            other => self.rare_change(other),
        }
    }

    fn rare_change(&mut self, change: Change) {
        match change {
            Change::Queue { id, name, config, paused, dropped } => {
                self.queues.insert(id, Some(Queue { name, config, paused, dropped }));
            }
            Change::QueueRemoved(id) => drop(self.queues.insert(id, None)),
            Change::Policy { id, policy } => drop(self.policies.insert(id, Some(policy))),
            Change::PolicyRemoved(id) => drop(self.policies.insert(id, None)),
            Change::Result { n, result } => self.notes.entry(n).or_default().result = Some(result),
            Change::Progress { n, progress } => self.notes.entry(n).or_default().progress = Some(progress),
            Change::Failure { n, record } => self.notes.entry(n).or_default().failures.push(*record),
            Change::Unique { queue, key, id, until } => {
                self.uniques.insert((queue, key), Some((id, until)));
            }
            Change::UniqueRemoved { queue, key } => drop(self.uniques.insert((queue, key), None)),
            Change::After(change) => self.after(change),
            Change::Limit(LimitChange { queue, key, value }) => {
                self.limits.insert((queue, key), value);
            }
            Change::Keyed { k, key, at, replies } => {
                self.keyed.insert(k, Keyed { key, at, replies });
            }
            Change::KeyedForgotten { up_to } => {
                self.keyed = self.keyed.split_off(&(up_to + 1));
                self.keyed_forgotten = Some(up_to);
            }
            Change::AccessToken(token) => drop(self.access.insert(token.name.clone(), Some(token))),
            Change::AccessTokenRemoved(name) => drop(self.access.insert(name, None)),
            Change::Schedule(change) => self.schedule(change),
            Change::Audit { number, record } => drop(self.audit.insert(number, record)),
            Change::AuditForgotten { up_to } => {
                self.audit = self.audit.split_off(&(up_to + 1));
                self.audit_forgotten = Some(up_to);
            }
            Change::Lock(change) => self.locks.change(change),
            // Seen to by the caller.
            Change::JobPut { .. }
            | Change::JobUpdated { .. }
            | Change::JobFinished(_)
            | Change::FinishedRevived { .. }
            | Change::JobRemoved { .. }
            | Change::FinishedRemoved(_)
            | Change::Event(_) => {}
        }
    }

    fn after(&mut self, change: AfterChange) {
        match change {
            AfterChange::Opened { waiter, on, failure } => {
                for subject in on {
                    let row = self.edges.entry((waiter, subject)).or_insert(Row { was: false, now: None });
                    row.now = Some(failure);
                }
            }
            AfterChange::Closed { waiter, on } => {
                on.into_iter().for_each(|subject| goes(&mut self.edges, (waiter, subject)));
            }
            AfterChange::Ended { id, how } => {
                self.ended.entry((id, how)).or_insert(Row { was: false, now: None }).now = Some(());
            }
            AfterChange::Told { id, how } => goes(&mut self.ended, (id, how)),
        }
    }

    fn schedule(&mut self, change: ScheduleChange) {
        match change {
            ScheduleChange::Put(record) => {
                self.schedules.insert(record.name().clone(), ScheduleRow::Put(record));
            }
            ScheduleChange::Moved { name, state } => match self.schedules.get_mut(&name) {
                Some(ScheduleRow::Put(record)) => record.state = state,
                _ => drop(self.schedules.insert(name, ScheduleRow::Moved(state))),
            },
            ScheduleChange::Removed(name) => drop(self.schedules.insert(name, ScheduleRow::Removed)),
        }
    }

    fn job_changes(&mut self, job: LiveJob, lease: Option<LiveLease>, settled: Option<SettledLease>) {
        if let Some(row) = self.new.get_mut(job.n) {
            (row.job, row.lease, row.settled) = (job, lease, settled);
            return self.spare(SPARED);
        }
        match self.jobs.get_mut(&job.id) {
            Some(Job::Back(row)) => (row.job, row.lease, row.settled) = (job, lease, settled),
            Some(changed) => *changed = Job::Changed { job, lease, settled },
            None => {
                self.jobs.insert(job.id, Job::Changed { job, lease, settled });
                return;
            }
        }
        self.spare(SPARED);
    }

    fn job_goes(&mut self, id: JobId, n: u64) {
        if self.new.remove(n).is_some() {
            return self.spare(SPARED);
        }
        match self.jobs.remove(&id) {
            Some(Job::Back(_)) => self.spare(SPARED),
            Some(Job::Changed { .. }) | None => self.gone.push(id),
        }
    }

    /// Whether it leaves nothing to be written.
    fn finished_goes(&mut self, key: FinishedKey) -> bool {
        match self.finished.entry(key) {
            hashbrown::hash_map::Entry::Occupied(row) if !row.get().was => {
                row.remove();
                self.spare(SPARED);
                true
            }
            entry => {
                entry.or_insert(Row { was: true, now: None }).now = None;
                false
            }
        }
    }

    /// So much of what its groups did is not here any more.
    fn spare(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn forget(&mut self, n: u64) {
        if !self.notes.is_empty() {
            self.notes.remove(&n);
        }
        match self.bodies.remove(n) {
            Some(body) => self.spare(body.size()),
            None => self.forgotten.push(n),
        }
    }
}

fn goes<K: Ord, T>(rows: &mut BTreeMap<K, Row<T>>, key: K) {
    match rows.entry(key) {
        Entry::Occupied(row) if !row.get().was => drop(row.remove()),
        entry => entry.or_insert(Row { was: true, now: None }).now = None,
    }
}

/// A batch as a reader looks at it while the tables lack it.
impl Batch {
    /// `None`: the tables know; `Some(None)`: it is gone. The extras of one that only changed are in the tables. It is
    /// looked for among all: only who cannot have the tables asks.
    pub fn live(&self, id: JobId) -> Option<Option<Live<'_>>> {
        match self.jobs.get(&id) {
            Some(Job::Back(row)) => return Some(Some(Live::Whole(row))),
            Some(Job::Changed { job, lease, settled }) => {
                return Some(Some(Live::Changed { job, lease, settled }));
            }
            None => {}
        }
        match self.new.iter().find(|(_, row)| row.job.id == id) {
            Some((_, row)) => Some(Some(Live::Whole(row))),
            None => self.gone.contains(&id).then_some(None),
        }
    }

    /// A finished job that the tables lack.
    pub fn finished(&self, id: JobId) -> Option<&FinishedJob> {
        let rows = self.finished.values().filter_map(|row| row.now.as_deref());
        rows.filter(|finished| finished.job.id == id).max_by_key(|finished| finished.key.f)
    }

    /// Whether a finished job of the tables is gone.
    pub fn is_gone(&self, key: &FinishedKey) -> bool {
        self.finished.get(key).is_some_and(|row| row.now.is_none())
    }

    /// How many more jobs this one waits for than the tables say.
    pub fn more_to_wait_for(&self, waiter: JobId) -> i64 {
        let rows = self.edges.range((waiter, JobId::MIN)..=(waiter, JobId::MAX)).map(|(_, row)| row);
        rows.map(|row| i64::from(row.now.is_some()) - i64::from(row.was)).sum()
    }

    pub fn body(&self, n: u64) -> Option<&Arc<JobBody>> {
        self.bodies.get(n)
    }

    pub fn result(&self, n: u64) -> Option<&Json> {
        self.notes.get(&n)?.result.as_ref()
    }

    pub fn progress(&self, n: u64) -> Option<&Json> {
        self.notes.get(&n)?.progress.as_ref()
    }

    pub fn failures(&self, n: u64) -> &[FailureRecord] {
        self.notes.get(&n).map_or(&[], |notes| &notes.failures)
    }

    /// `Some(None)`: it was deleted.
    pub fn queue(&self, id: QueueId) -> Option<Option<&Name>> {
        let queue = self.queues.get(&id)?;
        Some(queue.as_ref().filter(|queue| !queue.dropped).map(|queue| &queue.name))
    }

    pub fn policy(&self, id: PolicyId) -> Option<JobPolicy> {
        self.policies.get(&id).copied().flatten()
    }

    pub fn access_token(&self, name: &str) -> Option<Option<&AccessToken>> {
        self.access.get(name).map(Option::as_ref)
    }
}

/// An unfinished job that differs from the tables.
pub enum Live<'b> {
    Whole(&'b LiveRow),
    Changed { job: &'b LiveJob, lease: &'b Option<LiveLease>, settled: &'b Option<SettledLease> },
}

impl Live<'_> {
    /// The row, with the extras that the tables have.
    pub fn row(&self, extras: impl FnOnce() -> Extras) -> LiveRow {
        match self {
            Live::Whole(row) => (*row).clone(),
            Live::Changed { job, lease, settled } => {
                LiveRow { job: **job, extras: extras(), lease: (*lease).clone(), settled: **settled }
            }
        }
    }
}

/// The numbers as pieces without gaps, in order.
pub fn pieces(mut numbers: Vec<u64>) -> Vec<(u64, u64)> {
    numbers.sort_unstable();
    let mut pieces: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match pieces.last_mut() {
            Some((_, last)) if number <= *last + 1 => *last = number,
            _ => pieces.push((number, number)),
        }
    }
    pieces
}

#[cfg(test)]
mod tests;
