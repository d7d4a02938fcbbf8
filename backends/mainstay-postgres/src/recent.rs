//! What has changed of many unfinished jobs at once, lately, stands in one row a group (table `recent`), not in the rows of
//! the jobs: most of those that are handed out end within a moment, and a row that never changes costs the database a
//! third less. What lives on is put into the rows of the jobs a second later.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use mainstay_core::{
    Error, JobId,
    engine::change::{Change, LiveJob, LiveLease, SettledLease},
};
use mainstay_writer::{
    batch::{Batch, Job, LiveRow},
    stopwatch::Stopwatch,
};
use tokio_postgres::Row;

use crate::{
    fault::Trouble,
    link::Link,
    rows::{Cells, bytes_of},
    step::{Param, Step},
    write::{ids, update_jobs},
};

/// Fewer than this in a group change in place: an entry has to be deleted too.
const WORTH: usize = 16;
/// At most so many entries are there (but for those of one group): whoever reads jobs has to read them.
const MOST: usize = 4_096;
/// What has stood there for so long is put into the rows of the jobs.
const AFTER: Duration = Duration::from_secs(1);

/// A job as a change left it.
#[derive(Clone)]
pub(crate) struct Changed {
    pub(crate) job: LiveJob,
    pub(crate) lease: Option<LiveLease>,
    pub(crate) settled: Option<SettledLease>,
}

impl Changed {
    fn change(&self) -> Change {
        Change::JobUpdated { job: self.job, lease: self.lease.clone(), settled: self.settled }
    }
}

/// What is in the table, as the process that leads knows it.
pub(crate) struct Recent {
    /// Jobs whose newest state is there, with the group.
    jobs: HashMap<JobId, (u64, Changed)>,
    groups: BTreeMap<u64, Group>,
    /// How long something stands there.
    after: Duration,
}

impl Default for Recent {
    fn default() -> Recent {
        Recent { jobs: HashMap::new(), groups: BTreeMap::new(), after: AFTER }
    }
}

struct Group {
    jobs: Vec<JobId>,
    /// How many of them have their newest state here.
    left: usize,
    since: Stopwatch,
}

/// What a batch does to the table, and to the rows of jobs that only change.
#[derive(Default)]
pub(crate) struct Plan {
    lsn: u64,
    /// Jobs of the batch that are known here.
    known: Vec<JobId>,
    /// Into the table.
    come: Vec<Changed>,
    /// Into the rows of the jobs.
    in_place: Vec<Changed>,
    /// Rows that go, as nothing in them counts any more.
    gone: Vec<u64>,
}

impl Recent {
    /// Something should be put into the rows of the jobs.
    pub(crate) fn is_stale(&self) -> bool {
        self.groups.values().next().is_some_and(|group| group.since.elapsed() > self.after)
    }

    /// Looks at a batch; nothing changes before [`Recent::done`].
    pub(crate) fn plan(&self, batch: &Batch) -> Plan {
        let mut plan = Plan { lsn: batch.lsn, ..Plan::default() };
        let mut left: BTreeMap<u64, usize> = BTreeMap::new();
        for (id, row) in &batch.jobs {
            if let Some((lsn, _)) = self.jobs.get(id) {
                plan.known.push(*id);
                *left.entry(*lsn).or_insert_with(|| self.groups.get(lsn).map_or(0, |group| group.left)) -= 1;
            }
            if let Some(Job::Changed { job, lease, settled }) = &row.now {
                plan.come.push(Changed { job: *job, lease: lease.clone(), settled: *settled });
            }
        }
        if !(WORTH..=MOST).contains(&plan.come.len()) {
            plan.in_place = std::mem::take(&mut plan.come);
        }
        plan.come.sort_unstable_by_key(|changed| changed.job.id);
        let mut there = self.jobs.len() - plan.known.len() + plan.come.len();
        for (lsn, group) in &self.groups {
            let lives = left.get(lsn).copied().unwrap_or(group.left);
            if lives == 0 {
                plan.gone.push(*lsn);
            } else if there > MOST || group.since.elapsed() > self.after {
                let newest = group.jobs.iter().filter(|id| !batch.jobs.contains_key(*id));
                let newest = newest.filter_map(|id| self.jobs.get(id)).filter(|(of, _)| of == lsn);
                plan.in_place.extend(newest.map(|(_, changed)| changed.clone()));
                plan.gone.push(*lsn);
                there -= lives;
            }
        }
        // In one order, so that pages are touched in it.
        plan.in_place.sort_unstable_by_key(|changed| changed.job.id);
        plan
    }

