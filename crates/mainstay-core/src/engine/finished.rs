//! Jobs finish, are found again, come back, and are forgotten.

use std::sync::Arc;

use super::{
    Engine, Refusal,
    change::{
        Archive, Change, Ending, Extras, FinishedJob, FinishedKey, FinishedRef, Lane, LiveJob, Phase,
        QueueId, SettledLease,
    },
    maintain::TRIM_FROM,
    queues::Hold,
};
use crate::{
    error::Error,
    id::JobId,
    job::{DeadReason, JobState},
    op::Reason,
    time::Timestamp,
};

/// Places in [`Lane::Own`] begin with the millisecond at which the job is forgotten; this many low bits keep them
/// apart within it.
const OWN_BITS: u32 = 14;

impl Engine {
    /// An unfinished job ends.
    pub(super) fn finish(
        &mut self,
        id: JobId,
        state: JobState,
        reason: Option<DeadReason>,
        settled: Option<SettledLease>,
        archive: &mut dyn Archive,
    ) -> Result<(), Error> {
        let Some(job) = self.jobs.get(id).copied() else { return Ok(()) };
        let settled = settled.or(self.leases.get(&id).and_then(|leases| leases.settled));
        self.finish_as(job, state, reason, settled, archive)
    }

    /// The same, for a job whose last state is `job`. After an error of the archive, nothing has changed.
    pub(super) fn finish_as(
        &mut self,
        job: LiveJob,
        state: JobState,
        reason: Option<DeadReason>,
        settled: Option<SettledLease>,
        archive: &mut dyn Archive,
    ) -> Result<(), Error> {
        let finished_at = self.now.wall;
        self.counters.f += 1;
        let retain_ms = self.policies.get(job.policy).retain_ms;
        let (lane, f) = match (state, retain_ms) {
            (JobState::Dead, _) => (Lane::Dead, self.counters.f),
            (_, None) => (Lane::Done, self.counters.f),
            (_, Some(ms)) => (Lane::Own, self.own_place(job.queue, finished_at.plus_ms(ms), archive)?),
        };
        let key = FinishedKey { queue: job.queue, lane, f };
        let extras = self.remove_unfinished(&job);
        self.finished_up_to = self.finished_up_to.max(Some(job.id));
        self.count_lane(job.queue, lane, 1);
        self.expect_trim(key, finished_at);
        let finished = FinishedJob { key, job, extras, state, reason, finished_at, settled };
        self.changes.push(Change::JobFinished(Arc::new(finished)));
        self.finished_changed = true;
        let how = match state {
            JobState::Completed => Ending::Completed,
            JobState::Dead => Ending::Dead,
            _ => Ending::Gone,
        };
        self.has_ended(job.id, how);
        Ok(())
    }

    /// A place in [`Lane::Own`] that no other job has. What is left of the counter comes round again: if the place is
    /// taken, the job is kept a millisecond longer.
    fn own_place(
        &mut self,
        queue: QueueId,
        forget_at: Timestamp,
        archive: &mut dyn Archive,
    ) -> Result<u64, Error> {
        let ms = forget_at.0.max(0) as u64;
        let mut key = FinishedKey {
            queue,
            lane: Lane::Own,
            f: ms << OWN_BITS | self.counters.f & ((1 << OWN_BITS) - 1),
        };
        // Behind all others, as most are, nobody needs to be asked.
        while key.f <= self.queue_ref(queue).own_up_to
            && (self.own_places.contains(&key) || archive.is_taken(key)?)
        {
            key.f += 1 << OWN_BITS;
        }
        let queue = self.queue_mut(queue);
        queue.own_up_to = queue.own_up_to.max(key.f);
        self.own_places.insert(key);
        Ok(key.f)
    }

    /// Takes a job out of everything in RAM and lets go of its unique key.
    fn remove_unfinished(&mut self, job: &LiveJob) -> Extras {
        self.set_job(job.id, None);
        if job.phase == Phase::Blocked {
            self.waits_no_more(job.id);
        }
        if self.leases.contains_key(&job.id) {
            self.set_leases(job.id, None);
        }
        if !job.has_extras {
            return Extras::default();
        }
        let extras = self.extras.get(&job.id).cloned().unwrap_or_default();
        self.set_extras(job.id, None);
        if let Some(key) = &extras.unique_key {
            let hold = self.queue_ref(job.queue).uniques.get(key).copied();
            // A key held for a time outlives its job.
            if hold.is_some_and(|hold| hold.id == job.id && hold.until.is_none()) {
                self.set_unique(job.queue, key, None);
            }
        }
        extras
    }

    /// Lets go of a key that is held for a time, of a job that is forgotten without having been done: else nobody could
    /// have it done in that time, and a duplicate would be told of a job that is nowhere.
    pub(super) fn let_go(&mut self, job: &LiveJob, extras: &Extras) {
        if let Some(key) = &extras.unique_key
            && self.queue_ref(job.queue).uniques.get(key).is_some_and(|hold| hold.id == job.id)
        {
            self.set_unique(job.queue, key, None);
        }
    }

