//! The tables as maps: the shortest correct answer to what each change means.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::events::EventTables;
use crate::{
    access::AuditRecord,
    engine::{
        Engine,
        change::{
            Archive, Change, DeadRef, EventMeta, FinishedJob, FinishedKey, FinishedRef, GroupId, Lane,
            LiveJob, QueueId, TopicId,
        },
    },
    error::Error,
    id::JobId,
    job::{FAILURES_KEPT, FailureRecord, JobBody, JobKeys, JobRecord, Json},
    time::Now,
};

#[derive(Default)]
pub(super) struct Tables {
    /// Every job there is.
    pub(super) ids: BTreeSet<JobId>,
    pub(super) finished: HashMap<JobId, FinishedJob>,
    pub(super) lanes: BTreeMap<FinishedKey, JobId>,
    pub(super) audit: BTreeMap<u64, AuditRecord>,
    pub(super) events: EventTables,
    bodies: HashMap<u64, Arc<JobBody>>,
    results: HashMap<u64, Json>,
    progress: HashMap<u64, Json>,
    failures: HashMap<u64, BTreeMap<u32, FailureRecord>>,
}

impl Tables {
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::JobPut { job, body, .. } => {
                self.ids.insert(job.id);
                if let Some(body) = body {
                    self.bodies.insert(job.n, body);
                }
            }
            Change::JobFinished(finished) => {
                self.lanes.insert(finished.key, finished.job.id);
                self.finished.insert(finished.job.id, Arc::unwrap_or_clone(finished));
            }
            Change::FinishedRevived { key, id } => {
                self.lanes.remove(&key);
                self.finished.remove(&id);
            }
            Change::JobRemoved { id, n } => self.forget(id, n),
            Change::FinishedRemoved(gone) => {
                self.lanes.remove(&gone.key);
                self.finished.remove(&gone.id);
                self.forget(gone.id, gone.n);
            }
            Change::Result { n, result } => drop(self.results.insert(n, result)),
            Change::Progress { n, progress } => drop(self.progress.insert(n, progress)),
            Change::Failure { n, record } => {
                self.failures.entry(n).or_default().insert(record.attempt % FAILURES_KEPT, *record);
            }
            Change::Audit { number, record } => drop(self.audit.insert(number, record)),
            Change::Event(change) => self.events.apply(change),
            Change::AuditForgotten { up_to } => self.audit = self.audit.split_off(&(up_to + 1)),
            // The engine itself is the table of these.
            Change::Queue { .. }
            | Change::QueueRemoved(_)
            | Change::Policy { .. }
            | Change::PolicyRemoved(_)
            | Change::JobUpdated { .. }
            | Change::Unique { .. }
            | Change::UniqueRemoved { .. }
            | Change::After(_)
            | Change::Limit(_)
            | Change::Keyed { .. }
            | Change::KeyedForgotten { .. }
            | Change::AccessToken(_)
            | Change::AccessTokenRemoved(_)
            | Change::Lock(_)
            | Change::Schedule(_) => {}
        }
    }

    fn forget(&mut self, id: JobId, n: u64) {
        self.ids.remove(&id);
        self.bodies.remove(&n);
        self.results.remove(&n);
        self.progress.remove(&n);
        self.failures.remove(&n);
    }

    pub(super) fn body(&self, n: u64) -> Option<Arc<JobBody>> {
        self.bodies.get(&n).cloned()
    }

    /// Everything that is known of a job. `None` also if its queue was deleted.
    pub(super) fn job(&self, engine: &Engine, id: JobId, now: Now) -> Option<JobRecord> {
        if let Some((job, extras, lease)) = engine.job(id) {
            let live = lease.filter(|lease| lease.until > now.store);
            return Some(JobRecord {
                expires_at: extras.expires_at,
                keys: extras.job_keys(),
                unique_key: extras.unique_key,
                waiting_for: engine.waiting_for(id),
                token: live.as_ref().map(|lease| lease.id.token),
                lease_expires_at: live.as_ref().map(|lease| now.wall_at(lease.until)),
                worker: live.and_then(|lease| lease.worker),
                ..self.record(engine, &job, now)?
            });
        }
        let finished = self.finished.get(&id)?;
        Some(JobRecord {
            state: finished.state,
            expires_at: finished.extras.expires_at,
            unique_key: finished.extras.unique_key.clone(),
            keys: finished.extras.job_keys(),
            finished_at: Some(finished.finished_at),
            reason: finished.reason,
            ..self.record(engine, &finished.job, now)?
        })
    }

    fn record(&self, engine: &Engine, job: &LiveJob, now: Now) -> Option<JobRecord> {
        let mut failures: Vec<_> =
            self.failures.get(&job.n).into_iter().flat_map(BTreeMap::values).cloned().collect();
        failures.sort_by_key(|record| (record.at, record.attempt));
        Some(JobRecord {
            id: job.id,
            queue: engine.queue_name(job.queue)?.clone(),
            state: job.state(now.wall),
            body: self.body(job.n)?,
            priority: job.priority,
            run_at: job.run_at,
            attempt: job.attempt,
            crashes: job.crashes,
            policy: engine.policy(job.policy),
            created_at: job.created_at,
            expires_at: None,
            unique_key: None,
            waiting_for: 0,
            keys: JobKeys::default(),
            token: None,
            lease_expires_at: None,
            worker: None,
            cancel_requested: job.cancel_requested,
            progress: self.progress.get(&job.n).cloned(),
            result: self.results.get(&job.n).cloned(),
            failures,
            finished_at: None,
            reason: None,
        })
    }
}

impl Archive for Tables {
    fn finished(&mut self, id: JobId) -> Result<Option<FinishedJob>, Error> {
        Ok(self.finished.get(&id).cloned())
    }

    fn is_taken(&mut self, key: FinishedKey) -> Result<bool, Error> {
        Ok(self.lanes.contains_key(&key))
    }

    fn oldest(&mut self, queue: QueueId, lane: Lane, limit: usize) -> Result<Vec<FinishedRef>, Error> {
        let first = FinishedKey { queue, lane, f: 0 };
        let last = FinishedKey { queue, lane, f: u64::MAX };
        let ids = self.lanes.range(first..=last).take(limit).map(|(_, id)| id);
        Ok(ids.filter_map(|id| self.finished.get(id)).map(FinishedJob::as_ref).collect())
    }

    fn events(&mut self, topic: Option<TopicId>, from: u64, limit: usize) -> Result<Vec<EventMeta>, Error> {
        Ok(self.events.metas(topic, from, limit))
    }

    fn dead_event(&mut self, number: u64) -> Result<Option<DeadRef>, Error> {
        Ok(self.events.dead_event(number))
    }

    fn dead_events(&mut self, group: GroupId, limit: usize) -> Result<Vec<DeadRef>, Error> {
        Ok(self.events.dead_events(group, limit))
    }
}
