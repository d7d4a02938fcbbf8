//! Schedules: kept whole in RAM, ordered by their next tick.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use super::{
    Engine, Refusal,
    change::{Archive, Change},
    undo::Undo,
};
use crate::{
    error::{Error, ErrorKind},
    name::Name,
    op::{Reason, Reply},
    schedule::{
        Fire, SCHEDULES_BYTES, Schedule, ScheduleChange, ScheduleOp, ScheduleOrder, ScheduleRecord,
        ScheduleReply, ScheduleState,
    },
    time::Timestamp,
};

#[derive(Default)]
pub(super) struct Schedules {
    by_name: BTreeMap<Name, ScheduleRecord>,
    by_next: BTreeSet<(Timestamp, Name)>,
    bytes: usize,
}

impl Engine {
    pub(super) fn schedule_op(
        &mut self,
        op: &ScheduleOp,
        archive: &mut dyn Archive,
    ) -> Result<Reply, Refusal> {
        match op {
            ScheduleOp::Put { schedule, next } => Ok(self.put_schedule(schedule, *next)?),
            ScheduleOp::Delete { name } => {
                self.known_schedule(name)?;
                self.set_schedule(name, None);
                Ok(Reply::Done)
            }
            ScheduleOp::Pause { name } => Ok(self.pause_schedule(name)?),
            ScheduleOp::Resume { name, revision, next } => Ok(self.resume_schedule(name, *revision, *next)?),
            ScheduleOp::Fire(fire) => self.fire(fire, archive),
        }
    }

    /// One schedule.
    pub fn schedule(&self, name: &str) -> Option<ScheduleRecord> {
        self.schedules.by_name.get(name).cloned()
    }