    /// A finished job by its id, as this commit sees it.
    pub(super) fn find_finished(
        &mut self,
        id: JobId,
        archive: &mut dyn Archive,
    ) -> Result<Option<FinishedJob>, Refusal> {
        // What this commit itself changed is not in the archive yet.
        let changes = if self.finished_changed { &self.changes[..] } else { &[] };
        for change in changes.iter().rev() {
            match change {
                Change::JobFinished(finished) if finished.job.id == id => {
                    return Ok(Some((**finished).clone()));
                }
                Change::FinishedRevived { id: gone, .. } if *gone == id => return Ok(None),
                Change::FinishedRemoved(gone) if gone.id == id => return Ok(None),
                Change::JobRemoved { id: gone, .. } if *gone == id => return Ok(None),
                _ => {}
            }
        }
        Ok(archive.finished(id)?)
    }

    /// A finished job becomes available now, attempts reset.
    pub(super) fn revive(&mut self, finished: FinishedJob) -> Result<LiveJob, Reason> {
        let mut extras = finished.extras;
        let id = finished.job.id;
        let queue = finished.job.queue;
        if self.is_being_told(id) {
            let busy =
                "the many jobs that wait for this one are still being told of its end; try again in a second";
            return Err(Reason::StateConflict(busy.into()));
        }
        if let Some(key) = &extras.unique_key {
            match self.queue_ref(queue).uniques.get(key).copied() {
                Some(hold) if hold.id != id && hold.until.is_none_or(|until| until > self.now.wall) => {
                    let holder = hold.id;
                    return Err(Reason::StateConflict(format!("job {holder} holds the same unique key now")));
                }
                Some(hold) if hold.id == id => {}
                _ => self.set_unique(queue, key, Some(Hold { id, until: None })),
            }
        }
        extras.keys = extras.keys.and_then(|keys| self.shared_keys(queue, Arc::unwrap_or_clone(keys)));
        extras.expires_at = extras.expires_at.filter(|at| *at > self.now.wall);
        let job = LiveJob {
            run_at: self.now.wall,
            attempt: 0,
            crashes: 0,
            phase: Phase::Waiting,
            retrying: false,
            cancel_requested: false,
            has_extras: extras != Extras::default(),
            ..finished.job
        };
        self.count_lane(queue, finished.key.lane, -1);
        if job.has_extras {
            self.set_extras(id, Some(extras.clone()));
        }
        let settled = finished.settled;
        if settled.is_some() {
            self.set_leases(id, Some(super::Leases { live: None, settled }));
        }
        self.set_job(id, Some(job));
        self.finished_changed = true;
        self.changes.push(Change::FinishedRevived { key: finished.key, id });
        self.changes.push(Change::JobPut { job, extras, settled, body: None });
        Ok(job)
    }

    /// A finished job is forgotten.
    pub(super) fn forget(&mut self, finished: FinishedRef) {
        self.count_lane(finished.key.queue, finished.key.lane, -1);
        self.finished_changed = true;
        self.changes.push(Change::FinishedRemoved(finished.into()));
        self.leave_policy(finished.policy);
        self.has_ended(finished.id, Ending::Gone);
    }

    /// An unfinished job is forgotten.
    pub(super) fn remove(&mut self, job: &LiveJob) {
        let extras = self.remove_unfinished(job);
        self.let_go(job, &extras);
        self.finished_changed = true;
        self.changes.push(Change::JobRemoved { id: job.id, n: job.n });
        self.leave_policy(job.policy);
        self.has_ended(job.id, Ending::Gone);
    }

    /// Remembers when a lane may next have something too old, and whether it has too many.
    fn expect_trim(&mut self, key: FinishedKey, finished_at: Timestamp) {
        let queue = self.queue_mut(key.queue);
        let retention = queue.config.retention;
        let at = match key.lane {
            Lane::Done => finished_at.plus_ms(retention.completed_ms),
            Lane::Dead => finished_at.plus_ms(retention.dead_ms),
            Lane::Own => own_forget_at(key.f),
        };
        let count = queue.lanes[key.lane as usize];
        let trim_at = &mut queue.trim_at[key.lane as usize];
        if count == 1 {
            *trim_at = Some(at);
        } else if let Some(known) = trim_at {
            *known = (*known).min(at);
        }
        if key.lane == Lane::Done && count > retention.completed_count {
            self.over_retention += if retention.completed_count == 0 { TRIM_FROM } else { 1 };
        }
    }
}

/// When a job in [`Lane::Own`] is to be forgotten.
pub(super) fn own_forget_at(f: u64) -> Timestamp {
    Timestamp((f >> OWN_BITS) as i64)
}

impl FinishedJob {
    /// What is needed to forget it.
    pub fn as_ref(&self) -> FinishedRef {
        let LiveJob { id, n, policy, .. } = self.job;
        FinishedRef { key: self.key, id, n, policy, finished_at: self.finished_at }
    }
}
