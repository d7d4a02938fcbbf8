//! The jobs that workers have in hand.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mainstay_core::{id::JobId, job::Grant, lease::LeaseId};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::Instant,
};
use tracing::Span;

use super::limit::Limit;
use crate::{app::Overstayer, client::OwnEnd, context::Context};

/// A job in one attempt.
pub(super) type Key = (JobId, LeaseId);

/// What a handler has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    GoOn,
    /// The job is not wanted any more.
    Cancel,
    /// The process is on its way out.
    Leave,
}

/// Shared by the desk, the attempts and the renewal.
#[derive(Clone, Default)]
pub(super) struct RunningJobs(Arc<Shared>);

#[derive(Default)]
struct Shared {
    entries: Mutex<Entries>,
    /// Told when an attempt is gone that was not settled, or is to be.
    gone: Notify,
    /// Told when a lease ends before anybody looks.
    sooner: Notify,
}

#[derive(Default)]
struct Entries {
    live: HashMap<Key, Entry>,
    /// How many of those have not ended.
    working: usize,
    /// Attempts that hold their thread, whose jobs have been settled without them.
    stuck: HashMap<Key, Entry>,
    /// Attempts that were cut: their jobs are to be given back.
    cut: Vec<Key>,
    /// Attempts that were cut because their leases must have ended: if one lives on all the same, as those of a server
    /// do that was down, its job goes back at once.
    overdue: Vec<Key>,
    /// When leases are looked at next; `None`: nobody looks.
    look_at: Option<Instant>,
}

struct Entry {
    kind: Arc<str>,
    queue: String,
    since: Instant,
    /// How long the attempt may take; the attempt looks at it too.
    limit: watch::Sender<Option<Limit>>,
    context: Context,
    stop: watch::Sender<Told>,
    told: Option<Instant>,
    abort: Option<AbortHandle>,
    own_end: OwnEnd,
    /// The attempt is over; its settle is on its way.
    ended: bool,
    /// When its lease ends as far as is known here: counted from before the store was asked, so never later than there.
    lease_ends: Instant,
    /// Since when its lease is gone: there is nothing to give back.
    lost: Option<Instant>,
    /// It is gone by the clock here; no store has said so.
    overdue: bool,
}

/// An attempt that should have ended long ago, and holds its thread.
pub(super) struct Stuck {
    pub key: Key,
    pub kind: Arc<str>,
    pub age: Duration,
    pub why: Why,
}

/// What a stuck attempt did not heed.
pub(super) enum Why {
    Limit(Duration),
    Cancelled,
    /// Its lease was lost, and with it the job: there is nothing to settle.
    Lost,
}

/// A job in hand, and what its attempt is told.
pub(super) struct Entered {
    pub slip: Slip,
    pub told: watch::Receiver<Told>,
    pub limit: watch::Receiver<Option<Limit>>,
}

impl RunningJobs {
    /// Enters a job in the context of its attempt; the slip leaves when it is dropped.
    pub(super) fn enter(
        &self,
        grant: &Grant,
        kind: Arc<str>,
        limit: Option<Limit>,
        lease_ends: Instant,
    ) -> Entered {
        let (stop, told) = watch::channel(Told::GoOn);
        let (limit, limited) = watch::channel(limit);
        let own_end = OwnEnd::default();
        let entry = Entry {
            kind,
            queue: grant.queue.to_string(),
            since: Instant::now(),
            limit,
            context: Context::current(),
            stop,
            told: None,
            abort: None,
            own_end: own_end.clone(),
            ended: false,
            lease_ends,
            lost: None,
            overdue: false,
        };
        let key = (grant.id, grant.lease);
        let mut entries = self.lock();
        entries.live.insert(key, entry);
        entries.working += 1;
        let sooner = entries.look_at.is_some_and(|at| lease_ends < at);
        drop(entries);
        if sooner {
            self.0.sooner.notify_one();
        }
        let slip = Slip { jobs: self.clone(), key, own_end, settled: false };
        Entered { slip, told, limit: limited }
    }

    /// Remembers how to cut an attempt.
    pub(super) fn can_be_cut(&self, key: Key, abort: AbortHandle) {
        if let Some(entry) = self.lock().live.get_mut(&key) {
            entry.abort = Some(abort);
        }
    }

