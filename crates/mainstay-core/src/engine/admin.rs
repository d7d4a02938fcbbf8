//! What operators do: cancel, retry, delete, bulk changes, queues, access tokens, audit.

use super::{
    Engine, Refusal,
    change::{Archive, Change, FinishedJob, Phase, QueueId},
    undo::Undo,
};
use crate::{
    access::{AUDIT_KEPT, AccessToken, AuditRecord},
    id::JobId,
    job::JobState,
    name::{Name, QueueName},
    op::{Reason, Reply},
    queue::QueueConfig,
};

/// A bulk op changes at most this many rows.
pub const BULK_LIMIT: usize = 1_000;

impl Engine {
    pub(super) fn cancel(&mut self, id: JobId, archive: &mut dyn Archive) -> Result<Reply, Refusal> {
        let Some(mut job) = self.jobs.get(id).copied() else {
            let finished = self.find_visible(id, archive)?;
            return match finished.state {
                JobState::Cancelled => {
                    Ok(Reply::Cancelled { state: JobState::Cancelled, cancel_requested: false })
                }
                state => Err(conflict("cancelled", state)),
            };
        };
        if job.phase != Phase::Running {
            self.finish(id, JobState::Cancelled, None, None, archive)?;
            return Ok(Reply::Cancelled { state: JobState::Cancelled, cancel_requested: false });
        }
        if !job.cancel_requested {
            job.cancel_requested = true;
            self.set_job(id, Some(job));
            let leases = self.leases.get(&id).cloned().unwrap_or_default();
            self.changes.push(Change::JobUpdated { job, lease: leases.live, settled: leases.settled });
        }
        Ok(Reply::Cancelled { state: JobState::Running, cancel_requested: true })
    }

    pub(super) fn retry(&mut self, id: JobId, archive: &mut dyn Archive) -> Result<Reply, Refusal> {
        let Some(mut job) = self.jobs.get(id).copied() else {
            let finished = self.find_visible(id, archive)?;
            let job = self.revive(finished)?;
            return Ok(Reply::Retried { state: JobState::Available, run_at: job.run_at });
        };
        match job.state(self.now.wall) {
            JobState::Available => {}
            JobState::Scheduled | JobState::Retryable => {
                (job.run_at, job.attempt, job.crashes, job.retrying) = (self.now.wall, 0, 0, false);
                self.set_job(id, Some(job));
                let settled = self.leases.get(&id).and_then(|leases| leases.settled);
                self.changes.push(Change::JobUpdated { job, lease: None, settled });
            }
            state => return Err(conflict("retried", state)),
        }
        Ok(Reply::Retried { state: JobState::Available, run_at: job.run_at })
    }

    pub(super) fn delete(&mut self, id: JobId, archive: &mut dyn Archive) -> Result<Reply, Refusal> {
        match self.jobs.get(id).copied() {
            Some(job) if job.phase == Phase::Running => return Err(conflict("deleted", JobState::Running)),
            Some(job) => self.remove(&job),
            None => {
                let finished = self.find_visible(id, archive)?;
                if finished.state != JobState::Completed {
                    self.let_go(&finished.job, &finished.extras);
                }
                self.forget(finished.as_ref());
            }
        }
        Ok(Reply::Deleted)
    }

    pub(super) fn requeue_dead(
        &mut self,
        queue: &QueueName,
        ids: &[JobId],
        archive: &mut dyn Archive,
    ) -> Result<Reply, Refusal> {
        let mut count = 0;
        for id in bounded(ids)? {
            if let Some(finished) = self.find_dead(queue, *id, archive)? {
                // One whose unique key is taken stays a dead letter.
                count += u64::from(self.revive(finished).is_ok());
            }
        }
        Ok(Reply::Count(count))
    }

    pub(super) fn delete_dead(
        &mut self,
        queue: &QueueName,
        ids: &[JobId],
        archive: &mut dyn Archive,
    ) -> Result<Reply, Refusal> {
        let mut count = 0;
        for id in bounded(ids)? {
            if let Some(finished) = self.find_dead(queue, *id, archive)? {
                self.let_go(&finished.job, &finished.extras);
                self.forget(finished.as_ref());
                count += 1;
            }
        }
        Ok(Reply::Count(count))
    }

    pub(super) fn purge(&mut self, queue: &QueueName, limit: u32) -> Result<Reply, Reason> {
        let id = self.known_queue(queue)?;
        let ids = self.queue_ref(id).some_waiting(BULK_LIMIT.min(limit as usize));
        for (at, id) in ids.iter().enumerate() {
            // What each of them waits for goes too: up to 10,000 times as much.
            if at > 0 && self.has_told_its_share() {
                return Ok(Reply::CountSoFar(at as u64));
            }
            if let Some(job) = self.jobs.get(*id).copied() {
                self.remove(&job);
            }
        }
        Ok(Reply::Count(ids.len() as u64))
    }