    /// The batch has been written.
    pub(crate) fn done(&mut self, plan: Plan) {
        for id in plan.known {
            if let Some((lsn, _)) = self.jobs.remove(&id)
                && let Some(group) = self.groups.get_mut(&lsn)
            {
                group.left -= 1;
            }
        }
        for lsn in plan.gone {
            for id in self.groups.remove(&lsn).into_iter().flat_map(|group| group.jobs) {
                if self.jobs.get(&id).is_some_and(|(of, _)| *of == lsn) {
                    self.jobs.remove(&id);
                }
            }
        }
        if !plan.come.is_empty() {
            let jobs = plan.come.iter().map(|changed| changed.job.id).collect();
            let group = Group { jobs, left: plan.come.len(), since: Stopwatch::start() };
            self.groups.insert(plan.lsn, group);
            self.jobs.extend(plan.come.into_iter().map(|changed| (changed.job.id, (plan.lsn, changed))));
        }
    }
}

impl Plan {
    pub(crate) fn steps(&self, steps: &mut Vec<Step>) {
        update_jobs(&self.in_place, self.lsn, steps);
        if !self.gone.is_empty() {
            let sql = "delete from {s}.recent where lsn = any($1) and {p}".to_owned();
            let numbers = self.gone.iter().map(|lsn| *lsn as i64).collect();
            steps.push(Step { sql, params: vec![Param::i64s(numbers)], rows: Some(self.gone.len() as u64) });
        }
        if !self.come.is_empty() {
            let of: Vec<_> = self.come.iter().map(|changed| changed.job.id).collect();
            let changes = self.come.iter().map(|changed| bytes_of(&changed.change())).collect();
            let sql = "insert into {s}.recent (lsn, ids, changes) select $1, $2, $3 where {p}".to_owned();
            let params = vec![Param::i64(self.lsn), ids(&of), Param::many_bytes(changes)];
            steps.push(Step { sql, params, rows: Some(1) });
        }
    }
}

/// What another process that led left there goes; what of it counts is in the batch.
pub(crate) fn begin_anew(lsn: u64) -> Step {
    let sql = "delete from {s}.recent where lsn < $1 and {p}".to_owned();
    Step { sql, params: vec![Param::i64(lsn)], rows: None }
}

/// What the table says, in the snapshot of who reads.
#[derive(Default)]
pub(crate) struct Entries(HashMap<JobId, (u64, Changed)>);

impl Entries {
    /// All of it.
    pub(crate) async fn all(link: &Link) -> Result<Entries, Error> {
        let sql = "select lsn, unnest(ids) as id, unnest(changes) as change from {s}.recent order by lsn";
        Entries::of(&link.query(sql, vec![]).await.map_err(Trouble::error)?)
    }

    /// What it says about these.
    pub(crate) async fn about(link: &Link, wanted: &[JobId]) -> Result<Entries, Error> {
        let sql = "select lsn, id, change from \
                     (select lsn, unnest(ids) as id, unnest(changes) as change from {s}.recent where ids && $1) r \
                   where id = any($1) order by lsn";
        Entries::of(&link.query(sql, vec![ids(wanted)]).await.map_err(Trouble::error)?)
    }

    fn of(rows: &[Row]) -> Result<Entries, Error> {
        let mut entries = HashMap::new();
        for row in rows {
            let cells = Cells { table: "recent", row };
            let Change::JobUpdated { job, lease, settled } = cells.change(2)? else {
                return Err(cells.bad(2, "is of another kind"));
            };
            // Of several, the last.
            entries.insert(cells.job_id(1)?, (cells.u64(0)?, Changed { job, lease, settled }));
        }
        Ok(Entries(entries))
    }

    /// What counts for a job whose row was written by group `lsn`.
    pub(crate) fn newer(&self, id: JobId, lsn: u64) -> Option<&Changed> {
        self.0.get(&id).filter(|(of, _)| *of > lsn).map(|(_, changed)| changed)
    }

    /// Brings a row up to date; answers the change, if there was one.
    pub(crate) fn apply(&self, row: &mut LiveRow, lsn: u64) -> Option<Change> {
        let newer = self.newer(row.job.id, lsn)?;
        (row.job, row.lease, row.settled) = (newer.job, newer.lease.clone(), newer.settled);
        Some(newer.change())
    }
}

#[cfg(test)]
#[path = "recent_tests.rs"]
mod tests;
