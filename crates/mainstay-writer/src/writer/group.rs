//! The making of a group: commits applied and noted, answers kept until it is durable.

use std::sync::atomic::Ordering;

use mainstay_core::{
    Error, ErrorKind, JobId,
    engine::{TRIM_FROM, change::Change},
    event::{EventOp, EventReply},
    job::Outcome,
    lock::LockOp,
    name::Name,
    op::{Commit, Failure, Op, Reply, Settle},
    store::{Budget, Maintained},
    time::Now,
};
use tokio::sync::oneshot;

use super::{Ground, LOOK_AGAIN_MS, Writer};
use crate::{
    ahead::Due,
    answer::{Answer, Answers, Sealed},
    cache::BodyCache,
    fault::{Fault, Result},
    message::{Ask, Lost, Message, Submission},
    tail::{Note, Tail},
};

/// A group begins with at most this many rounds of housekeeping; the next goes on.
const TIDY_ROUNDS: usize = 10;

/// What a group owes when it is durable.
#[derive(Default)]
pub struct Group {
    answers: Vec<Pending>,
    maintained: Vec<(oneshot::Sender<std::result::Result<Maintained, Error>>, Maintained)>,
    pub(super) asks: Vec<Ask>,
    /// Grants that went back with this group; if it does not happen, they still have to.
    pub(super) given_back: Vec<Vec<Lost>>,
    /// Jobs that have finished or are gone; kept only while somebody waits for anything.
    pub(super) finished: Vec<JobId>,
    /// Jobs whose cancellation was asked for; likewise.
    pub(super) cancelled: Vec<JobId>,
    /// Locks with other holders than before, and the tickets they were handed to; likewise.
    pub(super) locks: Vec<(Name, Option<[u8; 16]>)>,
    /// Schedules have changed; likewise.
    pub(super) schedules: bool,
    watched: bool,
    /// Refused for a reason that lies in none of its commits: alone none would fare better.
    pub no_room: bool,
    pub(super) commits: u64,
    /// What it changed, in order.
    pub changes: Vec<Change>,
    /// What readers of the log have to know of that.
    pub notes: Vec<Note>,
}

struct Pending {
    submission: Submission,
    answers: Answers,
    keyed: Vec<bool>,
    /// Something that only the tables know is missing: bodies up to this number.
    cold: Option<u64>,
    /// Events were fetched: what happened is added when the group is durable.
    fetched: bool,
}

impl Group {
    pub(super) fn clear(&mut self) {
        self.answers.clear();
        self.maintained.clear();
        self.asks.clear();
        self.given_back.clear();
        self.finished.clear();
        self.cancelled.clear();
        self.locks.clear();
        self.schedules = false;
        self.changes.clear();
        self.notes.clear();
        (self.commits, self.no_room) = (0, false);
    }

    /// The group did not happen because of one of several: each is to try alone. The last comes first.
    pub(super) fn take_several(&mut self) -> impl Iterator<Item = Message> + use<> {
        let blame = self.answers.len() > 1 && !self.no_room;
        let several = if blame { std::mem::take(&mut self.answers) } else { Vec::new() };
        several
            .into_iter()
            .rev()
            .map(|pending| Message::Submit(Submission { alone: true, ..pending.submission }))
    }

    /// The group did not happen, or nobody knows.
    pub(super) fn refuse(&mut self, error: &Error) {
        for pending in self.answers.drain(..) {
            let _ = pending.submission.sender.send(Err(error.clone()));
        }
        for (answer, _) in self.maintained.drain(..) {
            let _ = answer.send(Err(error.clone()));
        }
    }
}

impl<G: Ground> Writer<G> {
    /// Applies everything that waits. After a fault, what was not reached still waits.
    pub(super) fn gather(&mut self, now: Now) -> Result<()> {
        // One that begins to wait from here on asks the writer afterwards, and is answered after this group.
        self.group.watched = self.desk.hub.waiting() > 0;
        // A group that failed may have failed at this: then those who wait come first. Without housekeeping, only
        // somebody who asks for something makes it happen.
        let asked = !self.waiting.is_empty();
        let tidy = if asked { !self.failing } else { self.housekeeping };
        let mut rounds = if tidy { TIDY_ROUNDS } else { 0 };
        while rounds > 0 && self.engine.maintenance_is_due(now) {
            self.maintain(Budget::default(), now)?;
            rounds -= 1;
        }
        let mut begun = false;
        while let Some(message) = self.waiting.pop_front() {
            match message {
                Message::Submit(submission) if submission.alone => {
                    if begun {
                        self.waiting.push_front(Message::Submit(submission));
                    } else {
                        self.apply(submission, now)?;
                    }
                    return Ok(());
                }
                Message::Submit(submission) => self.apply(submission, now)?,
                Message::GiveBack(lost) => {
                    self.group.given_back.push(lost.clone());
                    self.give_back(lost, now)?;
                }
                Message::Maintain(budget, answer) => {
                    // It is owed an answer before anything can go wrong.
                    self.group.maintained.push((answer, Maintained::default()));
                    let done = self.maintain(budget, now)?;
                    if let Some((_, owed)) = self.group.maintained.last_mut() {
                        *owed = done;
                    }
                }
                Message::Ask(ask) => self.group.asks.push(ask),
                Message::Failed(error) => return Err(Fault::fatal(error)),
            }
            begun = true;
        }
        if self.housekeeping && tidy {
            self.tidy(now)?;
        }
        Ok(())
    }

