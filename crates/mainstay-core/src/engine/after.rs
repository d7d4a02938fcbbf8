//! Who waits for whom, and who hears of an end.
//!
//! An edge is open until what is waited for has ended in a way that lets the waiter go. The open edges say it all: a
//! waiter whose last edge closes can run, one whose edge ends badly is cancelled. Nobody looks up again what became of
//! a job that has ended, so it may be forgotten meanwhile. (An edge to a dead job stays open if the waiter says so: the
//! dead one may be requeued.)
//!
//! Cycles cannot be made: edges are only opened by an enqueue, to jobs that exist before it, and an id whose waiters
//! have not all heard of its end is not used again.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Engine, Refusal,
    change::{AfterChange, Archive, Change, Ending, LiveJob, Phase},
    undo::Undo,
};
use crate::{
    after::{After, AfterFailure, MAX_AFTER, MAX_AFTER_OF_COMMIT, WaitsFor},
    error::Error,
    id::JobId,
    job::{JobState, NewJob},
    op::{Op, Reason, Reply, WrongAfter},
};

const NO_JOB: &str = "no job has this id, or it has been forgotten";
const NO_OP: &str = "names no earlier enqueue of this request";

/// The open edges, about 100 bytes each.
#[derive(Default)]
pub(super) struct Edges {
    /// Who waits, for whom.
    by_waiter: BTreeMap<(JobId, JobId), AfterFailure>,
    /// Whom it is waited for, who is concerned by its death, who waits.
    by_subject: BTreeSet<(JobId, AfterFailure, JobId)>,
    /// Jobs that have ended, and not all that wait for them have heard of it.
    ended: BTreeSet<(JobId, Ending)>,
    /// Jobs that ended in the op under way, and are waited for.
    fresh: Vec<(JobId, Ending)>,
    /// So many edges may still be closed in the commit under way.
    pub(super) share: u32,
}

/// What an enqueue finds of the jobs it names.
pub(super) enum Found {
    /// Some of them have not ended.
    Waits(Vec<JobId>),
    /// One of them has ended so that the new job is not wanted.
    Cancelled,
}

impl Edges {
    pub(super) fn swap(
        &mut self,
        waiter: JobId,
        on: JobId,
        new: Option<AfterFailure>,
    ) -> Option<AfterFailure> {
        let old = match new {
            Some(failure) => self.by_waiter.insert((waiter, on), failure),
            None => self.by_waiter.remove(&(waiter, on)),
        };
        if let Some(failure) = old {
            self.by_subject.remove(&(on, failure, waiter));
        }
        if let Some(failure) = new {
            self.by_subject.insert((on, failure, waiter));
        }
        old
    }

    /// Puts or removes; answers whether it was there.
    pub(super) fn swap_ended(&mut self, id: JobId, how: Ending, is: bool) -> bool {
        if is { !self.ended.insert((id, how)) } else { self.ended.remove(&(id, how)) }
    }

    /// What the op under way did is taken back.
    pub(super) fn forget_fresh(&mut self) {
        self.fresh.clear();
    }

    fn on(&self, waiter: JobId) -> impl Iterator<Item = JobId> {
        self.by_waiter.range((waiter, JobId::MIN)..=(waiter, JobId::MAX)).map(|((_, on), _)| *on)
    }

    pub(super) fn waiting_for(&self, waiter: JobId) -> u32 {
        if self.by_waiter.is_empty() { 0 } else { self.on(waiter).count() as u32 }
    }

    /// The next that is concerned by this end.
    fn concerned(&self, id: JobId, how: Ending) -> Option<(AfterFailure, JobId)> {
        let first = match how {
            Ending::Completed | Ending::Gone => AfterFailure::Wait,
            Ending::Dead => AfterFailure::Cancel,
        };
        let range = (id, first, JobId::MIN)..=(id, AfterFailure::Run, JobId::MAX);
        self.by_subject.range(range).next().map(|(_, failure, waiter)| (*failure, *waiter))
    }
}

impl Engine {
    /// The jobs a new one is to wait for, by their ids; `None` if it names none.
    pub(super) fn named(new: &NewJob, before: &[Reply]) -> Result<Option<WaitsFor>, Reason> {
        if new.after.is_empty() {
            return Ok(None);
        }
        if new.after.len() > MAX_AFTER {
            let detail = format!("names at most {MAX_AFTER} jobs");
            return Err(Reason::Invalid { field: "after", detail });
        }
        let mut wrong = Vec::new();
        let mut jobs = Vec::with_capacity(new.after.len());
        for (at, after) in new.after.iter().enumerate() {
            match after {
                After::Job(id) => jobs.push(*id),
                After::Op(index) => match before.get(*index as usize) {
                    Some(Reply::Enqueued(first)) => jobs.push(first.id),
                    _ => wrong.push(WrongAfter { op: before.len(), at, detail: NO_OP }),
                },
            }
        }
        if !wrong.is_empty() {
            return Err(Reason::After(wrong));
        }
        Ok(Some(WaitsFor { jobs: jobs.into(), failure: new.after_failure }))
    }