    /// The attempt is over. `false`: it was settled without it, and what it says is void.
    pub(super) fn end(&self, key: Key) -> bool {
        let mut entries = self.lock();
        match entries.live.get_mut(&key).map(|entry| std::mem::replace(&mut entry.ended, true)) {
            Some(before) => {
                entries.working -= usize::from(!before);
                true
            }
            None => false,
        }
    }

    /// How many are in hand.
    pub(super) fn len(&self) -> usize {
        self.lock().live.len()
    }

    /// How many of those run: what has ended and is not settled yet needs no slot.
    pub(super) fn working(&self) -> usize {
        self.lock().working
    }

    /// How many threads are held by attempts that were given up.
    pub(super) fn stuck_len(&self) -> usize {
        self.lock().stuck.len()
    }

    /// Those whose lease is to be renewed.
    pub(super) fn leases(&self) -> Vec<Key> {
        let needed = |entry: &Entry| {
            // One that outlives the job's time limit would only be cut short.
            let outlives = entry.limit.borrow().is_some_and(|limit| !limit.renewed);
            entry.lost.is_none() && !entry.own_end.is_done() && !outlives
        };
        self.lock().live.iter().filter(|(_, entry)| needed(entry)).map(|(key, _)| *key).collect()
    }

    /// The lease was extended: it lives until then at least.
    pub(super) fn renewed(&self, key: Key, lease_ends: Instant) {
        if let Some(entry) = self.lock().live.get_mut(&key) {
            entry.lease_ends = entry.lease_ends.max(lease_ends);
        }
    }

    /// The lease is about to be extended by its attempt: from now on it ends with the job's time limit.
    pub(super) fn extends(&self, key: Key) {
        if let Some(entry) = self.lock().live.get(&key) {
            entry.limit.send_modify(|limit| *limit = limit.map(Limit::with_end_of_lease));
        }
    }

    /// Tells a handler that its job is not wanted any more.
    pub(super) fn cancel(&self, key: Key) {
        if let Some(entry) = self.lock().live.get_mut(&key)
            && *entry.stop.borrow() == Told::GoOn
        {
            entry.told = Some(Instant::now());
            entry.stop.send_replace(Told::Cancel);
            // Whoever looks for stuck ones has one more to look for.
            self.0.gone.notify_one();
        }
    }

    /// Tells every handler that the process is on its way out.
    pub(super) fn leave(&self) {
        for entry in self.lock().live.values() {
            entry.stop.send_if_modified(|told| std::mem::replace(told, Told::Leave) != Told::Leave);
        }
    }

    /// Cuts one attempt whose lease is lost: what it does now is worthless. One that has ended its job itself goes on;
    /// one whose commit is on the way is looked at again at the next renewal.
    pub(super) fn cut_lost(&self, key: Key) {
        let mut entries = self.lock();
        let lost = entries.live.get_mut(&key).filter(|entry| !entry.own_end.may_be_done());
        let abort = lost.and_then(|entry| {
            entry.lost.get_or_insert_with(Instant::now);
            entry.abort.take()
        });
        drop(entries);
        if let Some(abort) = abort {
            abort.abort();
            self.0.gone.notify_one();
        }
    }

    /// Cuts every attempt whose lease must have ended by now, because nobody has answered its renewals: another may have
    /// the job. Answers when the next lease ends, `pause` from now at the latest. One whose commit is on the way is looked
    /// at again then.
    pub(super) fn cut_overdue(&self, now: Instant, pause: Duration) -> (Vec<JobId>, Instant) {
        let mut entries = self.lock();
        let (mut cut, mut aborts, mut next) = (Vec::new(), Vec::new(), now + pause);
        for (key, entry) in entries.live.iter_mut().filter(|(_, entry)| !entry.ended && entry.lost.is_none())
        {
            if entry.lease_ends > now {
                next = next.min(entry.lease_ends);
            } else if !entry.own_end.may_be_done() {
                (entry.lost, entry.overdue) = (Some(now), true);
                aborts.extend(entry.abort.take());
                cut.push(key.0);
            }
        }
        entries.look_at = Some(next);
        drop(entries);
        aborts.iter().for_each(AbortHandle::abort);
        if !cut.is_empty() {
            self.0.gone.notify_one();
        }
        (cut, next)
    }

    /// Resolves when a lease ends before the next look was to be. Cancel safe.
    pub(super) async fn sooner(&self) {
        self.0.sooner.notified().await;
    }

    /// Attempts that are gone because their leases must have ended. Each is named once.
    pub(super) fn take_overdue(&self) -> Vec<Key> {
        std::mem::take(&mut self.lock().overdue)
    }