    fn apply(&mut self, submission: Submission, now: Now) -> Result<()> {
        // Nobody would get what is granted.
        if submission.sender.is_closed() && submission.takes() {
            return Ok(());
        }
        if now.store > submission.deadline {
            let message = "the time was over before the store could begin";
            let _ = submission.sender.send(Err(Error::new(ErrorKind::DeadlineExceeded, message)));
            return Ok(());
        }
        let commits = &submission.commits;
        let keyed = if commits.iter().any(comes_again) {
            commits.iter().map(comes_again).collect()
        } else {
            Vec::new()
        };
        self.group.commits += commits.len() as u64;
        let answers = Vec::with_capacity(commits.len());
        let mut pending = Pending { submission, answers, keyed, cold: None, fetched: false };
        let applied = self.apply_each(&mut pending, now);
        // Also when it failed: the caller is owed a word.
        self.group.answers.push(pending);
        applied
    }

    fn apply_each(&mut self, pending: &mut Pending, now: Now) -> Result<()> {
        for commit in &pending.submission.commits {
            let mut answer = self.engine.apply(commit, now, self.ground.archive()).map_err(of_archive)?;
            self.note_changes();
            if let Ok(committed) = &mut answer {
                for reply in &mut committed.replies {
                    pending.cold = pending.cold.max(complete(&mut self.cache, reply));
                    pending.fetched |= matches!(reply, Reply::Event(EventReply::Fetched(_)));
                }
            }
            pending.answers.push(answer.map_err(Failure::Rejected));
        }
        Ok(())
    }

    /// Has bodies read that claims will ask for next, where they are known to be read one by one.
    pub(super) fn look_ahead(&mut self) {
        let mut numbers = Vec::new();
        for Due { queue, after, count } in self.cache.take_due() {
            let Some(id) = self.engine.queue_id(queue.as_str()) else { continue };
            // First of all, and nothing beside it: most of it is in no cache of the processor, and waited for at once.
            let next: Vec<_> = self.engine.next_bodies(id, after).take(count).collect();
            if let Some((turn, ..)) = next.last() {
                self.cache.has_seen(&queue, *turn);
            }
            let numbers_of = next.into_iter().filter(|(_, n, size)| self.cache.reads(*n, *size as usize));
            numbers.extend(numbers_of.map(|(_, n, _)| n));
        }
        if !numbers.is_empty() {
            numbers.sort_unstable();
            self.ground.read_ahead(numbers);
        }
    }