    /// What has become of the jobs that a new one is to wait for.
    pub(super) fn look_up(
        &mut self,
        op: usize,
        after: &WaitsFor,
        archive: &mut dyn Archive,
    ) -> Result<Found, Refusal> {
        let (mut wrong, mut cancelled, mut open) = (Vec::new(), false, BTreeSet::new());
        for (at, id) in after.jobs.iter().enumerate() {
            if self.jobs.get(*id).is_some() {
                open.insert(*id);
                continue;
            }
            match (self.ended_as(*id, archive)?, after.failure) {
                (None, _) => wrong.push(WrongAfter { op, at, detail: NO_JOB }),
                (Some(JobState::Cancelled), _) | (Some(JobState::Dead), AfterFailure::Cancel) => {
                    cancelled = true
                }
                (Some(JobState::Dead), AfterFailure::Wait) => drop(open.insert(*id)),
                _ => {}
            }
        }
        match (wrong.is_empty(), cancelled) {
            (false, _) => Err(Reason::After(wrong).into()),
            (true, true) => Ok(Found::Cancelled),
            (true, false) => Ok(Found::Waits(open.into_iter().collect())),
        }
    }

    /// How a finished job ended that can still be named.
    fn ended_as(&mut self, id: JobId, archive: &mut dyn Archive) -> Result<Option<JobState>, Refusal> {
        let finished = self.find_finished(id, archive)?;
        let finished = finished.filter(|finished| self.queue_name(finished.job.queue).is_some());
        Ok(finished.map(|finished| finished.state))
    }

    /// The commit is refused because of what `wrong` says of an op: what else of that kind is wrong in the ops behind
    /// it. They are not applied, so a job that one of them would add counts as there.
    pub(super) fn look_up_the_rest(
        &mut self,
        ops: &[Op],
        wrong: &mut Vec<WrongAfter>,
        archive: &mut dyn Archive,
    ) -> Result<(), Refusal> {
        let from = wrong.last().map_or(0, |wrong| wrong.op + 1);
        let (mut added, mut count) = (BTreeSet::new(), 0);
        for (op, what) in ops.iter().enumerate() {
            let Op::Enqueue(job) = what else { continue };
            count += job.after.len();
            if count > MAX_AFTER_OF_COMMIT {
                return Ok(());
            }
            // A duplicate waits for nothing new.
            let is_known = self.jobs.get(job.id).is_some() || self.ended_as(job.id, archive)?.is_some();
            for (at, after) in job.after.iter().enumerate().filter(|_| op >= from && !is_known) {
                let detail = match after {
                    After::Op(index) if matches!(ops[..op].get(*index as usize), Some(Op::Enqueue(_))) => {
                        continue;
                    }
                    After::Op(_) => NO_OP,
                    After::Job(id) if added.contains(id) || self.jobs.get(*id).is_some() => continue,
                    After::Job(id) if self.ended_as(*id, archive)?.is_some() => continue,
                    After::Job(_) => NO_JOB,
                };
                wrong.push(WrongAfter { op, at, detail });
            }
            added.insert(job.id);
        }
        Ok(())
    }

    pub(super) fn open_edges(&mut self, waiter: JobId, on: Vec<JobId>, failure: AfterFailure) {
        for id in &on {
            let before = self.edges.swap(waiter, *id, Some(failure));
            self.undo.push(Undo::Edge(waiter, *id, before));
        }
        self.changes.push(Change::After(AfterChange::Opened { waiter, on, failure }));
    }

    fn close_edges(&mut self, waiter: JobId, on: Vec<JobId>) {
        for id in &on {
            let before = self.edges.swap(waiter, *id, None);
            self.undo.push(Undo::Edge(waiter, *id, before));
        }
        self.changes.push(Change::After(AfterChange::Closed { waiter, on }));
    }

    /// A job that was waiting has ended.
    pub(super) fn waits_no_more(&mut self, waiter: JobId) {
        let on: Vec<_> = self.edges.on(waiter).collect();
        if !on.is_empty() {
            self.edges.share = self.edges.share.saturating_sub(on.len() as u32);
            self.close_edges(waiter, on);
        }
    }

