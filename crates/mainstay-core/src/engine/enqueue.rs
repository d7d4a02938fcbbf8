//! Jobs come in.

use std::sync::Arc;

use super::{
    Engine, Refusal,
    after::Found,
    change::{Archive, Change, Extras, LiveJob, Phase, QueueId},
    queues::Hold,
};
use crate::{
    after::WaitsFor,
    id::JobId,
    job::{JobBody, JobState, NewJob, Unique},
    op::{Enqueued, Reason, Reply},
    queue::{Overflow, QueueConfig},
    time::Timestamp,
};

impl Engine {
    /// `before` are the answers to the ops before it, which it may refer to.
    pub(super) fn enqueue(
        &mut self,
        new: &NewJob,
        before: &[Reply],
        archive: &mut dyn Archive,
    ) -> Result<Reply, Refusal> {
        if new.priority > 9 {
            let detail = "is a number from 0 to 9".into();
            return Err(Reason::Invalid { field: "priority", detail }.into());
        }
        Engine::check_keys(&new.keys)?;
        // A made id is new, but for one that was handed over twice. The unfinished are looked through for nothing, and
        // one above all that have finished cannot be among them.
        let may_be_known =
            new.caller_id || Some(new.id) <= self.finished_up_to || self.jobs.get(new.id).is_some();
        if may_be_known && let Some(duplicate) = self.same_id(new, archive)? {
            return Ok(duplicate);
        }
        let queue = self.queue_or_create(&new.queue);
        if let Some(unique) = &new.unique
            && let Some(duplicate) = self.same_key(queue, unique, new, archive)?
        {
            return Ok(duplicate);
        }
        // After the duplicates: what the first job waited for may have been forgotten by now.
        let after = Self::named(new, before)?;
        let mut found = after.as_ref().map(|after| self.look_up(before.len(), after, archive)).transpose()?;
        // One that is not wanted any more takes no room.
        if !matches!(found, Some(Found::Cancelled))
            && self.make_room(queue, archive)?
            && let Some(after) = &after
        {
            found = Some(self.look_up(before.len(), after, archive)?);
        }
        let body = as_kept(new, &after);
        let waits = matches!(&found, Some(Found::Waits(on)) if !on.is_empty());

        let wall = self.now.wall;
        let run_at = new.run_at.map_or(wall, |when| when.from(wall)).max(wall);
        let extras = Extras {
            expires_at: new.expires.map(|when| when.from(wall)),
            unique_key: new.unique.as_ref().map(|unique| unique.key.clone()),
            keys: self.shared_keys(queue, new.keys.clone()),
        };
        self.counters.n += 1;
        let job = LiveJob {
            id: new.id,
            n: self.counters.n,
            run_at,
            created_at: wall,
            queue,
            policy: self.use_policy(&new.policy),
            attempt: 0,
            size: u32::try_from(body.size()).unwrap_or(u32::MAX),
            crashes: 0,
            priority: new.priority,
            phase: if waits { Phase::Blocked } else { Phase::Waiting },
            retrying: false,
            cancel_requested: false,
            has_extras: extras != Extras::default(),
        };
        if job.has_extras {
            self.set_extras(job.id, Some(extras.clone()));
        }
        self.set_job(job.id, Some(job));
        if let Some(Unique { key, for_ms }) = &new.unique {
            let until = for_ms.map(|ms| wall.plus_ms(ms));
            self.set_unique(queue, key, Some(Hold { id: job.id, until }));
        }
        self.changes.push(Change::JobPut { job, extras, settled: None, body: Some(body) });
        let mut state = job.state(wall);
        match found {
            Some(Found::Waits(on)) if waits => self.open_edges(job.id, on, new.after_failure),
            Some(Found::Cancelled) => {
                self.finish(job.id, JobState::Cancelled, None, None, archive)?;
                state = JobState::Cancelled;
            }
            _ => {}
        }
        Ok(Reply::Enqueued(Enqueued {
            id: job.id,
            n: job.n,
            queue: new.queue.clone(),
            kind: Some(new.body.kind.clone()),
            state,
            priority: job.priority,
            run_at,
            created_at: wall,
            deduplicated: false,
            pressure: self.queue_ref(queue).pressure(wall),
        }))
    }

    fn same_id(&mut self, new: &NewJob, archive: &mut dyn Archive) -> Result<Option<Reply>, Refusal> {
        let first = match self.jobs.get(new.id) {
            Some(job) => Some((*job, job.state(self.now.wall))),
            None => self.find_finished(new.id, archive)?.map(|finished| (finished.job, finished.state)),
        };
        let Some((job, state)) = first else {
            if self.is_being_told(new.id) {
                return Err(Reason::StateConflict(
                    "a job with this id is being forgotten; use another id".into(),
                )
                .into());
            }
            return Ok(None);
        };
        match self.queue_name(job.queue) {
            Some(name) if *name == new.queue => Ok(Some(self.duplicate(new, job, state))),
            Some(name) => Err(Reason::IdInOtherQueue(name.clone()).into()),
            // Its queue was deleted and it is being forgotten: it must be gone before its id can be used again.
            None => {
                Err(Reason::StateConflict("a job with this id is being forgotten; use another id".into())
                    .into())
            }
        }
    }