    /// Grants that did not arrive go back without spending an attempt.
    fn give_back(&mut self, lost: Vec<Lost>, now: Now) -> Result<()> {
        for grant in lost {
            let op = match grant {
                Lost::Job(id, lease) => {
                    let outcome = Outcome::Release { delay_ms: 0 };
                    Op::Settle(Settle { id, lease, outcome, repeat_is_ok: true })
                }
                Lost::Delivery(lease) => Op::Event(EventOp::Release { leases: vec![lease], delay_ms: 0 }),
                Lost::Lock(name, lease) => Op::Lock(LockOp::Release { name, lease }),
            };
            let commit = Commit::of(op, self.desk.clock.entropy());
            // Refused, or passed over, if the lease has ended otherwise: then there is nothing to give back.
            let given = self.engine.apply(&commit, now, self.ground.archive()).map_err(of_archive)?;
            self.note_changes();
            let given = given.is_ok_and(|committed| committed.replies != [Reply::Count(0)]);
            self.desk.figures.given_back.fetch_add(u64::from(given), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Looks after retention now and then.
    fn tidy(&mut self, now: Now) -> Result<()> {
        let too_many = self.engine.over_retention() >= TRIM_FROM;
        if too_many || self.tidied.plus_ms(LOOK_AGAIN_MS) <= now.store {
            let done = self.maintain(Budget::default(), now)?;
            // More to do: the next group goes on.
            if !done.more {
                self.tidied = now.store;
            }
        }
        Ok(())
    }

    fn maintain(&mut self, budget: Budget, now: Now) -> Result<Maintained> {
        let done = self.engine.maintain(budget, now, self.ground.archive()).map_err(of_archive)?;
        self.note_changes();
        Ok(done)
    }

    /// Notes what the last commit changed: for the ground, whose archive sees it at once, and for who waits.
    fn note_changes(&mut self) {
        let from = self.group.changes.len();
        self.engine.take_changes(&mut self.group.changes);
        for change in &self.group.changes[from..] {
            self.ground.note(change);
            match change {
                Change::Event(change) => self.group.notes.extend(Note::of(change)),
                Change::JobPut { job, body: Some(body), .. } => self.cache.insert(job.n, body.clone()),
                Change::JobUpdated { job, .. } if job.cancel_requested && self.group.watched => {
                    self.group.cancelled.push(job.id);
                }
                Change::JobFinished(finished) => {
                    self.cache.remove(finished.job.n);
                    if self.group.watched {
                        self.group.finished.push(finished.job.id);
                    }
                }
                Change::JobRemoved { id, n } => {
                    self.cache.remove(*n);
                    if self.group.watched {
                        self.group.finished.push(*id);
                    }
                }
                Change::Lock(change) if self.group.watched => {
                    let concerns = change.concerns().map(|(name, to)| (name.clone(), to));
                    self.group.locks.extend(concerns);
                }
                Change::Schedule(_) => self.group.schedules |= self.group.watched,
                _ => {}
            }
        }
    }

    /// Answers everybody whose part is durable now.
    pub(super) fn answer(&mut self) {
        let mut cold = Vec::new();
        for mut pending in self.group.answers.drain(..) {
            if pending.fetched {
                pending.cold = pending.cold.max(add_events(&self.desk.tail, &mut pending.answers));
            }
            let Submission { commits, sender, .. } = pending.submission;
            let answer = Answer::new(pending.answers, pending.keyed, commits, &self.desk.inbox);
            if let Some(newest) = pending.cold {
                cold.push(Sealed { sender, answer, newest });
            } else {
                // A caller that is gone drops it, and it gives back what it holds.
                let _ = sender.send(Ok(answer));
            }
        }
        for (answer, done) in self.group.maintained.drain(..) {
            let _ = answer.send(Ok(done));
        }
        if !cold.is_empty() {
            self.ground.fill(cold);
        }
    }
}

/// Fills in what happened, as far as the tail of the log knows; answers up to where the tables must have followed for
/// the rest, as [`Pending::cold`]. An event that the tail lacks is in the tables already, which is when it leaves it:
/// there is nothing to wait for. A dead letter may be newer than they are.
fn add_events(tail: &Tail, answers: &mut Answers) -> Option<u64> {
    let replies = answers.iter_mut().flatten().flat_map(|committed| &mut committed.replies);
    let mut missing = None;
    tail.with_events(|event| {
        for reply in replies {
            let Reply::Event(EventReply::Fetched(deliveries)) = reply else { continue };
            for delivery in deliveries {
                if delivery.dead.is_some() {
                    missing = Some(u64::MAX);
                    continue;
                }
                delivery.event = event(delivery.seq);
                if delivery.event.is_none() {
                    missing = missing.max(Some(0));
                }
            }
        }
    });
    missing
}

/// Fills in what the engine does not have in RAM; answers the newest body that the cache does not have either.
fn complete(cache: &mut BodyCache, reply: &mut Reply) -> Option<u64> {
    match reply {
        Reply::Claimed(grants) => {
            let mut cold = None;
            for grant in grants {
                grant.body = cache.claimed(&grant.queue, grant.n);
                if grant.body.is_none() {
                    cold = cold.max(Some(grant.n));
                }
            }
            cold
        }
        Reply::Enqueued(enqueued) if enqueued.kind.is_none() => {
            enqueued.kind = cache.get(enqueued.n).map(|body| body.kind.clone());
            enqueued.kind.is_none().then_some(enqueued.n)
        }
        _ => None,
    }
}

/// Its caller comes again for the same grants, so they are not given back.
fn comes_again(commit: &Commit) -> bool {
    let ticketed = |op: &Op| matches!(op, Op::Lock(LockOp::Acquire(acquire)) if acquire.ticket.is_some());
    commit.key.is_some() || commit.ops.iter().any(ticketed)
}

/// The archive reads the same file; what it says of a damaged one is as bad as if a write had said it.
fn of_archive(error: Error) -> Fault {
    if error.kind() == ErrorKind::Untrusted { Fault::fatal(error) } else { Fault::clean(error) }
}