    pub(super) fn put_queue(&mut self, name: &QueueName, config: &QueueConfig) -> Result<Reply, Reason> {
        if let Some((field, detail)) = config.wrong() {
            return Err(Reason::Invalid { field, detail });
        }
        let id = self.queue_or_create(name);
        // A longer span begins with what the old one remembers, not with what nobody has tidied up.
        self.forget_handed(id);
        self.change_queue(id, |queue| {
            queue.configure(config.clone());
            queue.trim_at = [None; 3];
        });
        self.drop_limits(id, Some(config));
        self.over_retention += 1; // it may be now; the next look tells
        Ok(Reply::Done)
    }

    pub(super) fn set_paused(&mut self, name: &QueueName, paused: bool) -> Result<Reply, Reason> {
        let id = if paused { self.queue_or_create(name) } else { self.known_queue(name)? };
        self.change_queue(id, |queue| queue.paused = paused);
        Ok(Reply::Done)
    }

    pub(super) fn delete_queue(&mut self, name: &QueueName) -> Result<Reply, Reason> {
        let id = self.known_queue(name)?;
        let queue = self.queue_ref(id);
        let dead = queue.lanes[super::change::Lane::Dead as usize];
        if queue.has_unfinished() || dead > 0 {
            return Err(Reason::StateConflict(format!(
                "queue `{name}` is not empty: purge its waiting jobs, let the running ones finish, delete the dead"
            )));
        }
        let keys: Vec<_> = queue.uniques.keys().cloned().collect();
        for key in keys {
            self.set_unique(id, &key, None);
        }
        self.drop_limits(id, None);
        self.change_queue(id, |queue| queue.dropped = true);
        self.queue_names.remove(name);
        self.dropped.push(id);
        Ok(Reply::Done)
    }

    pub(super) fn put_access_token(&mut self, token: &AccessToken) -> Result<Reply, Reason> {
        if self.access.contains_key(&token.name) {
            let name = &token.name;
            return Err(Reason::StateConflict(format!(
                "a token named `{name}` exists: revoke it first, or choose another name"
            )));
        }
        self.set_access(&token.name, Some(token.clone()));
        self.changes.push(Change::AccessToken(token.clone()));
        Ok(Reply::Done)
    }

    pub(super) fn revoke_access_token(&mut self, name: &Name) -> Result<Reply, Reason> {
        if !self.access.contains_key(name) {
            return Err(Reason::NotFound("access token"));
        }
        self.set_access(name, None);
        self.changes.push(Change::AccessTokenRemoved(name.clone()));
        Ok(Reply::Done)
    }

    pub(super) fn audit(&mut self, record: &AuditRecord) -> Reply {
        self.counters.audit += 1;
        let number = self.counters.audit;
        self.changes.push(Change::Audit { number, record: record.clone() });
        if number > AUDIT_KEPT {
            self.changes.push(Change::AuditForgotten { up_to: number - AUDIT_KEPT });
        }
        Reply::Done
    }

    fn set_access(&mut self, name: &Name, new: Option<AccessToken>) {
        let old = match new {
            Some(token) => self.access.insert(name.clone(), token),
            None => self.access.remove(name),
        };
        self.undo.push(Undo::Access(name.clone(), old));
    }

    fn change_queue(&mut self, id: QueueId, change: impl FnOnce(&mut super::Queue)) {
        let queue = self.queue_mut(id);
        let before = Undo::Queue(id, queue.config.clone(), queue.paused, queue.dropped);
        change(queue);
        let was_dirty = std::mem::replace(&mut queue.dirty, true);
        if !was_dirty {
            self.dirty.push(id);
        }
        self.undo.push(before);
        self.changed_queue(id);
    }

    fn known_queue(&self, name: &QueueName) -> Result<QueueId, Reason> {
        self.queue_names.get(name).copied().ok_or(Reason::NotFound("queue"))
    }

    /// A finished job whose queue was not deleted.
    fn find_visible(&mut self, id: JobId, archive: &mut dyn Archive) -> Result<FinishedJob, Refusal> {
        let finished = self.find_finished(id, archive)?;
        let finished = finished.filter(|finished| self.queue_name(finished.job.queue).is_some());
        finished.ok_or(Refusal::Reason(Reason::NotFound("job")))
    }

    fn find_dead(
        &mut self,
        queue: &QueueName,
        id: JobId,
        archive: &mut dyn Archive,
    ) -> Result<Option<FinishedJob>, Refusal> {
        let Some(queue) = self.queue_names.get(queue).copied() else { return Ok(None) };
        let finished = self.find_finished(id, archive)?;
        Ok(finished.filter(|finished| finished.job.queue == queue && finished.state == JobState::Dead))
    }
}

fn bounded(ids: &[JobId]) -> Result<&[JobId], Reason> {
    if ids.len() > BULK_LIMIT {
        let detail = format!("has at most {BULK_LIMIT} items");
        return Err(Reason::Invalid { field: "ids", detail });
    }
    Ok(ids)
}

fn conflict(verb: &str, state: JobState) -> Refusal {
    Reason::StateConflict(format!("a job that is {} cannot be {verb}", state.as_str())).into()
}