    /// Up to `limit` schedules after a [position](ScheduleOrder::position).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a position of another order.
    pub fn schedules(
        &self,
        order: ScheduleOrder,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ScheduleRecord>, Error> {
        let Schedules { by_name, by_next, .. } = &self.schedules;
        let damaged =
            || Error::new(ErrorKind::Invalid, "the cursor is damaged: start again without a cursor");
        let name = |text: &str| Name::new(text).map_err(|_| damaged());
        Ok(match order {
            ScheduleOrder::Name => {
                let after = after.map(name).transpose()?.map_or(Unbounded, Excluded);
                by_name.range((after, Unbounded)).take(limit).map(|(_, record)| record.clone()).collect()
            }
            ScheduleOrder::Next => {
                let position = |text: &str| {
                    let (at, of) = text.split_once('/').ok_or_else(damaged)?;
                    Ok::<_, Error>((Timestamp(at.parse().map_err(|_| damaged())?), name(of)?))
                };
                let after = after.map(position).transpose()?.map_or(Unbounded, Excluded);
                let names = by_next.range((after, Unbounded)).take(limit).map(|(_, name)| name);
                names.filter_map(|name| by_name.get(name)).cloned().collect()
            }
        })
    }

    /// A schedule, when the engine is rebuilt.
    pub fn load_schedule(&mut self, record: ScheduleRecord) {
        self.swap_schedule(&record.name().clone(), Some(record));
    }

    fn put_schedule(&mut self, schedule: &Arc<Schedule>, first: Timestamp) -> Result<Reply, Reason> {
        let before = self.schedules.by_name.get(&schedule.name);
        let put = |state: &ScheduleState, unchanged| {
            Reply::Schedule(ScheduleReply::Put { next: state.next, unchanged })
        };
        if let Some(record) = before.filter(|record| same(&record.schedule, schedule)) {
            return Ok(put(&record.state, true));
        }
        let bytes =
            self.schedules.bytes + schedule.size() - before.map_or(0, |record| record.schedule.size());
        if bytes > SCHEDULES_BYTES {
            return Err(Reason::StateConflict(format!(
                "all schedules of a store take {SCHEDULES_BYTES} bytes at most, with their jobs: keep payloads small, \
                 or delete schedules that are not needed"
            )));
        }
        let created_at = before.map_or(self.now.wall, |record| record.created_at);
        let mut state = before.map_or_else(ScheduleState::default, |record| record.state);
        let keeps_its_tick = before.is_some_and(|record| record.schedule.same_times(schedule));
        if !keeps_its_tick && !state.paused {
            state.next = Some(first);
        }
        state.revision = self.new_revision();
        let record =
            ScheduleRecord { schedule: schedule.clone(), state, created_at, updated_at: self.now.wall };
        self.set_schedule(&schedule.name, Some(record));
        Ok(put(&state, false))
    }

    fn pause_schedule(&mut self, name: &Name) -> Result<Reply, Reason> {
        let mut record = self.known_schedule(name)?;
        if !record.state.paused {
            (record.state.paused, record.state.next) = (true, None);
            record.state.revision = self.new_revision();
            record.updated_at = self.now.wall;
            self.set_schedule(name, Some(record));
        }
        Ok(Reply::Done)
    }

    fn resume_schedule(&mut self, name: &Name, revision: u64, next: Timestamp) -> Result<Reply, Reason> {
        let mut record = self.known_schedule(name)?;
        if !record.state.paused {
            return Ok(Reply::Done);
        }
        if record.state.revision != revision {
            return Err(Reason::StateConflict(format!(
                "schedule `{name}` was changed in the meantime: read it again"
            )));
        }
        (record.state.paused, record.state.next) = (false, Some(next));
        record.state.revision = self.new_revision();
        record.updated_at = self.now.wall;
        self.set_schedule(name, Some(record));
        Ok(Reply::Done)
    }

    fn fire(&mut self, fire: &Fire, archive: &mut dyn Archive) -> Result<Reply, Refusal> {
        let Fire { name, revision, expected, tick, job, next, missed } = fire;
        let mut record = self.known_schedule(name)?;
        let state = &mut record.state;
        if state.next != Some(*expected) || revision.is_some_and(|revision| revision != state.revision) {
            let detail = format!("that tick of schedule `{name}` was fired by another, or is no more");
            return Err(Reason::StateConflict(detail).into());
        }
        let latest = tick.unwrap_or(*expected).max(*expected);
        if latest > self.now.wall {
            return Err(Reason::StateConflict(format!("that tick of schedule `{name}` has not come")).into());
        }
        if next.is_some_and(|next| next <= latest) {
            let detail = "lies after the tick that is fired".into();
            return Err(Reason::Invalid { field: "next", detail }.into());
        }
        state.next = *next;
        state.missed = state.missed.saturating_add(*missed);
        let mut reply = ScheduleReply::Fired { job: None, deduplicated: false };
        if let (Some(tick), Some(job)) = (tick, job) {
            if let Reply::Enqueued(enqueued) = self.enqueue(job, &[], archive)? {
                let (id, deduplicated) = (enqueued.id, enqueued.deduplicated);
                state.last_job = Some(id);
                reply = ScheduleReply::Fired { job: Some(id), deduplicated };
            }
            (state.last, state.fired) = (Some(*tick), state.fired.saturating_add(1));
        }
        self.set_schedule(name, Some(record));
        Ok(Reply::Schedule(reply))
    }

    /// Tokens are what never comes twice, also after a restart.
    fn new_revision(&mut self) -> u64 {
        self.counters.token += 1;
        self.counters.token
    }

    fn known_schedule(&self, name: &Name) -> Result<ScheduleRecord, Reason> {
        self.schedules.by_name.get(name).cloned().ok_or(Reason::NotFound("schedule"))
    }

    pub(super) fn swap_schedule(
        &mut self,
        name: &Name,
        new: Option<ScheduleRecord>,
    ) -> Option<ScheduleRecord> {
        let Schedules { by_name, by_next, bytes } = &mut self.schedules;
        *bytes += new.as_ref().map_or(0, |record| record.schedule.size());
        let next = new.as_ref().and_then(|record| record.state.next);
        let old = match new {
            Some(record) => by_name.insert(name.clone(), record),
            None => by_name.remove(name),
        };
        *bytes -= old.as_ref().map_or(0, |record| record.schedule.size());
        if let Some(at) = old.as_ref().and_then(|record| record.state.next) {
            by_next.remove(&(at, name.clone()));
        }
        if let Some(at) = next {
            by_next.insert((at, name.clone()));
        }
        old
    }

    fn set_schedule(&mut self, name: &Name, new: Option<ScheduleRecord>) {
        let change = new.clone();
        let old = self.swap_schedule(name, new);
        let only_moved = |record: &ScheduleRecord| {
            old.as_ref().is_some_and(|old| {
                Arc::ptr_eq(&old.schedule, &record.schedule) && old.updated_at == record.updated_at
            })
        };
        self.changes.push(Change::Schedule(match change {
            Some(record) if only_moved(&record) => {
                ScheduleChange::Moved { name: name.clone(), state: record.state }
            }
            Some(record) => ScheduleChange::Put(Box::new(record)),
            None => ScheduleChange::Removed(name.clone()),
        }));
        self.undo.push(Undo::Schedule(name.clone(), old.map(Box::new)));
    }
}

/// Word for word, but for the ids that the template brings along, which nobody uses.
fn same(a: &Schedule, b: &Schedule) -> bool {
    if a.job.id == b.job.id {
        return a == b;
    }
    let mut other = b.clone();
    other.job.id = a.job.id;
    *a == other
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::JobIds,
        job::{JobBody, NewJob},
        schedule::CatchUp,
    };

    #[test]
    fn schedules_take_a_bounded_amount_of_memory() {
        let queue = Name::new("q").unwrap();
        let body = JobBody::new("k", &"x".repeat(1 << 20));
        let job = NewJob::new(JobIds::default().next(0, &queue, 0), queue, body);
        let schedule = |n: usize, catch_up| {
            let (name, cron, timezone) =
                (Name::new(&format!("s{n}")).unwrap(), "* * * * *".into(), "UTC".into());
            Arc::new(Schedule { name, cron, timezone, catch_up, job: job.clone() })
        };
        let mut engine = Engine::new();
        let most = SCHEDULES_BYTES / (1 << 20) - 1;
        for n in 0..most {
            engine.put_schedule(&schedule(n, CatchUp::Skip), Timestamp(0)).unwrap();
        }
        let one_too_many = engine.put_schedule(&schedule(most, CatchUp::Skip), Timestamp(0));
        assert!(matches!(one_too_many, Err(Reason::StateConflict(_))));
        // What replaces something takes its place, and what goes makes room.
        engine.put_schedule(&schedule(3, CatchUp::All), Timestamp(0)).unwrap();
        engine.set_schedule(&Name::new("s5").unwrap(), None);
        engine.put_schedule(&schedule(most, CatchUp::Skip), Timestamp(0)).unwrap();
        engine.undo_to(0);
        assert_eq!(engine.schedules.bytes, 0);
        assert!(engine.schedules.by_name.is_empty() && engine.schedules.by_next.is_empty());
    }
}
