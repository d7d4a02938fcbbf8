//! Housekeeping in bounded pieces. Safety never depends on it: a lease that has run out is refused, an expired job
//! is not handed out, whether or not anybody has tidied up.

use super::{
    Engine,
    change::{Archive, Change, FinishedRef, Lane, QueueId},
    finished::own_forget_at,
    undo::Undo,
};
use crate::{
    error::Error,
    job::{DeadReason, JobState},
    store::{Budget, Maintained},
    time::{Now, Timestamp},
};

/// So many finished jobs above their queues' counts are worth a look, so that retention goes in large cheap steps.
pub const TRIM_FROM: u64 = 500;

impl Engine {
    /// Whether [`Engine::maintain`] has something to do that should not wait: leases and locks that ran out, jobs that
    /// expired, keys that came free, ends of jobs that not all have heard of who wait for them, topics that have too
    /// much.
    pub fn maintenance_is_due(&self, now: Now) -> bool {
        self.has_untold()
            || self.lease_ends.first().is_some_and(|(at, _)| *at <= now.store)
            || self.expiries.first().is_some_and(|(at, _)| *at <= now.wall)
            || self.unique_ends.first().is_some_and(|(at, ..)| *at <= now.wall)
            || self.locks.next_end().is_some_and(|at| at <= now.store)
            || self.events_are_due(now)
    }

    /// How many finished jobs are above their queue's count, roughly; trim from [`TRIM_FROM`] on, and once a second for
    /// those that are merely old. A job of a queue that keeps none counts for so many: forgotten in the group in which it
    /// ends, it is never written down as finished.
    pub fn over_retention(&self) -> u64 {
        self.over_retention
    }

    /// Turns leases that ran out into crashes and expired jobs into dead letters, hands on locks whose time is over,
    /// and forgets what retention says, at most `budget.rows` rows; what one job waits for ends with it, up to 10,000
    /// edges, and is counted as rows. Its changes belong to the current group.
    ///
    /// # Errors
    /// The archive's. What was done before stands.
    pub fn maintain(
        &mut self,
        budget: Budget,
        now: Now,
        archive: &mut dyn Archive,
    ) -> Result<Maintained, Error> {
        let done = self.tidy(budget, now, archive);
        // Also after an error: what was done stands.
        self.lay_by_fresh();
        let mut done = done?;
        done.more |= self.maintenance_is_due(now) || self.keyed_is_due() || self.policies_are_due();
        Ok(done)
    }

    fn tidy(&mut self, budget: Budget, now: Now, archive: &mut dyn Archive) -> Result<Maintained, Error> {
        self.tick(now);
        let mut done = Maintained::default();
        let mut left = budget.rows.max(1);
        if self.has_untold() {
            // Not all of it: a worker that crashed meanwhile is not made to wait for a cascade.
            let share = left.div_ceil(2);
            self.edges.share = share;
            self.tell_ended(archive)?;
            left -= share - self.edges.share;
        }
        while left > 0
            && let Some((_, id)) = self.lease_ends.first().copied().filter(|(at, _)| *at <= self.now.store)
        {
            self.crash(id, archive)?;
            done.crashed += 1;
            left -= 1;
        }
        while left > 0
            && let Some((_, id)) = self.expiries.first().copied().filter(|(at, _)| *at <= self.now.wall)
        {
            // One that waits for many others takes all of its edges along: each counts as a row.
            self.edges.share = left;
            self.finish(id, JobState::Dead, Some(DeadReason::Expired), None, archive)?;
            done.expired += 1;
            left -= (left - self.edges.share).max(1);
        }
        while left > 0
            && let Some((_, queue, key)) =
                self.unique_ends.first().filter(|(at, ..)| *at <= self.now.wall).cloned()
        {
            self.set_unique(queue, &key, None);
            left -= 1;
        }
        left -= self.lapse_locks(left);
        left -= self.forget_keyed(left);
        left -= self.forget_policies(left);
        for id in (0..self.queues.end()).map(QueueId) {
            if left > 0 && self.queues.get(id).is_some() {
                left -= self.forget_turns(id, left as usize) as u32;
            }
        }
        left = self.maintain_events(left, archive, &mut done)?;
        self.edges.share = left;
        self.trim(left, archive, &mut done)?;
        self.tell_fresh(archive)?;
        Ok(done)
    }

    /// Forgets finished jobs, going round the queues.
    fn trim(&mut self, mut left: u32, archive: &mut dyn Archive, done: &mut Maintained) -> Result<(), Error> {
        self.over_retention = 0;
        let count = self.queues.end();
        for step in 0..count {
            let at = (u64::from(self.trim_next) + u64::from(step)) % u64::from(count);
            let id = QueueId(at as u32);
            if self.queues.get(id).is_none() {
                continue;
            }
            for lane in Lane::ALL {
                let excess = self.excess(id, lane);
                if excess == 0 && !self.may_be_too_old(id, lane) {
                    continue;
                }
                if left == 0 {
                    (done.more, self.over_retention, self.trim_next) = (true, u64::MAX / 2, id.0);
                    return Ok(());
                }
                let forgotten = self.trim_lane(id, lane, excess, left, archive)?;
                done.forgotten += forgotten;
                left -= forgotten;
                let excess = self.excess(id, lane);
                if excess > 0 {
                    done.more = true;
                    self.over_retention += excess;
                }
                // Its budget ended among those that are too old.
                done.more |= self.may_be_too_old(id, lane);
            }
            self.remove_if_empty(id);
        }
        Ok(())
    }