    fn same_key(
        &mut self,
        queue: QueueId,
        unique: &Unique,
        new: &NewJob,
        archive: &mut dyn Archive,
    ) -> Result<Option<Reply>, Refusal> {
        let Some(hold) = self.queue_ref(queue).uniques.get(&unique.key).copied() else { return Ok(None) };
        if hold.until.is_some_and(|until| until <= self.now.wall) {
            self.set_unique(queue, &unique.key, None);
            return Ok(None);
        }
        if let Some(job) = self.jobs.get(hold.id) {
            let state = job.state(self.now.wall);
            return Ok(Some(self.duplicate(new, *job, state)));
        }
        if let Some(finished) = self.find_finished(hold.id, archive)? {
            return Ok(Some(self.duplicate(new, finished.job, finished.state)));
        }
        // The first job has been forgotten, but its key is held for longer than that. Of those that nobody deletes, all
        // but the cancelled and the dead were completed; and who comes again with a key comes with the same job.
        Ok(Some(Reply::Enqueued(Enqueued {
            id: hold.id,
            n: 0,
            queue: new.queue.clone(),
            kind: Some(new.body.kind.clone()),
            state: JobState::Completed,
            priority: new.priority,
            run_at: made_at(hold.id),
            created_at: made_at(hold.id),
            deduplicated: true,
            pressure: self.queue_ref(queue).pressure(self.now.wall),
        })))
    }

    /// Whether jobs had to go for it. What one commit drops is bounded: an op takes one away at least, however much that
    /// waits for, or is refused; a queue whose bound was lowered comes down to it in several commits.
    fn make_room(&mut self, id: QueueId, archive: &mut dyn Archive) -> Result<bool, Refusal> {
        let QueueConfig { max_depth, max_age_ms, overflow, .. } = self.queue_ref(id).config;
        if let Some(max_age_ms) = max_age_ms {
            self.advance(id);
            let queue = self.queue_ref(id);
            let age = queue.oldest_available_age_ms(self.now.wall);
            if let Some(age_ms) = age.filter(|age| *age > max_age_ms) {
                let queue = queue.name.clone();
                return Err(Reason::QueueBehind { queue, age_ms, max_age_ms, retry_ms: 0 }.into());
            }
        }
        let Some(max_depth) = max_depth else { return Ok(false) };
        let mut dropped = false;
        while self.queue_ref(id).depth() >= max_depth {
            if self.room_left == 0 && dropped {
                break;
            }
            let oldest = match overflow {
                Overflow::DropOldest => self.queue_ref(id).oldest(),
                Overflow::Reject => None,
            };
            if self.room_left == 0 && oldest.is_some() {
                let queue = &self.queue_ref(id).name;
                return Err(Reason::StateConflict(format!(
                    "queue `{queue}` is full, and what it would drop for so many jobs waits for too many others; enqueue \
                     fewer at a time"
                ))
                .into());
            }
            match oldest {
                Some(oldest) => {
                    let edges = self.edges.waiting_for(oldest);
                    self.room_left = self.room_left.saturating_sub(edges + 1);
                    self.finish(oldest, JobState::Cancelled, None, None, archive)?;
                }
                None => {
                    let queue = self.queue_ref(id).name.clone();
                    return Err(Reason::QueueFull { queue, max_depth, retry_ms: 0 }.into());
                }
            }
            // It may take others along.
            self.tell_fresh(archive)?;
            dropped = true;
        }
        Ok(dropped)
    }

    fn duplicate(&self, new: &NewJob, first: LiveJob, state: JobState) -> Reply {
        Reply::Enqueued(Enqueued {
            id: first.id,
            n: first.n,
            queue: new.queue.clone(),
            kind: None,
            state,
            priority: first.priority,
            run_at: first.run_at,
            created_at: first.created_at,
            deduplicated: true,
            pressure: self.queue_ref(first.queue).pressure(self.now.wall),
        })
    }
}

/// The body as it is kept: with what the job is to wait for, by ids, and how long it holds its unique key.
fn as_kept(new: &NewJob, after: &Option<WaitsFor>) -> Arc<JobBody> {
    let unique_for_ms = new.unique.as_ref().and_then(|unique| unique.for_ms);
    if (&new.body.after, new.body.unique_for_ms) == (after, unique_for_ms) {
        return new.body.clone();
    }
    Arc::new(JobBody { after: after.clone(), unique_for_ms, ..(*new.body).clone() })
}

/// The time in a UUIDv7.
fn made_at(id: JobId) -> Timestamp {
    let high = u64::from_be_bytes(id.as_bytes()[..8].try_into().expect("eight bytes"));
    Timestamp((high >> 16) as i64)
}