    /// Cuts every attempt.
    pub(super) fn cut_all(&self) {
        let aborts: Vec<_> = self.lock().live.values_mut().filter_map(|entry| entry.abort.take()).collect();
        aborts.iter().for_each(AbortHandle::abort);
    }

    /// Takes out the attempts that should have been cut a whole `grace` ago, and says when the next one will be one.
    pub(super) fn take_stuck(&self, now: Instant, grace: Duration) -> (Vec<Stuck>, Option<Instant>) {
        let mut entries = self.lock();
        let (mut over, mut next) = (Vec::new(), None::<Instant>);
        for (key, entry) in entries.live.iter().filter(|(_, entry)| !entry.ended) {
            let limit = entry.limit.borrow().map(|limit| limit.given_up);
            let after = |since: Option<Instant>, grace| since.and_then(|since| since.checked_add(grace));
            let told = after(entry.told, grace.saturating_mul(2));
            let due = limit.into_iter().chain(told).chain(after(entry.lost, grace)).min();
            match due {
                Some(due) if due <= now => over.push(*key),
                due => next = next.into_iter().chain(due).min(),
            }
        }
        let mut stuck = Vec::with_capacity(over.len());
        for key in over {
            let Some(entry) = entries.live.remove(&key) else { continue };
            entries.working -= 1;
            let limit = entry.limit.borrow().filter(|_| entry.told.is_none());
            let why = match (entry.lost, limit) {
                (Some(_), _) => Why::Lost,
                (None, Some(limit)) => Why::Limit(limit.said),
                (None, None) => Why::Cancelled,
            };
            let age = now.saturating_duration_since(entry.since);
            stuck.push(Stuck { key, kind: entry.kind.clone(), age, why });
            entries.stuck.insert(key, entry);
        }
        (stuck, next)
    }

    /// The jobs whose attempts are gone without an end: to be given back. Each is named once.
    pub(super) fn take_cut(&self) -> Vec<Key> {
        let mut entries = self.lock();
        let mut cut = std::mem::take(&mut entries.cut);
        cut.append(&mut entries.overdue);
        cut
    }

    /// The same, and those that are still in hand.
    pub(super) fn unfinished(&self) -> Vec<Key> {
        let mut all = self.take_cut();
        let mut entries = self.lock();
        let now = Instant::now();
        for (key, entry) in entries.live.iter_mut().filter(|(_, entry)| !entry.ended && entry.lost.is_none())
        {
            all.push(*key);
            entry.lost = Some(now);
        }
        all
    }

    pub(super) fn overstayers(&self) -> Vec<Overstayer> {
        let now = Instant::now();
        let entries = self.lock();
        let all = entries
            .live
            .iter()
            .map(|each| (each, ""))
            .chain(entries.stuck.iter().map(|each| (each, ", holding its thread")));
        let each = all.map(|(((id, _), entry), how)| {
            let age = now.saturating_duration_since(entry.since);
            Overstayer::new(format!("job {id} {}", entry.kind), format!("queue {}{how}", entry.queue), age)
                .in_span(crate::log::describe(&entry.context, &Span::none()))
        });
        each.collect()
    }

    /// Resolves when an attempt is gone without an end, or is to be soon. Cancel safe.
    pub(super) async fn gone(&self) {
        self.0.gone.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job in hand. Dropped before it was settled, its job is noted to be given back.
pub(super) struct Slip {
    jobs: RunningJobs,
    pub(super) key: Key,
    pub(super) own_end: OwnEnd,
    settled: bool,
}

impl Slip {
    /// The claim has ended, or is lost: there is nothing to give back.
    pub(super) fn settled(mut self) {
        self.settled = true;
    }
}

impl Drop for Slip {
    fn drop(&mut self) {
        let mut entries = self.jobs.lock();
        let gone = entries.stuck.remove(&self.key);
        let entry = entries.live.remove(&self.key);
        entries.working -= usize::from(entry.as_ref().is_some_and(|entry| !entry.ended));
        match &entry {
            Some(entry) if !self.settled && entry.overdue => entries.overdue.push(self.key),
            Some(entry) if !self.settled && entry.lost.is_none() => entries.cut.push(self.key),
            _ => {}
        }
        drop(entries);
        drop((entry, gone));
        if !self.settled {
            self.jobs.0.gone.notify_one();
        }
    }
}