    /// How many of a lane are too many.
    fn excess(&self, id: QueueId, lane: Lane) -> u64 {
        let queue = self.queue_ref(id);
        let count = queue.lanes[lane as usize];
        match lane {
            _ if queue.dropped => count,
            Lane::Done => count.saturating_sub(queue.config.retention.completed_count),
            Lane::Dead | Lane::Own => 0,
        }
    }

    fn may_be_too_old(&self, id: QueueId, lane: Lane) -> bool {
        let queue = self.queue_ref(id);
        queue.lanes[lane as usize] > 0 && queue.trim_at[lane as usize].is_none_or(|at| at <= self.now.wall)
    }

    fn trim_lane(
        &mut self,
        id: QueueId,
        lane: Lane,
        excess: u64,
        limit: u32,
        archive: &mut dyn Archive,
    ) -> Result<u32, Error> {
        // Reading what stays would cost more than forgetting what goes.
        let most = if self.may_be_too_old(id, lane) { limit } else { excess.min(u64::from(limit)) as u32 };
        let mut forgotten = 0;
        let mut next = None;
        // One more than may go, to learn when to look again.
        for finished in archive.oldest(id, lane, most as usize + 1)? {
            let at = self.forget_at(&finished);
            let goes = u64::from(forgotten) < excess || at <= self.now.wall;
            if !goes || forgotten == most {
                next = Some(at);
                break;
            }
            self.forget(finished);
            forgotten += 1;
        }
        self.queue_mut(id).trim_at[lane as usize] = next;
        Ok(forgotten)
    }

    fn forget_at(&self, finished: &FinishedRef) -> Timestamp {
        let retention = self.queue_ref(finished.key.queue).config.retention;
        match finished.key.lane {
            Lane::Done => finished.finished_at.plus_ms(retention.completed_ms),
            Lane::Dead => finished.finished_at.plus_ms(retention.dead_ms),
            Lane::Own => own_forget_at(finished.key.f),
        }
    }

    fn remove_if_empty(&mut self, id: QueueId) {
        let queue = self.queue_ref(id);
        if queue.dropped && queue.lanes == [0; 3] {
            self.dropped.retain(|dropped| *dropped != id);
            if let Some(mut queue) = self.queues.remove(id) {
                self.disarm(&mut queue);
                self.undo.push(Undo::QueueRemoved(queue));
            }
            self.changes.push(Change::QueueRemoved(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::nothing::Nothing;
    use super::*;
    use crate::{
        after::After,
        id::JobIds,
        job::{JobBody, NewJob, When},
        name::Name,
        op::{Commit, Op},
        queue::{QueueConfig, Retention},
        time::StoreTime,
    };

    /// 100 jobs, and 50 that wait for all of them and expire at the same moment.
    fn crowd() -> Engine {
        let (mut engine, mut ids) = (Engine::new(), JobIds::default());
        let mut job = |n: u64| {
            let queue = Name::new("q").unwrap();
            NewJob::new(ids.next(1, &queue, n), queue, JobBody::new("k", "null"))
        };
        let mut ops: Vec<_> = (0..100).map(&mut job).collect();
        ops.extend((100..150).map(|n| NewJob {
            after: (0..100).map(After::Op).collect(),
            expires: Some(When::In(10)),
            ..job(n)
        }));
        let ops = ops.into_iter().map(|job| Op::Enqueue(Box::new(job))).collect();
        engine.apply(&Commit { ops, ..Commit::default() }, now(0), &mut Nothing).unwrap().unwrap();
        engine.commit_group();
        engine
    }

    fn now(ms: i64) -> Now {
        Now { wall: Timestamp(1_000_000 + ms), store: StoreTime(ms as u64) }
    }

    #[test]
    fn jobs_that_expire_take_no_more_edges_along_than_there_is_a_budget_for() {
        let mut engine = crowd();
        let mut steps = Vec::new();
        loop {
            let done = engine.maintain(Budget { rows: 250 }, now(10), &mut Nothing).unwrap();
            engine.commit_group();
            steps.push(done.expired);
            if !done.more {
                break;
            }
        }
        // The third takes more than there is left; one that waits for more than a budget goes alone.
        assert_eq!(steps, [[3; 16].as_slice(), &[2]].concat());
    }

    #[test]
    fn one_end_in_a_queue_that_keeps_none_is_worth_a_look() {
        for (completed_count, worth) in [(0, true), (1, false)] {
            let (mut engine, mut ids, queue) = (Engine::new(), JobIds::default(), Name::new("q").unwrap());
            let retention = Retention { completed_count, ..Retention::default() };
            let config = QueueConfig { retention, ..QueueConfig::default() };
            let mut ops = vec![Op::PutQueue { queue: queue.clone(), config }];
            for n in 0..2 {
                let id = ids.next(1, &queue, n);
                let job = NewJob::new(id, queue.clone(), JobBody::new("k", "null"));
                ops.extend([Op::Enqueue(Box::new(job)), Op::Cancel { id }]);
            }
            engine.apply(&Commit { ops, ..Commit::default() }, now(0), &mut Nothing).unwrap().unwrap();
            assert_eq!(engine.over_retention() >= TRIM_FROM, worth, "{completed_count} are kept");
        }
    }

    #[test]
    fn a_budget_of_one_row_gets_through() {
        let mut engine = crowd();
        let mut expired = 0;
        for _ in 0..50 {
            expired += engine.maintain(Budget { rows: 1 }, now(10), &mut Nothing).unwrap().expired;
            engine.commit_group();
        }
        assert_eq!(expired, 50);
    }
}