    /// A job has ended or is gone. Those that wait for it hear of it at the end of the op.
    pub(super) fn has_ended(&mut self, id: JobId, how: Ending) {
        if !self.edges.by_subject.is_empty() && self.edges.concerned(id, how).is_some() {
            self.edges.fresh.push((id, how));
        }
    }

    /// Whether the commit under way has closed as many edges as one should.
    pub(super) fn has_told_its_share(&self) -> bool {
        self.edges.share == 0
    }

    /// Whether some that wait for an earlier job of this id have not heard of its end.
    pub(super) fn is_being_told(&self, id: JobId) -> bool {
        let range = (id, Ending::Completed)..=(id, Ending::Gone);
        !self.edges.ended.is_empty() && self.edges.ended.range(range).next().is_some()
    }

    /// Whether more jobs have to hear of an end than could be told at once.
    pub(super) fn has_untold(&self) -> bool {
        !self.edges.ended.is_empty()
    }

    /// Tells those that wait for what ended in the op under way, and lays by what exceeds the commit's share.
    pub(super) fn tell_fresh(&mut self, archive: &mut dyn Archive) -> Result<(), Error> {
        while let Some(at) = self.edges.fresh.len().checked_sub(1) {
            // It stays there until it is done: telling may fail, and adds those that it ends behind it.
            let (id, how) = self.edges.fresh[at];
            // Who has yet to hear that it completed is not told first that it was forgotten since.
            if self.is_being_told(id) || !self.tell(id, how, archive)? {
                self.set_ended(id, how, true);
            }
            self.edges.fresh.remove(at);
        }
        Ok(())
    }

    /// Lays by what could not be told.
    pub(super) fn lay_by_fresh(&mut self) {
        for (id, how) in std::mem::take(&mut self.edges.fresh) {
            self.set_ended(id, how, true);
        }
    }

    /// Goes on with what was laid by, as far as the share goes.
    pub(super) fn tell_ended(&mut self, archive: &mut dyn Archive) -> Result<(), Error> {
        while self.edges.share > 0
            && let Some((id, how)) = self.edges.ended.first().copied()
        {
            // One end of an id after the other: who is concerned by the first hears of that.
            if self.tell(id, how, archive)? {
                self.set_ended(id, how, false);
            }
            self.tell_fresh(archive)?;
        }
        Ok(())
    }

    /// Whether all that are concerned have heard of it.
    fn tell(&mut self, id: JobId, how: Ending, archive: &mut dyn Archive) -> Result<bool, Error> {
        while let Some((failure, waiter)) = self.edges.concerned(id, how) {
            if self.edges.share == 0 {
                return Ok(false);
            }
            self.edges.share -= 1;
            let cancels = match how {
                Ending::Completed => false,
                Ending::Dead => failure == AfterFailure::Cancel,
                Ending::Gone => true,
            };
            if cancels {
                self.finish(waiter, JobState::Cancelled, None, None, archive)?;
            }
            // The end of a job that waited has closed all of its edges.
            if self.edges.by_waiter.contains_key(&(waiter, id)) {
                self.close_edges(waiter, vec![id]);
                if self.edges.on(waiter).next().is_none() {
                    self.unblock(waiter);
                }
            }
        }
        Ok(true)
    }

    fn unblock(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(id).copied().filter(|job| job.phase == Phase::Blocked) else { return };
        // It is due from now on, not since it was enqueued: how long it waited for others is not its queue's delay.
        let job = LiveJob { phase: Phase::Waiting, run_at: job.run_at.max(self.now.wall), ..job };
        self.set_job(id, Some(job));
        self.changes.push(Change::JobUpdated { job, lease: None, settled: None });
    }

    fn set_ended(&mut self, id: JobId, how: Ending, is: bool) {
        let was = self.edges.swap_ended(id, how, is);
        if was != is {
            self.undo.push(Undo::Ended(id, how, was));
            let change = if is { AfterChange::Ended { id, how } } else { AfterChange::Told { id, how } };
            self.changes.push(Change::After(change));
        }
    }

    /// An open edge. Both its ends are loaded, if its subject has not finished.
    pub fn load_edge(&mut self, waiter: JobId, on: JobId, failure: AfterFailure) {
        self.edges.swap(waiter, on, Some(failure));
    }

    /// A job of whose end not all that wait for it have heard.
    pub fn load_ended(&mut self, id: JobId, how: Ending) {
        self.edges.swap_ended(id, how, true);
    }
}
